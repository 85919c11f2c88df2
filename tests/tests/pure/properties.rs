//! What holds for all packets, by random ones.

use branchline_common::{
    account::{Segments, Traffic},
    parse,
    verdict::{Action, Direction, Verdict},
};
use branchline_tests::{
    case::{Case, case},
    packet::{self, Packet},
    pure::Pure,
    random::Random,
    world::{Tables, World},
};
use proptest::prelude::*;

/// Rules of which a random world has some.
const RULES: [&str; 12] = [
    "ingress all 0.0.0.0/0",
    "ingress all ::/0",
    "egress all 0.0.0.0/0",
    "egress all ::/0",
    "ingress tcp 80-500 198.51.100.0/24",
    "egress udp 0.0.0.0/0",
    "egress tcp 443 2001:db8::/32",
    "ingress icmp 8 0.0.0.0/0",
    "egress icmpv6 128/0 ::/0",
    "ingress 47 0.0.0.0/0",
    "egress 50 0.0.0.0/0",
    "ingress udp 53 ::/0",
];

fn some_rules() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(RULES.to_vec(), 0..=6)
}

fn world(rules: &[&str]) -> (Pure, Case) {
    let case = case("random", rules)
        .eni(2, &["egress all 0.0.0.0/0", "egress all ::/0"])
        .flags(0);
    let mut world = Pure::default();
    world.set_up(&case);
    (world, case)
}

/// A packet that opens a flow, and its answer.
fn flow(kind: u8, (from, to): (&str, &str), (from_port, to_port): (u16, u16)) -> (Packet, Packet) {
    let end = |address: &str, port: u16| match packet::address(address) {
        std::net::IpAddr::V4(_) => format!("{address}:{port}"),
        std::net::IpAddr::V6(_) => format!("[{address}]:{port}"),
    };
    let (source, destination) = (end(from, from_port), end(to, to_port));
    let is_ipv4 = packet::address(from).is_ipv4();
    match kind {
        0 => (
            packet::tcp(&source, &destination, 0x02),
            packet::tcp(&destination, &source, 0x12),
        ),
        1 => (
            packet::udp(&source, &destination),
            packet::udp(&destination, &source),
        ),
        2 => {
            let (request, reply) = if is_ipv4 { (8, 0) } else { (128, 129) };
            (
                packet::icmp(from, to, request, 0, from_port),
                packet::icmp(to, from, reply, 0, from_port),
            )
        }
        _ => (packet::raw(from, to, 47, 8), packet::raw(to, from, 47, 8)),
    }
}

/// Packets and bytes of all connections and of the rows with this action.
fn counted(tables: &Tables, action: Action) -> (u64, u64) {
    use branchline_common::flow::kind::of_row;
    let connections = tables
        .connections
        .values()
        .filter(|_| action == Action::Accepted);
    let rows = tables
        .rows
        .iter()
        .filter(|(key, _)| of_row(key.kind).is_some_and(|row| row.action == action));
    let slots = connections
        .flat_map(|(_, accounts)| accounts)
        .chain(rows.map(|(_, account)| account))
        .flat_map(|account| account.values());
    slots.fold((0, 0), |sum, (packets, bytes, _)| {
        (sum.0 + packets, sum.1 + bytes)
    })
}

/// What a frame that was judged adds to the flow log.
fn traffic(frame: &[u8], segments: Segments) -> (u64, u64) {
    let link = parse::ethernet(frame, None).expect("it was judged");
    let mut packet = parse::Packet::default();
    parse::packet(frame, link.payload, link.ether_type, &mut packet).expect("it was judged");
    let traffic = Traffic::of(&packet, segments);
    (traffic.packets, traffic.bytes)
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), tag in any::<Option<u16>>(), at in 0_usize..100, ether_type in prop_oneof![Just(0x0800_u16), Just(0x86dd), any::<u16>()]) {
        let frame = bytes.as_slice();
        if let Ok(link) = parse::ethernet(frame, tag) {
            prop_assert!(link.payload <= frame.len());
        }
        let mut packet = parse::Packet::default();
        if parse::packet(frame, at, ether_type, &mut packet).is_ok() {
            prop_assert!(packet.header_length <= packet.length);
            prop_assert!(at + packet.length as usize <= frame.len());
            let mut quoted = parse::Packet::default();
            if parse::quoted(frame, &packet, &mut quoted).is_some() {
                prop_assert!(quoted.transport < frame.len());
            }
        }
    }

    #[test]
    fn damaged_frames_never_panic(seed in any::<u64>()) {
        let (mut world, case) = world(&RULES);
        let mut random = Random::new(seed);
        for _ in 0..20 {
            let (eni, direction, frame, segments) = random.arrival(&case.enis);
            let mut frame = frame.to_vec();
            random.damage(&mut frame);
            world.frame(&case.enis[eni], direction, &frame, segments);
        }
    }

    #[test]
    fn the_answer_of_every_allowed_opener_passes(
        rules in some_rules(), kind in 0_u8..4, is_ipv4: bool, outgoing: bool, ports: (u16, u16), peer in 0_u8..255,
    ) {
        let (mut world, case) = world(&rules);
        let (task, peer) = if is_ipv4 {
            ("10.0.1.10", format!("198.51.100.{peer}"))
        } else {
            ("2001:db8:1:1::10", format!("2001:db8:ffff::{peer:x}"))
        };
        let direction = if outgoing { Direction::Egress } else { Direction::Ingress };
        let ends = if outgoing { (task, peer.as_str()) } else { (peer.as_str(), task) };
        let (opener, answer) = flow(kind, ends, ports);
        let eni = &case.enis[0];
        let mut judge = |direction, packet: &Packet| {
            world.frame(eni, direction, &eni.frame(direction, packet).bytes(), Segments::default())
        };
        let first = judge(direction, &opener);
        prop_assert!(matches!(first, Verdict::Allow | Verdict::Exempt | Verdict::Deny(_)));
        if first == Verdict::Allow {
            prop_assert_eq!(judge(direction.opposite(), &answer), Verdict::Allow);
        }
    }

    #[test]
    fn what_does_not_pass_leaves_no_connection_and_changes_none(seed in any::<u64>(), rules in some_rules()) {
        let (mut world, case) = world(&rules);
        let mut random = Random::new(seed);
        for _ in 0..60 {
            let (eni, direction, frame, segments) = random.arrival(&case.enis);
            let before = world.memory().connections.borrow().clone();
            let verdict = world.frame(&case.enis[eni], direction, &frame, segments);
            if verdict != Verdict::Allow {
                prop_assert_eq!(&before, &*world.memory().connections.borrow(), "{:?}", verdict);
            }
        }
    }

    #[test]
    fn accounts_sum_up_to_the_traffic(seed in any::<u64>(), rules in some_rules()) {
        let (mut world, case) = world(&rules);
        let mut random = Random::new(seed);
        let (mut passed, mut refused) = ((0, 0), (0, 0));
        for _ in 0..100 {
            let (eni, direction, frame, segments) = random.arrival(&case.enis);
            let sum = match world.frame(&case.enis[eni], direction, &frame, segments) {
                Verdict::Allow => &mut passed,
                Verdict::Deny(reason) if reason.is_logged() => &mut refused,
                Verdict::Exempt | Verdict::Deny(_) => continue,
            };
            let (packets, bytes) = traffic(&frame, segments);
            *sum = (sum.0 + packets, sum.1 + bytes);
        }
        let tables = world.tables();
        prop_assert_eq!(counted(&tables, Action::Accepted), passed);
        prop_assert_eq!(counted(&tables, Action::Rejected), refused);
    }
}
