//! How often EC2 is asked: a token bucket for each action, as EC2 keeps them itself, and half the pace after each
//! complaint. Pure: time is what the caller says.
//!
//! AWS: "Request throttling for the Amazon EC2 API". EC2's buckets are an account's in a Region, so each host takes a
//! share of them only.

use std::collections::HashMap;
use std::time::Duration;

/// Of the full pace, the least that complaints leave.
const LEAST_PACE: f64 = 1.0 / 16.0;
/// Of the full pace, what each call that passes gives back.
const RECOVERY: f64 = 1.0 / 20.0;

/// Which of EC2's buckets an action draws from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Describes and gets with a filter or ids.
    Describe,
    /// Those that EC2 finds dear: DescribeSecurityGroups, DescribeInstances.
    DearDescribe,
    /// Changes of network interfaces themselves: create, delete, modify.
    Interface,
    /// CreateTags.
    Tags,
    /// Every other change: attach, detach, associate, disassociate.
    Change,
}

impl Kind {
    /// EC2's bucket: calls at once, and calls a second.
    #[must_use]
    pub const fn quota(self) -> (f64, f64) {
        match self {
            Self::Describe => (100.0, 20.0),
            Self::DearDescribe => (50.0, 10.0),
            Self::Interface => (100.0, 5.0),
            Self::Tags => (100.0, 10.0),
            Self::Change => (50.0, 5.0),
        }
    }
}

/// The buckets of all actions.
#[derive(Debug)]
pub struct Restraint {
    /// Of EC2's buckets, this host's part; above 0, at most 1.
    share: f64,
    buckets: HashMap<&'static str, Bucket>,
}

impl Restraint {
    /// Full buckets of a host that takes `share` of the account's.
    #[must_use]
    pub fn new(share: f64) -> Self {
        Self {
            share,
            buckets: HashMap::new(),
        }
    }

    /// Takes a call of `action` at `now`, and returns how long to wait before it is sent. Calls that wait are
    /// sent in the order in which they were taken.
    pub fn take(&mut self, action: &'static str, kind: Kind, now: Duration) -> Duration {
        self.bucket(action, kind, now).take(now)
    }

    /// Whether the bucket of `action` is half full at least at `now`: what can wait leaves the rest to what cannot.
    pub fn has_spare(&mut self, action: &'static str, kind: Kind, now: Duration) -> bool {
        let bucket = self.bucket(action, kind, now);
        bucket.refill(now);
        bucket.tokens >= bucket.most / 2.0
    }

    /// EC2 complained at `now`: its bucket is emptier than ours.
    pub fn complained(&mut self, action: &'static str, kind: Kind, now: Duration) {
        self.bucket(action, kind, now).complained(now);
    }

    /// EC2 did as asked.
    pub fn passed(&mut self, action: &'static str, kind: Kind, now: Duration) {
        self.bucket(action, kind, now).passed(now);
    }

    fn bucket(&mut self, action: &'static str, kind: Kind, now: Duration) -> &mut Bucket {
        let share = self.share;
        self.buckets.entry(action).or_insert_with(|| {
            let (most, pace) = kind.quota();
            Bucket::new((most * share).max(1.0), pace * share, now)
        })
    }
}

/// One bucket. Tokens below zero are calls that wait already.
#[derive(Debug)]
struct Bucket {
    most: f64,
    full_pace: f64,
    pace: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    fn new(most: f64, pace: f64, now: Duration) -> Self {
        Self {
            most,
            full_pace: pace,
            pace,
            tokens: most,
            at: now,
        }
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.pace).min(self.most);
        self.at = self.at.max(now);
    }

    fn take(&mut self, now: Duration) -> Duration {
        self.refill(now);
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-self.tokens / self.pace)
    }

    fn complained(&mut self, now: Duration) {
        self.refill(now);
        self.tokens = self.tokens.min(0.0);
        self.pace = (self.pace / 2.0).max(self.full_pace * LEAST_PACE);
    }

    fn passed(&mut self, now: Duration) {
        self.refill(now);
        self.pace = (self.pace + self.full_pace * RECOVERY).min(self.full_pace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_a_bucket_holds_passes_at_once_and_the_rest_at_its_pace() {
        let mut restraint = Restraint::new(1.0);
        let mut take = |now| restraint.take("AssociateTrunkInterface", Kind::Change, now);
        assert!((0..50).all(|_| take(ms(0)).is_zero()));
        assert_eq!((take(ms(0)), take(ms(0))), (ms(200), ms(400)));
        // Two are owed; a second refills five.
        assert!((0..3).all(|_| take(ms(1_000)).is_zero()));
        assert_eq!(take(ms(1_000)), ms(200));
    }

    #[test]
    fn actions_and_shares_have_buckets_of_their_own() {
        let mut restraint = Restraint::new(0.1);
        assert!((0..5).all(|_| restraint.take("Attach", Kind::Change, ms(0)).is_zero()));
        assert_eq!(restraint.take("Attach", Kind::Change, ms(0)), ms(2_000));
        assert!(restraint.take("Detach", Kind::Change, ms(0)).is_zero());
        // However small the share, one call passes.
        let mut tiny = Restraint::new(0.001);
        assert!(tiny.take("Attach", Kind::Change, ms(0)).is_zero());
    }

    #[test]
    fn what_can_wait_leaves_half_a_bucket() {
        let mut restraint = Restraint::new(1.0);
        let mut passed = 0;
        while restraint.has_spare("Attach", Kind::Change, ms(0)) {
            assert!(restraint.take("Attach", Kind::Change, ms(0)).is_zero());
            passed += 1;
        }
        assert_eq!(passed, 26);
        assert!(!restraint.has_spare("Attach", Kind::Change, ms(100)));
        assert!(restraint.has_spare("Attach", Kind::Change, ms(200)));
        assert!(restraint.has_spare("Detach", Kind::Change, ms(0)));
    }

    #[test]
    fn complaints_halve_the_pace_down_to_a_bound_and_passes_bring_it_back() {
        let mut bucket = Bucket::new(50.0, 5.0, ms(0));
        bucket.complained(ms(0));
        assert_eq!((bucket.tokens, bucket.pace), (0.0, 2.5));
        assert_eq!(bucket.take(ms(0)), ms(400));
        (0..10).for_each(|_| bucket.complained(ms(0)));
        assert_eq!(bucket.pace, 5.0 / 16.0);
        (0..30).for_each(|_| bucket.passed(ms(0)));
        assert_eq!(bucket.pace, 5.0);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(1.0, 1.0, ms(5_000));
        assert!(bucket.take(ms(5_000)).is_zero());
        assert_eq!(bucket.take(ms(1_000)), ms(1_000));
        assert_eq!(bucket.take(ms(5_000)), ms(2_000));
    }
}
