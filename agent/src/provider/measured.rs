//! A provider whose calls are counted and timed. Changes nothing that it passes on.

use std::time::Instant;

use ipnet::IpNet;

use super::{Eni, EniRequest, EniState, Occupied, Pending, Provider, ProviderError, RouteTables};
use crate::api::SubnetDescription;
use crate::capacity::Bound;
use crate::dns::TaskDns;
use crate::metrics::ProviderCalls;
use crate::security_groups::{Directory, Members};

/// `provider`, counted by `calls`.
#[derive(Debug)]
pub struct Measured<P> {
    provider: P,
    calls: ProviderCalls,
}

impl<P: Provider> Measured<P> {
    /// Counts the calls of `provider` from now on.
    #[must_use]
    pub const fn new(provider: P, calls: ProviderCalls) -> Self {
        Self { provider, calls }
    }

    async fn time<T>(
        &self,
        method: &'static str,
        call: Pending<'_, T>,
    ) -> Result<T, ProviderError> {
        let start = Instant::now();
        let result = call.await;
        let error = result.as_ref().err();
        self.calls.ended(method, start.elapsed(), error);
        result
    }
}

impl<P: Provider> Provider for Measured<P> {
    fn allocate<'a>(
        &'a self,
        request: &'a EniRequest,
        directory: &'a Directory,
        occupied: &'a Occupied,
    ) -> Pending<'a, Eni> {
        let call = self.provider.allocate(request, directory, occupied);
        Box::pin(self.time("allocate", call))
    }

    fn attach<'a>(&'a self, eni: &'a Eni) -> Pending<'a, ()> {
        Box::pin(self.time("attach", self.provider.attach(eni)))
    }

    fn describe<'a>(&'a self, eni: &'a Eni) -> Pending<'a, EniState> {
        Box::pin(self.time("describe", self.provider.describe(eni)))
    }

    fn release<'a>(&'a self, eni: &'a Eni) -> Pending<'a, ()> {
        Box::pin(self.time("release", self.provider.release(eni)))
    }

    fn describe_security_groups<'a>(&'a self) -> Pending<'a, Directory> {
        let call = self.provider.describe_security_groups();
        Box::pin(self.time("describe-security-groups", call))
    }

    fn describe_members<'a>(&'a self) -> Pending<'a, Members> {
        Box::pin(self.time("describe-members", self.provider.describe_members()))
    }

    fn describe_route_tables<'a>(&'a self) -> Pending<'a, RouteTables> {
        let call = self.provider.describe_route_tables();
        Box::pin(self.time("describe-route-tables", call))
    }

    fn describe_subnets(&self, occupied: &Occupied) -> Vec<SubnetDescription> {
        self.provider.describe_subnets(occupied)
    }

    fn bounds(&self) -> Vec<Bound> {
        self.provider.bounds()
    }

    fn foreign_enis(&self) -> u64 {
        self.provider.foreign_enis()
    }

    fn vpc_id(&self) -> &str {
        self.provider.vpc_id()
    }

    fn vpc_cidrs(&self) -> Vec<IpNet> {
        self.provider.vpc_cidrs()
    }

    fn task_dns(&self, eni: &Eni) -> TaskDns {
        self.provider.task_dns(eni)
    }
}
