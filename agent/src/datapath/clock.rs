//! The clock of the maps' time stamps: ticks of `bpf_jiffies64`, the cheapest there is.
//!
//! A kernel ticks 100 to 1,000 times a second and user space is not told; so it is measured once,
//! by running the program `clock` twice.

use std::time::{Duration, Instant};

use aya::{
    TestRunOptions,
    programs::{SchedClassifier, TestRun},
};

use super::{DatapathError, error::program_error, program};

/// Ticks per second that a kernel can have (`kernel/Kconfig.hz`).
const KNOWN: [u32; 4] = [100, 250, 300, 1000];
/// Long enough to tell 250 from 300: 30 ticks and 36.
const SAMPLE: Duration = Duration::from_millis(120);

/// How fast the maps' clock ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    ticks_per_second: u32,
}

impl Clock {
    /// Measures, which takes [`SAMPLE`].
    pub(super) fn measure(program: &mut SchedClassifier) -> Result<Self, DatapathError> {
        let start = Instant::now();
        let first = ticks(program)?;
        std::thread::sleep(SAMPLE);
        let ticks = ticks(program)?.wrapping_sub(first);
        let elapsed = start.elapsed();
        let ticks_per_second = nearest(ticks, elapsed).ok_or(DatapathError::Clock {
            ticks,
            millis: elapsed.as_millis() as u64,
        })?;
        Ok(Self { ticks_per_second })
    }

    /// A clock of so many ticks in one second, more than none.
    #[must_use]
    pub const fn of(ticks_per_second: u32) -> Self {
        Self { ticks_per_second }
    }

    /// Ticks in one second.
    #[must_use]
    pub fn ticks_per_second(&self) -> u32 {
        self.ticks_per_second
    }

    /// The wall-clock time of a time stamp, if the clock shows `now` at `wall_ms`; both in
    /// milliseconds since 1970. Time stamps are at most half a turn of the clock old: 24 days at
    /// 1,000 ticks a second.
    #[must_use]
    pub fn unix_ms(&self, stamp: u32, now: u32, wall_ms: u64) -> u64 {
        let age = now.wrapping_sub(stamp);
        // A packet that came after the clock was read has a stamp in its future.
        let age = if age > u32::MAX / 2 { 0 } else { age };
        let age_ms = u64::from(age) * 1_000 / u64::from(self.ticks_per_second);
        wall_ms.saturating_sub(age_ms)
    }
}

/// Reads the clock.
pub(super) fn ticks(program: &mut SchedClassifier) -> Result<u32, DatapathError> {
    // The kernel wants a frame, if only a header.
    let options = TestRunOptions {
        data_in: Some(&[0; 14]),
        ..TestRunOptions::default()
    };
    let result = program
        .test_run(options)
        .map_err(|source| program_error("run", program::CLOCK, source))?;
    Ok(result.return_value)
}

fn nearest(ticks: u32, elapsed: Duration) -> Option<u32> {
    let per_second = f64::from(ticks) / elapsed.as_secs_f64();
    let distance = |known: &u32| (per_second - f64::from(*known)).abs() / f64::from(*known);
    let best = KNOWN
        .into_iter()
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
    (distance(&best) < 0.25).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_rate_is_recognised_with_a_tick_more_or_less() {
        for known in KNOWN {
            let ticks = known * 120 / 1000;
            for ticks in [ticks - 1, ticks, ticks + 1] {
                assert_eq!(nearest(ticks, SAMPLE), Some(known), "{ticks} ticks");
            }
        }
        assert_eq!(nearest(0, SAMPLE), None);
    }

    #[test]
    fn stamps_become_wall_time_across_the_wrap() {
        let clock = Clock {
            ticks_per_second: 100,
        };
        let wall = 1_000_000_000;
        assert_eq!(clock.unix_ms(50, 50, wall), 1_000_000_000);
        assert_eq!(clock.unix_ms(u32::MAX - 99, 100, wall), 999_998_000);
        assert_eq!(clock.unix_ms(51, 50, wall), 1_000_000_000);
        assert_eq!(clock.unix_ms(49, 50, wall), 999_999_990);
    }
}
