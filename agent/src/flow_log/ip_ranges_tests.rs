//! Which service an address belongs to, and which files are refused.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::test_dir::TestDir;

/// Entries as AWS publishes them.
const FILE: &str = r#"{
  "syncToken": "1700000000",
  "createDate": "2026-11-01-00-00-00",
  "prefixes": [
    {"ip_prefix": "3.5.140.0/22", "region": "ap-northeast-2", "service": "AMAZON", "network_border_group": "ap-northeast-2"},
    {"ip_prefix": "52.94.0.0/16", "region": "GLOBAL", "service": "AMAZON", "network_border_group": "GLOBAL"},
    {"ip_prefix": "3.5.140.0/22", "region": "ap-northeast-2", "service": "S3", "network_border_group": "ap-northeast-2"},
    {"ip_prefix": "3.5.140.0/22", "region": "ap-northeast-2", "service": "EC2", "network_border_group": "ap-northeast-2"},
    {"ip_prefix": "52.94.76.0/24", "region": "us-west-2", "service": "DYNAMODB", "network_border_group": "us-west-2"},
    {"ip_prefix": "52.94.76.128/25", "region": "us-west-2", "service": "AMAZON", "network_border_group": "us-west-2"}
  ],
  "ipv6_prefixes": [
    {"ipv6_prefix": "2600:1ff2:4000::/40", "region": "us-west-2", "service": "AMAZON", "network_border_group": "us-west-2"},
    {"ipv6_prefix": "2600:1ff2:4000::/40", "region": "us-west-2", "service": "S3", "network_border_group": "us-west-2"}
  ]
}"#;

#[test]
fn the_longest_network_wins_and_a_name_beats_amazon() {
    let ranges = IpRanges::parse(FILE.as_bytes()).unwrap();
    for (address, service) in [
        ("3.5.143.255", Some("S3")),
        ("3.5.144.0", None),
        ("52.94.1.1", Some("AMAZON")),
        ("52.94.76.1", Some("DYNAMODB")),
        ("52.94.76.200", Some("AMAZON")),
        ("2600:1ff2:40ff::1", Some("S3")),
        ("2600:1ff2:4100::", None),
        ("10.0.0.1", None),
    ] {
        assert_eq!(
            ranges.service(address.parse().unwrap()),
            service,
            "{address}"
        );
    }
    let none = IpRanges::default();
    assert_eq!(none.service([3, 5, 140, 1].into()), None);
}

#[test]
fn a_damaged_file_is_named_with_its_field_and_what_to_do() {
    let dir = TestDir::new();
    let path = dir.path().join("ip-ranges.json");
    let shown = path.display();
    let error = |text: Option<&str>| {
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        IpRanges::load(&path).unwrap_err().to_string()
    };
    let missing = error(None);
    let start = format!("flow_records.ip_ranges: read {shown}; put AWS's ip-ranges.json there");
    assert!(missing.starts_with(&start), "{missing}");
    let anew = "; get the file anew from https://ip-ranges.amazonaws.com/ip-ranges.json";
    for (text, said) in [
        (&FILE[..300], "line 6: not JSON"),
        ("{\"prefixes\": []}", "ipv6_prefixes"),
        (
            &FILE.replace("52.94.76.0/24", "52.94.76.0/33"),
            "prefixes[4].ip_prefix",
        ),
        (
            &FILE.replace("2600:1ff2:4000::/40", "x"),
            "ipv6_prefixes[0].ipv6_prefix",
        ),
        (
            &FILE.replace("DYNAMODB", "A B"),
            "prefixes[4].service: \"A B\" is no name",
        ),
    ] {
        let error = error(Some(text));
        assert!(
            error.starts_with(&format!("flow_records.ip_ranges: {shown}: ")),
            "{error}"
        );
        assert!(error.contains(said) && error.ends_with(anew), "{error}");
    }
}
