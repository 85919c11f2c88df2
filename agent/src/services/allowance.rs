//! How often somebody may ask: a token bucket. Pure: `now` is the caller's.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Times a second, in the long run.
    pub per_second: u32,
    /// Times at once, after a rest.
    pub burst: u32,
}

/// What somebody has left of a rate.
#[derive(Debug)]
pub struct Allowance {
    rate: Rate,
    left: Mutex<(f64, Instant)>,
}

impl Allowance {
    /// A whole burst, from `now` on.
    #[must_use]
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            left: Mutex::new((f64::from(rate.burst), now)),
        }
    }

    /// Uses one, if there is one.
    #[must_use]
    pub fn take(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, last) = *left;
        let passed = now.saturating_duration_since(last).as_secs_f64();
        let grown = passed.mul_add(f64::from(self.rate.per_second), tokens);
        let tokens = grown.min(f64::from(self.rate.burst));
        let is_allowed = tokens >= 1.0;
        let used = if is_allowed { 1.0 } else { 0.0 };
        *left = (tokens - used, now.max(last));
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_never_more_than_a_burst() {
        let start = Instant::now();
        let rate = Rate {
            per_second: 40,
            burst: 60,
        };
        let allowance = Allowance::new(rate, start);
        let taken = |at: Duration| (0..1_000).filter(|_| allowance.take(start + at)).count();
        assert_eq!(taken(Duration::ZERO), 60);
        assert_eq!(taken(Duration::from_millis(500)), 20);
        assert_eq!(taken(Duration::from_millis(500)), 0);
        assert_eq!(taken(Duration::from_secs(3_600)), 60);
        // A clock that another caller has read earlier gives nothing twice.
        assert_eq!(taken(Duration::from_secs(1)), 0);
        assert_eq!(taken(Duration::from_secs(3_601)), 40);
    }
}
