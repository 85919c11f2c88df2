#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::scenario::{format, oracle::Oracle};

const GOLDEN: &str = include_str!("../../fixtures/sg_cases.json");

fn mismatches(scenarios: &[Scenario]) -> Vec<String> {
    let mut oracle = Oracle::default();
    let all = scenarios
        .iter()
        .flat_map(|scenario| run(scenario, &mut [&mut oracle]));
    all.map(|mismatch| mismatch.to_string()).collect()
}

#[test]
fn the_oracle_says_what_every_golden_case_says() {
    let scenarios = format::parse(GOLDEN).unwrap();
    assert_eq!(scenarios.len(), 56);
    assert_eq!(mismatches(&scenarios), Vec::<String>::new());
}

#[test]
fn a_written_file_reads_back_as_it_was() {
    let scenarios = format::parse(GOLDEN).unwrap();
    let text = format::text(&scenarios).unwrap();
    assert_eq!(format::parse(&text).unwrap(), scenarios);
}

/// A case with a packet and a counter, all of them as the oracle says.
const CASE: &str = r#"{"format": 1, "cases": [{"id": "one", "groups": {}, "enis": {"a": {"ipv4": ["10.0.1.10"], "groups": []}},
    "expect_counters": {"conntrack_allowance_exceeded": 0},
    "steps": [{"set_group": {"sg-1": {"ingress": [], "egress": []}}},
              {"t": 1, "eni": "a", "dir": "ingress", "pkt": {"src": "198.51.100.7", "dst": "10.0.1.10", "proto": 17, "frag": {"id": 1, "offset": 8, "more": false}}, "expect": "REJECT"}]}]}"#;

#[test]
fn a_mismatch_names_case_and_step() {
    assert_eq!(mismatches(&format::parse(CASE).unwrap()), [""; 0]);
    let orphan = "the datagram's first fragment is not known, and no rule allows the peer \
                  whatever the port";
    let rows = [
        (
            ("\"REJECT\"", "\"EXEMPT\""),
            format!("oracle: case one, step 1: Reject ({orphan}), expected Exempt"),
        ),
        (
            ("exceeded\": 0", "exceeded\": 1"),
            "oracle: case one, after the last step: conntrack_allowance_exceeded is 0, expected 1"
                .to_owned(),
        ),
        (
            ("allowance_exceeded", "packets"),
            "oracle: case one, after the last step: no counter conntrack_packets".to_owned(),
        ),
        (
            ("\"eni\": \"a\"", "\"eni\": \"b\""),
            "scenario: case one, step 1: there is no ENI b".to_owned(),
        ),
        (
            (
                "\"ingress\": []",
                "\"ingress\": [{\"IpProtocol\": \"all\"}]",
            ),
            "oracle: case one, step 0: group sg-1: ip_permissions[0].ip_protocol: \"all\" is no \
             protocol"
                .to_owned(),
        ),
    ];
    for ((old, new), expected) in rows {
        let scenarios = format::parse(&CASE.replace(old, new)).unwrap();
        assert_eq!(mismatches(&scenarios), [expected]);
    }
}

#[test]
fn a_file_that_does_not_fit_names_case_and_field() {
    let rows = [
        (
            "\"proto\"",
            "\"prot\"",
            "case one: steps[1].pkt.prot: unknown field `prot`",
        ),
        (
            "\"more\"",
            "\"mroe\"",
            "case one: steps[1].pkt.frag.mroe: unknown field `mroe`",
        ),
        (
            "\"groups\": []",
            "\"group\": []",
            "case one: enis.a.group: unknown field `group`",
        ),
        (
            "17,",
            "\"sctp\",",
            "case one: steps[1].pkt.proto: \"sctp\" is no protocol",
        ),
        (
            "\"offset\": 8",
            "\"offset\": 9",
            "case one: steps[1].pkt: frag.offset 9 is no multiple",
        ),
        (
            "10.0.1.10\", \"proto",
            "::1\", \"proto",
            "case one: steps[1].pkt: src 198.51.100.7 and dst ::1",
        ),
        (
            "\"t\": 1, ",
            "",
            "case one: steps[1]: a packet's step needs `t`",
        ),
        (
            "\"format\": 1",
            "\"format\": 2",
            "format 2 is not known; 1 is",
        ),
        (
            "\"id\": \"one\", ",
            "",
            "case 0, which has no id: missing field `id`",
        ),
    ];
    for (old, new, expected) in rows {
        assert!(CASE.contains(old), "{old}");
        let error = format::parse(&CASE.replacen(old, new, 1)).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with(expected), "{error}");
    }
}

/// The oracle with a flaw: it forgets to say that there are connections.
struct Forgetful(Oracle);

impl Judge for Forgetful {
    fn name(&self) -> &'static str {
        "forgetful"
    }

    fn set_up(&mut self, setting: &Setting) -> Result<(), String> {
        self.0.set_up(setting)
    }

    fn change(&mut self, setting: &Setting, change: &Change) -> Result<(), String> {
        self.0.change(setting, change)
    }

    fn judge(&mut self, meeting: &Meeting<'_>) -> Result<Judged, String> {
        self.0.judge(meeting)
    }

    fn counters(&mut self, t: u64) -> BTreeMap<&'static str, u64> {
        self.0.counters(t)
    }

    fn live(&mut self, _: u64) -> BTreeSet<Live> {
        BTreeSet::new()
    }
}

#[test]
fn judges_that_end_with_different_connections_are_told_apart() {
    let scenarios = format::parse(GOLDEN).unwrap();
    let scenario = scenarios.iter().find(|case| case.id == "udp-30").unwrap();
    let mut forgetful = Forgetful(Oracle::default());
    let found = run(scenario, &mut [&mut Oracle::default(), &mut forgetful]);
    // It is live in seconds 0, 1 and 30, and dead in second 60.
    let steps: Vec<_> = found
        .iter()
        .map(|found| (found.judge, found.step))
        .collect();
    assert_eq!(steps, [0, 1, 2].map(|step| ("forgetful", Some(step))));
}
