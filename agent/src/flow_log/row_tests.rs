//! What each field is, of an ENI that has everything and of one that has nothing.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use super::*;
use crate::flow_log::format::TagFieldSpecification;
use crate::flows::{Tags, TaskIdentity};

const WINDOW: Window = Window {
    start: 60,
    end: 120,
};

/// Each text is the name of the field that shows it.
fn full() -> Interface {
    let named = |name: &str| Some(name.to_owned());
    let tags = |names: [&str; 2]| {
        let tags = ["k1", "k2"].into_iter().zip(names);
        tags.map(|(key, name)| (key.to_owned(), name.to_owned()))
            .collect()
    };
    Interface {
        account_id: "account-id".to_owned(),
        interface_id: "interface-id".to_owned(),
        primary_ipv4: Some([10, 0, 1, 10].into()),
        ipv6: None,
        vpc_id: named("vpc-id"),
        subnet_id: named("subnet-id"),
        instance_id: named("instance-id"),
        region: named("region"),
        az_id: named("az-id"),
        sublocation: Some(Sublocation {
            kind: "sublocation-type".to_owned(),
            id: "sublocation-id".to_owned(),
        }),
        host_id: named("bl-host-id"),
        group_ids: vec!["sg-1".to_owned()],
        task: TaskIdentity {
            id: named("bl-task-id"),
            cluster_arn: named("ecs-cluster-arn"),
            cluster_name: named("ecs-cluster-name"),
            container_instance_arn: named("ecs-container-instance-arn"),
            container_instance_id: named("ecs-container-instance-id"),
            container_id: named("ecs-container-id"),
            second_container_id: named("ecs-second-container-id"),
            service_name: named("ecs-service-name"),
            task_definition_arn: named("ecs-task-definition-arn"),
            task_arn: named("ecs-task-arn"),
            task_id: named("ecs-task-id"),
        },
        tags: Tags {
            instance: tags(["instance-tag", "instance-tag-2"]),
            network_interface: tags(["interface-tag", "interface-tag-2"]),
            auto_scaling_group: tags(["asg-tag", "asg-tag-2"]),
        },
    }
}

fn flow() -> (FlowTuple, FlowCounts) {
    let tuple = FlowTuple {
        direction: Direction::Egress,
        src: [10, 0, 1, 11].into(),
        dst: [198, 51, 100, 7].into(),
        src_port: 40_000,
        dst_port: 443,
        protocol: 6,
        action: Action::Accept,
        traffic_path: Some(8),
        rule: Some(Rule::new("bl-group-id", "bl-rule-id")),
        drop_reason: None,
        service: None,
    };
    let counts = FlowCounts {
        packets: 5,
        bytes: 600,
        tcp_flags: 3,
        first_ms: 61_250,
        last_ms: 99_999,
    };
    (tuple, counts)
}

/// Every field, with both keys of every kind of tag.
fn everything() -> Format {
    let names: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
    let types = [
        ResourceType::Instance,
        ResourceType::NetworkInterface,
        ResourceType::AutoScalingGroup,
    ];
    let tags = types.map(|resource_type| TagFieldSpecification {
        resource_type,
        tag_keys: vec!["k1".to_owned(), "k2".to_owned()],
    });
    Format::parse(&names.join(" "), &tags).unwrap()
}

/// Text by field name, without those that have none.
fn said(row: &Row<'_>) -> BTreeMap<&'static str, String> {
    let format = everything();
    let mut said = BTreeMap::new();
    for field in format.fields() {
        let value = row.value(*field, &format);
        if value != Value::Absent {
            let mut text = Vec::new();
            value.append_to(&mut text);
            said.insert(field.name(), String::from_utf8(text).unwrap());
        }
    }
    said
}

#[test]
fn every_field_has_its_own_value() {
    let interface = full();
    let peer = Interface {
        interface_id: "next-hop-interface-id".to_owned(),
        subnet_id: Some("next-hop-subnet-id".to_owned()),
        az_id: Some("next-hop-az-id".to_owned()),
        vpc_id: Some("next-hop-vpc-id".to_owned()),
        ..full()
    };
    let (tuple, counts) = flow();
    let row = Row {
        sequence: 41,
        peer: Some(&peer),
        aws_services: (Some("pkt-src-aws-service"), Some("pkt-dst-aws-service")),
        ..Row::new(&interface, Content::Ok(&tuple, &counts), WINDOW)
    };
    let mut said = said(&row);
    for (name, expected) in [
        ("version", "11"),
        ("srcaddr", "10.0.1.10"),
        ("dstaddr", "198.51.100.7"),
        ("srcport", "40000"),
        ("dstport", "443"),
        ("protocol", "6"),
        ("packets", "5"),
        ("bytes", "600"),
        ("start", "61"),
        ("end", "99"),
        ("action", "ACCEPT"),
        ("log-status", "OK"),
        ("tcp-flags", "3"),
        ("type", "IPv4"),
        ("pkt-srcaddr", "10.0.1.11"),
        ("pkt-dstaddr", "198.51.100.7"),
        ("flow-direction", "egress"),
        ("traffic-path", "8"),
        ("bl-first-seen", "61250"),
        ("bl-last-seen", "99999"),
        ("bl-sequence", "41"),
    ] {
        assert_eq!(said.remove(name).as_deref(), Some(expected), "{name}");
    }
    // All others show text that is their own name, but those that cannot be known.
    for (name, text) in &said {
        assert_eq!(text, name);
    }
    let unknown = [
        Field::RejectReason,
        Field::ResourceId,
        Field::EncryptionStatus,
        Field::InterfaceType,
        Field::NextHopInterfaceType,
        Field::BlDropReason,
        Field::BlSkippedPackets,
    ];
    assert_eq!(said.len() + 21 + unknown.len(), Field::ALL.len());
    assert!(unknown.iter().all(|field| !said.contains_key(field.name())));
}

#[test]
fn rows_without_counts_say_who_when_and_what_is_missing() {
    let interface = full();
    let common = [
        ("version", "11"),
        ("account-id", "account-id"),
        ("interface-id", "interface-id"),
        ("start", "60"),
        ("end", "119"),
        ("bl-host-id", "bl-host-id"),
        ("bl-task-id", "bl-task-id"),
        ("bl-sequence", "0"),
    ];
    let rows = [
        (Content::NoData, vec![("log-status", "NODATA")]),
        (
            Content::SkipData { packets: 12 },
            vec![("log-status", "SKIPDATA"), ("bl-skipped-packets", "12")],
        ),
    ];
    for (content, own) in rows {
        let row = Row {
            peer: Some(&interface),
            aws_services: (Some("S3"), Some("S3")),
            ..Row::new(&interface, content, WINDOW)
        };
        let expected = common.into_iter().chain(own);
        let expected = expected.map(|(name, text)| (name, text.to_owned()));
        assert_eq!(said(&row), expected.collect(), "{content:?}");
    }
}

#[test]
fn addresses_differ_on_the_own_side_of_ipv4_only() {
    let rows = [
        (
            Direction::Ingress,
            "198.51.100.7",
            "10.0.1.11",
            "198.51.100.7",
            "10.0.1.10",
        ),
        (
            Direction::Egress,
            "10.0.1.11",
            "198.51.100.7",
            "10.0.1.10",
            "198.51.100.7",
        ),
        (
            Direction::Egress,
            "2001:DB8:0:0:1:0:0:1",
            "fd00::A",
            "2001:db8::1:0:0:1",
            "fd00::a",
        ),
    ];
    let interface = full();
    for (direction, src, dst, srcaddr, dstaddr) in rows {
        let (tuple, counts) = flow();
        let tuple = FlowTuple {
            direction,
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            ..tuple
        };
        let said = said(&Row::new(&interface, Content::Ok(&tuple, &counts), WINDOW));
        assert_eq!(
            (said["srcaddr"].as_str(), said["dstaddr"].as_str()),
            (srcaddr, dstaddr)
        );
        assert_eq!(said["pkt-srcaddr"], tuple.src.to_string());
        assert_eq!(said["pkt-dstaddr"], tuple.dst.to_string());
        assert_eq!(
            said["type"],
            if tuple.src.is_ipv4() { "IPv4" } else { "IPv6" }
        );
    }
    let six_only = Interface {
        primary_ipv4: None,
        ..full()
    };
    let (tuple, counts) = flow();
    let said = said(&Row::new(&six_only, Content::Ok(&tuple, &counts), WINDOW));
    assert_eq!(said["srcaddr"], "10.0.1.11");
}

#[test]
fn what_is_refused_has_a_reason_of_ours_and_none_of_aws() {
    let (tuple, counts) = flow();
    let tuple = FlowTuple {
        action: Action::Reject,
        rule: None,
        drop_reason: Some(DropReason::NoRule),
        ..tuple
    };
    let interface = full();
    let row = Row {
        peer: Some(&interface),
        ..Row::new(&interface, Content::Ok(&tuple, &counts), WINDOW)
    };
    let said = said(&row);
    assert_eq!(
        (said["action"].as_str(), said["bl-drop-reason"].as_str()),
        ("REJECT", "no-rule")
    );
    for name in [
        "reject-reason",
        "bl-rule-id",
        "next-hop-interface-id",
        "next-hop-az-id",
    ] {
        assert!(!said.contains_key(name), "{name}");
    }
}

#[test]
fn the_path_is_told_on_egress_and_the_next_hop_to_its_owner_in_its_region() {
    let interface = full();
    let (tuple, counts) = flow();
    let ingress = FlowTuple {
        direction: Direction::Ingress,
        ..tuple
    };
    let said_with = |peer: &Interface| {
        let row = Row::new(&interface, Content::Ok(&ingress, &counts), WINDOW);
        said(&Row {
            peer: Some(peer),
            ..row
        })
    };
    let hops = |said: &BTreeMap<&'static str, String>| {
        let names = said.keys().filter(|name| name.starts_with("next-hop"));
        names.copied().collect::<Vec<_>>()
    };
    let own = said_with(&full());
    assert!(!own.contains_key("traffic-path"));
    assert_eq!(hops(&own).len(), 4);
    let foreign = said_with(&Interface {
        account_id: "other".to_owned(),
        ..full()
    });
    assert_eq!(hops(&foreign), ["next-hop-az-id"]);
    let elsewhere = said_with(&Interface {
        region: Some("other".to_owned()),
        ..full()
    });
    assert_eq!(hops(&elsewhere), [""; 0]);
}
