//! Instruments that count as things happen: how often, how long, how many failed.
//!
//! Labels are names from the code, never from requests, so their number is bounded.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use std::collections::BTreeSet;

use branchline_ec2::Class;

use crate::api::{Difference, Operation, Step};
use crate::provider::ProviderError;

/// Upper bounds in seconds: a step takes tenths of a millisecond, a provider's call up to seconds.
const BUCKETS: [f64; 13] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
];

/// Label names and values.
type Labels<V, const N: usize> = [(&'static str, V); N];

/// A histogram of durations for each label set.
type Times<L> = Family<L, Histogram, fn() -> Histogram>;

fn times<L: EncodeLabelSet + Clone + std::hash::Hash + Eq>() -> Times<L> {
    Family::new_with_constructor(|| Histogram::new(BUCKETS))
}

/// How long the steps of adding and removing tasks take.
#[derive(Debug, Clone)]
pub struct StepTimes {
    durations: Times<StepLabels>,
    errors: Family<StepLabels, Counter>,
}

/// By which a step's instruments are found, twelve times for each task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    operation: Operation,
    step: Step,
}

impl EncodeLabelValue for Operation {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.name().encode(encoder)
    }
}

impl EncodeLabelValue for Step {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.name().encode(encoder)
    }
}

impl StepTimes {
    /// A step has ended.
    pub fn ended(&self, operation: Operation, step: Step, took: Duration, is_error: bool) {
        let labels = StepLabels { operation, step };
        let seconds = took.as_secs_f64();
        self.durations.get_or_create(&labels).observe(seconds);
        let errors = self.errors.get_or_create(&labels);
        if is_error {
            errors.inc();
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "branchline_task_step_duration",
            "How long a step of adding or removing a task took",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "branchline_task_step_errors",
            "Steps of adding or removing a task that failed",
            self.errors.clone(),
        );
    }
}

impl Default for StepTimes {
    fn default() -> Self {
        Self {
            durations: times(),
            errors: Family::default(),
        }
    }
}

/// What was mended of what somebody had changed, and what could not be.
#[derive(Debug, Clone, Default)]
pub struct Repairs {
    parts: Family<Labels<&'static str, 1>, Counter>,
    given_up: Counter,
}

impl Repairs {
    /// A task's network had `differences`, and has none any more.
    pub fn mended(&self, differences: &[Difference]) {
        let parts: BTreeSet<_> = differences.iter().map(|one| one.part).collect();
        for part in parts {
            self.parts.get_or_create(&[("part", part.name())]).inc();
        }
    }

    /// The trunk's program is attached again, or the trunk up.
    pub fn trunk_mended(&self) {
        self.parts.get_or_create(&[("part", "trunk")]).inc();
    }

    /// A task's network could not be mended.
    pub fn gave_up(&self) {
        self.given_up.inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "branchline_repairs",
            "Repairs of what somebody changed behind the agent, by part; one may be of several parts",
            self.parts.clone(),
        );
        registry.register(
            "branchline_tasks_given_up",
            "Tasks whose network was changed and could not be mended",
            self.given_up.clone(),
        );
    }
}

/// How often the provider is called, how long it takes and how often it fails.
#[derive(Debug, Clone)]
pub struct ProviderCalls {
    durations: Times<Labels<&'static str, 1>>,
    errors: Family<Labels<&'static str, 2>, Counter>,
}

impl ProviderCalls {
    /// A call of `method` has ended.
    pub fn ended(&self, method: &'static str, took: Duration, error: Option<&ProviderError>) {
        let seconds = took.as_secs_f64();
        let durations = self.durations.get_or_create(&[("method", method)]);
        durations.observe(seconds);
        if let Some(error) = error {
            let kind = match error {
                ProviderError::Invalid(_) => "invalid",
                ProviderError::Exhausted(_) => "exhausted",
                ProviderError::Failed { .. } => "failed",
            };
            let labels = [("method", method), ("kind", kind)];
            self.errors.get_or_create(&labels).inc();
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "branchline_provider_call_duration",
            "How long a call of the ENIs' provider took; its count is the number of calls",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "branchline_provider_call_errors",
            "Calls of the ENIs' provider that were refused or failed",
            self.errors.clone(),
        );
    }
}

impl Default for ProviderCalls {
    fn default() -> Self {
        Self {
            durations: times(),
            errors: Family::default(),
        }
    }
}

/// Calls of EC2's API, by the API's names; each attempt counts.
#[derive(Debug, Clone)]
pub struct Ec2Calls {
    durations: Times<Labels<&'static str, 1>>,
    errors: Family<Labels<&'static str, 2>, Counter>,
}

impl Ec2Calls {
    /// An attempt of `action` has ended.
    pub fn ended(&self, action: &'static str, took: Duration, answer: Result<(), Class>) {
        let durations = self.durations.get_or_create(&[("action", action)]);
        durations.observe(took.as_secs_f64());
        if let Err(class) = answer {
            let class = match class {
                Class::Capacity => "capacity",
                Class::Unsettled => "unsettled",
                Class::Gone => "gone",
                Class::Throttled => "throttled",
                Class::Unavailable => "unavailable",
                Class::Lost => "lost",
                Class::Mismatch => "mismatch",
                Class::Configuration => "configuration",
                Class::WouldSucceed => "would-succeed",
            };
            let labels = [("action", action), ("class", class)];
            self.errors.get_or_create(&labels).inc();
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "branchline_ec2_call_duration",
            "How long an attempt of a call of EC2's API took; its count is the number of attempts",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "branchline_ec2_call_errors",
            "Attempts of calls of EC2's API that failed, by what that means",
            self.errors.clone(),
        );
    }
}

impl Default for Ec2Calls {
    fn default() -> Self {
        Self {
            durations: times(),
            errors: Family::default(),
        }
    }
}

/// Requests on the socket, by the operation ids of the API's description.
#[derive(Debug, Clone)]
pub struct ApiRequests {
    durations: Times<Labels<String, 1>>,
    answers: Family<Labels<String, 2>, Counter>,
}

impl ApiRequests {
    /// A request was answered; of a stream, its beginning was.
    pub fn answered(&self, operation: &str, status: u16, took: Duration) {
        let label = || ("operation", operation.to_owned());
        let durations = self.durations.get_or_create(&[label()]);
        durations.observe(took.as_secs_f64());
        let labels = [label(), ("status", status.to_string())];
        self.answers.get_or_create(&labels).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "branchline_api_request_duration",
            "How long a request on the socket took to be answered",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "branchline_api_requests",
            "Requests on the socket by operation id and HTTP status",
            self.answers.clone(),
        );
    }
}

impl Default for ApiRequests {
    fn default() -> Self {
        Self {
            durations: times(),
            answers: Family::default(),
        }
    }
}
