//! EC2's request throttling: a token bucket for each operation.

use std::collections::BTreeMap;
use std::time::Instant;

/// The size of a bucket, and how many tokens it gets back in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the words of the developer guide")]
pub struct Rate {
    pub bucket_maximum: f64,
    pub refill_per_second: f64,
}

const fn rate(bucket_maximum: f64, refill_per_second: f64) -> Rate {
    Rate {
        bucket_maximum,
        refill_per_second,
    }
}

/// Describes that have a smaller bucket when they ask for everything.
const COSTLY: [&str; 3] = [
    "DescribeNetworkInterfaces",
    "DescribeSecurityGroups",
    "DescribeInstances",
];

/// Which rates hold. "Request throttling for the Amazon EC2 API" has AWS's.
#[derive(Debug, Clone, Default)]
pub struct Throttle {
    aws: bool,
    own: BTreeMap<String, Rate>,
    buckets: BTreeMap<(String, bool), (f64, Instant)>,
}

impl Throttle {
    /// No throttling.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The rates that an account has at AWS.
    #[must_use]
    pub fn aws() -> Self {
        Self {
            aws: true,
            ..Self::default()
        }
    }

    /// With another rate for one operation.
    #[must_use]
    pub fn with(mut self, operation: &str, rate: Rate) -> Self {
        self.own.insert(operation.to_owned(), rate);
        self
    }

    /// Takes a token for a call; `unbounded` if it has neither a filter, ids nor a page size. False if there is none.
    pub(crate) fn take(&mut self, operation: &str, unbounded: bool, now: Instant) -> bool {
        let costly = unbounded && COSTLY.contains(&operation);
        let Some(rate) = self.rate(operation, costly) else {
            return true;
        };
        let bucket = (operation.to_owned(), costly);
        let (tokens, since) = self
            .buckets
            .entry(bucket)
            .or_insert((rate.bucket_maximum, now));
        let passed = now.saturating_duration_since(*since).as_secs_f64();
        *tokens = (*tokens + passed * rate.refill_per_second).min(rate.bucket_maximum);
        *since = now;
        let enough = *tokens >= 1.0;
        if enough {
            *tokens -= 1.0;
        }
        enough
    }

    fn rate(&self, operation: &str, costly: bool) -> Option<Rate> {
        if let Some(own) = self.own.get(operation) {
            return Some(*own);
        }
        self.aws.then(|| aws_rate(operation, costly))
    }
}

fn aws_rate(operation: &str, costly: bool) -> Rate {
    match operation {
        _ if costly => rate(50.0, 10.0),
        "CreateTags" => rate(100.0, 10.0),
        "CreateNetworkInterface" | "DeleteNetworkInterface" | "ModifyNetworkInterfaceAttribute" => {
            rate(100.0, 5.0)
        }
        describe if describe.starts_with("Describe") || describe.starts_with("Get") => {
            rate(100.0, 20.0)
        }
        _ => rate(50.0, 5.0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How many of 200 calls pass at once, and how many more two seconds later.
    fn passes(throttle: &mut Throttle, operation: &str, unbounded: bool) -> (usize, usize) {
        let start = Instant::now();
        let mut at = |now| {
            (0..200)
                .filter(|_| throttle.take(operation, unbounded, now))
                .count()
        };
        (at(start), at(start + Duration::from_secs(2)))
    }

    #[test]
    fn each_operation_has_the_bucket_of_its_class() {
        for (operation, unbounded, expected) in [
            ("DescribeSubnets", true, (100, 40)),
            ("GetManagedPrefixListEntries", true, (100, 40)),
            ("DescribeNetworkInterfaces", false, (100, 40)),
            ("DescribeNetworkInterfaces", true, (50, 20)),
            ("CreateNetworkInterface", true, (100, 10)),
            ("AssociateTrunkInterface", true, (50, 10)),
            ("CreateTags", true, (100, 20)),
        ] {
            let seen = passes(&mut Throttle::aws(), operation, unbounded);
            assert_eq!(seen, expected, "{operation}");
        }
    }

    #[test]
    fn one_operation_takes_nothing_from_another() {
        let mut throttle = Throttle::aws().with("CreateTags", rate(3.0, 1.0));
        assert_eq!(passes(&mut throttle, "CreateTags", false), (3, 2));
        assert_eq!(
            passes(&mut throttle, "AttachNetworkInterface", false),
            (50, 10)
        );
        assert_eq!(
            passes(&mut Throttle::none(), "CreateTags", false),
            (200, 200)
        );
    }
}
