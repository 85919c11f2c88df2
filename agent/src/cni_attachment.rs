//! Which attachment of a container network a task is, in the words of the CNI specification, and which tasks are no
//! valid ones any more. Pure.

use serde::{Deserialize, Serialize};

use crate::field_error::FieldError;
use crate::link_name::LinkName;
use crate::spec::TaskId;
use crate::task_record::TaskRecord;

/// Bytes of the longest name that is taken.
const MAX_LEN: usize = 253;

/// A container's attachment to a network; together with the name of the task's link it is unique on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CniAttachment {
    /// `name` of the network configuration.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
}

/// Which attachments of a network still are, as the CNI command GC says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CniGarbageCollection {
    /// `name` of the network configuration.
    pub network: String,
    /// All that stay. Every other attachment of this network goes.
    pub valid_attachments: Vec<ValidAttachment>,
}

/// An attachment that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValidAttachment {
    /// `CNI_CONTAINERID` of its ADD.
    pub container_id: String,
    /// `CNI_IFNAME` of its ADD.
    pub link_name: LinkName,
}

impl CniAttachment {
    pub(crate) fn check(&self) -> Result<(), FieldError> {
        let fields = [
            ("network", &self.network),
            ("containerId", &self.container_id),
        ];
        for (name, value) in fields {
            check_name(&format!("cniAttachment.{name}"), value)?;
        }
        Ok(())
    }
}

impl CniGarbageCollection {
    /// Refuses a name that no network has.
    ///
    /// # Errors
    /// `network`.
    pub fn check(&self) -> Result<(), FieldError> {
        check_name("network", &self.network)
    }

    /// Those of `tasks` that are attachments of this network and not valid.
    #[must_use]
    pub fn stale(&self, tasks: &[TaskRecord]) -> Vec<TaskId> {
        let is_stale = |task: &&TaskRecord| {
            let Some(attachment) = &task.spec.cni_attachment else {
                return false;
            };
            attachment.network == self.network
                && !self.valid_attachments.iter().any(|valid| {
                    valid.container_id == attachment.container_id
                        && valid.link_name == task.spec.link_name
                })
        };
        let stale = tasks.iter().filter(is_stale);
        stale.map(|task| task.spec.task_id.clone()).collect()
    }
}

fn check_name(field: &str, name: &str) -> Result<(), FieldError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let starts = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if starts && name.len() <= MAX_LEN && name.bytes().all(allowed) {
        return Ok(());
    }
    let fix = format!(
        "write 1 to {MAX_LEN} letters, digits, _, . or -, beginning with a letter or digit"
    );
    Err(FieldError::new(field, format!("{name:?} is no name"), fix))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::task_record::tests::record;

    fn attachment(id: &str, of: Option<(&str, &str, &str)>) -> TaskRecord {
        let mut record = record(id);
        if let Some((network, container, link)) = of {
            record.spec.link_name = link.to_owned().try_into().unwrap();
            record.spec.cni_attachment = Some(CniAttachment {
                network: network.to_owned(),
                container_id: container.to_owned(),
            });
        }
        record
    }

    #[test]
    fn only_attachments_of_the_network_that_are_not_valid_are_stale() {
        let tasks = [
            attachment("by-hand", None),
            attachment("stays", Some(("pods", "c1", "eth0"))),
            attachment("other-link", Some(("pods", "c1", "net1"))),
            attachment("other-container", Some(("pods", "c2", "eth0"))),
            attachment("other-network", Some(("podman", "c2", "eth0"))),
        ];
        let stale = |network: &str, valid: &[(&str, &str)]| {
            let valid = valid.iter().map(|(container, link)| ValidAttachment {
                container_id: (*container).to_owned(),
                link_name: (*link).to_owned().try_into().unwrap(),
            });
            let collection = CniGarbageCollection {
                network: network.to_owned(),
                valid_attachments: valid.collect(),
            };
            let stale = collection.stale(&tasks);
            stale.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            stale("pods", &[("c1", "eth0")]),
            ["other-link", "other-container"]
        );
        assert_eq!(stale("podman", &[("c2", "eth0")]), [""; 0]);
        assert_eq!(stale("podman", &[]), ["other-network"]);
        assert_eq!(stale("none", &[]), [""; 0]);
    }

    #[test]
    fn names_are_those_of_the_cni_specification() {
        let attachment = |network: &str, container: &str| CniAttachment {
            network: network.to_owned(),
            container_id: container.to_owned(),
        };
        assert!(
            attachment("pods", &"0123456789abcdef".repeat(4))
                .check()
                .is_ok()
        );
        assert!(attachment("a.b-c_d", "k8s.io_pod-1").check().is_ok());
        for (network, container, field) in [
            ("", "c1", "cniAttachment.network"),
            ("-a", "c1", "cniAttachment.network"),
            ("a/b", "c1", "cniAttachment.network"),
            ("a", ".c", "cniAttachment.containerId"),
            ("a", "c 1", "cniAttachment.containerId"),
            ("a", &"c".repeat(254), "cniAttachment.containerId"),
        ] {
            let error = attachment(network, container).check().unwrap_err();
            assert_eq!(error.field, field);
        }
    }
}
