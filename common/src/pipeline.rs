//! One packet at one ENI, stage by stage: parse, exemptions, conntrack, rules, untracked flows,
//! account.
//!
//! The stages are the order of evaluation of `spec/security-groups.md` section 3. They are generic
//! over [`Tables`], so the kernel programs, the agent and the tests run the same decisions. This
//! file touches no packet byte and no map itself.

use crate::{
    account::{IS_COUNTED, Segments, Traffic},
    admission::{DENIED, Question, UNTRACKED, ask},
    conntrack::{self, Opening, State, Tracking, is_bare_syn, timeout},
    exempt::{
        Reserved, is_dhcp, is_dns, is_hosted, is_metadata_source, is_neighbour, is_resolver,
        is_router, reserved, service,
    },
    flow::{
        Address, FlowKey, NO_ADDRESS, Ports, fragment_ports, halves, is_icmp, is_icmp_error,
        joined, kind, mapped, ports,
    },
    headers::{arp, ethernet, icmp, protocol, tcp},
    maps::{Eni, FragmentFate, control, eni, fate, is_same},
    parse::{self, Bytes, Ethernet, Fragment, Packet},
    policy::{AUDITED, Policies, rule_port},
    sequence::{self, Windows},
    verdict::{Action, Direction, DropReason, Service, Verdict},
};

/// Where packets are judged: an ENI, a direction, a moment.
#[derive(Clone, Copy, Debug)]
pub struct Hook<'a> {
    /// The ENI.
    pub eni: &'a Eni,
    /// Its slot.
    pub slot: u16,
    /// The packet's direction.
    pub direction: Direction,
    /// Ticks of the kernel's clock.
    pub now: u32,
    /// Index of the policy that the ENI obeyed when the packet came: read once, so that no packet
    /// is judged by two.
    pub policy: u32,
    /// Current epoch.
    pub epoch: u32,
    /// Whether TCP flows must start with a SYN.
    pub tcp_strict: bool,
    /// Whether there are peers whose flows are always tracked.
    pub has_auto_track: bool,
    /// Ticks for which a first fragment is remembered.
    pub fragment_ticks: u32,
    /// Bits of [`control::SERVICES`]: whose exempt packets are counted.
    pub services: u32,
}

impl Hook<'_> {
    /// The service that an exempt packet of `peer` is counted for; `None` if it is not counted.
    #[inline(always)]
    fn counted_service(&self, peer: &Address) -> Option<Service> {
        if self.services == 0 {
            return None;
        }
        let service = service(self.eni, peer)?;
        (self.services & control::service(service) != 0).then_some(service)
    }
}

/// Room for a packet and its key, which a kernel program's stack does not have.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Room {
    traffic: Traffic,
    packet: Packet,
    key: FlowKey,
    quote: Quote,
    question: Question,
    flow: Opened,
}

/// What an ICMP error quotes, and its connection's key.
#[derive(Clone, Copy, Debug, Default)]
struct Quote {
    packet: Packet,
    key: FlowKey,
}

impl Room {
    /// What was asked last.
    #[must_use]
    #[inline(always)]
    pub const fn question(&self) -> &Question {
        &self.question
    }
}

/// The same place, whose content the compiler reads from memory again. What a kernel program keeps in
/// registers or on its stack its verifier knows; what it reads from a map may be anything, so ways
/// that differ in it become one.
#[inline(always)]
fn opaque<T>(place: &mut T) -> &mut T {
    core::hint::black_box(place)
}

/// What became of an attempt to enter a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created<E> {
    /// It is there, its first packet counted.
    Counted,
    /// Another CPU was first.
    Exists(E),
    /// The table, or the ENI's share of it, is full.
    Full,
}

/// The state that packets leave behind, in the kernel or in a test.
pub trait Tables: Policies {
    /// A connection's entry.
    type Entry: Copy;

    /// The entry of `key`, live or not.
    fn find(&self, key: &FlowKey) -> Option<Self::Entry>;

    /// What a policy says ([`answer`](crate::admission::answer)).
    fn ask(&self, policy: u32, question: &Question) -> u32;

    /// The entry's state.
    fn tracking(&self, entry: Self::Entry) -> Tracking;

    /// Notes that a packet came `now`.
    fn touch(&self, entry: Self::Entry, now: u32);

    /// The entry's TCP windows.
    fn windows(&self, entry: Self::Entry) -> Windows;

    /// Replaces the entry's TCP windows.
    fn set_windows(&self, entry: Self::Entry, windows: &Windows);

    /// Replaces the state with the words `from` by `to`, undisturbed by other CPUs. Says whether it did: another
    /// CPU may have changed the state, or the entry may be on its way out of the table.
    fn advance(&self, entry: Self::Entry, from: [u32; 2], to: &Tracking) -> bool;

    /// Replaces all that is known of a connection, undisturbed by other CPUs. Says whether the
    /// entry is still in the table.
    fn reopen(&self, entry: Self::Entry, tracking: &Tracking) -> bool;

    /// Enters a connection whose first packet is `traffic`.
    fn create(
        &self,
        key: &FlowKey,
        opened: &Opened,
        hook: &Hook<'_>,
        traffic: &Traffic,
    ) -> Created<Self::Entry>;

    /// Counts a packet of a connection.
    fn count(&self, entry: Self::Entry, hook: &Hook<'_>, traffic: &Traffic);

    /// Counts a packet that belongs to no connection.
    fn count_row(&self, key: &FlowKey, hook: &Hook<'_>, traffic: &Traffic);

    /// What became of a datagram's first fragment.
    fn first_fragment(&self, key: &FlowKey) -> Option<FragmentFate>;

    /// Remembers what became of a first fragment.
    fn remember(&self, key: &FlowKey, fate: &FragmentFate);

    /// Counts a packet that passes only because a group is in audit mode.
    fn count_audited(&self, hook: &Hook<'_>);
}

/// A connection that a packet opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Its state.
    pub tracking: Tracking,
    /// Its TCP windows.
    pub windows: Windows,
}

enum Outcome<E> {
    /// Allowed by the connection, which still has to count it.
    Tracked(E),
    /// Allowed and counted.
    Counted,
    /// Allowed without a connection.
    Allowed,
    /// Allowed without a connection, by audit mode.
    Audited,
    /// Never filtered; counted for a service only that a flow log includes.
    Exempt,
}

/// Judges the frame and accounts for it.
#[inline(always)]
pub fn run<T: Tables>(
    tables: &T,
    hook: &Hook<'_>,
    room: &mut Room,
    frame: &(impl Bytes + ?Sized),
    link: &Ethernet,
    segments: Segments,
) -> Verdict {
    if link.ether_type == ethernet::ARP {
        return match judge_arp(hook.eni, hook.direction, frame, link.payload) {
            Ok(()) => Verdict::Exempt,
            Err(reason) => Verdict::Deny(reason),
        };
    }
    if let Err(reason) = parse::packet(frame, link.payload, link.ether_type, &mut room.packet) {
        return Verdict::Deny(reason);
    }
    // IPv4 and IPv6 meet here.
    match inspect(tables, hook, opaque(room), frame, segments) {
        Ok(verdict) => verdict,
        Err(reason) => Verdict::Deny(reason),
    }
}

/// Whether this host serves what the packet in `room` asks for, which [`run`] has found to be exempt.
#[must_use]
#[inline(always)]
pub fn is_served_here(eni: &Eni, room: &mut Room, link: &Ethernet) -> bool {
    // ARP leaves the packet before it in the room.
    link.ether_type != ethernet::ARP && is_hosted(eni, opaque(&mut room.packet))
}

#[inline(always)]
fn inspect<T: Tables>(
    tables: &T,
    hook: &Hook<'_>,
    room: &mut Room,
    frame: &(impl Bytes + ?Sized),
    segments: Segments,
) -> Result<Verdict, DropReason> {
    let packet = &room.packet;
    let key = &mut room.key;
    *key = FlowKey::connection(packet, hook.direction, hook.slot);
    let standing = standing(hook, packet, key);
    match standing {
        Standing::Blocked => return Err(DropReason::Imds),
        Standing::Dhcp => return Ok(Verdict::Exempt),
        Standing::Ordinary | Standing::Exempt | Standing::Foreign => {}
    }
    if is_neighbour(packet) {
        return judge_neighbour(hook, frame, packet).map(|()| Verdict::Exempt);
    }
    if IS_COUNTED {
        room.traffic = Traffic::of(packet, segments);
    }
    let traffic = *opaque(&mut room.traffic);
    let mut row = ports(packet, hook.direction);
    let outcome = judge(
        tables,
        hook,
        frame,
        packet,
        (&mut room.quote, &mut room.question, &mut room.flow),
        key,
        &mut row,
        (standing, &traffic),
    );
    let kind = match outcome {
        Ok(Outcome::Tracked(entry)) => {
            tables.count(entry, hook, &traffic);
            return Ok(Verdict::Allow);
        }
        Ok(Outcome::Counted) => return Ok(Verdict::Allow),
        Ok(Outcome::Exempt) => match hook.counted_service(&key.remote) {
            Some(service) => kind::service(hook.direction, service),
            None => return Ok(Verdict::Exempt),
        },
        Err(reason) if !reason.is_logged() => return Err(reason),
        Ok(Outcome::Allowed) => kind::row(hook.direction, Action::Accepted),
        Ok(Outcome::Audited) => kind::row(hook.direction, Action::Audited),
        Err(reason) => kind::rejected(hook.direction, reason),
    };
    key.change(kind, row);
    tables.count_row(key, hook, &traffic);
    match outcome {
        Err(reason) => Err(reason),
        Ok(Outcome::Exempt) => Ok(Verdict::Exempt),
        Ok(_) => Ok(Verdict::Allow),
    }
}

/// Judges a packet by `key`, its connection's; `row` are the ports that a row shows.
#[expect(
    clippy::too_many_arguments,
    reason = "a kernel program's stack has no room for a struct"
)]
#[inline(always)]
fn judge<T: Tables>(
    tables: &T,
    hook: &Hook<'_>,
    frame: &(impl Bytes + ?Sized),
    packet: &Packet,
    (quote, question, flow): (&mut Quote, &mut Question, &mut Opened),
    key: &mut FlowKey,
    row: &mut Ports,
    (standing, traffic): (Standing, &Traffic),
) -> Result<Outcome<T::Entry>, DropReason> {
    if standing == Standing::Foreign {
        return Err(foreign(hook.direction));
    }
    let outcome = match (standing == Standing::Exempt, packet.fragment) {
        (true, Fragment::Later) => return Ok(Outcome::Exempt),
        (true, Fragment::Whole | Fragment::First) => Ok(Outcome::Exempt),
        (false, Fragment::Later) => {
            return later_fragment(tables, hook, packet, key, row, question);
        }
        (false, Fragment::Whole | Fragment::First) => judge_start(
            tables,
            hook,
            frame,
            packet,
            (quote, question, flow),
            key,
            traffic,
        ),
    };
    if packet.fragment == Fragment::First {
        remember(tables, hook, packet, key, *row, &outcome);
    }
    outcome
}

/// What a packet is before any rule is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The rules decide.
    Ordinary,
    /// Never filtered.
    Exempt,
    /// DHCP, which is never filtered whatever its addresses.
    Dhcp,
    /// The end on this ENI is none of its addresses (EC2's source/destination check).
    Foreign,
    /// Of the metadata service, which this ENI blocks.
    Blocked,
}

/// What a packet is before any rule is asked, by its addresses and ports. `key` is its connection's.
#[inline(always)]
fn standing(hook: &Hook<'_>, packet: &Packet, key: &FlowKey) -> Standing {
    let (eni, direction) = (hook.eni, hook.direction);
    let found = reserved(&key.remote);
    if eni.has(eni::BLOCK_IMDS) && matches!(found, Some(Reserved::Service(Service::Metadata))) {
        return Standing::Blocked;
    }
    if is_dhcp(eni, packet, direction) {
        return Standing::Dhcp;
    }
    if eni.has(eni::SOURCE_DEST_CHECK)
        && !eni.owns(&key.local)
        && !is_metadata_source(eni, &key.local, &key.remote)
    {
        return Standing::Foreign;
    }
    let (_, peer_port) = ports(packet, direction);
    let is_dns = is_dns(key.protocol, peer_port);
    let is_exempt = match found {
        Some(Reserved::Service(Service::Dns)) => is_dns,
        Some(Reserved::Service(Service::Metadata | Service::TimeSync) | Reserved::Other) => true,
        None => is_router(eni, &key.remote) || (is_dns && is_resolver(eni, &key.remote)),
    };
    if is_exempt {
        Standing::Exempt
    } else {
        Standing::Ordinary
    }
}

const fn foreign(direction: Direction) -> DropReason {
    match direction {
        Direction::Ingress => DropReason::ForeignDestination,
        Direction::Egress => DropReason::ForeignSource,
    }
}

/// A whole packet or a first fragment.
#[inline(always)]
fn judge_start<T: Tables>(
    tables: &T,
    hook: &Hook<'_>,
    frame: &(impl Bytes + ?Sized),
    packet: &Packet,
    (quote, question, flow): (&mut Quote, &mut Question, &mut Opened),
    key: &FlowKey,
    traffic: &Traffic,
) -> Result<Outcome<T::Entry>, DropReason> {
    if is_icmp_error(packet.protocol, packet.icmp_type)
        && is_related(tables, hook, frame, packet, (quote, question))
    {
        return Ok(Outcome::Allowed);
    }
    let found = tables.find(key);
    let mut is_live = false;
    if let Some(entry) = found {
        flow.tracking = tables.tracking(entry);
        is_live = flow.tracking.is_live(hook.now);
        if is_live && conntrack::rides(&flow.tracking, packet, hook.direction) {
            ride(tables, hook, packet, entry, flow);
            return Ok(Outcome::Tracked(entry));
        }
    }
    let policy = tables.policy(hook.policy).ok_or(DropReason::NoRule)?;
    *question = question_of(hook, packet, key);
    let rule = match tables.ask(hook.policy, question) {
        UNTRACKED => return Ok(Outcome::Allowed),
        DENIED => return Err(DropReason::NoRule),
        rule => rule as u16,
    };
    if rule == AUDITED {
        tables.count_audited(hook);
    }
    match conntrack::open(packet, hook.tcp_strict) {
        Opening::Refuse => return Err(DropReason::NoRule),
        Opening::Track(state) => open(state, hook.direction, packet, flow),
        Opening::Pass if rule == AUDITED => return Ok(Outcome::Audited),
        Opening::Pass => return Ok(Outcome::Allowed),
    }
    flow.tracking.last_seen = hook.now;
    flow.tracking.timeout = timeout(&hook.eni.timeouts, flow.tracking.state);
    flow.tracking.rule = rule;
    flow.tracking.generation = policy.generation;
    match found {
        None => create(tables, hook, key, flow, traffic),
        Some(entry)
            if (!is_live || conntrack::replaces(packet))
                && tables.reopen(entry, &flow.tracking) =>
        {
            tables.set_windows(entry, &flow.windows);
            Ok(Outcome::Tracked(entry))
        }
        // A live one stays as it is. A dead one is on its way out of the table this very moment: the
        // packet passes by the rule, and the next one opens.
        Some(_) => Ok(Outcome::Allowed),
    }
}

/// Whether an ICMP error quotes a packet that this ENI sent on a live connection, in the other
/// direction, or on an untracked flow. It neither refreshes nor changes the connection. An ENI
/// without the source/destination check also sends for others.
#[inline(always)]
fn is_related<T: Tables>(
    tables: &T,
    hook: &Hook<'_>,
    frame: &(impl Bytes + ?Sized),
    error: &Packet,
    (Quote { packet, key }, question): (&mut Quote, &mut Question),
) -> bool {
    if parse::quoted(frame, error, packet).is_none() {
        return false;
    }
    let quoted = opaque(packet);
    *key = FlowKey::connection(quoted, hook.direction.opposite(), hook.slot);
    if let Some(entry) = tables.find(key)
        && tables.tracking(entry).is_live(hook.now)
    {
        return true;
    }
    let (local, remote) = match hook.direction {
        Direction::Ingress => (&quoted.source, &quoted.destination),
        Direction::Egress => (&quoted.destination, &quoted.source),
    };
    if hook.eni.has(eni::SOURCE_DEST_CHECK) && !hook.eni.owns(local) {
        return false;
    }
    *question = Question {
        peer: joined(halves(remote)),
        port: quoted.destination_port,
        answered_port: quoted.source_port,
        protocol: quoted.protocol,
        direction: hook.direction.opposite() as u8,
        ask: ask::IS_UNTRACKED | ask::ANSWERS | auto_track(hook),
        _pad: 0,
    };
    tables.ask(hook.policy, question) == UNTRACKED
}

#[inline(always)]
const fn auto_track(hook: &Hook<'_>) -> u8 {
    if hook.has_auto_track {
        ask::AUTO_TRACK
    } else {
        0
    }
}

/// What is asked about a packet that opens a flow or belongs to none.
#[inline(always)]
fn question_of(hook: &Hook<'_>, packet: &Packet, key: &FlowKey) -> Question {
    let is_opener = packet.protocol == protocol::TCP && is_bare_syn(packet.tcp_flags);
    Question {
        peer: joined(halves(&key.remote)),
        port: rule_port(packet),
        answered_port: packet.source_port,
        protocol: packet.protocol,
        direction: hook.direction as u8,
        ask: auto_track(hook) | if is_opener { 0 } else { ask::ANSWERS },
        _pad: 0,
    }
}

/// A packet of a live connection, whose state `flow` holds.
#[inline(always)]
fn ride<T: Tables>(
    tables: &T,
    hook: &Hook<'_>,
    packet: &Packet,
    entry: T::Entry,
    flow: &mut Opened,
) {
    tables.touch(entry, hook.now);
    // A second time if another CPU was faster.
    for _ in 0..2 {
        let before = flow.tracking.words();
        flow.windows = tables.windows(entry);
        let changed = step(hook.direction, packet, flow);
        if changed & changed::WINDOWS != 0 {
            tables.set_windows(entry, &flow.windows);
        }
        if changed & changed::STATE == 0 {
            break;
        }
        flow.tracking.timeout = timeout(&hook.eni.timeouts, flow.tracking.state);
        if tables.advance(entry, before, &flow.tracking) {
            break;
        }
        flow.tracking = tables.tracking(entry);
    }
}

/// What a packet that the rules allow opens: its state and windows go into `flow`, all else of which
/// is the caller's.
#[inline(always)]
fn open(state: State, direction: Direction, packet: &Packet, flow: &mut Opened) {
    flow.tracking.begin(state, direction);
    // One by one: left to the compiler, it would be a loop over bytes in the kernel.
    let zero = core::hint::black_box(0_u32);
    let [ingress, egress] = &mut flow.windows;
    ingress.floor = zero;
    ingress.end = zero;
    egress.floor = zero;
    egress.end = zero;
    if packet.protocol == protocol::TCP {
        sequence::slide(&mut flow.tracking, &mut flow.windows, packet, direction);
    }
}

/// What [`step`] has changed, as bits.
mod changed {
    /// The windows.
    pub(super) const WINDOWS: u32 = 1;
    /// The state.
    pub(super) const STATE: u32 = 2;
}

/// What a packet of a connection changes in `flow`, besides its timeout; returns bits of
/// [`changed`].
#[inline(always)]
fn step(direction: Direction, packet: &Packet, flow: &mut Opened) -> u32 {
    let Opened { tracking, windows } = flow;
    let (mut bits, mut flags) = (0, 0);
    if packet.protocol == protocol::TCP {
        flags = sequence::flags(tracking, windows, packet, direction);
        let known = tracking.known;
        if sequence::slide(tracking, windows, packet, direction) {
            bits |= changed::WINDOWS;
        }
        if tracking.known != known {
            bits |= changed::STATE;
        }
        // A forged RST is no answer either, which would make a flow that was picked up last.
        if (packet.tcp_flags ^ flags) & tcp::RST != 0 {
            return bits;
        }
    }
    if conntrack::advance(tracking, packet.protocol, flags, direction) {
        bits |= changed::STATE;
    }
    bits
}

#[inline(always)]
fn create<T: Tables>(
    tables: &T,
    hook: &Hook<'_>,
    key: &FlowKey,
    opened: &Opened,
    traffic: &Traffic,
) -> Result<Outcome<T::Entry>, DropReason> {
    match tables.create(key, opened, hook, traffic) {
        Created::Counted => Ok(Outcome::Counted),
        Created::Exists(entry) => {
            tables.touch(entry, hook.now);
            Ok(Outcome::Tracked(entry))
        }
        Created::Full => Err(DropReason::ConntrackFull),
    }
}

/// Remembers a first fragment's fate for the later ones. Leaves the key as it was.
#[inline(always)]
fn remember<T: Tables>(
    tables: &T,
    hook: &Hook<'_>,
    packet: &Packet,
    key: &mut FlowKey,
    row: Ports,
    outcome: &Result<Outcome<T::Entry>, DropReason>,
) {
    let connection = (key.local_port, key.remote_port);
    let (fate, (local_port, remote_port)) = match outcome {
        Ok(Outcome::Tracked(_) | Outcome::Counted) => (fate::TRACKED, connection),
        Ok(Outcome::Allowed) => (fate::ALLOWED, row),
        Ok(Outcome::Exempt) => (fate::EXEMPT, row),
        Ok(Outcome::Audited) => (fate::AUDITED, row),
        Err(reason) => (*reason as u32, row),
    };
    let fate = FragmentFate {
        seen: hook.now,
        local_port,
        remote_port,
        fate,
    };
    key.change(kind::fragment(hook.direction), fragment_ports(packet));
    tables.remember(key, &fate);
    key.change(kind::CONNECTION, connection);
}

/// A later fragment follows its first one; an orphan passes only where ports do not matter
/// (`spec/security-groups.md` section 7).
#[inline(always)]
fn later_fragment<T: Tables>(
    tables: &T,
    hook: &Hook<'_>,
    packet: &Packet,
    key: &mut FlowKey,
    row: &mut Ports,
    question: &mut Question,
) -> Result<Outcome<T::Entry>, DropReason> {
    key.change(kind::fragment(hook.direction), fragment_ports(packet));
    let known = tables.first_fragment(key);
    let Some(known) = known.filter(|known| hook.now.wrapping_sub(known.seen) < hook.fragment_ticks)
    else {
        return orphan(tables, hook, key, question);
    };
    let ports = (known.local_port, known.remote_port);
    if !is_icmp(key.protocol) {
        *row = ports;
    }
    match known.fate {
        fate::EXEMPT => Ok(Outcome::Exempt),
        fate::ALLOWED => Ok(Outcome::Allowed),
        fate::AUDITED => Ok(Outcome::Audited),
        fate::TRACKED => {
            key.change(kind::CONNECTION, ports);
            // One that has died since stays dead.
            match tables.find(key) {
                Some(entry) if tables.tracking(entry).is_live(hook.now) => {
                    tables.touch(entry, hook.now);
                    Ok(Outcome::Tracked(entry))
                }
                Some(_) | None => Ok(Outcome::Allowed),
            }
        }
        reason => Err(reason_of(reason)),
    }
}

/// A later fragment whose first was not seen.
#[inline(always)]
fn orphan<T: Tables>(
    tables: &T,
    hook: &Hook<'_>,
    key: &FlowKey,
    question: &mut Question,
) -> Result<Outcome<T::Entry>, DropReason> {
    *question = Question {
        peer: joined(halves(&key.remote)),
        protocol: key.protocol,
        direction: hook.direction as u8,
        ask: ask::PORTLESS,
        ..Question::default()
    };
    match tables.ask(hook.policy, question) {
        DENIED => Err(DropReason::OrphanFragment),
        rule if rule as u16 == AUDITED => {
            tables.count_audited(hook);
            Ok(Outcome::Audited)
        }
        _ => Ok(Outcome::Allowed),
    }
}

/// The reason that a first fragment was refused for. Its number came from [`remember`].
#[inline(always)]
const fn reason_of(number: u32) -> DropReason {
    const FULL: u32 = DropReason::ConntrackFull as u32;
    match number {
        FULL => DropReason::ConntrackFull,
        _ => DropReason::NoRule,
    }
}

/// ARP is never filtered, but a task speaks for its own address only (RFC 826; a probe of RFC 5227
/// has no sender address and asks for the address that it is going to use).
#[inline(always)]
fn judge_arp(
    eni: &Eni,
    direction: Direction,
    frame: &(impl Bytes + ?Sized),
    at: usize,
) -> Result<(), DropReason> {
    let message: [u8; arp::LEN] = frame.read(at).ok_or(DropReason::Truncated)?;
    let [h0, h1, p0, p1, hl, pl, ..] = message;
    if [h0, h1, p0, p1, hl, pl] != arp::ETHERNET_IPV4 {
        return Err(DropReason::BadHeader);
    }
    if matches!(direction, Direction::Ingress) {
        return Ok(());
    }
    let mut mac = [0; ethernet::MAC_LEN];
    mac.copy_from_slice(&message[arp::SENDER_MAC..arp::SENDER_IP]);
    let mut sender = [0; 4];
    sender.copy_from_slice(&message[arp::SENDER_IP..arp::TARGET_MAC]);
    let mut target = [0; 4];
    target.copy_from_slice(&message[arp::TARGET_IP..arp::LEN]);
    let is_own = |ipv4| is_same(&mapped(ipv4), &eni.ipv4);
    let is_probe = sender == [0; 4] && is_own(target);
    if mac == eni.mac && (is_own(sender) || is_probe) {
        Ok(())
    } else {
        Err(DropReason::ForeignNeighbour)
    }
}

/// Neighbour discovery is never filtered, but a task speaks for its own addresses only and is no
/// router (RFC 4861 sections 4.1 to 4.4; a solicitation from `::` is RFC 4862's probe for the
/// address that the sender is going to use).
#[inline(always)]
fn judge_neighbour(
    hook: &Hook<'_>,
    frame: &(impl Bytes + ?Sized),
    packet: &Packet,
) -> Result<(), DropReason> {
    if matches!(hook.direction, Direction::Ingress) {
        return Ok(());
    }
    let owns = |address| hook.eni.owns(address) || is_same(address, &hook.eni.link_local);
    let is_own = owns(&packet.source);
    let is_unspecified = packet.source == NO_ADDRESS;
    let speaks_for_itself = match packet.icmp_type {
        icmp::ROUTER_SOLICITATION => is_own || is_unspecified,
        icmp::NEIGHBOUR_SOLICITATION | icmp::NEIGHBOUR_ADVERTISEMENT => {
            let target = frame
                .read(packet.transport + icmp::NEIGHBOUR_TARGET)
                .ok_or(DropReason::Truncated)?;
            let asks = packet.icmp_type == icmp::NEIGHBOUR_SOLICITATION;
            (is_own && asks) || ((is_own || (is_unspecified && asks)) && owns(&target))
        }
        _ => false,
    };
    if speaks_for_itself {
        Ok(())
    } else {
        Err(DropReason::ForeignNeighbour)
    }
}
