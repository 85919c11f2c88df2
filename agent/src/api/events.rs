//! What happens to tasks, as the API tells it.

use serde::{Deserialize, Serialize};

use super::Difference;
use crate::life::AttachmentStatus;

/// Something that happened to a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskEvent {
    /// From 1 on since the agent started; a gap means that some were lost.
    pub sequence: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The task.
    pub task_id: String,
    /// What.
    #[serde(flatten)]
    pub detail: TaskEventDetail,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum TaskEventDetail {
    /// The task's attachment has entered a state.
    AttachmentStateChange {
        /// The attachment.
        attachment_id: String,
        /// Its state.
        status: AttachmentStatus,
        /// Why, if not because somebody asked for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The task's ENI obeys other groups from now on.
    SecurityGroupsChanged {
        /// Their ids.
        security_groups: Vec<String>,
        /// Why, if not because somebody asked the agent for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Somebody had changed the task's network, and it was mended.
    Mended {
        /// What was different.
        differences: Vec<Difference>,
    },
    /// A step has begun.
    StepStarted {
        /// What for.
        operation: Operation,
        /// Which.
        step: Step,
    },
    /// A step has ended.
    StepEnded {
        /// What for.
        operation: Operation,
        /// Which.
        step: Step,
        /// How long it took, in microseconds.
        duration_us: u64,
        /// Why it failed, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

/// What an agent does to a task.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Gives it its network.
    Add,
    /// Takes it away, because it was asked to, or because giving it failed.
    Remove,
    /// Gives its ENI other groups.
    SetGroups,
}

/// The steps of [`Operation::Add`], in order, then those of [`Operation::Remove`] and of [`Operation::SetGroups`].
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// An ENI is chosen, and stored with the wish.
    Allocate,
    /// The provider attaches the ENI to the host.
    AttachEni,
    /// The namespace is made or opened.
    Namespace,
    /// The veth is made, its far end in the namespace.
    Veth,
    /// Addresses, neighbours and routes in the namespace.
    Inside,
    /// The host's own stack keeps out of the veth.
    HostEnd,
    /// The ENI and its policy into the maps.
    Plug,
    /// The program on the host's end.
    Program,
    /// The host's end goes up.
    LinkUp,
    /// The host's services know the task.
    Services,
    /// Its `hostname`, `hosts` and `resolv.conf`.
    Files,
    /// The link sends.
    Carrier,
    /// Nobody trusts the ENI's addresses for its groups' sake any more.
    Distrust,
    /// The veth goes.
    Disconnect,
    /// The namespace goes, if the agent made it.
    RemoveNamespace,
    /// Its `hostname`, `hosts` and `resolv.conf` go.
    RemoveFiles,
    /// The host's services know the task no more.
    LeaveServices,
    /// The ENI leaves the maps, its last counts go to the flow logs.
    Unplug,
    /// The provider frees the ENI.
    Release,
    /// The store says that it has gone.
    Forget,
    /// The provider gives the ENI other groups.
    ModifyEni,
    /// The data plane judges by them.
    Enforce,
    /// The store says that it has them.
    KeepGroups,
}

impl Operation {
    /// As JSON has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::SetGroups => "set-groups",
        }
    }
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 23] = [
        Self::Allocate,
        Self::AttachEni,
        Self::Namespace,
        Self::Veth,
        Self::Inside,
        Self::HostEnd,
        Self::Plug,
        Self::Program,
        Self::LinkUp,
        Self::Services,
        Self::Files,
        Self::Carrier,
        Self::Distrust,
        Self::Disconnect,
        Self::RemoveNamespace,
        Self::RemoveFiles,
        Self::LeaveServices,
        Self::Unplug,
        Self::Release,
        Self::Forget,
        Self::ModifyEni,
        Self::Enforce,
        Self::KeepGroups,
    ];

    /// As JSON has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allocate => "allocate",
            Self::AttachEni => "attach-eni",
            Self::Namespace => "namespace",
            Self::Veth => "veth",
            Self::HostEnd => "host-end",
            Self::Inside => "inside",
            Self::Plug => "plug",
            Self::Program => "program",
            Self::LinkUp => "link-up",
            Self::Services => "services",
            Self::Files => "files",
            Self::Carrier => "carrier",
            Self::Distrust => "distrust",
            Self::Disconnect => "disconnect",
            Self::RemoveNamespace => "remove-namespace",
            Self::RemoveFiles => "remove-files",
            Self::LeaveServices => "leave-services",
            Self::Unplug => "unplug",
            Self::Release => "release",
            Self::Forget => "forget",
            Self::ModifyEni => "modify-eni",
            Self::Enforce => "enforce",
            Self::KeepGroups => "keep-groups",
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn names_are_what_json_has() {
        for step in Step::ALL {
            assert_eq!(serde_json::to_value(step).unwrap(), step.name());
        }
        for operation in [Operation::Add, Operation::Remove, Operation::SetGroups] {
            assert_eq!(serde_json::to_value(operation).unwrap(), operation.name());
        }
    }

    #[test]
    fn an_event_is_one_flat_object() {
        let event = TaskEvent {
            sequence: 7,
            at_ms: 1_700_000_000_123,
            task_id: "web".to_owned(),
            detail: TaskEventDetail::StepEnded {
                operation: Operation::Add,
                step: Step::LinkUp,
                duration_us: 95,
                error: None,
            },
        };
        let expected = serde_json::json!({
            "sequence": 7, "atMs": 1_700_000_000_123_u64, "taskId": "web",
            "type": "stepEnded", "operation": "add", "step": "link-up", "durationUs": 95,
        });
        assert_eq!(serde_json::to_value(event).unwrap(), expected);
    }
}
