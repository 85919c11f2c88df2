//! What tasks are told, by the golden cases; and a case that is wrong is found.

use branchline_tests::{
    awsvpc::{run_hostnames, run_metadata},
    flow_log::Outcome,
};

const HOSTNAMES: &str = include_str!("../../fixtures/hostnames.json");
const NETWORKS: &str = include_str!("../../fixtures/tmds_network.json");

fn spoilt(
    text: &str,
    from: &str,
    to: &str,
    run: fn(&str) -> anyhow::Result<Outcome>,
) -> Vec<String> {
    assert!(text.contains(from), "{from}");
    let outcome = run(&text.replace(from, to)).unwrap();
    let mismatches = outcome.mismatches;
    mismatches.into_iter().map(|one| one.case).collect()
}

#[test]
fn every_golden_hostname_comes_out() {
    let outcome = run_hostnames(HOSTNAMES).unwrap();
    assert_eq!((outcome.cases, outcome.mismatches), (6, Vec::new()));
    let wrong = "\"expect_hostname\": \"ip-10-24-34-0.us-east-1";
    let from = "\"expect_hostname\": \"ip-10-24-34-0.ec2";
    assert_eq!(spoilt(HOSTNAMES, from, wrong, run_hostnames), ["us-east-1"]);
}

#[test]
fn every_golden_network_comes_out() {
    let outcome = run_metadata(NETWORKS).unwrap();
    assert_eq!((outcome.cases, outcome.mismatches), (3, Vec::new()));
    let from = "[\"10.0.2.106\", \"10.0.2.107\"]";
    let to = "[\"10.0.2.107\", \"10.0.2.106\"]";
    assert_eq!(spoilt(NETWORKS, from, to, run_metadata), ["multi-address"]);
}

/// What the given cases leave out: `spec/awsvpc.md` section 7.
#[test]
fn an_eni_of_ipv6_only_shows_its_gateway() {
    let text = r#"{"format": 1, "cases": [{"id": "v6", "eni": {"mac": "0e:9e:32:c7:48:85", "ipv4": [],
        "ipv6": ["2001:db8::6a"], "subnet_v4": null, "subnet_v6": "2001:db8::/64", "dns": ["fd00:ec2::253"],
        "search": []}, "expect_network": {"NetworkMode": "awsvpc", "IPv6Addresses": ["2001:db8::6a"],
        "AttachmentIndex": 0, "MACAddress": "0e:9e:32:c7:48:85", "IPv6SubnetCIDRBlock": "2001:db8::/64",
        "DomainNameServers": ["fd00:ec2::253"], "SubnetGatewayIpv6Address": "2001:db8::1/64"}}]}"#;
    let outcome = run_metadata(text).unwrap();
    assert_eq!((outcome.cases, outcome.mismatches), (1, Vec::new()));
}

#[test]
fn a_file_of_another_form_is_refused_by_its_field() {
    let text = HOSTNAMES.replacen("\"region\"", "\"reigon\"", 1);
    let error = run_hostnames(&text).unwrap_err().to_string();
    assert!(
        error.contains("cases[0]") && error.contains("reigon"),
        "{error}"
    );
    assert!(run_metadata(&NETWORKS.replace("\"format\":1", "\"format\":2")).is_err());
}
