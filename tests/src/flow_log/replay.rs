//! Cases of packets and lines, through all of the agent's code that is pure: the packets are counted
//! as the kernel programs count them, each epoch is drained and added up to windows, and the log's
//! rows are written as text.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use branchline::datapath::{Clock, Entry};
use branchline::flow_log::{self, Aggregation, Format, IpRanges, Peers, Surroundings};
use branchline::flows::{Closing, Drain, Interface, Reading, Report, Window};
use branchline::policy::RuleNames;
use branchline::provider::{RouteTable, RouteTables, RouteTarget};
use branchline_common::account::{Segments, Traffic};
use branchline_common::conntrack::Connection;
use branchline_common::flow::{FlowKey, kind, mapped, ports};
use branchline_common::maps::Row;
use branchline_common::parse::{self, Fragment};
use branchline_common::verdict::{Direction, DropReason};
use serde_json::Value;

use super::case::{Action, Case, Packet};
use super::{Mismatch, Outcome, entries};

/// Seconds of an epoch: a window is one or several of them.
const EPOCH: u64 = 60;
/// Ticks of the maps' clock per second: one a millisecond.
const RATE: u32 = 1_000;
/// The ENI's slot.
const SLOT: u16 = 7;
/// Packets that a window which lost some has lost.
const LOST: u64 = 3;

/// Runs a file's cases.
///
/// # Errors
/// A case is not as the format says.
pub fn run(file: &Value) -> Result<Outcome> {
    let cases: Vec<Case> = entries(file, "cases")?;
    let mut mismatches = Vec::new();
    for case in &cases {
        mismatches.extend(mismatches_of(case).with_context(|| case.id.clone())?);
    }
    Ok(Outcome {
        cases: cases.len(),
        mismatches,
    })
}

fn mismatches_of(case: &Case) -> Result<Vec<Mismatch>> {
    let format = Format::parse(&case.format, &case.tag_field_specifications)?;
    let mut mismatches = Vec::new();
    let version = format.version();
    if let Some(expected) = case.version.filter(|expected| *expected != version) {
        let text = format!("version {expected} expected, the fields come to {version}");
        mismatches.push(Mismatch::new(&case.id, text));
    }
    let mut missing = case.expect.clone();
    for line in lines(case, &format)? {
        match missing.iter().position(|expected| *expected == line) {
            Some(index) => drop(missing.remove(index)),
            None => mismatches.push(Mismatch::new(&case.id, format!("unexpected: {line}"))),
        }
    }
    let missing = missing.iter().map(|line| format!("missing: {line}"));
    mismatches.extend(missing.map(|text| Mismatch::new(&case.id, text)));
    Ok(mismatches)
}

/// The lines that the agent writes, window by window.
fn lines(case: &Case, format: &Format) -> Result<Vec<String>> {
    ensure!(case.interval > 0, "interval is 0");
    let mut host = Host::new(case);
    let routes = routes(case)?;
    let mut peers = Peers::default();
    case.peers.iter().for_each(|peer| peers.add(peer));
    let ip_ranges = match &case.ip_ranges {
        Some(file) => IpRanges::parse(file.to_string().as_bytes())?,
        None => IpRanges::default(),
    };
    let surroundings = Surroundings {
        peers: &peers,
        ip_ranges: &ip_ranges,
    };
    let mut text = Vec::new();
    let mut line = Vec::new();
    let mut sequence = 0;
    for start in windows(case) {
        let window = Window {
            start,
            end: start + case.interval,
        };
        let mut aggregation = Aggregation::new(format.tells_rules_apart());
        let mut epoch_start = start;
        while epoch_start < window.end {
            let end = (epoch_start + EPOCH).min(window.end);
            let epoch = Window {
                start: epoch_start,
                end,
            };
            let mut report = host.epoch(epoch, start)?;
            report.route(&routes);
            aggregation.add_epoch(vec![report]);
            epoch_start = end;
        }
        let reports = aggregation.finish();
        let rows = flow_log::rows(&reports, window, case.traffic_type, sequence);
        sequence += rows.len() as u64;
        let rows = rows.into_iter().map(|row| surroundings.complete(row));
        for row in rows {
            flow_log::write_line(&row, format, &mut line, &mut text)?;
        }
    }
    let text = String::from_utf8(text)?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn routes(case: &Case) -> Result<RouteTables> {
    let routes = case.routes.iter();
    let routes = routes.map(|(network, target)| Ok((*network, self::target(target)?)));
    let main = routes.collect::<Result<RouteTable>>()?;
    Ok(RouteTables {
        main: Arc::new(main),
        ..RouteTables::default()
    })
}

fn target(id: &str) -> Result<RouteTarget> {
    let kind = id.split_once('-').map_or(id, |(kind, _)| kind);
    Ok(match kind {
        "local" => RouteTarget::Local,
        "nat" => RouteTarget::NatGateway,
        "igw" => RouteTarget::InternetGateway,
        "eigw" => RouteTarget::EgressOnlyInternetGateway,
        "vgw" => RouteTarget::VpnGateway,
        "pcx" => RouteTarget::VpcPeeringConnection { same_region: true },
        "blackhole" => RouteTarget::Unknown,
        _ => bail!("no target is called {id}"),
    })
}

/// Starts of the windows with packets, and of those that are to be considered without.
fn windows(case: &Case) -> BTreeSet<u64> {
    let of_packets = case.packets.iter().map(|packet| {
        let second = packet.t as u64;
        second - second % case.interval
    });
    let named = case.windows.iter().chain(&case.skipped_windows).copied();
    of_packets.chain(named).collect()
}

/// A host with one ENI: its maps, and the packets to come.
struct Host<'a> {
    case: &'a Case,
    interface: Arc<Interface>,
    epoch: u32,
    entries: BTreeMap<FlowKey, Entry>,
}

impl<'a> Host<'a> {
    fn new(case: &'a Case) -> Self {
        let interface = Interface {
            account_id: case.account.clone(),
            interface_id: case.eni.id.clone(),
            primary_ipv4: case.eni.ipv4.first().copied(),
            ..case.eni.interface.clone()
        };
        Self {
            case,
            interface: Arc::new(interface),
            epoch: 0,
            entries: BTreeMap::new(),
        }
    }

    /// Lets an epoch of the window from `window_start` pass; what it counted.
    fn epoch(&mut self, epoch: Window, window_start: u64) -> Result<Report> {
        self.epoch += 1;
        let case = self.case;
        let is_in = |packet: &&Packet| (epoch.start..epoch.end).contains(&(packet.t as u64));
        let mut packets: Vec<_> = case.packets.iter().filter(is_in).collect();
        packets.sort_by(|one, other| one.t.total_cmp(&other.t));
        for packet in packets.into_iter().filter(|packet| !packet.exempt) {
            self.count(packet)?;
        }
        let closing = Closing {
            epoch: self.epoch,
            window: epoch,
            next_start: epoch.end,
            ticks: ticks(epoch.end as f64),
            wall_ms: epoch.end * 1_000,
            unlogged: BTreeMap::new(),
        };
        let reading = Reading {
            clock: Clock::of(RATE),
            closing: &closing,
            rules: &RuleNames::default(),
        };
        let mut drain = Drain::default();
        for (key, entry) in &self.entries {
            drain.add(key, entry, &reading);
        }
        // A window's loss is told by its first epoch.
        let is_skipped = epoch.start == window_start && case.skipped_windows.contains(&epoch.start);
        Ok(Report {
            interface: Arc::clone(&self.interface),
            flows: drain.take(SLOT.into()),
            skipped_packets: if is_skipped { LOST } else { 0 },
            is_whole: case.windows.contains(&window_start),
        })
    }

    /// Counts a packet as the kernel programs do: an accepted one in its connection, a rejected one
    /// in a row.
    fn count(&mut self, packet: &Packet) -> Result<()> {
        let parsed = parsed(packet);
        let traffic = Traffic::of(&parsed, segments(packet)?);
        let mut key = FlowKey::connection(&parsed, packet.dir, SLOT);
        let now = ticks(packet.t);
        if packet.action == Action::Reject {
            let kind = kind::rejected(packet.dir, DropReason::NoRule);
            key.change(kind, ports(&parsed, packet.dir));
            let entry = self.entries.entry(key);
            if let Entry::Row(row) = entry.or_insert(Entry::Row(Row::default())) {
                row.account.add(&traffic, self.epoch, now);
            }
            return Ok(());
        }
        let entry = self.entries.entry(key);
        let entry = entry.or_insert_with(|| Entry::Connection(Connection::default()));
        if let Entry::Connection(connection) = entry {
            let [ingress, egress] = &mut connection.accounts;
            let account = match packet.dir {
                Direction::Ingress => ingress,
                Direction::Egress => egress,
            };
            account.add(&traffic, self.epoch, now);
        }
        Ok(())
    }
}

/// The maps' clock at a Unix second. It wraps, as the kernel's does.
fn ticks(second: f64) -> u32 {
    (second * f64::from(RATE)).round() as u64 as u32
}

fn parsed(packet: &Packet) -> parse::Packet {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    };
    let fragment = match packet.frag {
        Some(frag) if frag.offset > 0 => Fragment::Later,
        Some(frag) if frag.more => Fragment::First,
        Some(_) | None => Fragment::Whole,
    };
    parse::Packet {
        source: address(packet.src),
        destination: address(packet.dst),
        source_port: packet.sport,
        destination_port: packet.dport,
        protocol: packet.proto.0,
        tcp_flags: packet.flags.0,
        fragment,
        fragment_id: packet.frag.map_or(0, |frag| frag.id),
        length: packet.len,
        header_length: packet.hdr.unwrap_or(0),
        ..parse::Packet::default()
    }
}

fn segments(packet: &Packet) -> Result<Segments> {
    let Some(count) = packet.gso_segs else {
        return Ok(Segments::default());
    };
    let header = packet.hdr.context("gso_segs without hdr")?;
    ensure!(count > 0, "gso_segs is 0");
    let payload = packet.len.saturating_sub(header);
    let size = payload.div_ceil(count).max(1);
    Ok(Segments { count, size })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_line_too_many_or_too_few_is_a_mismatch() {
        let file = include_str!("../../fixtures/flowlog_cases.json");
        let file: Value = serde_json::from_str(file).unwrap();
        let mut case = entries::<Case>(&file, "cases").unwrap().remove(0);
        assert_eq!(mismatches_of(&case).unwrap(), []);
        let line = case.expect[0].replace("ACCEPT", "REJECT");
        case.expect[0].clone_from(&line);
        case.version = Some(3);
        let texts: Vec<_> = mismatches_of(&case).unwrap();
        let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 3);
        assert!(texts[0].contains("version 3 expected"), "{texts:?}");
        assert!(texts[1].contains("unexpected: 2 1234"), "{texts:?}");
        assert_eq!(texts[2], format!("two-directions: missing: {line}"));
    }
}
