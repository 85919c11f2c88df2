//! What the agent counts, as OpenMetrics text for Prometheus.
//!
//! Instruments count where something happens; a [`Snapshot`] is what maps, store and kernel say at the
//! moment of a scrape. Never changes what it counts, and asks for nothing itself.

mod instruments;

mod traffic;

mod snapshot;

mod sheet;

mod process;

pub use instruments::{ApiRequests, Ec2Calls, ProviderCalls, Repairs, StepTimes};
pub use process::Process;
use snapshot::Scrape;
pub use snapshot::{EniSample, FlowLogSample, Snapshot, TaskSamples};
pub use traffic::{Traffic, TrafficOfEni};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// The media type of [`Instruments::render`] (OpenMetrics 1.0.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What counts while the agent runs. Clones count into the same.
#[derive(Debug, Clone, Default)]
pub struct Instruments {
    /// Steps of adding and removing tasks.
    pub steps: StepTimes,
    /// Calls of the provider.
    pub provider: ProviderCalls,
    /// Calls of EC2's API.
    pub ec2: Ec2Calls,
    /// Requests on the socket.
    pub requests: ApiRequests,
    /// What was mended.
    pub repairs: Repairs,
    /// Packets and bytes of ENIs.
    pub traffic: Traffic,
}

impl Instruments {
    /// All that is counted, with what `snapshot` says, as one OpenMetrics exposition.
    #[must_use]
    pub fn render(&self, snapshot: Snapshot) -> String {
        let traffic = self.traffic.totals();
        let mut registry = Registry::default();
        self.steps.register(&mut registry);
        self.provider.register(&mut registry);
        self.ec2.register(&mut registry);
        self.requests.register(&mut registry);
        self.repairs.register(&mut registry);
        registry.register_collector(Box::new(Scrape { snapshot, traffic }));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a String takes any text");
        text
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
