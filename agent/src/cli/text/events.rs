//! What happens to tasks, a line each. Pure.

use crate::api::{TaskEvent, TaskEventDetail};

/// As `web  add veth  0.4 ms`.
pub(in crate::cli) fn line(event: &TaskEvent) -> String {
    let because = |reason: &Option<String>| match reason {
        Some(reason) => format!(": {reason}"),
        None => String::new(),
    };
    let text = match &event.detail {
        TaskEventDetail::AttachmentStateChange { status, reason, .. } => {
            format!("{}{}", status.name(), because(reason))
        }
        TaskEventDetail::SecurityGroupsChanged {
            security_groups,
            reason,
        } => {
            let groups = security_groups.join(", ");
            format!("security groups {groups}{}", because(reason))
        }
        TaskEventDetail::Mended { differences } => {
            let what: Vec<&str> = differences.iter().map(|one| one.what.as_str()).collect();
            format!("mended {}", what.join(", "))
        }
        TaskEventDetail::StepStarted { operation, step } => {
            format!("{} {} ...", operation.name(), step.name())
        }
        TaskEventDetail::StepEnded {
            operation,
            step,
            duration_us,
            error,
        } => {
            let ms = *duration_us as f64 / 1_000.0;
            let outcome = match error {
                Some(error) => format!("failed after {ms:.1} ms: {error}"),
                None => format!("{ms:.1} ms"),
            };
            format!("{} {} {outcome}", operation.name(), step.name())
        }
    };
    format!("{} {text}\n", event.task_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Difference, NetworkPart, Operation, Step};
    use crate::life::AttachmentStatus;

    #[test]
    fn events_are_lines() {
        let ended = |error: Option<&str>| TaskEventDetail::StepEnded {
            operation: Operation::Add,
            step: Step::Veth,
            duration_us: 412,
            error: error.map(str::to_owned),
        };
        let rows = [
            (ended(None), "web add veth 0.4 ms\n"),
            (
                ended(Some("no veth")),
                "web add veth failed after 0.4 ms: no veth\n",
            ),
            (
                TaskEventDetail::AttachmentStateChange {
                    attachment_id: "a".to_owned(),
                    status: AttachmentStatus::Failed,
                    reason: Some("no veth".to_owned()),
                },
                "web FAILED: no veth\n",
            ),
            (
                TaskEventDetail::SecurityGroupsChanged {
                    security_groups: vec!["sg-1".to_owned(), "sg-2".to_owned()],
                    reason: Some("changed in EC2".to_owned()),
                },
                "web security groups sg-1, sg-2: changed in EC2\n",
            ),
            (
                TaskEventDetail::Mended {
                    differences: vec![Difference {
                        part: NetworkPart::MacAddress,
                        what: "MTU of eth0".to_owned(),
                        expected: "1500".to_owned(),
                        found: "1400".to_owned(),
                    }],
                },
                "web mended MTU of eth0\n",
            ),
        ];
        for (detail, expected) in rows {
            let event = TaskEvent {
                sequence: 1,
                at_ms: 0,
                task_id: "web".to_owned(),
                detail,
            };
            assert_eq!(line(&event), expected);
        }
    }
}
