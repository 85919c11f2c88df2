//! Groups, who is in them, and this host's ENIs, kept in step with a provider that has them from elsewhere.
//!
//! Whatever cannot be read leaves in force what was; how old that is shows in the status.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use super::{Agent, requests::failed};
use crate::{
    config::ProviderKind,
    datapath::lock,
    policies::PolicyError,
    progress::now_ms,
    provider::ProviderError,
    security_groups::{Directory, Member, Members},
    server::{ControlError, causes},
    task,
};

/// When groups were last read, and what went wrong since.
#[derive(Debug, Clone)]
pub(super) struct Freshness {
    /// Milliseconds since 1970.
    read_ms: u64,
    /// How often they were put in force, so that what was read before is never put over what was read later.
    turn: u64,
    /// Why they were not read the last time.
    problem: Option<String>,
    /// Groups whose rules are in force as they were read, whether an ENI has them or not.
    known: BTreeSet<String>,
}

impl Freshness {
    /// As a start leaves it: read now, or as `stale` says since when and why not.
    pub(super) fn at_start(stale: Option<(u64, String)>, known: BTreeSet<String>) -> Self {
        let (read_ms, problem) = match stale {
            Some((read_ms, problem)) => (read_ms, Some(problem)),
            None => (now_ms(), None),
        };
        Self {
            read_ms,
            turn: 0,
            problem,
            known,
        }
    }
}

impl Agent {
    fn freshness(&self) -> MutexGuard<'_, Freshness> {
        self.freshness
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again and again, until the agent ends; at once where the start did without.
    pub(super) async fn keep_in_step(self: Arc<Self>, interval: Duration) {
        let is_stale = self.freshness().problem.is_some();
        let mut wait = if is_stale { Duration::ZERO } else { interval };
        loop {
            tokio::time::sleep(wait).await;
            wait = interval;
            if let Err(error) = self.take_over().await {
                tracing::warn!(
                    %error,
                    "security groups were not read; what was in force stays"
                );
            }
            self.look_at_enis().await;
        }
    }

    /// Looks at this host's ENIs: those without a task go, and what groups the others have is taken over.
    async fn look_at_enis(&self) {
        let live: HashSet<_> = self.attachments().collect();
        let changes = self.group_changes.load(Ordering::SeqCst);
        let problem = match self.host.provider.collect(&live).await {
            Ok(_) => self.take_over_eni_groups(changes).await.err(),
            Err(error) => Some(failed(error)),
        };
        if let Some(problem) = problem {
            tracing::warn!(%problem, "this host's ENIs are not as in EC2");
            self.freshness().problem = Some(problem.to_string());
        }
    }

    /// Attachments of all tasks that are there, on their way or going.
    fn attachments(&self) -> impl Iterator<Item = String> {
        let tasks = self.tasks.tasks().into_iter();
        tasks.map(|task| task.eni.attachment_id)
    }

    /// Makes sure that the rules of `groups` are in force before an ENI with them is; whoever asks holds
    /// `allocation`.
    pub(super) async fn know_groups(&self, groups: &[String]) -> Result<(), ControlError> {
        if self.config.provider == ProviderKind::Local {
            return Ok(());
        }
        let coming = self.groups_on_their_way();
        let are_known = {
            let plugs = self.host.plugs();
            let sets = plugs.policies().sets();
            let carried: HashSet<&String> = sets.flat_map(|(set, _)| set).collect();
            let known = &self.freshness().known;
            let is_known = |group: &String| {
                carried.contains(group) || coming.contains(group) || known.contains(group)
            };
            groups.iter().all(is_known)
        };
        if are_known {
            return Ok(());
        }
        self.read_and_enforce().await.map_err(failed)
    }

    /// Groups of tasks that no packet reaches yet: each was made known before its task was stored, and every look from
    /// then on reads it.
    fn groups_on_their_way(&self) -> HashSet<String> {
        let table = self.tasks.table();
        let coming = table.live().filter(|task| task.is_on_its_way());
        let groups = coming.flat_map(|task| task.eni.groups.iter().cloned());
        groups.collect()
    }

    /// Reads groups and members, and puts what changed in force.
    async fn take_over(&self) -> Result<(), InStepError> {
        let turn = self.freshness().turn;
        let read = match self.host.provider.refresh().await {
            Ok(()) => {
                let routes = self.host.provider.route_tables();
                self.host.exporter.set_routes(routes);
                self.follow_networks();
                self.read().await
            }
            Err(error) => Err(error),
        };
        // No task is given a group that this takes away.
        let _one_at_a_time = self.allocation.lock().await;
        if self.freshness().turn != turn {
            return Ok(());
        }
        self.enforce_what_was(read)
    }

    async fn read_and_enforce(&self) -> Result<(), InStepError> {
        let read = self.read().await;
        self.enforce_what_was(read)
    }

    async fn read(&self) -> Result<(Directory, Members), ProviderError> {
        let provider = &self.host.provider;
        let directory = provider.describe_security_groups().await?;
        Ok((directory, provider.describe_members().await?))
    }

    fn enforce_what_was(
        &self,
        read: Result<(Directory, Members), ProviderError>,
    ) -> Result<(), InStepError> {
        let enforced = match read {
            Ok((directory, members)) => {
                self.enforce(directory, &members).map_err(InStepError::from)
            }
            Err(error) => Err(error.into()),
        };
        let mut freshness = self.freshness();
        freshness.turn += 1;
        match &enforced {
            Ok(()) => {
                freshness.read_ms = now_ms();
                freshness.problem = None;
                freshness.known = self.host.provider.groups_read();
            }
            Err(error) => freshness.problem = Some(causes(error)),
        }
        enforced
    }

    /// Each change is one switch: no packet is judged by half of it.
    fn enforce(&self, directory: Directory, members: &Members) -> Result<(), PolicyError> {
        let mut plugs = self.host.plugs();
        let own: HashSet<String> = plugs.slots().values().cloned().collect();
        let mut datapath = lock(&self.host.datapath);
        let policies = plugs.policies_mut();
        if **policies.directory() != directory {
            let unsettled = policies.set_directory(&mut datapath, directory, || Ok(()))?;
            task::settle(&self.host, unsettled);
            tracing::info!("security groups taken over");
        }
        let before = by_eni(policies.members(), &own);
        let after = by_eni(members, &own);
        let gone = before.iter().filter(|(id, _)| !after.contains_key(*id));
        let gone = gone.map(|(id, _)| (id, None));
        let changed = after
            .iter()
            .filter(|(id, member)| before.get(*id) != Some(*member));
        let changed = changed.map(|(id, member)| (id, Some(member.clone())));
        for (id, member) in gone.chain(changed) {
            let unsettled = policies.set_member(&mut datapath, id, member)?;
            task::settle(&self.host, unsettled);
        }
        Ok(())
    }

    /// How old the groups in force are, where that is worth a word.
    pub(super) fn staleness(&self) -> Option<String> {
        let freshness = self.freshness();
        let problem = freshness.problem.as_ref()?;
        let age = now_ms().saturating_sub(freshness.read_ms) / 1_000;
        Some(format!(
            "security groups are those of {age} s ago: {problem}"
        ))
    }
}

/// Who is who, but for `own` ENIs: those of tasks are known better here.
fn by_eni(members: &Members, own: &HashSet<String>) -> BTreeMap<String, Member> {
    members
        .iter()
        .filter(|(id, _, _)| !own.contains(*id))
        .map(|(id, groups, networks)| {
            let member = Member::new(groups.iter().cloned(), networks.iter().copied());
            (id.to_owned(), member)
        })
        .collect()
}

/// Why groups are not in step.
#[derive(Debug, thiserror::Error)]
pub(super) enum InStepError {
    /// They could not be read.
    #[error("read the security groups")]
    Read(#[from] ProviderError),
    /// They could not be put in force.
    #[error("put the security groups in force")]
    Enforce(#[from] PolicyError),
}
