//! Points at which a test build of the agent is killed or fails: around each step of each operation.
//!
//! `BRANCHLINE_FAULT=add/veth/after` names one: `before` and `after` kill the process there as
//! `kill -9` does, `fail-before` and `fail-after` let the step fail without having done its work, or
//! with it done. `@2` behind it means the second time that the step comes to it. Of several points,
//! separated by commas, each waits for those before it, and each strikes once. Only the feature
//! `fault-points` compiles this in, which nothing that is shipped has.

use crate::api::{Operation, Step};

#[cfg(not(feature = "fault-points"))]
pub(crate) use absent::{StepError, entered, left};
#[cfg(feature = "fault-points")]
pub(crate) use present::{StepError, entered, left};

/// Names the variable that names the point.
pub const VARIABLE: &str = "BRANCHLINE_FAULT";

/// Whether this build has fault points.
pub const IS_COMPILED_IN: bool = cfg!(feature = "fault-points");

#[cfg(not(feature = "fault-points"))]
mod absent {
    use super::{Operation, Step};

    /// What a step may fail with.
    pub(crate) trait StepError: std::error::Error + 'static {}

    impl<E: std::error::Error + 'static> StepError for E {}

    pub(crate) fn entered<E: StepError>(_operation: Operation, _step: Step) -> Result<(), E> {
        Ok(())
    }

    pub(crate) fn left<T, E: StepError>(
        _operation: Operation,
        _step: Step,
        result: Result<T, E>,
    ) -> Result<T, E> {
        result
    }
}

#[cfg(feature = "fault-points")]
mod present {
    use std::collections::VecDeque;
    use std::sync::{Mutex, PoisonError};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::{Operation, Step, VARIABLE};
    use crate::provider::ProviderError;
    use crate::server::ControlError;
    use crate::state::StateError;
    use crate::task::{SetUpError, TearDownError};

    /// What a step may fail with, by itself or because a point says so.
    pub(crate) trait StepError: std::error::Error + 'static {
        /// The failure of a point.
        fn injected() -> Self;
    }

    /// The points that have not struck yet, with how often each is passed before.
    static ARMED: Mutex<Option<VecDeque<(String, u32)>>> = Mutex::new(None);

    /// Before a step does its work.
    pub(crate) fn entered<E: StepError>(operation: Operation, step: Step) -> Result<(), E> {
        if strikes(operation, step, "before") {
            end();
        }
        if strikes(operation, step, "fail-before") {
            return Err(E::injected());
        }
        Ok(())
    }

    /// Once it has done it, with `result`.
    pub(crate) fn left<T, E: StepError>(
        operation: Operation,
        step: Step,
        result: Result<T, E>,
    ) -> Result<T, E> {
        if strikes(operation, step, "after") {
            end();
        }
        if strikes(operation, step, "fail-after") {
            return Err(E::injected());
        }
        result
    }

    fn strikes(operation: Operation, step: Step, when: &str) -> bool {
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        let points = armed.get_or_insert_with(|| {
            let list = std::env::var(VARIABLE).unwrap_or_default();
            list.split(',').map(point).collect()
        });
        let here = format!("{}/{}/{when}", operation.name(), step.name());
        match points.front_mut() {
            Some((first, passes)) if *first == here && *passes > 1 => *passes -= 1,
            Some((first, _)) if *first == here => return points.pop_front().is_some(),
            Some(_) | None => {}
        }
        false
    }

    fn point(text: &str) -> (String, u32) {
        let (point, pass) = text.split_once('@').unwrap_or((text, "1"));
        (point.to_owned(), pass.parse().unwrap_or(1))
    }

    /// The kernel ends the process before this returns.
    fn end() {
        if kill(Pid::this(), Signal::SIGKILL).is_err() {
            std::process::abort();
        }
    }

    fn failure() -> std::io::Error {
        std::io::Error::other(format!("{VARIABLE} says so"))
    }

    fn of_provider() -> ProviderError {
        ProviderError::Failed {
            attempt: "do as a fault point does".to_owned(),
            source: failure().into(),
        }
    }

    impl StepError for SetUpError {
        fn injected() -> Self {
            Self::Attach {
                eni_id: "of a fault point".to_owned(),
                source: of_provider(),
            }
        }
    }

    impl StepError for TearDownError {
        fn injected() -> Self {
            Self::Release(of_provider())
        }
    }

    impl StepError for ControlError {
        fn injected() -> Self {
            Self::Failed {
                source: failure().into(),
            }
        }
    }

    impl StepError for StateError {
        fn injected() -> Self {
            Self::Folder {
                dir: "of a fault point".into(),
                source: failure(),
            }
        }
    }

    impl StepError for std::io::Error {
        fn injected() -> Self {
            failure()
        }
    }
}
