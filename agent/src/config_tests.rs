//! Tests of `config`.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::connection_tracking::Profile;
use crate::test_dir::TestDir;

#[test]
fn an_empty_file_is_the_defaults() {
    let config = Config::parse("").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.socket(), Path::new("/run/branchline/agent.sock"));
    assert_eq!(config.flow_logs, [FlowLog::of_host()]);
    let (v4, v6) = config.local.uplink_host();
    assert_eq!(
        (v4.to_string(), v6.to_string()),
        (
            "169.254.77.1/30".into(),
            "fdb1:6272:616e:6368::1/126".into()
        )
    );
    let (v4, v6) = config.local.uplink_fabric();
    assert_eq!(
        (v4.to_string(), v6.to_string()),
        (
            "169.254.77.2/30".into(),
            "fdb1:6272:616e:6368::2/126".into()
        )
    );
}

#[test]
fn every_field_is_read_and_printed_back() {
    let config = Config {
        log_drops: true,
        mtu: 1500,
        flow_records: FlowRecordConfig {
            account_id: "123456789012".into(),
            region: "eu-west-1".into(),
            az_id: Some("euw1-az1".into()),
            instance_id: Some("i-0123456789abcdef0".into()),
            host_id: Some("host-1".into()),
            ip_ranges: Some("/etc/ip-ranges.json".into()),
            spool_max_bytes: 1 << 30,
            min_free_space_percent: 7,
        },
        flow_logs: vec![FlowLog {
            dir: "/f".into(),
            max_aggregation_interval: 1,
            ..FlowLog::of_host()
        }],
        conntrack: ConntrackConfig {
            max_entries: 4096,
            max_entries_per_eni: Some(7),
            profile: Profile::NitroV6,
            tcp_established_timeout: Some(61.try_into().unwrap()),
            udp_timeout: Some(31.try_into().unwrap()),
            udp_stream_timeout: Some(179.try_into().unwrap()),
            tcp_strict: true,
            cut_on_revoke: true,
            auto_track: ["10.0.5.5/32", "2001:db8::/32"]
                .map(|text| text.to_owned().try_into().unwrap())
                .to_vec(),
        },
        etc_netns_dir: "/e".into(),
        task_metadata: TaskMetadataConfig {
            requests_per_second: 1,
            burst: 2,
        },
        local: LocalConfig {
            nat_gateway: true,
            vpc_file: "/v.toml".into(),
            dns: DnsConfig {
                forwarders: Some(
                    ["192.0.2.53", "[2001:db8::53]:5353"]
                        .map(|text| text.to_owned().try_into().unwrap())
                        .to_vec(),
                ),
            },
            ..LocalConfig::default()
        },
        ..Config::default()
    };
    let text = toml::to_string(&config).unwrap();
    assert_eq!(Config::parse(&text).unwrap(), config, "{text}");
}

#[test]
fn bad_values_name_field_and_fix() {
    let rows = [
        ("run_dri = '/x'", "run_dri", "expected one of"),
        ("run_dir = 'x'", "run_dir", "start it with /"),
        ("etc_netns_dir = 'x'", "etc_netns_dir", "start it with /"),
        (
            "[task_metadata]\nburst = 0",
            "task_metadata.burst",
            "from 1 to 10000",
        ),
        (
            "[local.dns]\nforwarders = ['dns.example']",
            "local.dns.forwarders[0]",
            "write an address",
        ),
        (
            "[local.dns]\nforwarders = ['1.1.1.1', '1.1.1.2', '1.1.1.3', '1.1.1.4']",
            "local.dns.forwarders",
            "name 3 at most",
        ),
        (
            "[[flow_logs]]\nflow_log_id = 'fl-00000001'\ndir = 'x'",
            "flow_logs[0].dir",
            "start it with /",
        ),
        (
            "[[flow_logs]]\nflow_log_id = 'fl-00000001'\ndir = '/x'\nmax_aggregation_interval = 601",
            "flow_logs[0].max_aggregation_interval",
            "from 1 to 600",
        ),
        (
            "[[flow_logs]]\nmax_aggregation_interval = '60'",
            "flow_logs[0].max_aggregation_interval",
            "expected u64",
        ),
        (
            "flow_records.account_id = '12345'",
            "flow_records.account_id",
            "12 digits",
        ),
        (
            "flow_records.account_id = 123456789012",
            "flow_records.account_id",
            "expected a string",
        ),
        (
            "flow_records.region = 'eu_west'",
            "flow_records.region",
            "write 1 to 64 letters",
        ),
        (
            "flow_records.spool_max_bytes = 1",
            "flow_records.spool_max_bytes",
            "from 1048576",
        ),
        (
            "flow_records.min_free_space_percent = 51",
            "flow_records.min_free_space_percent",
            "from 0 to 50",
        ),
        ("mtu = 1279", "mtu", "from 1280 to 9198"),
        ("mtu = 9199", "mtu", "from 1280 to 9198"),
        ("max_enis = 0", "max_enis", "from 1 to 4095"),
        ("max_enis = 4096", "max_enis", "from 1 to 4095"),
        (
            "conntrack.max_entries = 10",
            "conntrack.max_entries",
            "from 1024",
        ),
        (
            "conntrack.max_entries_per_eni = 0",
            "conntrack.max_entries_per_eni",
            "from 1 to 262144",
        ),
        (
            "conntrack.max_entries = 2048\nconntrack.max_entries_per_eni = 2049",
            "conntrack.max_entries_per_eni",
            "from 1 to 2048",
        ),
        (
            "conntrack.profile = 'nitro'",
            "conntrack.profile",
            "expected `default` or `nitro-v6`",
        ),
        (
            "conntrack.tcp_established_timeout = 59",
            "conntrack.tcp_established_timeout",
            "from 60 to 432000",
        ),
        (
            "conntrack.udp_timeout = 61",
            "conntrack.udp_timeout",
            "from 30 to 60",
        ),
        (
            "conntrack.udp_stream_timeout = 181",
            "conntrack.udp_stream_timeout",
            "from 60 to 180",
        ),
        (
            "conntrack.tcp_strict = 'yes'",
            "conntrack.tcp_strict",
            "expected a boolean",
        ),
        (
            "conntrack.auto_track = ['10.0.0.0/8', '10.0.5.5']",
            "conntrack.auto_track[1]",
            "write an address and a prefix length",
        ),
        (
            "conntrack.auto_track = ['10.0.5.5/24']",
            "conntrack.auto_track[0]",
            "has host bits; write 10.0.5.0/24",
        ),
        ("flow_rows_max = 10", "flow_rows_max", "from 1024"),
        ("provider = 'ec3'", "provider", "expected `local`"),
        (
            "local.uplink_ipv4 = '169.254.77.1/30'",
            "local.uplink_ipv4",
            "169.254.77.0/30",
        ),
        (
            "local.uplink_ipv4 = '169.254.77.0/31'",
            "local.uplink_ipv4",
            "169.254.77.0/30",
        ),
        (
            "local.uplink_ipv6 = 'fd00::/127'",
            "local.uplink_ipv6",
            "/126",
        ),
        (
            "local.nat_gateway = true\nlocal.uplink = false",
            "local.nat_gateway",
            "local.uplink = true",
        ),
    ];
    for (text, field, says) in rows {
        let error = Config::parse(text).unwrap_err();
        assert_eq!(error.field, field, "{text}: {error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
}

#[test]
fn errors_name_the_file_and_paths_start_at_it() {
    let dir = TestDir::new();
    let path = dir.path().join("agent.toml");
    assert!(matches!(
        Config::load(&path).unwrap_err(),
        ConfigError::Read { .. }
    ));
    std::fs::write(&path, "mtu = 1").unwrap();
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(
        error.contains("agent.toml: mtu: 1 is out of range; write"),
        "{error}"
    );
    std::fs::write(&path, "local.vpc_file = 'vpc.toml'").unwrap();
    assert_eq!(
        Config::load(&path).unwrap().local.vpc_file,
        dir.path().join("vpc.toml")
    );
}
