//! ADD: what the agent is asked, and what is answered.

use std::path::Path;

use branchline_cni::error::code;
use branchline_cni::http::TalkError;
use branchline_cni::run::run;
use branchline_cni::task;
use serde_json::{Value, json};

use super::*;

#[test]
fn add_asks_for_a_task_with_what_configuration_and_environment_say() {
    let agent = Fake::saying([says(201, &both())]);
    let changes = json!({
        "socket": "/run/other.sock",
        "networkInterfaceAttributes": {"maxTrackedConnections": 100},
        "args": {"cni": {"labels": [{"key": "app", "value": "web"}, {"key": "", "value": "no key"}, 7]}},
    });
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;noise;app=ignored";
    let environment = variables("ADD", &[("CNI_ARGS", args), ("CNI_IFNAME", "net1")]);
    let outcome = run(&environment, &configuration("1.1.0", &changes), &agent);
    assert!(outcome.is_success, "{outcome:?}");
    let (socket, request) = agent.asked.borrow()[0].clone();
    assert_eq!(socket, Path::new("/run/other.sock"));
    assert_eq!(
        (request.method, request.path.as_str()),
        ("POST", "/v1/tasks")
    );
    let expected = json!({
        "taskId": task::id("pods", CONTAINER, "net1"),
        "networkConfiguration": {
            "awsvpcConfiguration": {"subnets": ["subnet-a"], "securityGroups": ["sg-web"]},
            "networkInterfaceAttributes": {"maxTrackedConnections": 100},
        },
        "networkNamespace": NETNS,
        "linkName": "net1",
        "cniAttachment": {"network": "pods", "containerId": CONTAINER},
        "tags": [
            {"key": "K8S_POD_NAMESPACE", "value": "shop"},
            {"key": "K8S_POD_NAME", "value": "web-0"},
            {"key": "app", "value": "web"},
        ],
    });
    assert_eq!(request.body, Some(expected.clone()));
    // The agent reads it as it is meant.
    let spec = branchline::spec::TaskSpec::parse(expected.to_string().as_bytes()).unwrap();
    assert_eq!(spec.link_name.as_str(), "net1");
}

#[test]
fn pod_annotations_stand_in_for_subnets_and_groups() {
    let annotations = |subnets: Value, groups: Value| {
        json!({"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {
            "branchline/subnets": subnets, "branchline/security-groups": groups, "other": "x",
        }}})
    };
    let agent = Fake::saying([says(201, &both())]);
    let changes = annotations(json!("subnet-b, subnet-c"), json!("sg-a,sg-b"));
    let outcome = run(
        &variables("ADD", &[]),
        &configuration("1.0.0", &changes),
        &agent,
    );
    assert!(outcome.is_success, "{outcome:?}");
    let body = agent.requests()[0].body.clone().unwrap();
    assert_eq!(
        body["networkConfiguration"]["awsvpcConfiguration"],
        json!({"subnets": ["subnet-b", "subnet-c"], "securityGroups": ["sg-a", "sg-b"]})
    );
    // What the agent says of them is said of the annotation.
    let field = "networkConfiguration.awsvpcConfiguration.securityGroups[1]";
    let message = format!("{field}: \"sg-b\" is no group of vpc-1; name one");
    let agent = Fake::saying([refuses(400, "InvalidRequest", &message, Some(field))]);
    let outcome = run(
        &variables("ADD", &[]),
        &configuration("1.0.0", &changes),
        &agent,
    );
    let (code, text) = failed(&outcome);
    assert_eq!(code, 7);
    assert!(
        text.contains("pod annotation branchline/security-groups[1]: \"sg-b\" is no group"),
        "{text}"
    );
    for (subnets, groups, named) in [
        (json!(""), json!("sg-a"), "branchline/subnets"),
        (
            json!("subnet-a"),
            json!("sg-a,,sg-b"),
            "branchline/security-groups",
        ),
        (json!(7), json!("sg-a"), "branchline/subnets"),
    ] {
        let changes = annotations(subnets, groups);
        let outcome = run(
            &variables("ADD", &[]),
            &configuration("1.0.0", &changes),
            &Fake::default(),
        );
        let (code, text) = failed(&outcome);
        assert_eq!(code, 7, "{text}");
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn results_have_the_form_of_the_configurations_version() {
    let changes = json!({"dns": {"nameservers": ["10.0.0.2"], "search": ["shop.internal"]}});
    let dns = changes["dns"].clone();
    let interfaces = json!([
        {"name": "bl0"},
        {"name": "eth0", "mac": "0a:00:00:00:00:01", "sandbox": NETNS},
    ]);
    let routes =
        json!([{"dst": "0.0.0.0/0", "gw": "10.0.1.1"}, {"dst": "::/0", "gw": "2001:db8::1"}]);
    let ips = json!([
        {"address": "10.0.1.4/24", "gateway": "10.0.1.1", "interface": 1},
        {"address": "2001:db8::4/64", "gateway": "2001:db8::1", "interface": 1},
    ]);
    let mut versioned = ips.clone();
    versioned[0]["version"] = json!("4");
    versioned[1]["version"] = json!("6");
    let mut sized = interfaces.clone();
    sized[0]["mtu"] = json!(9001);
    sized[1]["mtu"] = json!(9001);
    let flat = json!({
        "ip4": {"ip": "10.0.1.4/24", "gateway": "10.0.1.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.1.1"}]},
        "ip6": {"ip": "2001:db8::4/64", "gateway": "2001:db8::1", "routes": [{"dst": "::/0", "gw": "2001:db8::1"}]},
        "dns": dns,
    });
    let rich = |interfaces: &Value, ips: &Value| json!({"interfaces": interfaces, "ips": ips, "routes": routes, "dns": dns});
    let rows = [
        ("0.1.0", flat.clone()),
        ("0.2.0", flat),
        ("0.3.0", rich(&interfaces, &versioned)),
        ("0.3.1", rich(&interfaces, &versioned)),
        ("0.4.0", rich(&interfaces, &versioned)),
        ("1.0.0", rich(&interfaces, &ips)),
        ("1.1.0", rich(&sized, &ips)),
    ];
    for (version, mut expected) in rows {
        expected["cniVersion"] = json!(version);
        let agent = Fake::saying([says(201, &both())]);
        let outcome = run(
            &variables("ADD", &[]),
            &configuration(version, &changes),
            &agent,
        );
        assert_eq!(printed(&outcome), expected, "{version}");
    }
    let agent = Fake::saying([says(201, &task_of(&[("2001:db8::4/64", "2001:db8::1")]))]);
    let outcome = run(
        &variables("ADD", &[]),
        &configuration("0.2.0", &json!({})),
        &agent,
    );
    let result = printed(&outcome);
    assert_eq!(result["ip4"], Value::Null);
    assert_eq!(result["ip6"]["ip"], "2001:db8::4/64");
}

#[test]
fn the_result_says_what_the_task_is_told_of_names_unless_the_configuration_does() {
    let told = json!({"nameServers": ["10.0.0.2", "192.0.2.1"], "searchDomains": ["corp.example", "ec2.internal"]});
    let nothing = json!({"nameServers": [], "searchDomains": []});
    let of_task = json!({
        "nameservers": ["10.0.0.2", "192.0.2.1"],
        "domain": "corp.example",
        "search": ["corp.example", "ec2.internal"],
    });
    let own = json!({"nameservers": ["10.0.0.9"], "options": ["ndots:5"]});
    let rows = [
        (json!({}), &told, of_task.clone()),
        (json!({"dns": {}}), &told, of_task),
        (json!({"dns": own}), &told, own.clone()),
        (json!({}), &nothing, json!({})),
    ];
    for (changes, told, expected) in rows {
        for version in ["0.2.0", "0.4.0", "1.1.0"] {
            let mut task = both();
            task["dns"] = told.clone();
            let agent = Fake::saying([says(201, &task)]);
            let outcome = run(
                &variables("ADD", &[]),
                &configuration(version, &changes),
                &agent,
            );
            assert_eq!(printed(&outcome)["dns"], expected, "{version} {changes}");
        }
    }
}

#[test]
fn the_agents_refusals_have_codes() {
    let field = "networkConfiguration.networkInterfaceAttributes.maxTrackedConnections";
    let message = format!("{field}: 0 leaves the task no connection; write 1 or more");
    let rows = [
        (
            refuses(400, "InvalidRequest", &message, Some(field)),
            code::CONFIGURATION,
            "networkInterfaceAttributes.maxTrackedConnections: 0 leaves",
        ),
        (
            refuses(503, "Exhausted", "no free address in subnet-a", None),
            code::LATER,
            "no free address",
        ),
        (
            refuses(409, "Conflict", "taskId: exists", None),
            code::AGENT,
            "taskId: exists",
        ),
        (
            refuses(500, "Internal", "create veth", None),
            code::AGENT,
            "create veth",
        ),
        (
            refuses(403, "Forbidden", "only root", None),
            code::AGENT,
            "only root",
        ),
        (says(200, &both()), code::EXISTS, "CNI_IFNAME"),
        (says(201, &json!({})), code::AGENT, "one version"),
        (says(500, &json!("x")), code::AGENT, "one version"),
        (
            refused_connection(),
            code::LATER,
            "socket: /run/branchline/agent.sock",
        ),
        (
            Err(TalkError::Broken(std::io::ErrorKind::UnexpectedEof.into())),
            code::LATER,
            "socket",
        ),
        (
            Err(TalkError::Connect(
                std::io::ErrorKind::PermissionDenied.into(),
            )),
            code::IO,
            "root",
        ),
        (
            Err(TalkError::NotHttp("x".to_owned())),
            code::AGENT,
            "socket",
        ),
    ];
    for (said, code, text) in rows {
        let row = format!("{said:?}");
        let outcome = run(
            &variables("ADD", &[]),
            &configuration("1.0.0", &json!({})),
            &Fake::saying([said]),
        );
        let (found, message) = failed(&outcome);
        assert!(
            found == u64::from(code) && message.contains(text),
            "{row}: {found} {message}"
        );
        let error = printed(&outcome);
        assert_eq!(error["cniVersion"], "1.0.0");
        assert!(error["details"].is_string());
    }
}
