//! Lists of fields, right and wrong.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn tags(resource_type: ResourceType, keys: &[&str]) -> TagFieldSpecification {
    TagFieldSpecification {
        resource_type,
        tag_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    }
}

#[test]
fn fields_are_read_as_aws_writes_them_and_as_a_plain_list() {
    let expected = [Field::LogStatus, Field::Srcaddr, Field::TcpFlags];
    for text in [
        "${log-status} ${srcaddr} ${tcp-flags}",
        "log-status srcaddr tcp-flags",
        "log-status,srcaddr, tcp-flags",
        "  ${log-status},srcaddr\n${tcp-flags} ",
    ] {
        let format = Format::parse(text, &[]).unwrap();
        assert_eq!(format.fields(), expected, "{text}");
        assert_eq!(format.to_string(), "${log-status} ${srcaddr} ${tcp-flags}");
        assert_eq!(Format::parse(&format.to_string(), &[]), Ok(format));
    }
}

#[test]
fn the_version_is_the_highest_of_the_fields() {
    for (text, version) in [
        ("srcaddr", 2),
        ("srcaddr bl-sequence", 2),
        ("vpc-id srcaddr", 3),
        ("traffic-path az-id", 5),
        ("ecs-task-id flow-direction", 7),
        ("next-hop-az-id encryption-status", 11),
    ] {
        assert_eq!(
            Format::parse(text, &[]).unwrap().version(),
            version,
            "{text}"
        );
    }
    assert_eq!(Format::default().version(), 2);
    assert_eq!(
        Format::default().to_string().replace(['$', '{', '}'], ""),
        "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes \
         start end action log-status"
    );
}

#[test]
fn what_is_no_format_is_named_with_the_fix() {
    let two = tags(ResourceType::Instance, &["a", "b"]);
    let one = tags(ResourceType::NetworkInterface, &["a"]);
    let rows = [
        ("", vec![], "names no field"),
        (" , ", vec![], "names no field"),
        (
            "srcaddr log_status",
            vec![],
            "\"log_status\" is no flow-log field; did you mean log-status?",
        ),
        ("${srcaddr", vec![], "did you mean srcaddr?"),
        (
            "tgw-src-vpc-account-id",
            vec![],
            "write names as VPC Flow Logs have them",
        ),
        ("srcaddr ${srcaddr}", vec![], "srcaddr is there twice"),
        (
            "asg-tag",
            vec![],
            "asg-tag shows no tag: tag_field_specifications has fewer than 1",
        ),
        (
            "asg-tag",
            vec![two.clone()],
            "of resource_type auto-scaling-group",
        ),
        ("interface-tag-2", vec![one.clone()], "fewer than 2"),
        (
            "srcaddr",
            vec![tags(ResourceType::Instance, &["a", "b", "c"])],
            "has 3 tag_keys",
        ),
        (
            "srcaddr",
            vec![tags(ResourceType::Instance, &["a", ""])],
            "has 1 tag_keys",
        ),
        (
            "srcaddr",
            vec![tags(ResourceType::Instance, &[])],
            "has 0 tag_keys",
        ),
        ("srcaddr", vec![one.clone(), one], "network-interface twice"),
    ];
    for (text, tags, expected) in rows {
        let error = Format::parse(text, &tags).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let format = Format::parse("instance-tag-2 instance-tag", &[two]).unwrap();
    assert_eq!(format.tag_key(ResourceType::Instance, 1), Some("b"));
    assert_eq!(format.tag_key(ResourceType::AutoScalingGroup, 0), None);
}

#[test]
fn only_a_format_with_rules_or_reasons_tells_them_apart() {
    let tells = |text| Format::parse(text, &[]).unwrap().tells_rules_apart();
    assert!(
        ["bl-rule-id", "bl-group-id", "bl-drop-reason"]
            .into_iter()
            .all(tells)
    );
    assert!(!tells("bl-first-seen traffic-path"));
}
