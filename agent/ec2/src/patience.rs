//! When a call is sent again, and when it is given up. Pure: time and chance are what the caller says.

use std::time::Duration;

use crate::error::Class;

/// The first wait is up to this long.
const BASE: Duration = Duration::from_millis(100);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(20);
/// As [`BASE`], for what has to settle first.
const SETTLING_BASE: Duration = Duration::from_secs(2);
/// As [`LONGEST`], for what has to settle first.
const SETTLING_LONGEST: Duration = Duration::from_secs(60);

/// The wait before attempt number `attempt` + 1 (from 0), where `chance` is evenly distributed from 0 to 1: full
/// jitter, so that hosts which failed together do not come back together (AWS Architecture Blog, "Exponential
/// Backoff And Jitter").
#[must_use]
pub fn back_off(class: Class, attempt: u32, chance: f64) -> Duration {
    match class {
        Class::Unsettled => {
            let most = doubled(SETTLING_BASE, SETTLING_LONGEST, attempt);
            // Half of it for certain: asking at once again tells nothing new.
            most.mul_f64(0.5 + chance / 2.0)
        }
        Class::Capacity
        | Class::Gone
        | Class::Throttled
        | Class::Unavailable
        | Class::Lost
        | Class::Mismatch
        | Class::Configuration
        | Class::WouldSucceed => doubled(BASE, LONGEST, attempt).mul_f64(chance),
    }
}

/// The wait before a call is repeated with `left` until its deadline: the last attempt is at the deadline. `None` if
/// that has passed.
#[must_use]
pub fn pause(class: Class, attempt: u32, chance: f64, left: Duration) -> Option<Duration> {
    (!left.is_zero()).then(|| back_off(class, attempt, chance).min(left))
}

fn doubled(base: Duration, longest: Duration, attempt: u32) -> Duration {
    let factor = 2_u32.checked_pow(attempt).unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let throttled = |attempt| back_off(Class::Throttled, attempt, 1.0);
        assert_eq!(throttled(0), Duration::from_millis(100));
        assert_eq!(throttled(3), Duration::from_millis(800));
        assert_eq!(throttled(8), LONGEST);
        assert_eq!(throttled(40), LONGEST);
        assert!(back_off(Class::Lost, 5, 0.0).is_zero());
    }

    #[test]
    fn the_last_attempt_is_at_the_deadline() {
        let left = |seconds| pause(Class::Unsettled, 3, 1.0, Duration::from_secs(seconds));
        assert_eq!(left(20), Some(Duration::from_secs(16)));
        assert_eq!(left(6), Some(Duration::from_secs(6)));
        assert_eq!(left(0), None);
    }

    #[test]
    fn what_settles_is_never_asked_at_once_again() {
        let settling = |attempt, chance| back_off(Class::Unsettled, attempt, chance);
        assert_eq!(settling(0, 0.0), Duration::from_secs(1));
        assert_eq!(settling(0, 1.0), Duration::from_secs(2));
        assert_eq!(settling(30, 1.0), Duration::from_secs(60));
    }
}
