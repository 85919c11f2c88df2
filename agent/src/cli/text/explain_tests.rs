#![expect(clippy::unwrap_used, reason = "tests")]

use branchline_common::verdict::Direction;

use super::*;
use crate::explain::LoadedAnswer;
use crate::security_groups::{GroupReference, Peer, PortRange, SecurityGroupRule};

fn judged(direction: Direction) -> EniJudgement {
    EniJudgement {
        task_id: "web".into(),
        network_interface_id: "eni-1".into(),
        direction,
        allowed: false,
        audited: false,
        reason: "no rule of any group allows it".into(),
        rule: None,
        tracked: None,
        tracking_reason: None,
        loaded: None,
    }
}

#[test]
fn each_eni_that_judges_is_a_block_of_lines() {
    let rule = SecurityGroupRule {
        rule_id: "sgr-1".into(),
        direction: Direction::Ingress,
        protocol: Protocol::Number(6),
        ports: PortRange {
            first: 443,
            last: 443,
        },
        peer: Peer::Group(GroupReference::new("sg-app")),
        description: None,
    };
    let answer = LoadedAnswer {
        allowed: true,
        audited: false,
        tracked: Some(true),
        rule: Some(("sg-web".into(), "sgr-1".into())),
    };
    let explained = Explanation {
        allowed: false,
        packet: Opening {
            source: "10.0.2.7".parse().unwrap(),
            destination: "10.0.1.10".parse().unwrap(),
            protocol: 6,
            source_port: 50_000,
            destination_port: 443,
            icmp_type: 0,
            icmp_code: 0,
        },
        judgements: vec![
            EniJudgement {
                task_id: "app".into(),
                ..judged(Direction::Egress)
            },
            EniJudgement {
                allowed: true,
                reason: "a rule allows it; it opens a connection".into(),
                rule: Some(AllowingRule {
                    group_id: "sg-web".into(),
                    rule,
                    network: "10.0.2.7/32".parse().unwrap(),
                    member: Some("eni-app".into()),
                }),
                tracked: Some(true),
                tracking_reason: Some("no rule for 0.0.0.0/0 allows it".into()),
                loaded: Some(answer),
                ..judged(Direction::Ingress)
            },
        ],
    };
    let expected = "\
packet     tcp 10.0.2.7:50000 -> 10.0.1.10:443
judged by  task app (eni-1), egress
verdict    DENY
because    no rule of any group allows it
loaded     no rule is asked

packet     tcp 10.0.2.7:50000 -> 10.0.1.10:443
judged by  task web (eni-1), ingress
verdict    ALLOW
because    a rule allows it; it opens a connection
rule       ingress tcp 443 from sg-app (sgr-1) of sg-web
matches    10.0.2.7/32 (eni-app of sg-app)
tracked    yes: no rule for 0.0.0.0/0 allows it
loaded     the loaded policy agrees
";
    assert_eq!(explanation(&explained), expected);
}
