//! The scenarios of the security-group specification, `fixtures/sg_cases.json`, as cases.

use std::collections::BTreeMap;

use branchline_common::{
    conntrack::State,
    headers::tcp as bits,
    maps::eni::{BLOCK_IMDS, SOURCE_DEST_CHECK},
    verdict::{Direction, DropReason, Verdict},
};
use branchline_tests::{
    case::{EniSpec, case},
    frame::Frame,
    packet::{self, Packet},
    pure::Pure,
    rules::{Rule, rules},
    world::World,
};
use serde::Deserialize;

/// Scenarios that ask for what the first cut does not have, and what that is. Whoever builds it
/// takes the line away; a line whose scenario passes already fails the test.
const LEFT_OUT: [(&str, &str); 16] = [
    ("prefix-list", "prefix lists"),
    ("self-ref", "references to groups"),
    ("ref-all-addresses", "references to groups"),
    ("ref-egress", "references to groups"),
    ("ref-ip-reuse", "references to groups"),
    ("family-v4-only", "untracked flows"),
    ("doc-example", "untracked flows"),
    ("doc-example-no-v4-egress", "untracked flows"),
    ("untracked-return-other-proto", "untracked flows"),
    ("egress-untracked", "untracked flows"),
    ("untracked-reply", "untracked flows"),
    ("untracked-to-tracked", "untracked flows"),
    ("auto-tracked", "untracked flows"),
    ("tcp-strict", "untracked flows"),
    ("pmtud-untracked", "untracked flows"),
    ("ct-full", "untracked flows, and a sweep when an entry ends"),
];

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Scenario>,
}

#[derive(Deserialize)]
struct Scenario {
    id: String,
    #[serde(default)]
    env: Env,
    groups: BTreeMap<String, Group>,
    enis: BTreeMap<String, Eni>,
    steps: Vec<Step>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Env {
    block_imds: bool,
    conntrack_limit: usize,
    tcp_loose: Option<bool>,
    t_tcp_est: Option<u32>,
}

#[derive(Clone, Deserialize)]
struct Group {
    ingress: Vec<Permission>,
    egress: Vec<Permission>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Permission {
    ip_protocol: String,
    from_port: Option<i32>,
    to_port: Option<i32>,
    #[serde(default)]
    ip_ranges: Vec<Range>,
    #[serde(default)]
    ipv6_ranges: Vec<Range>,
}

#[derive(Clone, Deserialize)]
struct Range {
    #[serde(rename = "CidrIp", alias = "CidrIpv6")]
    cidr: String,
}

#[derive(Deserialize)]
struct Eni {
    ipv4: Vec<String>,
    #[serde(default)]
    ipv6: Vec<String>,
    groups: Vec<String>,
    source_dest_check: Option<bool>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    t: u32,
    #[serde(default)]
    eni: String,
    #[serde(default)]
    dir: String,
    pkt: Option<Pkt>,
    #[serde(default)]
    expect: String,
    tracked: Option<bool>,
    set_group: Option<BTreeMap<String, Group>>,
}

#[derive(Deserialize)]
struct Pkt {
    #[serde(default)]
    src: String,
    #[serde(default)]
    dst: String,
    #[serde(default)]
    proto: String,
    #[serde(default)]
    sport: u16,
    #[serde(default)]
    dport: u16,
    #[serde(default)]
    flags: String,
    #[serde(default, rename = "type")]
    icmp_type: u8,
    #[serde(default)]
    code: u8,
    #[serde(default)]
    id: u16,
    inner: Option<Box<Pkt>>,
    frag: Option<Frag>,
    hop: Option<u8>,
    ethertype: Option<String>,
}

#[derive(Deserialize)]
struct Frag {
    id: u32,
    offset: u16,
    more: bool,
}

#[test]
fn scenarios_of_the_specification_come_out_as_it_says() {
    let fixture: Fixture =
        serde_json::from_str(include_str!("../../fixtures/sg_cases.json")).expect("the fixture");
    let mut wrong = Vec::new();
    let mut ran = 0;
    for scenario in &fixture.cases {
        let left_out = LEFT_OUT.iter().find(|(id, _)| *id == scenario.id);
        match (scenario.run(), left_out) {
            (Ok(()), None) => ran += 1,
            (Err(error), None) => wrong.push(error),
            (Ok(()), Some((id, why))) => {
                wrong.push(format!("{id} passes now: take it off the list ({why})"))
            }
            (Err(_), Some(_)) => {}
        }
    }
    assert!(
        wrong.is_empty(),
        "{} scenarios:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(
        ran,
        fixture.cases.len() - LEFT_OUT.len(),
        "the list names scenarios that are not there"
    );
}

impl Scenario {
    fn run(&self) -> Result<(), String> {
        let mut groups = self.groups.clone();
        let names: Vec<&String> = self.enis.keys().collect();
        let mut world = Pure::default();
        let mut set_up = case(&self.id, &[]);
        set_up.enis = (1..)
            .zip(self.enis.values())
            .map(|(slot, eni)| self.spec(slot, eni, &groups))
            .collect();
        set_up.is_strict = self.env.tcp_loose == Some(false);
        set_up.max_connections = self.env.conntrack_limit;
        world.set_up(&set_up);
        let mut now = 0;
        for (index, step) in self.steps.iter().enumerate() {
            if let Some(changed) = &step.set_group {
                groups.extend(changed.clone());
                for (eni, spec) in self.enis.values().zip(&set_up.enis) {
                    world.set_rules(spec, &rules_of(eni, &groups));
                }
            }
            let Some(pkt) = &step.pkt else { continue };
            world.wait(step.t - now);
            now = step.t;
            let position = names.iter().position(|name| **name == step.eni);
            let eni = &set_up.enis[position.ok_or("no such ENI")?];
            check(&mut world, eni, step, pkt)
                .map_err(|what| format!("{}: step {index}: {what}", self.id))?;
        }
        Ok(())
    }

    fn spec(&self, slot: u16, eni: &Eni, groups: &BTreeMap<String, Group>) -> EniSpec {
        let mut spec = EniSpec::new(slot, &[]);
        spec.ipv4 = eni.ipv4.first().cloned().unwrap_or_default();
        spec.ipv6 = eni.ipv6.first().cloned().unwrap_or_default();
        spec.flags = 0;
        if eni.source_dest_check != Some(false) {
            spec.flags |= SOURCE_DEST_CHECK;
        }
        if self.env.block_imds {
            spec.flags |= BLOCK_IMDS;
        }
        if let Some(seconds) = self.env.t_tcp_est {
            spec.timeouts.push((State::Established, seconds));
        }
        spec.rules = rules_of(eni, groups);
        spec
    }
}

fn check(world: &mut Pure, eni: &EniSpec, step: &Step, pkt: &Pkt) -> Result<(), String> {
    let direction = match step.dir.as_str() {
        "ingress" => Direction::Ingress,
        "egress" => Direction::Egress,
        other => return Err(format!("direction {other}")),
    };
    let before = counted_in_connections(world);
    let frame = frame(eni, direction, pkt);
    let verdict = world.frame(eni, direction, &frame.bytes(), Default::default());
    if text(verdict) != step.expect {
        return Err(format!("{verdict:?}, expected {}", step.expect));
    }
    let tracked = counted_in_connections(world) > before;
    match step.tracked {
        // Of a refused packet it says which kind of flow it would be.
        Some(_) if step.expect != "ACCEPT" => Ok(()),
        Some(expected) if expected != tracked => {
            Err(format!("tracked {tracked}, expected {expected}"))
        }
        Some(_) | None => Ok(()),
    }
}

fn text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "ACCEPT",
        Verdict::Exempt => "EXEMPT",
        Verdict::Deny(reason) if reason.is_logged() => "REJECT",
        Verdict::Deny(
            DropReason::Imds | DropReason::ForeignSource | DropReason::ForeignDestination,
        ) => "DROP_UNLOGGED",
        Verdict::Deny(_) => "a drop that the scenarios do not know",
    }
}

/// Packets of all connections: one more, if a packet rode or opened one.
fn counted_in_connections(world: &Pure) -> u64 {
    let tables = world.tables();
    let accounts = tables
        .connections
        .values()
        .flat_map(|(_, accounts)| accounts);
    accounts
        .flat_map(BTreeMap::values)
        .map(|(packets, ..)| packets)
        .sum()
}

fn frame(eni: &EniSpec, direction: Direction, pkt: &Pkt) -> Frame {
    if pkt.ethertype.as_deref() == Some("arp") {
        let router = (branchline_tests::case::ROUTER_MAC, "10.0.1.1");
        let own = (eni.mac(), eni.ipv4.as_str());
        return match direction {
            Direction::Egress => Frame::arp([0, 1], own, router),
            Direction::Ingress => Frame::arp([0, 1], router, own).tag(0x8100, eni.vlan()),
        };
    }
    eni.frame(direction, &packet_of(pkt))
}

fn packet_of(pkt: &Pkt) -> Packet {
    let end = |address: &str, port: u16| match packet::address(address) {
        std::net::IpAddr::V4(_) => format!("{address}:{port}"),
        std::net::IpAddr::V6(_) => format!("[{address}]:{port}"),
    };
    let (from, to) = (end(&pkt.src, pkt.sport), end(&pkt.dst, pkt.dport));
    let is_later = pkt.frag.as_ref().is_some_and(|frag| frag.offset > 0);
    let mut made = match (pkt.proto.as_str(), is_later) {
        ("tcp", false) => packet::tcp(&from, &to, flags(&pkt.flags)),
        ("udp", false) => packet::udp(&from, &to),
        ("icmp" | "icmpv6", false) => match &pkt.inner {
            Some(inner) => packet::icmp_error(
                &pkt.src,
                &pkt.dst,
                (pkt.icmp_type, pkt.code),
                &packet_of(inner),
                usize::MAX,
            ),
            // Neighbour messages are longer than a query; more data does no harm to any.
            None => packet::icmp(&pkt.src, &pkt.dst, pkt.icmp_type, pkt.code, pkt.id).data(32),
        },
        (name, _) => packet::raw(&pkt.src, &pkt.dst, number(name), 40),
    };
    if let Some(frag) = &pkt.frag {
        made = made.fragment(frag.id, frag.offset, frag.more);
    }
    made.hop_limit(pkt.hop.unwrap_or(255))
}

fn number(protocol: &str) -> u8 {
    match protocol {
        "tcp" => 6,
        "udp" => 17,
        "icmp" => 1,
        "icmpv6" => 58,
        number => number.parse().expect("a protocol is a name or a number"),
    }
}

fn flags(letters: &str) -> u8 {
    let bit = |letter| match letter {
        'S' => bits::SYN,
        'A' => bits::ACK,
        'F' => bits::FIN,
        'R' => bits::RST,
        other => panic!("TCP flag {other}"),
    };
    letters.chars().map(bit).fold(0, |all, bit| all | bit)
}

fn rules_of(eni: &Eni, groups: &BTreeMap<String, Group>) -> Vec<Rule> {
    let of = |direction: &str, permissions: &[Permission]| -> Vec<Rule> {
        permissions
            .iter()
            .flat_map(|permission| permission.rules(direction))
            .collect()
    };
    let groups = eni.groups.iter().filter_map(|id| groups.get(id));
    groups
        .flat_map(|group| [of("ingress", &group.ingress), of("egress", &group.egress)].concat())
        .collect()
}

impl Permission {
    /// The rules as a row of the table writes them (`spec/security-groups.md` section 1.1).
    fn rules(&self, direction: &str) -> Vec<Rule> {
        let protocol = match self.ip_protocol.as_str() {
            "-1" => "all",
            "6" => "tcp",
            "17" => "udp",
            "1" => "icmp",
            "58" => "icmpv6",
            other => other,
        };
        let ports = match (protocol, self.from_port, self.to_port) {
            ("tcp" | "udp", Some(from), Some(to)) => format!(" {from}-{to}"),
            ("icmp" | "icmpv6", Some(icmp_type), Some(-1)) if icmp_type >= 0 => {
                format!(" {icmp_type}")
            }
            ("icmp" | "icmpv6", Some(icmp_type), Some(code)) if icmp_type >= 0 => {
                format!(" {icmp_type}/{code}")
            }
            _ => String::new(),
        };
        let ranges = self.ip_ranges.iter().chain(&self.ipv6_ranges);
        ranges
            .flat_map(|range| rules(&[&format!("{direction} {protocol}{ports} {}", range.cidr)]))
            .collect()
    }
}
