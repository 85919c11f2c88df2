//! A host without root certificates: what EC2 is asked without TLS works, and what needs it is refused by name.

use branchline_tests::host::Host;

use super::ec2::{Account, doctor_with, instance_with, line};

/// The agent's file.
const AGENT_TOML: &str = "/run/agent.toml";
/// What makes the host one without root certificates.
const NO_ROOTS: [(&str, &str); 2] = [
    ("SSL_CERT_FILE", "/run/no-roots.pem"),
    ("SSL_CERT_DIR", "/run/no-roots"),
];

/// An instance whose programs find an empty file and an empty folder.
fn instance(name: &str) -> (Host, Account) {
    let (host, account) = instance_with(name, "poll = 5\ndeadline = 20");
    host.run(|| {
        std::fs::write("/run/no-roots.pem", "").unwrap();
        std::fs::create_dir("/run/no-roots").unwrap();
    });
    (host, account)
}

#[test]
fn without_root_certificates_an_ec2_over_http_is_enough() {
    let (host, account) = instance("ec2-no-roots");
    let (text, is_content) = doctor_with(&host, "", &NO_ROOTS);
    assert!(is_content, "{text}");
    assert!(line(&text, "EC2 API").contains("answers"), "{text}");
    host.start_agent_with(&NO_ROOTS).unwrap();
    let task = account.add(&host, "task", &account.client);
    assert!(account.on_trunk().contains(&task.vlan));
}

#[test]
fn without_root_certificates_an_ec2_over_tls_is_refused_with_the_fix() {
    let (host, account) = instance("ec2-no-roots-tls");
    for field in ["endpoint_url", "metadata_endpoint"] {
        let before = host.run(|| std::fs::read_to_string(AGENT_TOML).unwrap());
        let http = format!("{field} = \"http://");
        let tls = before.replace(&http, &format!("{field} = \"https://"));
        assert_ne!(tls, before, "{field}");
        host.run(|| std::fs::write(AGENT_TOML, tls).unwrap());
        let (text, is_content) = doctor_with(&host, "", &NO_ROOTS);
        assert!(!is_content, "{field}: {text}");
        let found = line(&text, "root certificates");
        assert!(found.contains("missing"), "{field}: {text}");
        assert!(found.contains(&format!("ec2.{field}")), "{field}: {text}");
        assert!(text.contains("install ca-certificates"), "{field}: {text}");
        let error = host.start_agent_with(&NO_ROOTS).unwrap_err();
        let error = format!("{error:#}");
        for said in [
            &format!("ec2.{field}: "),
            "ca-certificates",
            "SSL_CERT_FILE",
        ] {
            assert!(error.contains(said), "{field}: {error}");
        }
        assert!(!error.contains("panicked"), "{field}: {error}");
        host.run(|| std::fs::write(AGENT_TOML, before).unwrap());
    }
    assert_eq!(account.ec2.calls().len(), 0, "nobody was asked");
}
