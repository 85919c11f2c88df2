//! What is measured, and how a figure comes about.

use anyhow::{Result, ensure};
use branchline::datapath::program::{BRANCH_EGRESS, FABRIC, FABRIC_GATEWAY, TRUNK_INGRESS};
use branchline_common::{
    bench::{Preparation, preparation},
    conntrack::State,
    headers::tcp,
};

use crate::{
    frames::{self, End, Frame},
    rig::{DENIED_PORT, EMPTY, Measured, PORT, Rig, Which, remote, vlan},
};

/// Packets of one run.
const REPEAT: u32 = 300_000;
/// Packets of one run where each opens a connection; they fit into the table.
const NEW_FLOWS: u32 = 20_000;

/// TC codes that a program returns.
pub(crate) const PASS: i32 = 0;
pub(crate) const SHOT: i32 = 2;
pub(crate) const REDIRECT: i32 = 7;

/// Net nanoseconds that a packet of the only established flow may cost.
pub(crate) const GOAL: f64 = 90.0;

/// Cases that share the flows in the table.
pub(crate) struct Group {
    what: What,
    pub(crate) which: Which,
    is_ipv4: bool,
    is_tcp: bool,
    pub(crate) flows: u32,
    /// Rules besides those that admit the flows.
    rules: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// Packets of established flows.
    Established,
    /// Each packet opens a flow.
    New,
    /// No rule allows the packet.
    Denied,
    /// The local VPC's router.
    Fabric,
}

/// How fast the machine is, to compare figures of two machines: medians, nanoseconds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Machine {
    /// The program `empty`.
    pub(crate) floor: f64,
    /// Net of it, finding a key of 40 bytes in a hash map.
    pub(crate) lookup: f64,
}

/// A program's figures.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Figure {
    pub(crate) program: &'static str,
    pub(crate) case: String,
    /// Net nanoseconds, everything included; median of the rounds.
    pub(crate) net: f64,
    /// The lowest round.
    pub(crate) lowest: f64,
    /// Of `net`, what the tag costs.
    pub(crate) vlan: f64,
    /// The program `empty` by itself, in the same rounds.
    pub(crate) floor: f64,
    pub(crate) goal: Option<f64>,
    /// Of established flows: net nanoseconds of finding one of as many keys, in the same rounds.
    pub(crate) lookup: Option<f64>,
}

pub(crate) struct Case {
    pub(crate) program: &'static str,
    pub(crate) name: String,
    frame: Frame,
    /// Bits of [`preparation`]; `None` runs the program without `prepare`.
    flags: Option<u32>,
    /// How many of the program's steps put a tag on or take one off.
    pub(crate) tags: u32,
    code: i32,
}

/// Established TCP flows over IPv4, of the branch ENI.
pub(crate) fn established(flows: u32) -> Group {
    group(What::Established, Which::Branch, true, true, flows)
}

/// Each packet opens a TCP flow over IPv4, of the branch ENI.
pub(crate) fn new_flows() -> Group {
    group(What::New, Which::Branch, true, true, 0)
}

fn group(what: What, which: Which, is_ipv4: bool, is_tcp: bool, flows: u32) -> Group {
    Group {
        what,
        which,
        is_ipv4,
        is_tcp,
        flows,
        rules: 0,
    }
}

/// All that is measured.
pub(crate) fn groups() -> Vec<Group> {
    let mut groups = Vec::new();
    for (is_ipv4, is_tcp) in [(true, true), (false, true), (true, false)] {
        for flows in [1, 1_000, 10_000, 100_000] {
            groups.push(group(
                What::Established,
                Which::Branch,
                is_ipv4,
                is_tcp,
                flows,
            ));
        }
    }
    groups.push(group(What::Established, Which::Whole, true, true, 1));
    for is_ipv4 in [true, false] {
        groups.push(group(What::New, Which::Branch, is_ipv4, true, 0));
    }
    for flows in [1, 1_000] {
        groups.push(group(What::Denied, Which::Branch, true, true, flows));
    }
    for what in [What::New, What::Denied] {
        groups.push(Group {
            rules: 1_000,
            ..group(what, Which::Branch, true, true, 1)
        });
    }
    for is_ipv4 in [true, false] {
        groups.push(group(What::Fabric, Which::Branch, is_ipv4, true, 1));
    }
    groups
}

/// Measures the machine.
pub(crate) fn machine(rig: &mut Rig, rounds: u32) -> Result<Machine> {
    let group = groups().swap_remove(0);
    let frame = ingress(&group, tcp::ACK, PORT);
    let (mut floors, mut lookups) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let floor = rig.alone("empty", &frame, REPEAT, SHOT)?;
        lookups.push(rig.lookup(&frame, REPEAT)? - floor);
        floors.push(floor);
    }
    Ok(Machine {
        floor: median(floors),
        lookup: median(lookups),
    })
}

/// Measures the cases of `group` whose name contains `only`.
pub(crate) fn measure(
    rig: &mut Rig,
    group: &Group,
    rounds: u32,
    only: &str,
) -> Result<Vec<Figure>> {
    let mut cases = cases(group);
    cases.retain(|case| format!("{} {}", case.program, case.name).contains(only));
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    rig.set_rules(group.rules)?;
    rig.reset(group.which)?;
    if group.what == What::Fabric {
        check_route(rig, &cases)?;
    }
    let mut packets = 0;
    let mut lookups = Vec::new();
    if group.what == What::Established {
        rig.know_flows(group.flows)?;
        packets += establish(rig, group)?;
    }
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    let (mut floors, mut pairs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let frame = &ingress(group, tcp::ACK, PORT);
        floors.push(rig.alone("empty", frame, REPEAT, SHOT)?);
        let Around { base, pair } = around(rig, group)?;
        pairs.push(pair);
        if group.what == What::Established {
            let mut none = random(group, 0);
            let lookup = rig.prepared(Measured::Lookup, frame, &mut none, REPEAT, PASS)?;
            lookups.push(lookup - base);
        }
        for (case, samples) in cases.iter().zip(&mut samples) {
            let net = match case.flags {
                None => {
                    rig.alone(case.program, &case.frame, REPEAT, case.code)?
                        - rig.alone("empty", &case.frame, REPEAT, SHOT)?
                }
                Some(flags) => {
                    let all = once(rig, group, case, flags)?;
                    Around { base, pair }.net(case.tags, all)
                }
            };
            samples.push(net);
            packets += u64::from(REPEAT);
        }
    }
    if group.what == What::Established {
        let counted = counted(rig)?;
        ensure!(
            counted == packets,
            "{packets} packets ran and {counted} were counted"
        );
    }
    rig.reset(group.which)?;
    let figures = cases
        .into_iter()
        .zip(samples)
        .map(|(case, samples)| Figure {
            program: case.program,
            goal: (group.what == What::Established && group.flows == 1).then_some(GOAL),
            case: case.name,
            lowest: samples.iter().copied().fold(f64::INFINITY, f64::min),
            net: median(samples),
            vlan: f64::from(case.tags) * median(pairs.clone()) / 2.0,
            floor: median(floors.clone()),
            lookup: (!lookups.is_empty()).then(|| median(lookups.clone())),
        });
    Ok(figures.collect())
}

/// That the VPC's router sends the frames on: it passes what is not its own too.
fn check_route(rig: &mut Rig, cases: &[Case]) -> Result<()> {
    for case in cases {
        let to = rig.destination(case.program, &case.frame)?;
        let wanted = Which::Other.end(true, PORT).mac;
        ensure!(to == wanted, "{} sent to {to:02x?}", case.program);
    }
    Ok(())
}

/// What is measured around a program, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    /// `prepare`, with the program `empty` behind it.
    base: f64,
    /// A tag, put on and taken off.
    pair: f64,
}

impl Around {
    /// What a case with as many steps with a tag took by itself, if it took `all` with `prepare`.
    pub(crate) fn net(self, tags: u32, all: f64) -> f64 {
        // `prepare` undoes each step with a tag, which costs the other half.
        all - self.base - f64::from(tags) * self.pair / 2.0
    }
}

/// Measures what is around the programs.
pub(crate) fn around(rig: &mut Rig, group: &Group) -> Result<Around> {
    let frame = &ingress(group, tcp::ACK, PORT);
    let mut none = random(group, 0);
    let base = rig.prepared(EMPTY, frame, &mut none, REPEAT, SHOT)?;
    let mut push = random(group, preparation::PUSH);
    let pair = rig.prepared(Measured::Pop, frame, &mut push, REPEAT, PASS)? - base;
    Ok(Around { base, pair })
}

/// One run of a case behind `prepare`; returns what it took with it.
pub(crate) fn with_prepare(rig: &mut Rig, group: &Group, case: &Case) -> Result<f64> {
    once(rig, group, case, case.flags.unwrap_or_default())
}

fn once(rig: &mut Rig, group: &Group, case: &Case, flags: u32) -> Result<f64> {
    let mut preparation = random(group, flags);
    let mut repeat = REPEAT;
    if group.what == What::New {
        rig.reset(group.which)?;
        preparation = sequence(group, flags);
        repeat = NEW_FLOWS;
    }
    let measured = Measured::Program(case.program);
    rig.prepared(measured, &case.frame, &mut preparation, repeat, case.code)
}

/// The cases of a group.
pub(crate) fn cases(group: &Group) -> Vec<Case> {
    let kind = match (group.is_tcp, group.is_ipv4) {
        (true, true) => "TCP IPv4",
        (true, false) => "TCP IPv6",
        (false, true) => "UDP IPv4",
        (false, false) => "UDP IPv6",
    };
    let flows = match group.flows {
        1 => "1 flow".to_owned(),
        flows => format!("{flows} flows"),
    };
    let rules = match group.rules {
        0 => String::new(),
        rules => format!(", {rules} rules"),
    };
    let case = |program, name: &str, frame: Frame, flags: u32, code| Case {
        program,
        name: name.to_owned(),
        frame,
        flags: Some(flags),
        tags: flags.count_ones(),
        code,
    };
    let pop = preparation::POP;
    let push = preparation::PUSH;
    let (ack, syn) = (tcp::ACK, tcp::SYN);
    match (group.what, group.which) {
        (What::Established, Which::Whole) => {
            let name = format!("{kind}, {flows}, no VLAN");
            let frame = ingress(group, ack, PORT);
            let behind = case(TRUNK_INGRESS, &name, frame.clone(), 0, REDIRECT);
            let mut alone = case(TRUNK_INGRESS, "", frame, 0, REDIRECT);
            alone.name = format!("{name}, alone");
            alone.flags = None;
            let egress = case(BRANCH_EGRESS, &name, egress(group, ack), 0, REDIRECT);
            vec![behind, alone, egress]
        }
        (What::Established, _) => {
            let name = format!("{kind}, {flows}");
            vec![
                case(
                    TRUNK_INGRESS,
                    &name,
                    ingress(group, ack, PORT),
                    push,
                    REDIRECT,
                ),
                case(BRANCH_EGRESS, &name, egress(group, ack), pop, REDIRECT),
            ]
        }
        (What::New, _) => {
            let name = format!("{kind}, new flow{rules}");
            vec![case(
                TRUNK_INGRESS,
                &name,
                ingress(group, syn, PORT),
                push,
                REDIRECT,
            )]
        }
        (What::Denied, _) => {
            let name = format!("{kind}, denied, {flows}{rules}");
            // The tag stays on a dropped frame.
            let frame = ingress(group, syn, DENIED_PORT);
            let mut denied = case(TRUNK_INGRESS, &name, frame, pop | push, SHOT);
            denied.tags = 2;
            vec![denied]
        }
        (What::Fabric, _) => {
            let source = remote(group.is_ipv4);
            let to_router = End {
                mac: source.mac,
                ..Which::Other.end(group.is_ipv4, PORT)
            };
            let frame = frames::frame(&source, &to_router, true, Some(ack));
            vec![
                case(FABRIC, kind, frame.clone(), pop | push, REDIRECT),
                case(FABRIC_GATEWAY, kind, frame, pop, PASS),
            ]
        }
    }
}

fn ingress(group: &Group, tcp_flags: u8, port: u16) -> Frame {
    let task = group.which.end(group.is_ipv4, port);
    frames::frame(
        &remote(group.is_ipv4),
        &task,
        true,
        group.is_tcp.then_some(tcp_flags),
    )
}

fn egress(group: &Group, tcp_flags: u8) -> Frame {
    let task = group.which.end(group.is_ipv4, PORT);
    frames::frame(
        &task,
        &remote(group.is_ipv4),
        false,
        group.is_tcp.then_some(tcp_flags),
    )
}

fn random(group: &Group, flags: u32) -> Preparation {
    Preparation {
        flags,
        flows: group.flows.max(1),
        state: 0x9e37_79b9,
        vlan: vlan(group.which),
        ..Preparation::default()
    }
}

fn sequence(group: &Group, flags: u32) -> Preparation {
    Preparation {
        state: 0,
        ..random(group, flags | preparation::SEQUENCE)
    }
}

/// The frame that opens a flow of the branch ENI, and how to make one flow after the other of it:
/// with a tag, and without.
pub(crate) fn opening() -> (Frame, Preparation, Preparation) {
    let group = group(What::New, Which::Branch, true, true, 0);
    let frame = ingress(&group, tcp::SYN, PORT);
    let tagged = sequence(&group, preparation::PUSH);
    (frame, tagged, sequence(&group, 0))
}

/// A frame towards the task of one of the group's established flows at random, with a tag.
pub(crate) fn arriving(group: &Group) -> (Frame, Preparation) {
    let frame = ingress(group, tcp::ACK, PORT);
    (frame, random(group, preparation::PUSH))
}

/// Opens every flow of the group and brings it to where it stays; returns the packets sent.
pub(crate) fn establish(rig: &mut Rig, group: &Group) -> Result<u64> {
    let (push, pop) = match group.which {
        Which::Whole => (0, 0),
        Which::Branch | Which::Other => (preparation::PUSH, preparation::POP),
    };
    let answer = tcp::SYN | tcp::ACK;
    let steps = [
        (TRUNK_INGRESS, ingress(group, tcp::SYN, PORT), push),
        (BRANCH_EGRESS, egress(group, answer), pop),
        (TRUNK_INGRESS, ingress(group, tcp::ACK, PORT), push),
        (BRANCH_EGRESS, egress(group, tcp::ACK), pop),
    ];
    for (program, frame, flags) in &steps {
        let mut all = sequence(group, *flags);
        let program = Measured::Program(program);
        rig.prepared(program, frame, &mut all, group.flows, REDIRECT)?;
    }
    let state = if group.is_tcp {
        State::Established
    } else {
        State::UdpStream
    };
    let connections = rig.datapath.connections()?;
    let established = connections
        .iter()
        .filter(|(_, connection)| connection.tracking.state == state as u8)
        .count();
    ensure!(
        established == group.flows as usize,
        "{established} of {} flows are {state:?}",
        group.flows
    );
    Ok(u64::from(group.flows) * steps.len() as u64)
}

/// Packets that the table has counted.
fn counted(rig: &Rig) -> Result<u64> {
    let connections = rig.datapath.connections()?;
    let slots = connections
        .iter()
        .flat_map(|(_, connection)| connection.accounts)
        .flat_map(|account| account.slots);
    Ok(slots.map(|slot| slot.packets).sum())
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
