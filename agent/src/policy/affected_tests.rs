#![expect(clippy::unwrap_used, reason = "tests")]

use branchline_common::{conntrack::Connection, flow::mapped, maps::Row};

use super::*;
use crate::datapath::Entry as LiveEntry;
use crate::security_groups::OwnVpc;
use crate::security_groups::change::{ApplyOptions, apply};
use crate::security_groups::file::SecurityGroupFile;

/// A group `sg-a` with these permissions in TOML, and `extra` fields.
fn directory(ingress: &str, egress: &str, extra: &str) -> Directory {
    let text = format!(
        "[[security_groups]]\ngroup_id = 'sg-a'\ngroup_name = 'a'\n{extra}\n\
         ip_permissions = [{ingress}]\nip_permissions_egress = [{egress}]"
    );
    let members = Members::default();
    let options = ApplyOptions {
        vpc: OwnVpc {
            vpc_id: "vpc-1",
            has_ipv6: false,
        },
        prune: false,
        members: &members,
    };
    let file = SecurityGroupFile::parse(&text).unwrap();
    apply(&Directory::default(), &file, options).unwrap().0
}

const ALL: &str = "{ip_protocol = '-1', ip_ranges = [{cidr_ip = '0.0.0.0/0'}]}";
const HTTP: &str =
    "{ip_protocol = 'tcp', from_port = 80, to_port = 80, ip_ranges = [{cidr_ip = '0.0.0.0/0'}]}";
const HTTP_OF_10: &str =
    "{ip_protocol = 'tcp', from_port = 80, to_port = 80, ip_ranges = [{cidr_ip = '10.0.0.0/8'}]}";
const HTTP_OF_11: &str =
    "{ip_protocol = 'tcp', from_port = 80, to_port = 80, ip_ranges = [{cidr_ip = '11.0.0.0/8'}]}";

const NOW: u32 = 1_000;

/// 10.0.0.9:5555 and port 80 of the ENI in slot 3.
fn key(kind: u8) -> FlowKey {
    FlowKey {
        local: mapped([10, 0, 1, 10]),
        remote: mapped([10, 0, 0, 9]),
        local_port: 80,
        remote_port: 5_555,
        eni: 3,
        protocol: protocol::TCP,
        kind,
    }
}

fn connection(state: State, rule: u16, last_seen: u32) -> (FlowKey, LiveEntry) {
    let tracking = Tracking {
        last_seen,
        timeout: 100,
        state: state as u8,
        opener: Direction::Ingress as u8,
        rule,
        ..Tracking::default()
    };
    let connection = Connection {
        tracking,
        ..Connection::default()
    };
    (key(kind::CONNECTION), LiveEntry::Connection(connection))
}

fn row(direction: Direction, action: Action) -> (FlowKey, LiveEntry) {
    (
        key(kind::row(direction, action)),
        LiveEntry::Row(Row::default()),
    )
}

fn effect(
    old: &Directory,
    new: &Directory,
    flow: &(FlowKey, LiveEntry),
) -> Option<(Effect, Direction)> {
    let set = ["sg-a".to_owned()];
    let slots = BTreeSet::from([3]);
    let sets = [(set.as_slice(), &slots)];
    let change = PolicyChange::of(old, new, &Members::default(), sets, false).unwrap();
    let eni = |slot| (slot == 3).then(|| "eni-a".to_owned());
    let flow = change.affects(&flow.0, &flow.1, NOW, eni)?;
    assert_eq!(flow.network_interface_id, "eni-a");
    Some((flow.effect, flow.direction))
}

#[test]
fn tracked_flows_go_on_and_untracked_ones_are_cut() {
    let live = connection(State::Established, 0, NOW);
    let audited = connection(State::Established, AUDITED, NOW);
    let (to, from) = (
        row(Direction::Ingress, Action::Accepted),
        row(Direction::Egress, Action::Accepted),
    );
    let closed = directory("", "", "");
    let narrow = directory(HTTP_OF_10, "", "");
    let open = directory(HTTP, ALL, "");
    let audit = directory("", "", "audit = true");
    let cutting = directory("", "", "cut_on_revoke = true");
    let goes_on = Some((Effect::GoesOn, Direction::Ingress));
    let ended = Some((Effect::Ended, Direction::Ingress));
    let cut = Some((Effect::CutAtOnce, Direction::Ingress));
    let rows = [
        ("its rule goes", &narrow, &closed, &live, goes_on),
        ("and the group cuts", &narrow, &cutting, &live, ended),
        (
            "another rule admits it",
            &narrow,
            &directory(HTTP, "", ""),
            &live,
            None,
        ),
        (
            "it had lost its rule before",
            &closed,
            &directory("", ALL, ""),
            &live,
            None,
        ),
        (
            "it is dead",
            &narrow,
            &closed,
            &connection(State::Established, 0, NOW - 100),
            None,
        ),
        (
            "it was reset",
            &narrow,
            &closed,
            &connection(State::Close, 0, NOW),
            None,
        ),
        ("audit mode ends", &audit, &closed, &audited, ended),
        (
            "audit mode goes on",
            &audit,
            &directory("", ALL, "audit = true"),
            &audited,
            None,
        ),
        ("audit mode begins", &narrow, &audit, &live, goes_on),
        ("an untracked flow's rule goes", &open, &closed, &to, cut),
        ("and its replies with it", &open, &closed, &from, cut),
        (
            "though replies alone are allowed",
            &open,
            &directory("", ALL, ""),
            &to,
            cut,
        ),
        (
            "another peer is left",
            &open,
            &directory(HTTP_OF_11, ALL, ""),
            &to,
            cut,
        ),
        ("it becomes tracked", &open, &narrow, &to, None),
        ("it becomes tracked: replies", &open, &narrow, &from, None),
        ("audit mode lets it pass", &open, &audit, &to, None),
        (
            "it was refused before",
            &open,
            &closed,
            &row(Direction::Ingress, Action::Rejected),
            None,
        ),
    ];
    for (name, old, new, flow, expected) in rows {
        assert_eq!(effect(old, new, flow), expected, "{name}");
    }
}

#[test]
fn only_enis_whose_rules_can_change_are_asked() {
    let (old, new) = (directory(HTTP, "", ""), directory("", "", ""));
    let set = ["sg-b".to_owned()];
    let slots = BTreeSet::from([3]);
    let sets = [(set.as_slice(), &slots)];
    let change = PolicyChange::of(&old, &new, &Members::default(), sets, false).unwrap();
    assert_eq!(change.network_interfaces(), 0);
    let (key, entry) = connection(State::Established, 0, NOW);
    assert_eq!(
        change.affects(&key, &entry, NOW, |_| Some(String::new())),
        None
    );
}
