//! Which entries only take up memory.
//!
//! Pure: it proposes. The kernel program `sweep` looks again under the entry's lock and decides.

use std::time::Duration;

use branchline_common::flow::FlowKey;

use super::drain::accounts;
use crate::datapath::Entry;

/// Shortest time between two sweeps.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
/// What sweeps and drains take together is at most this part of the time, if the drains alone do not
/// take more: after a sweep comes a pause for all that was spent since the sweep before.
///
/// So memory comes back later the more entries there are. With 1,000,000, a walk of half a second and
/// an interval of a minute, sweeps come about once a minute; where every flow has packets in every
/// minute and a drain takes 0.9 s, every four minutes.
const SHARE: u32 = 60;

/// The clock of the maps, and what must be left alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Ticks of the maps' clock.
    pub(super) ticks: u32,
    /// Ticks for which a dead connection, or a row after its last packet, is left alone: who follows
    /// the flows sees it before it goes.
    pub(super) grace: u32,
    /// The newest epoch whose file is safe.
    pub(super) written_epoch: u32,
}

/// Whether an entry may go: all it counted is in files, and it has been dead, or of a row idle, for
/// the grace.
pub(super) fn is_sweepable(key: &FlowKey, entry: &Entry, now: Now) -> bool {
    let is_dead = match entry {
        Entry::Connection(connection) => connection.tracking.is_sweepable(now.ticks, now.grace),
        Entry::Row(row) => row.account.slots.iter().all(|slot| {
            let idle = now.ticks.wrapping_sub(slot.last).cast_signed();
            slot.epoch == 0 || idle >= now.grace.cast_signed()
        }),
    };
    is_dead && accounts(key, entry).all(|(_, _, account)| account.is_written(now.written_epoch))
}

/// How long to wait after a sweep, if it and the drains since the one before took `spent`.
#[must_use]
pub fn pause(spent: Duration) -> Duration {
    (spent * (SHARE - 1)).max(SHORTEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use branchline_common::account::{Account, Slot};
    use branchline_common::conntrack::{Connection, State, Tracking, default_timeouts};
    use branchline_common::flow::kind;
    use branchline_common::maps::Row;
    use branchline_common::verdict::{self, Direction};

    fn counted(epoch: u32) -> Account {
        let mut account = Account::default();
        let [even, odd] = &mut account.slots;
        let slot = if epoch.is_multiple_of(2) { even } else { odd };
        *slot = Slot {
            packets: 1,
            ..Slot::opened(epoch, 0)
        };
        account
    }

    #[test]
    fn only_the_dead_whose_counts_are_written_may_go() {
        // Ticks of one second: a UDP entry dies at 30, the grace ends at 32.
        let rows = [
            ("alive", 29, 4, false),
            ("dead, in its grace", 31, 4, false),
            ("dead", 32, 4, true),
            ("dead, written long ago", 32, 9, true),
            ("dead, not written", 32, 3, false),
        ];
        for (name, ticks, written_epoch, expected) in rows {
            let connection = Connection {
                tracking: Tracking::opened(State::Udp, Direction::Egress, 0, &default_timeouts(1)),
                accounts: [Account::default(), counted(4)],
                ..Connection::default()
            };
            let now = Now {
                ticks,
                grace: 2,
                written_epoch,
            };
            let entry = Entry::Connection(connection);
            assert_eq!(
                is_sweepable(&FlowKey::default(), &entry, now),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn a_row_may_go_once_it_is_written_and_idle() {
        let key = FlowKey {
            kind: kind::row(Direction::Ingress, verdict::Action::Rejected),
            ..FlowKey::default()
        };
        let row = Row {
            account: counted(4),
            ..Row::default()
        };
        for (ticks, written_epoch, expected) in [(9, 3, false), (9, 4, true), (1, 4, false)] {
            let now = Now {
                ticks,
                grace: 2,
                written_epoch,
            };
            assert_eq!(is_sweepable(&key, &Entry::Row(row), now), expected);
        }
    }

    #[test]
    fn sweeping_takes_a_sixtieth_of_the_time_at_most() {
        assert_eq!(pause(Duration::ZERO), SHORTEST_PAUSE);
        assert_eq!(pause(Duration::from_secs(1)), Duration::from_secs(59));
    }
}
