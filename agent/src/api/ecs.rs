//! What the API says in ECS's own shapes: RunTask, DescribeTasks, StopTask. Plain values.

use serde::{Deserialize, Serialize};

use super::TaskDescription;

/// The answer of RunTask and DescribeTasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tasks {
    /// The tasks.
    pub tasks: Vec<TaskDescription>,
    /// What could not be done, or found.
    pub failures: Vec<Failure>,
}

/// Why a task is not among the answer's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Failure {
    /// The task's name, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// `RESOURCE:ENI` where nothing is left to hand out, `MISSING` for an unknown task.
    pub reason: String,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The input of DescribeTasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DescribeTasks {
    /// 1 to 100 task ids, or ARNs that end with one.
    pub tasks: Vec<String>,
}

/// The input of StopTask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StopTask {
    /// A task id, or an ARN that ends with one.
    pub task: String,
}

/// The answer of StopTask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StoppedTask {
    /// The task, which has gone.
    pub task: TaskDescription,
}
