//! What goes wrong, at which call.

use std::time::Duration;

use crate::error::Ec2Error;

/// Which calls a fault is of. They are counted from the moment it is set, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Which {
    name: Option<String>,
    first: u64,
    last: u64,
}

impl Which {
    /// Every call.
    #[must_use]
    pub fn any() -> Self {
        Self {
            name: None,
            first: 1,
            last: u64::MAX,
        }
    }

    /// Every call of this operation (of this path, for instance metadata).
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            ..Self::any()
        }
    }

    /// Of those only the `number`th.
    #[must_use]
    pub fn nth(self, number: u64) -> Self {
        Self {
            first: number,
            last: number,
            ..self
        }
    }

    /// Of those the `number`th and all after it.
    #[must_use]
    pub fn from(self, number: u64) -> Self {
        Self {
            first: number,
            ..self
        }
    }

    /// Of those the first `number`.
    #[must_use]
    pub fn first(self, number: u64) -> Self {
        Self {
            last: number,
            ..self
        }
    }
}

/// What goes wrong. `E` is what an error is there: for instance metadata, an HTTP status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault<E = Ec2Error> {
    /// Nothing happens, and the answer is this error.
    Error(E),
    /// It happens, and the answer is this error.
    ErrorAfterEffect(E),
    /// It happens, and the connection is closed without an answer.
    LoseAnswer,
    /// Nothing happens, and the connection is closed without an answer.
    Refuse,
    /// It happens, and the answer comes so much later.
    Delay(Duration),
}

/// Faults that are set.
#[derive(Debug, Clone)]
pub(crate) struct Faults<E>(Vec<Rule<E>>);

#[derive(Debug, Clone)]
struct Rule<E> {
    which: Which,
    fault: Fault<E>,
    seen: u64,
}

impl<E: Clone> Faults<E> {
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn set(&mut self, which: Which, fault: Fault<E>) {
        self.0.push(Rule {
            which,
            fault,
            seen: 0,
        });
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// How many of the faults may still come.
    pub(crate) fn left(&self) -> usize {
        let open = |rule: &&Rule<E>| rule.seen < rule.which.last;
        self.0.iter().filter(open).count()
    }

    /// Counts a call; says what goes wrong with it: of several faults, the one that was set first.
    pub(crate) fn strike(&mut self, name: &str) -> Option<Fault<E>> {
        let mut struck = None;
        for rule in &mut self.0 {
            if rule.which.name.as_deref().is_some_and(|of| of != name) {
                continue;
            }
            rule.seen += 1;
            if (rule.which.first..=rule.which.last).contains(&rule.seen) && struck.is_none() {
                struck = Some(rule.fault.clone());
            }
        }
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_the_calls_that_it_is_of() {
        let calls = ["A", "B", "A", "A", "B"];
        for (which, struck) in [
            (Which::any(), "xxxxx"),
            (Which::any().nth(2), ".x..."),
            (Which::of("A"), "x.xx."),
            (Which::of("A").nth(2), "..x.."),
            (Which::of("A").from(2), "..xx."),
            (Which::of("B").first(1), ".x..."),
            (Which::of("C"), "....."),
        ] {
            let mut faults = Faults::<u16>::none();
            faults.set(which.clone(), Fault::Refuse);
            let seen: String = calls
                .iter()
                .map(|name| {
                    if faults.strike(name).is_some() {
                        'x'
                    } else {
                        '.'
                    }
                })
                .collect();
            assert_eq!(seen, struck, "{which:?}");
        }
    }

    #[test]
    fn of_two_faults_the_first_strikes_and_both_count() {
        let mut faults = Faults::none();
        faults.set(Which::any().nth(1), Fault::Error(1));
        faults.set(Which::any().first(2), Fault::Error(2));
        assert_eq!(faults.left(), 2);
        assert_eq!(faults.strike("A"), Some(Fault::Error(1)));
        assert_eq!(faults.left(), 1);
        assert_eq!(faults.strike("A"), Some(Fault::Error(2)));
        assert_eq!((faults.left(), faults.strike("A")), (0, None));
    }
}
