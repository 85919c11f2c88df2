//! Tests of `ip_permission`.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::super::rule::{PortRange, Protocol};
use super::*;
use crate::field_error::from_toml;

const V4: &str = "ip_ranges = [{cidr_ip = '10.1.2.3/8', description = 'x'}]";
const BOTH: &str = "ip_ranges = [{cidr_ip = '0.0.0.0/0'}]\nipv6_ranges = [{cidr_ipv6 = '::/0'}]";

fn noted(text: &str) -> Result<(Vec<RuleAt>, Vec<String>), FieldError> {
    let mut notes = Vec::new();
    let permission = from_toml(text)?;
    let rules = normalize(&permission, "sg-a", Direction::Ingress, "p", &mut notes)?;
    Ok((rules, notes.iter().map(ToString::to_string).collect()))
}

fn rules(text: &str) -> Result<Vec<SecurityGroupRule>, FieldError> {
    let (rules, _) = noted(text)?;
    Ok(rules.into_iter().map(|at| at.rule).collect())
}

#[test]
fn protocols_and_ports_become_ranges() {
    let rows = [
        (
            "name of TCP",
            "'tcp'\nfrom_port = 80\nto_port = 81",
            Protocol::Number(6),
            (80, 81),
        ),
        (
            "upper case",
            "'TCP'\nfrom_port = 80\nto_port = 80",
            Protocol::Number(6),
            (80, 80),
        ),
        (
            "number of TCP",
            "'6'\nfrom_port = 0\nto_port = 65535",
            Protocol::Number(6),
            (0, 65535),
        ),
        (
            "TCP without ports",
            "'tcp'",
            Protocol::Number(6),
            (0, 65535),
        ),
        (
            "UDP with -1",
            "'udp'\nfrom_port = -1\nto_port = -1",
            Protocol::Number(17),
            (0, 65535),
        ),
        (
            "all discards ports",
            "'-1'\nfrom_port = 80\nto_port = 80",
            Protocol::Any,
            (0, 65535),
        ),
        (
            "others discard ports",
            "'50'\nfrom_port = 9\nto_port = 1",
            Protocol::Number(50),
            (0, 65535),
        ),
        (
            "any ICMP",
            "'icmp'\nfrom_port = -1\nto_port = -1",
            Protocol::Number(1),
            (0, 65535),
        ),
        (
            "ICMP type",
            "'icmp'\nfrom_port = 8\nto_port = -1",
            Protocol::Number(1),
            (0x800, 0x8ff),
        ),
        (
            "ICMP type and code",
            "'1'\nfrom_port = 3\nto_port = 4",
            Protocol::Number(1),
            (0x304, 0x304),
        ),
    ];
    for (name, text, protocol, (first, last)) in rows {
        let rules = rules(&format!("ip_protocol = {text}\n{V4}")).unwrap();
        assert_eq!(rules.len(), 1, "{name}");
        assert_eq!(
            (rules[0].protocol, rules[0].ports),
            (protocol, PortRange { first, last }),
            "{name}"
        );
        assert_eq!(
            rules[0].peer.to_string(),
            "10.0.0.0/8",
            "{name}: host bits are masked"
        );
        assert_eq!(rules[0].description.as_deref(), Some("x"), "{name}");
    }
}

#[test]
fn families_never_cross() {
    let peers = |protocol: &str| -> Vec<String> {
        let rules = rules(&format!("ip_protocol = {protocol}\n{BOTH}")).unwrap();
        rules.iter().map(|rule| rule.peer.to_string()).collect()
    };
    assert_eq!(peers("'-1'"), ["0.0.0.0/0", "::/0"]);
    assert_eq!(peers("'47'"), ["0.0.0.0/0", "::/0"]);
    assert_eq!(peers("'icmp'\nfrom_port = -1\nto_port = -1"), ["0.0.0.0/0"]);
    assert_eq!(peers("'icmpv6'"), ["::/0"]);
    assert_eq!(peers("'58'\nfrom_port = 128\nto_port = 0"), ["::/0"]);
}

#[test]
fn malformed_permissions_name_field_and_fix() {
    let long = format!(
        "'-1'\nip_ranges = [{{cidr_ip = '0.0.0.0/0', description = '{}'}}]",
        "x".repeat(256)
    );
    let rows = [
        (format!("'tcpp'\n{V4}"), "p.ip_protocol", "write tcp, udp"),
        (format!("'256'\n{V4}"), "p.ip_protocol", "0 to 255"),
        (format!("'-2'\n{V4}"), "p.ip_protocol", "0 to 255"),
        (
            format!("'tcp'\nfrom_port = 80\n{V4}"),
            "p.to_port",
            "the last port",
        ),
        (
            format!("'tcp'\nto_port = 80\n{V4}"),
            "p.from_port",
            "the first port",
        ),
        (
            format!("'tcp'\nfrom_port = 81\nto_port = 80\n{V4}"),
            "p.from_port",
            "smaller port first",
        ),
        (
            format!("'tcp'\nfrom_port = -1\nto_port = 80\n{V4}"),
            "p.from_port",
            "0 to 65535",
        ),
        (
            format!("'udp'\nfrom_port = 1\nto_port = 65536\n{V4}"),
            "p.to_port",
            "65536 is no port",
        ),
        (format!("'icmp'\n{V4}"), "p.from_port", "ICMP type"),
        (
            format!("'icmp'\nfrom_port = 8\n{V4}"),
            "p.to_port",
            "ICMP code",
        ),
        (
            format!("'icmpv6'\nto_port = 0\n{V4}"),
            "p.from_port",
            "ICMP type",
        ),
        (
            format!("'icmp'\nfrom_port = -1\nto_port = 0\n{V4}"),
            "p.to_port",
            "write -1 too",
        ),
        (
            format!("'icmp'\nfrom_port = 256\nto_port = 0\n{V4}"),
            "p.from_port",
            "0 to 255",
        ),
        (
            format!("'icmp'\nfrom_port = 3\nto_port = 256\n{V4}"),
            "p.to_port",
            "0 to 255",
        ),
        ("'-1'".to_owned(), "p", "names no peer"),
        (
            "'-1'\nip_ranges = [{cidr_ip = '10.0.0.1'}]".to_owned(),
            "p.ip_ranges[0].cidr_ip",
            "prefix length",
        ),
        (
            "'-1'\nip_ranges = [{cidr_ip = '::/0'}]".to_owned(),
            "p.ip_ranges[0].cidr_ip",
            "this family",
        ),
        (
            "'-1'\nipv6_ranges = [{cidr_ipv6 = '0.0.0.0/0'}]".to_owned(),
            "p.ipv6_ranges[0].cidr_ipv6",
            "family",
        ),
        (long, "p.ip_ranges[0].description", "255"),
        (
            "'-1'\nip_ranges = [{cidr_ip = '0.0.0.0/0', description = 'a<b'}]".to_owned(),
            "p.ip_ranges[0].description",
            "'<'",
        ),
        (format!("'+6'\n{V4}"), "p.ip_protocol", "0 to 255"),
        (
            "'-1'\nuser_id_group_pairs = [{group_id = 'b'}]".to_owned(),
            "p.user_id_group_pairs[0].group_id",
            "write sg-",
        ),
        (
            "'-1'\nuser_id_group_pairs = [{group_name = 'b'}]".to_owned(),
            "user_id_group_pairs[0].group_name",
            "unknown field",
        ),
        (
            "'-1'\nuser_id_group_pairs = [{group_id = 'sg-b', user_id = '12 34'}]".to_owned(),
            "p.user_id_group_pairs[0].user_id",
            "12 digits",
        ),
        (
            "'-1'\nuser_id_group_pairs = [{group_id = 'sg-b', vpc_id = 'b'}]".to_owned(),
            "p.user_id_group_pairs[0].vpc_id",
            "write vpc-",
        ),
        (
            "'-1'\nuser_id_group_pairs = [{group_id = 'sg-b', vpc_peering_connection_id = 'b'}]"
                .to_owned(),
            "p.user_id_group_pairs[0].vpc_peering_connection_id",
            "write pcx-",
        ),
        (
            format!("'-1'\n{V4}\nprefix_list_ids = [{{prefix_list_id = 'sg-b'}}]"),
            "p.prefix_list_ids[0].prefix_list_id",
            "write pl-",
        ),
        (
            "'-1'\nprefix_list_ids = [{prefix_list_id = 'pl-b', description = 'a\"b'}]".to_owned(),
            "p.prefix_list_ids[0].description",
            "contains '\"'",
        ),
        (format!("'-1'\ncidr = 1\n{V4}"), "cidr", "unknown field"),
    ];
    for (text, field, says) in rows {
        let error = rules(&format!("ip_protocol = {text}")).unwrap_err();
        assert_eq!(error.field, field, "{text}: {error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
}

#[test]
fn prefix_lists_and_groups_are_peers() {
    let text = "ip_protocol = 'icmp'\nfrom_port = -1\nto_port = -1\nip_ranges = [{cidr_ip = '10.0.0.0/8'}]
        prefix_list_ids = [{prefix_list_id = 'pl-b', description = 'list'}]
        user_id_group_pairs = [{group_id = 'sg-b'}, {group_id = 'sg-c', user_id = '123456789012', vpc_id = 'vpc-c',
        vpc_peering_connection_id = 'pcx-c', peering_status = 'active', description = 'theirs'}]";
    let (rules, notes) = noted(text).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    let rows: Vec<_> = rules
        .iter()
        .map(|at| {
            let rule = &at.rule;
            let description = rule.description.as_deref().unwrap_or_default();
            (at.field.as_str(), rule.peer.to_string(), description)
        })
        .collect();
    let expected = [
        ("p.ip_ranges[0].cidr_ip", "10.0.0.0/8", ""),
        ("p.prefix_list_ids[0].prefix_list_id", "pl-b", "list"),
        ("p.user_id_group_pairs[0].group_id", "sg-b", ""),
        (
            "p.user_id_group_pairs[1].group_id",
            "123456789012/sg-c",
            "theirs",
        ),
    ];
    assert_eq!(
        rows,
        expected.map(|(at, peer, says)| (at, peer.to_owned(), says))
    );
    let theirs = GroupReference {
        group_id: "sg-c".into(),
        user_id: Some("123456789012".into()),
        vpc_id: Some("vpc-c".into()),
        vpc_peering_connection_id: Some("pcx-c".into()),
        peering_status: Some("active".into()),
    };
    assert_eq!(rules[3].rule.peer, Peer::Group(theirs));
}

#[test]
fn what_is_normalised_is_said() {
    let rows: [(&str, &[&str]); 11] = [
        (
            "'tcp'\nfrom_port = 1\nto_port = 2\nip_ranges = [{cidr_ip = '10.0.0.0/8'}]",
            &[],
        ),
        (
            "'tcp'\nfrom_port = 1\nto_port = 2\nip_ranges = [{cidr_ip = '100.68.0.18/18'}]",
            &["p.ip_ranges[0].cidr_ip: 100.68.0.18/18 is stored as 100.68.0.0/18"],
        ),
        (
            "'-1'\nipv6_ranges = [{cidr_ipv6 = '2001:db8::1/32'}]",
            &["p.ipv6_ranges[0].cidr_ipv6: 2001:db8::1/32 is stored as 2001:db8::/32"],
        ),
        (
            "'6'\nfrom_port = 1\nto_port = 2\nip_ranges = [{cidr_ip = '10.0.0.0/8'}]",
            &["p.ip_protocol: 6 is tcp"],
        ),
        (
            "'UDP'\nfrom_port = 1\nto_port = 2\nip_ranges = [{cidr_ip = '10.0.0.0/8'}]",
            &["p.ip_protocol: UDP is udp"],
        ),
        (
            "'58'\nipv6_ranges = [{cidr_ipv6 = '::/0'}]",
            &["p.ip_protocol: 58 is icmpv6"],
        ),
        (
            "'47'\nfrom_port = -1\nto_port = -1\nip_ranges = [{cidr_ip = '10.0.0.0/8'}]",
            &[],
        ),
        (
            "'47'\nfrom_port = 100\nto_port = 200\nip_ranges = [{cidr_ip = '10.0.0.0/8'}]",
            &["p.from_port: 100 is discarded: protocol 47 has no ports"],
        ),
        (
            "'udp'\nip_ranges = [{cidr_ip = '10.0.0.0/8'}]",
            &["p.from_port: no range is taken as every port, 0 to 65535"],
        ),
        (
            "'icmp'\nfrom_port = 8\nto_port = -1\nipv6_ranges = [{cidr_ipv6 = '::/0'}]",
            &["p.ipv6_ranges[0].cidr_ipv6: dropped: icmp never meets ::/0, of the other family"],
        ),
        (
            "'icmpv6'\nip_ranges = [{cidr_ip = '0.0.0.0/0'}]",
            &["p.ip_ranges[0].cidr_ip: dropped: icmpv6 never meets 0.0.0.0/0, of the other family"],
        ),
    ];
    for (text, expected) in rows {
        let (_, notes) = noted(&format!("ip_protocol = {text}")).unwrap();
        assert_eq!(notes, expected, "{text}");
    }
}

#[test]
fn empty_reference_lists_are_what_ec2_prints() {
    let text = format!("ip_protocol = '-1'\nuser_id_group_pairs = []\nprefix_list_ids = []\n{V4}");
    assert_eq!(rules(&text).unwrap().len(), 1);
}
