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
fn bad_specifications_name_field_and_fix() {
    let subnets = |count: usize| {
        let ids: Vec<String> = (0..count).map(|n| format!("\"subnet-{n}\"")).collect();
        format!(r#""subnets": [{}]"#, ids.join(","))
    };
    let one = subnets(1);
    let id = r#""web""#;
    let groups = r#""securityGroups": ["sg-1","sg-2","sg-3","sg-4","sg-5","sg-6"]"#;
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
            "name 5 at most",
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
