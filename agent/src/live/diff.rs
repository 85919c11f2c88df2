//! Two walks over the tables to what happened between them.
//!
//! Pure: entries and clocks in, changes and rates out. Never knows whose an ENI is.

use std::collections::HashMap;
use std::collections::hash_map;

use branchline_common::account::Account;
use branchline_common::conntrack::{Connection, ENDED_SECONDS, SWEPT, State, Tracking};
use branchline_common::flow::{FlowKey, kind};
use branchline_common::policy::AUDITED;
use branchline_common::verdict::Direction;

use super::event::Ending;
use super::kernel::Moment;
use super::tally::{Count, Tally};
use crate::datapath::Entry;
use crate::flows::Action;

/// Quiet milliseconds after which a closed connection's end is told: what crosses on the wire as it
/// closes is in its totals then.
const SETTLE_MS: u32 = 100;
/// The same where both sides have sent FIN and the last ACK was not seen, or where the flow needs no
/// connection, so that nobody looks for it.
const FIN_MS: u32 = 3_000;
/// Seconds without a packet after which a flow that needs no connection has ended.
const UNTRACKED_IDLE_SECONDS: u32 = 60;

/// What happened to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Its first packets came.
    Start,
    /// It ended.
    End(Ending),
    /// Packets were rejected.
    Reject,
}

/// Something that happened between two walks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: FlowKey,
    pub(super) what: What,
    /// Direction of the packet that opened it.
    pub(super) opener: Direction,
    pub(super) action: Action,
    /// By [`Direction`]: since its start, or of a reject since the walk before.
    pub(super) counts: [Count; 2],
    /// Ticks of its first packet, if it was seen.
    pub(super) first: Option<u32>,
    /// Ticks of its last packet.
    pub(super) last: u32,
    /// Whether `counts` is all since its start.
    pub(super) is_complete: bool,
}

/// How much a flow carried between two walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flowing {
    pub(super) key: FlowKey,
    pub(super) opener: Direction,
    pub(super) action: Action,
    /// By [`Direction`].
    pub(super) fresh: [Count; 2],
}

/// What is known of an entry from the walks before.
#[derive(Debug)]
struct Known {
    walk: u32,
    tallies: [Tally; 2],
    opener: Direction,
    action: Action,
    tracking: Tracking,
    first: Option<u32>,
    last: u32,
    is_complete: bool,
    is_ended: bool,
    /// Untracked: ticks of the last packet of the flow before, in the same rows.
    ended: Option<u32>,
    /// Untracked: ticks of the first packet of each direction.
    firsts: [Option<u32>; 2],
}

/// The entries of the walks before, and the walk that is under way.
#[derive(Debug, Default)]
pub(super) struct Diff {
    known: HashMap<FlowKey, Known>,
    changes: Vec<Change>,
    walk: u32,
    now: Moment,
    open_epoch: u32,
}

impl Diff {
    /// Begins a walk.
    pub(super) fn begin(&mut self, now: Moment) {
        self.open_epoch = if self.walk == 0 {
            now.epoch
        } else {
            self.now.epoch
        };
        self.walk += 1;
        self.now = now;
    }

    /// Takes in an entry of the walk; one that is shown twice counts once.
    pub(super) fn see(&mut self, key: &FlowKey, entry: &Entry) {
        match entry {
            Entry::Connection(connection) if connection.tracking.state != SWEPT => {
                self.see_connection(key, connection);
            }
            Entry::Connection(_) => {}
            Entry::Row(row) => {
                if let Some(row_kind) = kind::of_row(key.kind) {
                    let direction = row_kind.direction;
                    match row_kind.action.into() {
                        Action::Reject => self.see_reject(key, direction, &row.account),
                        action @ (Action::Accept | Action::Audit) => {
                            self.see_untracked(key, direction, action, &row.account);
                        }
                    }
                }
            }
        }
    }

    /// Ends the walk: what happened since the one before. The first walk only says what is there.
    pub(super) fn finish(&mut self) -> Vec<Change> {
        let (walk, now) = (self.walk, self.now);
        let changes = &mut self.changes;
        self.known.retain(|key, known| {
            let is_there = known.walk == walk;
            known.begin_walk(walk);
            if key.kind == kind::CONNECTION {
                if !is_there && !known.is_ended {
                    let reason = known.reason_of_absence(now);
                    changes.push(known.change(key, What::End(reason)));
                }
                return is_there;
            }
            if known.action == Action::Reject {
                if walk > 1 && known.is_busy() {
                    changes.push(Change {
                        counts: known.tallies.map(|tally| tally.fresh),
                        ..known.change(key, What::Reject)
                    });
                }
                return is_there;
            }
            known.settle_untracked(key, now, walk == 1, changes);
            // A row goes whenever it is written, and comes back with the next packet.
            is_there || !known.is_ended
        });
        std::mem::take(&mut self.changes)
    }

    /// The flows that are there after a walk, and those that carried something in it.
    pub(super) fn flowing(&self) -> Vec<Flowing> {
        let flows = self.known.iter().map(|(key, known)| {
            let flowing = Flowing {
                key: *key,
                opener: known.opener,
                action: known.action,
                fresh: known.tallies.map(|tally| tally.fresh),
            };
            (flowing, known.is_ended)
        });
        let carried = |flow: &Flowing| flow.fresh.iter().any(|count| count.packets > 0);
        flows
            .filter(|(flow, is_ended)| {
                carried(flow) || !(*is_ended || flow.action == Action::Reject)
            })
            .map(|(flow, _)| flow)
            .collect()
    }

    fn see_connection(&mut self, key: &FlowKey, connection: &Connection) {
        let (tracking, accounts) = (&connection.tracking, &connection.accounts);
        let (walk, now, changes) = (self.walk, self.now, &mut self.changes);
        let known = match self.known.entry(*key) {
            hash_map::Entry::Vacant(place) => {
                let known = place.insert(Known::connection(tracking, walk));
                known.take(accounts, self.open_epoch);
                if walk == 1 {
                    known.is_ended = ending(tracking, now).is_some();
                } else {
                    known.first = first(accounts, None);
                    changes.push(known.change(key, What::Start));
                }
                known
            }
            hash_map::Entry::Occupied(place) => {
                let known = place.into_mut();
                known.begin_walk(walk);
                let is_replaced = known.is_replaced(accounts);
                if is_replaced || known.is_reopened(tracking, now) {
                    if !known.is_ended {
                        let reason = unseen_ending(&known.tracking, tracking.last_seen, now);
                        changes.push(known.change(key, What::End(reason)));
                    }
                    known.reopen(is_replaced);
                    known.take(accounts, self.open_epoch);
                    known.first = first(accounts, Some(known.last));
                    known.last = tracking.last_seen;
                    known.opener = Direction::from_byte(tracking.opener);
                    known.action = action_of(tracking);
                    changes.push(known.change(key, What::Start));
                } else {
                    known.take(accounts, self.open_epoch);
                }
                known
            }
        };
        known.tracking = *tracking;
        known.last = tracking.last_seen;
        if !known.is_ended
            && let Some(reason) = ending(tracking, now)
        {
            known.is_ended = true;
            changes.push(known.change(key, What::End(reason)));
        }
    }

    fn see_reject(&mut self, key: &FlowKey, direction: Direction, account: &Account) {
        let row = || Known::row(direction, Action::Reject, self.walk);
        let known = self.known.entry(*key).or_insert_with(row);
        known.begin_walk(self.walk);
        known.take_row(direction, account, self.open_epoch);
        let mut accounts = [Account::default(); 2];
        accounts[direction as usize] = *account;
        let before = std::mem::replace(&mut known.last, newest(account));
        known.first = first(&accounts, (before != 0).then_some(before));
    }

    /// A row of a flow that needs no connection, which has one for each direction.
    fn see_untracked(
        &mut self,
        key: &FlowKey,
        direction: Direction,
        action: Action,
        account: &Account,
    ) {
        let flow = FlowKey {
            kind: key.kind & !(Direction::Egress as u8),
            ..*key
        };
        let row = || Known::row(direction, action, self.walk);
        let known = self.known.entry(flow).or_insert_with(row);
        known.begin_walk(self.walk);
        known.take_row(direction, account, self.open_epoch);
        if known.is_ended {
            let mut accounts = [Account::default(); 2];
            accounts[direction as usize] = *account;
            known.firsts[direction as usize] = first(&accounts, known.ended);
        }
        let newest = newest(account);
        if newest.wrapping_sub(known.last).cast_signed() > 0 || known.last == 0 {
            known.last = newest;
        }
    }
}

impl Known {
    fn new(walk: u32, opener: Direction, action: Action, tracking: Tracking) -> Self {
        Self {
            walk,
            tallies: [Tally::default(); 2],
            opener,
            action,
            tracking,
            first: None,
            last: tracking.last_seen,
            is_complete: walk > 1,
            is_ended: false,
            ended: None,
            firsts: [None; 2],
        }
    }

    fn connection(tracking: &Tracking, walk: u32) -> Self {
        let opener = Direction::from_byte(tracking.opener);
        Self::new(walk, opener, action_of(tracking), *tracking)
    }

    /// A row, which has not begun before packets are seen in it.
    fn row(direction: Direction, action: Action, walk: u32) -> Self {
        Self {
            is_ended: true,
            ..Self::new(walk, direction, action, Tracking::default())
        }
    }

    fn begin_walk(&mut self, walk: u32) {
        if self.walk != walk {
            self.walk = walk;
            self.tallies.iter_mut().for_each(Tally::settle);
        }
    }

    fn take(&mut self, accounts: &[Account; 2], open_epoch: u32) {
        for (tally, account) in self.tallies.iter_mut().zip(accounts) {
            self.is_complete &= tally.take(account, open_epoch);
        }
    }

    fn is_busy(&self) -> bool {
        self.tallies.iter().any(|tally| tally.fresh.packets > 0)
    }

    fn is_replaced(&self, accounts: &[Account; 2]) -> bool {
        let mut pairs = self.tallies.iter().zip(accounts);
        pairs.any(|(tally, account)| tally.is_replaced(account))
    }

    /// Whether the entry, which the last walk saw as `self.tracking`, is another connection now.
    fn is_reopened(&self, new: &Tracking, now: Moment) -> bool {
        let old = &self.tracking;
        if new.state == State::Close as u8 {
            return false;
        }
        // States grow in a connection's life, but for one that was picked up in its middle.
        let is_earlier = new.state < old.state && old.state != State::Pickup as u8;
        is_earlier
            || new.opener != old.opener
            || is_after_death(old, new.last_seen)
            || (self.is_ended && new.is_live(now.ticks) && !is_closing(new))
    }

    /// Counts from 0, in the same entry or in one that took its place.
    fn reopen(&mut self, is_replaced: bool) {
        self.is_complete = is_replaced || self.is_ended;
        self.is_ended = false;
        for tally in &mut self.tallies {
            tally.restart();
            if is_replaced {
                tally.forget_entry();
            }
        }
    }

    /// Takes in a row, which may be another than at the walk before.
    fn take_row(&mut self, direction: Direction, account: &Account, open_epoch: u32) {
        let tally = &mut self.tallies[direction as usize];
        if tally.is_replaced(account) {
            tally.forget_entry();
        }
        self.is_complete &= tally.take(account, open_epoch);
    }

    /// Why a connection is not in the table any more.
    fn reason_of_absence(&self, now: Moment) -> Ending {
        if self.tracking.is_live(now.ticks) {
            return Ending::Removed;
        }
        ending(&self.tracking, now).unwrap_or(Ending::Timeout)
    }

    /// Whether a flow that needs no connection begins or ends with this walk.
    fn settle_untracked(
        &mut self,
        key: &FlowKey,
        now: Moment,
        is_first_walk: bool,
        changes: &mut Vec<Change>,
    ) {
        if self.is_ended && self.is_busy() {
            self.opener = self.untracked_opener(key);
            self.is_ended = false;
            if is_first_walk {
                self.is_ended = self.untracked_ending(now).is_some();
            } else {
                let [ingress, egress] = self.firsts;
                self.first = ingress.into_iter().chain(egress).reduce(earlier);
                changes.push(self.change(key, What::Start));
            }
        }
        if !self.is_ended
            && let Some(reason) = self.untracked_ending(now)
        {
            changes.push(self.change(key, What::End(reason)));
            self.is_complete = true;
            self.is_ended = true;
            self.ended = Some(self.last);
            self.tallies.iter_mut().for_each(Tally::restart);
        }
    }

    /// Who sent the first packet. If both directions' came in one tick: who sent a SYN, or has the
    /// higher port.
    fn untracked_opener(&self, key: &FlowKey) -> Direction {
        let [ingress, egress] = &self.tallies;
        let by_port = key.local_port > key.remote_port;
        let is_egress = match self.firsts {
            [None, Some(_)] => true,
            [Some(_), None] => false,
            [Some(one), Some(other)] if one != other => earlier(one, other) == other,
            [Some(_), Some(_)] | [None, None] if ingress.is_opened != egress.is_opened => {
                egress.is_opened
            }
            [Some(_), Some(_)] | [None, None] => by_port,
        };
        Direction::from_byte(u8::from(is_egress))
    }

    fn untracked_ending(&self, now: Moment) -> Option<Ending> {
        let quiet = now.ticks.wrapping_sub(self.last).cast_signed();
        let [ingress, egress] = &self.tallies;
        if quiet >= ticks(FIN_MS, now) && (ingress.is_reset || egress.is_reset) {
            return Some(Ending::Reset);
        }
        if quiet >= ticks(FIN_MS, now) && ingress.is_closed && egress.is_closed {
            return Some(Ending::Closed);
        }
        (quiet >= ticks(UNTRACKED_IDLE_SECONDS * 1_000, now)).then_some(Ending::Timeout)
    }

    fn change(&self, key: &FlowKey, what: What) -> Change {
        Change {
            key: *key,
            what,
            opener: self.opener,
            action: self.action,
            counts: self.tallies.map(|tally| tally.sum()),
            first: self.first,
            last: self.last,
            is_complete: self.is_complete,
        }
    }
}

fn action_of(tracking: &Tracking) -> Action {
    if tracking.rule == AUDITED {
        Action::Audit
    } else {
        Action::Accept
    }
}

fn ticks(millis: u32, now: Moment) -> i32 {
    (u64::from(millis) * u64::from(now.ticks_per_second) / 1_000) as i32
}

fn is_closing(tracking: &Tracking) -> bool {
    const FIN: u8 = State::Fin as u8;
    const TIME_WAIT: u8 = State::TimeWait as u8;
    const CLOSE: u8 = State::Close as u8;
    matches!(tracking.state, FIN | TIME_WAIT | CLOSE)
}

/// Whether a packet came when the entry was dead already.
fn is_after_death(old: &Tracking, last_seen: u32) -> bool {
    last_seen.wrapping_sub(old.last_seen).cast_signed() >= old.timeout.cast_signed()
}

/// How a connection has ended, if it has.
fn ending(tracking: &Tracking, now: Moment) -> Option<Ending> {
    const BOTH: u8 = 3;
    let quiet = now.ticks.wrapping_sub(tracking.last_seen).cast_signed();
    let is_quiet = |millis| quiet >= ticks(millis, now);
    match tracking.state {
        state if state == State::Close as u8 && is_quiet(SETTLE_MS) => {
            // The programs close for as long only what the agent ends.
            let revoked = ENDED_SECONDS * now.ticks_per_second;
            Some(if tracking.timeout == revoked {
                Ending::Revoked
            } else {
                Ending::Reset
            })
        }
        state if state == State::TimeWait as u8 && is_quiet(SETTLE_MS) => Some(Ending::Closed),
        state if state == State::Fin as u8 && tracking.fins == BOTH && is_quiet(FIN_MS) => {
            Some(Ending::Closed)
        }
        _ => (!tracking.is_live(now.ticks)).then_some(Ending::Timeout),
    }
}

/// How a connection ended that no walk saw ending, if the next one in its entry had a packet at
/// `last_seen`.
fn unseen_ending(old: &Tracking, last_seen: u32, now: Moment) -> Ending {
    match ending(old, now) {
        Some(reason) => reason,
        None if is_after_death(old, last_seen) => Ending::Timeout,
        None => Ending::Closed,
    }
}

/// Ticks of the first packet in any slot, of those that began after `after`.
fn first(accounts: &[Account; 2], after: Option<u32>) -> Option<u32> {
    let slots = accounts.iter().flat_map(|account| &account.slots);
    let firsts = slots.filter(|slot| slot.packets > 0).map(|slot| slot.first);
    firsts
        .filter(|first| after.is_none_or(|after| first.wrapping_sub(after).cast_signed() > 0))
        .reduce(earlier)
}

fn earlier(one: u32, other: u32) -> u32 {
    if other.wrapping_sub(one).cast_signed() < 0 {
        other
    } else {
        one
    }
}

/// Ticks of the last packet of an account.
fn newest(account: &Account) -> u32 {
    let [even, odd] = &account.slots;
    if even.epoch > odd.epoch {
        even.last
    } else {
        odd.last
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
