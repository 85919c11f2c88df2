//! What the API says: a task in the shape of ECS's DescribeTasks, the agent's status, and errors, as JSON.
//!
//! Both ends of the socket use these types. Pure.

mod capacity;
mod counters;
mod ecs;
mod error;
mod events;
mod flow_logs;
mod health;
mod network_interface;
mod security_groups;
mod status;
mod task;
mod task_files;
mod task_groups;

pub use capacity::{
    Attribute, AttributeList, Capacity, CapacityLimit, EniDescription, EniList, SubnetDescription,
    SubnetList, TaskCapacity, WarmPoolDescription,
};
pub use counters::{EniCounters, TaskCounters};
pub use ecs::{DescribeTasks, Failure, StopTask, StoppedTask, Tasks};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use events::{Operation, Step, TaskEvent, TaskEventDetail};
pub use flow_logs::{FlowLogDescription, FlowLogFile, FlowLogList};
pub use health::{Health, HealthPart, HealthStatus};
pub use network_interface::{
    Difference, InterfaceAddress, NetworkInterface, NetworkPart, TaskCheck,
};
pub use security_groups::{
    ApplyRequest, MOST_FLOWS, PrefixListSummary, RuleDescription, SecurityGroupDescription,
    SecurityGroupList, SecurityGroupSummary, SecurityGroupsApplied, SecurityGroupsDiff,
};
pub use status::{DropCount, HostChange, Status, TaskCounts};
pub use task::{
    Attachment, CniGarbageCollected, Container, ContainerNetworkInterface, KeyValuePair,
    StatusTime, TaskDescription, TaskList, TaskStatus,
};
pub(crate) use task::{rfc3339, task_status};
pub use task_files::{TaskDnsDescription, TaskFilesDescription};
pub(crate) use task_groups::FIELD as GROUPS_FIELD;
pub use task_groups::TaskGroups;

#[cfg(test)]
pub(crate) use task::tests;
