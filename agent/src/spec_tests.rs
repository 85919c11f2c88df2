//! Tests of `spec`.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn spec(id: &str, awsvpc: &str, rest: &str) -> String {
    format!(
        r#"{{"taskId": {id}, "networkConfiguration": {{"awsvpcConfiguration": {{{awsvpc}}}}}{rest}}}"#
    )
}

#[test]
fn defaults_are_ecss() {
    let spec =
        TaskSpec::parse(spec(r#""web-1""#, r#""subnets": ["subnet-a"]"#, "").as_bytes()).unwrap();
    assert_eq!(spec.task_id.as_str(), "web-1");
    assert_eq!(spec.awsvpc().security_groups, Vec::<String>::new());
    assert_eq!(spec.awsvpc().assign_public_ip, AssignPublicIp::Disabled);
    assert_eq!(spec.network_namespace, None);
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(TaskSpec::parse(text.as_bytes()).unwrap(), spec);
}

#[test]
fn a_link_has_the_name_that_is_asked_for() {
    let named = |rest: &str| {
        let text = spec(r#""web""#, r#""subnets": ["subnet-a"]"#, rest);
        TaskSpec::parse(text.as_bytes())
    };
    assert_eq!(named("").unwrap().link_name.as_str(), "eth0");
    let rest = r#", "linkName": "net1", "cniAttachment": {"network": "pods", "containerId": "c1"}"#;
    let task = named(rest).unwrap();
    assert_eq!(task.link_name.as_str(), "net1");
    let text = serde_json::to_string(&task).unwrap();
    assert_eq!(TaskSpec::parse(text.as_bytes()).unwrap(), task);
    let rest = r#", "cniAttachment": {"network": "a/b", "containerId": "c1"}"#;
    let rows = [
        (r#", "linkName": "all""#, "linkName"),
        (rest, "cniAttachment.network"),
    ];
    for (rest, field) in rows {
        assert_eq!(named(rest).unwrap_err().field, field);
    }
}

#[test]
fn bad_specifications_name_field_and_fix() {
    let subnets = |count: usize| {
        let ids: Vec<String> = (0..count).map(|n| format!("\"subnet-{n}\"")).collect();
        format!(r#""subnets": [{}]"#, ids.join(","))
    };
    let one = subnets(1);
    let id = r#""web""#;
    let groups: Vec<String> = (0..17).map(|n| format!("\"sg-{n}\"")).collect();
    let groups = format!(r#""securityGroups": [{}]"#, groups.join(","));
    let awsvpc = "networkConfiguration.awsvpcConfiguration";
    let rows = [
        (spec(r#""""#, &one, ""), "taskId".to_owned(), "1 to 64"),
        (
            spec(r#""a/b""#, &one, ""),
            "taskId".to_owned(),
            "letters, digits",
        ),
        (
            spec(r#""..""#, &one, ""),
            "taskId".to_owned(),
            "letters, digits",
        ),
        (
            spec(r#""-a""#, &one, ""),
            "taskId".to_owned(),
            "not beginning with -",
        ),
        (
            spec(&format!("\"{}\"", "x".repeat(65)), &one, ""),
            "taskId".to_owned(),
            "1 to 64",
        ),
        (
            spec("7", &one, ""),
            "taskId".to_owned(),
            "expected a string",
        ),
        (spec(id, "", ""), format!("{awsvpc}.subnets"), "add it"),
        (
            spec(id, &subnets(0), ""),
            format!("{awsvpc}.subnets"),
            "name 1 to 16 subnets",
        ),
        (
            spec(id, &subnets(17), ""),
            format!("{awsvpc}.subnets"),
            "names 17 subnets; name 16 at most",
        ),
        (
            spec(id, r#""subnets": ["a", "b", "a"]"#, ""),
            format!("{awsvpc}.subnets[2]"),
            "remove one",
        ),
        (
            spec(id, r#""subnets": ["a", 5]"#, ""),
            format!("{awsvpc}.subnets[1]"),
            "expected a string",
        ),
        (
            spec(id, &format!("{one}, {groups}"), ""),
            format!("{awsvpc}.securityGroups"),
            "name 16 at most",
        ),
        (
            spec(id, &format!(r#"{one}, "securityGroups": ["a", "a"]"#), ""),
            format!("{awsvpc}.securityGroups[1]"),
            "remove one",
        ),
        (
            spec(id, &format!(r#"{one}, "assignPublicIp": "ENABLED""#), ""),
            format!("{awsvpc}.assignPublicIp"),
            "write DISABLED",
        ),
        (
            spec(id, &format!(r#"{one}, "assignPublicIp": "yes""#), ""),
            format!("{awsvpc}.assignPublicIp"),
            "unknown variant",
        ),
        (
            spec(id, &format!(r#"{one}, "securityGroup": []"#), ""),
            format!("{awsvpc}.securityGroup"),
            "expected one of",
        ),
        (
            spec(id, &one, r#", "networkNamespace": "ns""#),
            "networkNamespace".to_owned(),
            "start it with /",
        ),
        (
            spec(id, &one, r#", "cpu": 1"#),
            "cpu".to_owned(),
            "unknown field",
        ),
        (
            r#"{"taskId": "a"}"#.to_owned(),
            "networkConfiguration".to_owned(),
            "add it",
        ),
        ("{".to_owned(), "line 1".to_owned(), "not JSON"),
    ];
    for (text, field, says) in rows {
        let error = TaskSpec::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.field, field, "{text}: {error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
    assert!(TaskSpec::parse(spec(id, &subnets(16), "").as_bytes()).is_ok());
}

fn with_attributes(attributes: &str) -> String {
    format!(
        r#"{{"taskId": "web", "networkConfiguration": {{"awsvpcConfiguration": {{"subnets": ["subnet-a"]}},
            "networkInterfaceAttributes": {attributes}}}}}"#
    )
}

#[test]
fn attributes_are_what_is_written_and_otherwise_the_defaults() {
    let plain = TaskSpec::parse(spec(r#""web""#, r#""subnets": ["subnet-a"]"#, "").as_bytes());
    let plain = plain.unwrap();
    assert_eq!(
        *plain.network_interface_attributes(),
        NetworkInterfaceAttributes {
            connection_tracking_specification: ConnectionTrackingSpecification::default(),
            block_instance_metadata: true,
            source_dest_check: true,
            max_tracked_connections: None,
        }
    );
    for text in [
        "{}",
        r#"{"blockInstanceMetadata": true, "connectionTrackingSpecification": {}}"#,
    ] {
        let same = TaskSpec::parse(with_attributes(text).as_bytes()).unwrap();
        assert_eq!(same, plain, "the same wish: {text}");
    }
    let all = r#"{"connectionTrackingSpecification": {"tcpEstablishedTimeout": 60, "udpTimeout": 60,
        "udpStreamTimeout": 180}, "blockInstanceMetadata": false, "sourceDestCheck": false,
        "maxTrackedConnections": 1}"#;
    let spec = TaskSpec::parse(with_attributes(all).as_bytes()).unwrap();
    assert_ne!(spec, plain);
    let written = serde_json::to_value(spec.network_interface_attributes()).unwrap();
    assert_eq!(
        written,
        serde_json::from_str::<serde_json::Value>(all).unwrap()
    );
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(TaskSpec::parse(text.as_bytes()).unwrap(), spec);
}

#[test]
fn bad_attributes_name_field_and_fix() {
    let timer = |name: &str, value: &str| {
        format!(r#"{{"connectionTrackingSpecification": {{"{name}": {value}}}}}"#)
    };
    let specification = "connectionTrackingSpecification";
    let rows = [
        (
            timer("tcpEstablishedTimeout", "59"),
            format!("{specification}.tcpEstablishedTimeout"),
            "59 is out of range; write a number of seconds from 60 to 432000",
        ),
        (
            timer("udpTimeout", "61"),
            format!("{specification}.udpTimeout"),
            "from 30 to 60",
        ),
        (
            timer("udpStreamTimeout", "181"),
            format!("{specification}.udpStreamTimeout"),
            "from 60 to 180",
        ),
        (
            timer("udpTimeout", "\"30\""),
            format!("{specification}.udpTimeout"),
            "expected u32",
        ),
        (
            timer("udpTimeout", "-1"),
            format!("{specification}.udpTimeout"),
            "expected u32",
        ),
        (
            timer("icmpTimeout", "30"),
            format!("{specification}.icmpTimeout"),
            "expected one of",
        ),
        (
            r#"{"blockInstanceMetadata": "no"}"#.to_owned(),
            "blockInstanceMetadata".to_owned(),
            "expected a boolean",
        ),
        (
            r#"{"sourceDestCheck": 0}"#.to_owned(),
            "sourceDestCheck".to_owned(),
            "expected a boolean",
        ),
        (
            r#"{"maxTrackedConnections": 0}"#.to_owned(),
            "maxTrackedConnections".to_owned(),
            "write 1 or more",
        ),
        (
            r#"{"maxTrackedConnections": 4294967296}"#.to_owned(),
            "maxTrackedConnections".to_owned(),
            "expected u32",
        ),
        (
            r#"{"blockImds": true}"#.to_owned(),
            "blockImds".to_owned(),
            "expected one of",
        ),
    ];
    for (attributes, field, says) in rows {
        let error = TaskSpec::parse(with_attributes(&attributes).as_bytes()).unwrap_err();
        assert_eq!(
            error.field,
            NetworkInterfaceAttributes::field(&field),
            "{attributes}: {error}"
        );
        assert!(error.to_string().contains(says), "{attributes}: {error}");
    }
}
