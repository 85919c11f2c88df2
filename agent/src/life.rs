//! The life of a task's ENI attachment: ECS's states, and when each was entered. Pure.

use serde::{Deserialize, Serialize};

/// States of an ENI attachment, in the order in which one goes through them (ECS developer guide,
/// "Task networking", `ElasticNetworkInterface` attachments).
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
#[serde(rename_all = "UPPERCASE")]
pub enum AttachmentStatus {
    /// Wanted; nothing is done.
    Precreated,
    /// The ENI exists.
    Created,
    /// It is being joined to the task's namespace.
    Attaching,
    /// Packets flow.
    Attached,
    /// It could not be attached; it goes.
    Failed,
    /// It is being taken away.
    Detaching,
    /// No packet flows any more.
    Detached,
    /// The ENI does not exist any more.
    Deleted,
}

impl AttachmentStatus {
    /// ECS's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Precreated => "PRECREATED",
            Self::Created => "CREATED",
            Self::Attaching => "ATTACHING",
            Self::Attached => "ATTACHED",
            Self::Failed => "FAILED",
            Self::Detaching => "DETACHING",
            Self::Detached => "DETACHED",
            Self::Deleted => "DELETED",
        }
    }
}

/// A state and when it was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// The state.
    pub status: AttachmentStatus,
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

/// What an attachment has been through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    begun: Transition,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    entered: Vec<Transition>,
    /// Why it ended, if not because somebody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_reason: Option<String>,
}

impl Life {
    /// One that is wanted since `at_ms`, milliseconds since 1970.
    #[must_use]
    pub const fn begin(at_ms: u64) -> Self {
        let status = AttachmentStatus::Precreated;
        Self {
            begun: Transition { status, at_ms },
            entered: Vec::new(),
            stopped_reason: None,
        }
    }

    /// Enters `status` at `at_ms`; a state that it has reached or left stays as it was, and time does
    /// not run backwards.
    pub fn enter(&mut self, status: AttachmentStatus, at_ms: u64) {
        let last = self.last();
        if status > last.status {
            let at_ms = at_ms.max(last.at_ms);
            self.entered.push(Transition { status, at_ms });
        }
    }

    /// The state it is in.
    #[must_use]
    pub fn status(&self) -> AttachmentStatus {
        self.last().status
    }

    /// Every state it has been in, with the time, oldest first.
    pub fn transitions(&self) -> impl Iterator<Item = Transition> {
        std::iter::once(self.begun).chain(self.entered.iter().copied())
    }

    /// When it entered `status`, in milliseconds since 1970.
    #[must_use]
    pub fn entered_at_ms(&self, status: AttachmentStatus) -> Option<u64> {
        let mut found = self.transitions().filter(|one| one.status == status);
        found.next().map(|one| one.at_ms)
    }

    /// When it was asked for, in milliseconds since 1970.
    #[must_use]
    pub const fn created_at_ms(&self) -> u64 {
        self.begun.at_ms
    }

    fn last(&self) -> Transition {
        self.entered.last().copied().unwrap_or(self.begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_goes_forward_only() {
        use AttachmentStatus::{Attached, Attaching, Created, Deleted, Detaching, Precreated};
        let mut life = Life::begin(10);
        life.enter(Created, 11);
        life.enter(Attaching, 9);
        life.enter(Attached, 12);
        life.enter(Attaching, 13);
        life.enter(Attached, 14);
        assert_eq!(life.status(), Attached);
        life.enter(Detaching, 20);
        life.enter(Deleted, 30);
        let found: Vec<_> = life
            .transitions()
            .map(|one| (one.status, one.at_ms))
            .collect();
        let expected = [
            (Precreated, 10),
            (Created, 11),
            (Attaching, 11),
            (Attached, 12),
            (Detaching, 20),
            (Deleted, 30),
        ];
        assert_eq!(found, expected);
        assert_eq!(life.entered_at_ms(Attached), Some(12));
        assert_eq!(life.entered_at_ms(AttachmentStatus::Failed), None);
        assert_eq!((life.created_at_ms(), life.status()), (10, Deleted));
    }
}
