//! Whose flows a slot's are: the ENI behind each slot of the data plane.
//!
//! Whoever gives a slot to an ENI says so here first, and takes it back by
//! [`Exporter::retire`](super::Exporter::retire). Never looks at a map.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::interface::{Interface, Tags, TaskIdentity};
use crate::config::FlowRecordConfig;
use crate::ecs_task::EcsTask;
use crate::task_record::TaskRecord;

/// An ENI as flow records name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What records say of it; its id is never given to another ENI.
    pub interface: Arc<Interface>,
    /// Unix second since when the ENI exists.
    pub since: u64,
}

impl Identity {
    /// The ENI of a task on a host of which records say `records`.
    #[must_use]
    pub fn of(task: &TaskRecord, records: &FlowRecordConfig) -> Self {
        let (eni, spec) = (&task.eni, &task.spec);
        let interface = Interface {
            account_id: records.account_id.clone(),
            interface_id: eni.eni_id.clone(),
            primary_ipv4: eni.ipv4.map(|net| net.addr()),
            ipv6: eni.ipv6.map(|net| net.addr()),
            vpc_id: Some(eni.vpc_id.clone()),
            subnet_id: Some(eni.subnet_id.clone()),
            instance_id: records.instance_id.clone(),
            region: Some(records.region.clone()),
            az_id: records.az_id.clone(),
            sublocation: None,
            host_id: records.host_id.clone(),
            group_ids: eni.groups.clone(),
            task: task_identity(spec.task_id.as_str(), &spec.ecs),
            tags: Tags {
                network_interface: spec
                    .tags
                    .iter()
                    .map(|tag| (tag.key.clone(), tag.value.clone()))
                    .collect(),
                ..Tags::default()
            },
        };
        Self {
            interface: Arc::new(interface),
            // An interval that it was there for a part of only is not idle (flow-logs.md section 3).
            since: task.life.created_at_ms().div_ceil(1000),
        }
    }

    /// An ENI of which nothing is known but its id and its task's.
    #[must_use]
    pub fn named(eni_id: &str, task_id: Option<&str>) -> Self {
        let interface = Interface {
            interface_id: eni_id.to_owned(),
            task: TaskIdentity {
                id: task_id.map(str::to_owned),
                ..TaskIdentity::default()
            },
            ..Interface::default()
        };
        Self {
            interface: Arc::new(interface),
            since: 0,
        }
    }

    /// As `eni-0123456789abcdef0`.
    #[must_use]
    pub fn eni_id(&self) -> &str {
        &self.interface.interface_id
    }
}

fn task_identity(id: &str, ecs: &EcsTask) -> TaskIdentity {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let container = |index: usize| ecs.containers.get(index).map(|one| one.runtime_id.clone());
    TaskIdentity {
        id: Some(id.to_owned()),
        cluster_arn: ecs.cluster_arn.clone(),
        cluster_name: owned(ecs.cluster_name()),
        container_instance_arn: ecs.container_instance_arn.clone(),
        container_instance_id: owned(ecs.container_instance_id()),
        container_id: container(0),
        second_container_id: container(1),
        service_name: owned(ecs.service_name()),
        task_definition_arn: ecs.task_definition_arn.clone(),
        task_arn: ecs.task_arn.clone(),
        task_id: owned(ecs.task_id()),
    }
}

/// The ENIs by slot; clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Identities(Arc<Mutex<BTreeMap<u32, Identity>>>);

impl Identities {
    /// Says whose flows `slot` counts from now on. To be called before the ENI's link goes up, and
    /// at a start for every task in the store, before the exporter starts.
    pub fn insert(&self, slot: u32, identity: Identity) {
        self.lock().insert(slot, identity);
    }

    /// The ENI of `slot`.
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<Identity> {
        self.lock().get(&slot).cloned()
    }

    pub(super) fn remove(&self, slot: u32) {
        self.lock().remove(&slot);
    }

    pub(crate) fn snapshot(&self) -> BTreeMap<u32, Identity> {
        self.lock().clone()
    }

    /// Every change is one step, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Identity>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs_task::{EcsContainer, Tag};
    use crate::task_record::tests::record;

    #[test]
    fn records_of_a_slot_are_of_the_enis_task() {
        let mut task = record("web");
        task.spec.ecs = EcsTask {
            group: Some("service:shop".to_owned()),
            containers: vec![EcsContainer {
                runtime_id: "c0ffee".to_owned(),
                ..EcsContainer::default()
            }],
            ..EcsTask::default()
        };
        task.spec.tags.push(Tag {
            key: "team".to_owned(),
            value: "a b".to_owned(),
        });
        let identity = Identity::of(&task, &FlowRecordConfig::default());
        assert_eq!(identity.eni_id(), task.eni.eni_id);
        let Interface {
            task: of_task,
            subnet_id,
            ipv6,
            group_ids,
            tags,
            region,
            ..
        } = &*identity.interface;
        assert_eq!(of_task.id.as_deref(), Some("web"));
        assert_eq!(of_task.service_name.as_deref(), Some("shop"));
        assert_eq!(of_task.container_id.as_deref(), Some("c0ffee"));
        assert_eq!(of_task.second_container_id, None);
        assert_eq!(subnet_id.as_deref(), Some(task.eni.subnet_id.as_str()));
        assert_eq!(*ipv6, task.eni.ipv6.map(|net| net.addr()));
        assert_eq!(*group_ids, task.eni.groups);
        assert_eq!(tags.network_interface["team"], "a b");
        assert_eq!(region.as_deref(), Some("local"));
    }
}
