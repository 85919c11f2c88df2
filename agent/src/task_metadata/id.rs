//! The `<id>` in `ECS_CONTAINER_METADATA_URI_V4`: of a task, or of one of its containers. Pure.
//!
//! Made of the attachment's id, so known before the first container is made, and never of two tasks.

use crate::services::TASK_METADATA;
use crate::task_record::TaskRecord;

/// What of a task is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The task, and of its containers the one that holds the namespace.
    Task,
    /// The container with this index in the specification.
    Container(usize),
}

impl Subject {
    /// What `id` means for `task`; `None` if nothing.
    #[must_use]
    pub fn of(task: &TaskRecord, id: &str) -> Option<Self> {
        if id == task_id(task) {
            return Some(Self::Task);
        }
        let mut all = 0..task.spec.ecs.containers.len();
        let index = all.find(|index| id == container_id(task, *index))?;
        Some(Self::Container(index))
    }
}

/// The id of a task: 32 hex digits.
#[must_use]
pub fn task_id(task: &TaskRecord) -> String {
    task.eni.attachment_id.replace('-', "")
}

/// The id of a task's container: the task's and ten digits, as ECS's.
#[must_use]
pub fn container_id(task: &TaskRecord, index: usize) -> String {
    format!("{}-{:010}", task_id(task), index + 1)
}

/// The value of `ECS_CONTAINER_METADATA_URI_V4` for `subject`.
#[must_use]
pub fn uri(task: &TaskRecord, subject: Subject) -> String {
    let id = match subject {
        Subject::Task => task_id(task),
        Subject::Container(index) => container_id(task, index),
    };
    format!("http://{TASK_METADATA}/v4/{id}")
}
