//! What is wrong with environment or configuration, and is said before the agent is asked.

use branchline_cni::run::run;
use serde_json::json;

use super::*;

#[test]
fn wrong_variables_are_all_named_with_code_4() {
    let changes = [
        ("CNI_CONTAINERID", ".hidden"),
        ("CNI_NETNS", "relative"),
        ("CNI_IFNAME", "a/b"),
    ];
    for command in ["ADD", "CHECK"] {
        let outcome = run(
            &variables(command, &changes),
            &configuration("1.0.0", &json!({})),
            &Fake::default(),
        );
        let (code, text) = failed(&outcome);
        assert_eq!(code, 4);
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            assert!(text.contains(name), "{command}: {text}");
        }
    }
    for command in ["", "add", "REMOVE"] {
        let outcome = run(
            &variables(command, &[]),
            &configuration("1.0.0", &json!({})),
            &Fake::default(),
        );
        let (code, text) = failed(&outcome);
        assert!(code == 4 && text.contains("CNI_COMMAND"), "{text}");
    }
    let outcome = run(
        &variables("DEL", &[("CNI_IFNAME", "")]),
        &configuration("1.0.0", &json!({})),
        &Fake::default(),
    );
    assert_eq!(failed(&outcome).0, 4);
    // The agent's words for the same.
    for (field, name) in [
        ("networkNamespace", "CNI_NETNS"),
        ("linkName", "CNI_IFNAME"),
    ] {
        let message = format!("{field}: is wrong; correct it");
        let agent = Fake::saying([refuses(400, "InvalidRequest", &message, Some(field))]);
        let outcome = run(
            &variables("ADD", &[]),
            &configuration("1.0.0", &json!({})),
            &agent,
        );
        let (code, text) = failed(&outcome);
        assert!(
            code == 4 && text.contains(&format!("{name}: is wrong")),
            "{text}"
        );
    }
}

#[test]
fn wrong_configurations_are_refused_by_field_and_fix() {
    let rows = [
        (
            json!({"cniVersion": "2.0.0"}),
            1,
            "cniVersion: \"2.0.0\" is not supported",
        ),
        (json!({"cniVersion": 1}), 6, "cniVersion: 1 is no text"),
        (
            json!({"ipam": {"type": "host-local"}}),
            2,
            "ipam: {\"type\":\"host-local\"}: addresses come from",
        ),
        (json!({"ipMasq": true}), 2, "ipMasq: true: "),
        (
            json!({"securityGroup": ["sg-web"]}),
            2,
            "securityGroup: [\"sg-web\"]: there is no such key",
        ),
        (
            json!({"runtimeConfig": {"portMappings": [{"hostPort": 80}]}}),
            2,
            "runtimeConfig.portMappings: ",
        ),
        (json!({"name": ""}), 7, "name: \"\" is no network name"),
        (json!({"name": "a/b"}), 7, "name: \"a/b\""),
        (
            json!({"socket": "agent.sock"}),
            7,
            "socket: \"agent.sock\" is no absolute path",
        ),
        (json!({"subnets": []}), 7, "subnets: is empty; name 1 to 16"),
        (json!({"subnets": "subnet-a"}), 6, "subnets: invalid type"),
        (
            json!({"securityGroups": [1]}),
            6,
            "securityGroups: invalid type",
        ),
        (json!({"dns": {"nameservers": ["x"]}}), 6, "dns: "),
        (json!({"prevResult": {"ips": []}}), 7, "prevResult: "),
        (
            json!({"runtimeConfig": {"io.kubernetes.cri.pod-annotations": 1}}),
            6,
            "pod-annotations",
        ),
    ];
    for (changes, code, text) in rows {
        let outcome = run(
            &variables("ADD", &[]),
            &configuration("1.1.0", &changes),
            &Fake::default(),
        );
        let (found, message) = failed(&outcome);
        assert!(
            found == code && message.contains(text),
            "{changes}: {found} {message}"
        );
    }
    for text in ["", "{", "[]", "null"] {
        let outcome = run(&variables("ADD", &[]), text.as_bytes(), &Fake::default());
        assert_eq!(failed(&outcome).0, 6, "{text}");
    }
}

#[test]
fn what_says_nothing_is_passed_over() {
    let changes = json!({
        "prevResult": null, "ipam": {}, "ipMasq": false, "capabilities": {"portMappings": true},
        "runtimeConfig": {"portMappings": [], "mac": ""}, "cni.dev/attachments": [], "disableCheck": true,
    });
    let agent = Fake::saying([says(201, &both())]);
    let outcome = run(
        &variables("ADD", &[]),
        &configuration("1.1.0", &changes),
        &agent,
    );
    assert!(outcome.is_success, "{outcome:?}");
}
