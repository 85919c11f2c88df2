//! A provider whose calls are counted and timed. Changes nothing that it passes on.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::vpc::Vpc;
use super::{
    Eni, EniRequest, EniState, Occupied, Pending, Provider, ProviderError, RouteTables, WarmPool,
};
use crate::api::SubnetDescription;
use crate::capacity::Bound;
use crate::metrics::ProviderCalls;
use crate::security_groups::{Directory, Members};

/// `provider`, counted by `calls`.
pub struct Measured {
    provider: Box<dyn Provider>,
    calls: ProviderCalls,
}

impl Measured {
    /// Counts the calls of `provider` from now on.
    #[must_use]
    pub fn new(provider: Box<dyn Provider>, calls: ProviderCalls) -> Self {
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

impl Provider for Measured {
    fn allocate<'a>(
        &'a self,
        request: &'a EniRequest,
        directory: &'a Directory,
        occupied: &'a Occupied,
    ) -> Pending<'a, Eni> {
        let call = self.provider.allocate(request, directory, occupied);
        Box::pin(self.time("allocate", call))
    }

    fn try_allocate<'a>(
        &'a self,
        request: &'a EniRequest,
        directory: &'a Directory,
        occupied: &'a Occupied,
    ) -> Pending<'a, ()> {
        let call = self.provider.try_allocate(request, directory, occupied);
        Box::pin(self.time("try-allocate", call))
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

    fn set_groups<'a>(&'a self, eni: &'a Eni, directory: &'a Directory) -> Pending<'a, ()> {
        let call = self.provider.set_groups(eni, directory);
        Box::pin(self.time("set-groups", call))
    }

    fn groups_of_enis(&self) -> BTreeMap<String, Vec<String>> {
        self.provider.groups_of_enis()
    }

    fn collect<'a>(&'a self, live: &'a HashSet<String>) -> Pending<'a, usize> {
        Box::pin(self.time("collect", self.provider.collect(live)))
    }

    fn describe_security_groups<'a>(&'a self) -> Pending<'a, Directory> {
        let call = self.provider.describe_security_groups();
        Box::pin(self.time("describe-security-groups", call))
    }

    fn describe_members<'a>(&'a self) -> Pending<'a, Members> {
        Box::pin(self.time("describe-members", self.provider.describe_members()))
    }

    fn refresh<'a>(&'a self) -> Pending<'a, ()> {
        let call = self.provider.refresh();
        Box::pin(self.time("refresh", call))
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

    fn vpc(&self) -> Arc<Vpc> {
        self.provider.vpc()
    }

    fn groups_read(&self) -> BTreeSet<String> {
        self.provider.groups_read()
    }

    fn warm_pool(&self) -> Option<WarmPool> {
        self.provider.warm_pool()
    }

    fn plan_pool(&self, occupied: &Occupied) -> Result<bool, ProviderError> {
        self.provider.plan_pool(occupied)
    }

    fn fill_pool<'a>(&'a self) -> Pending<'a, ()> {
        Box::pin(self.time("fill-pool", self.provider.fill_pool()))
    }

    fn route_tables(&self) -> RouteTables {
        self.provider.route_tables()
    }

    fn name(&self) -> &'static str {
        self.provider.name()
    }
}
