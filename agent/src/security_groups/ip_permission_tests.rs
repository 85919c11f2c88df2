//! Tests of `ip_permission`.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::field_error::from_toml;

const V4: &str = "ip_ranges = [{cidr_ip = '10.1.2.3/8', description = 'x'}]";
const BOTH: &str = "ip_ranges = [{cidr_ip = '0.0.0.0/0'}]\nipv6_ranges = [{cidr_ipv6 = '::/0'}]";

fn rules(text: &str) -> Result<Vec<SecurityGroupRule>, FieldError> {
    normalize(&from_toml(text)?, "sg-a", Direction::Ingress, "p")
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
        (
            "'-1'\nuser_id_group_pairs = [{group_id = 'sg-b'}]".to_owned(),
            "p.user_id_group_pairs",
            "not supported yet",
        ),
        (
            format!("'-1'\nprefix_list_ids = [{{prefix_list_id = 'pl-b'}}]\n{V4}"),
            "p.prefix_list_ids",
            "not supported yet",
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
fn empty_reference_lists_are_what_ec2_prints() {
    let text = format!("ip_protocol = '-1'\nuser_id_group_pairs = []\nprefix_list_ids = []\n{V4}");
    assert_eq!(rules(&text).unwrap().len(), 1);
}
