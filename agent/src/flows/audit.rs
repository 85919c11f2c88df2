//! What audit mode let pass in one interval, as lines of the agent's log. Pure.

use std::fmt;

use super::record::{Action, FlowCounts, FlowTuple, Report};

/// Lines of one interval at most.
const MOST_LINES: usize = 100;

/// Packets that passed only because a group is in audit mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WouldBeDenied<'a> {
    /// As `eni-0123456789abcdef0`.
    pub(super) interface_id: &'a str,
    /// The task that has the ENI, where it is known.
    pub(super) task_id: Option<&'a str>,
    /// Which packets.
    pub(super) tuple: &'a FlowTuple,
    /// How many.
    pub(super) packets: u64,
}

/// All that audit mode let pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Audit<'a> {
    /// The tuples with the most packets, at most [`MOST_LINES`].
    pub(super) lines: Vec<WouldBeDenied<'a>>,
    /// Tuples in all.
    pub(super) tuples: usize,
    /// Packets in all.
    pub(super) packets: u64,
}

/// What audit mode let pass in the interval of `reports`.
pub(super) fn audit(reports: &[Report]) -> Audit<'_> {
    let flows = reports
        .iter()
        .flat_map(|report| report.flows.iter().map(move |flow| (report, flow)));
    let would_be_denied = flows.filter(|(_, (tuple, _))| tuple.action == Action::Audit);
    let mut lines: Vec<_> = would_be_denied
        .map(|(report, (tuple, counts))| line(report, tuple, counts))
        .collect();
    let (tuples, packets) = (lines.len(), lines.iter().map(|line| line.packets).sum());
    lines.sort_by_key(|line| {
        (
            std::cmp::Reverse(line.packets),
            line.interface_id,
            line.tuple,
        )
    });
    lines.truncate(MOST_LINES);
    Audit {
        lines,
        tuples,
        packets,
    }
}

fn line<'a>(report: &'a Report, tuple: &'a FlowTuple, counts: &FlowCounts) -> WouldBeDenied<'a> {
    WouldBeDenied {
        interface_id: &report.interface.interface_id,
        task_id: report.interface.task.id.as_deref(),
        tuple,
        packets: counts.packets,
    }
}

/// As `ingress protocol 6 10.0.1.5:40000 -> 10.0.1.4:22`.
impl fmt::Display for WouldBeDenied<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FlowTuple {
            direction,
            protocol,
            ..
        } = self.tuple;
        let (src, dst) = (
            std::net::SocketAddr::new(self.tuple.src, self.tuple.src_port),
            std::net::SocketAddr::new(self.tuple.dst, self.tuple.dst_port),
        );
        write!(f, "{} protocol {protocol} {src} -> {dst}", direction.name())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use branchline_common::verdict::Direction;

    use super::*;
    use crate::flows::interface::{Interface, TaskIdentity};

    fn flow(action: Action, src_port: u16, packets: u64) -> (FlowTuple, FlowCounts) {
        let tuple = FlowTuple {
            direction: Direction::Ingress,
            src: "10.0.1.5".parse().unwrap(),
            dst: "10.0.1.4".parse().unwrap(),
            src_port,
            dst_port: 22,
            protocol: 6,
            action,
            traffic_path: None,
            rule: None,
            drop_reason: None,
            service: None,
        };
        let counts = FlowCounts {
            packets,
            bytes: packets * 60,
            tcp_flags: 0,
            first_ms: 1_000,
            last_ms: 2_000,
        };
        (tuple, counts)
    }

    fn report(flows: Vec<(FlowTuple, FlowCounts)>) -> Report {
        Report {
            interface: Arc::new(Interface {
                account_id: "123456789012".into(),
                interface_id: "eni-1".into(),
                task: TaskIdentity {
                    id: Some("web".into()),
                    ..TaskIdentity::default()
                },
                ..Interface::default()
            }),
            flows,
            skipped_packets: 0,
            is_whole: true,
        }
    }

    #[test]
    fn only_what_would_be_denied_is_said_most_packets_first() {
        let reports = [report(vec![
            flow(Action::Audit, 40_000, 2),
            flow(Action::Accept, 40_001, 50),
            flow(Action::Reject, 40_002, 50),
            flow(Action::Audit, 40_003, 7),
        ])];
        let audit = audit(&reports);
        let lines: Vec<String> = audit.lines.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "ingress protocol 6 10.0.1.5:40003 -> 10.0.1.4:22",
                "ingress protocol 6 10.0.1.5:40000 -> 10.0.1.4:22"
            ]
        );
        assert_eq!((audit.tuples, audit.packets), (2, 9));
        let line = audit.lines[0];
        assert_eq!((line.interface_id, line.task_id), ("eni-1", Some("web")));
    }

    #[test]
    fn a_scan_does_not_fill_the_log() {
        let flows = (0..250).map(|port| flow(Action::Audit, port, 1)).collect();
        let reports = [report(flows)];
        let audit = audit(&reports);
        assert_eq!(audit.lines.len(), MOST_LINES);
        assert_eq!((audit.tuples, audit.packets), (250, 250));
    }
}
