//! `systemControls` of ECS: settings of a task's network namespace. Pure.

use serde::{Deserialize, Serialize};

use crate::field_error::FieldError;

/// A kernel setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemControl {
    /// As `net.core.somaxconn`; only what begins with `net.` is the network's.
    #[schema(pattern = "^net\\.[A-Za-z0-9._/-]+$")]
    pub namespace: String,
    /// Its value, one line.
    pub value: String,
}

impl SystemControl {
    /// Its path below `/proc/sys`. As sysctl(8) has it, a dot parts names unless a slash does first; then dots stand
    /// for themselves.
    #[must_use]
    pub fn key(&self) -> String {
        let is_dotted = self
            .namespace
            .find(['.', '/'])
            .is_none_or(|at| self.namespace.as_bytes()[at] == b'.');
        if is_dotted {
            let swap = |c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            self.namespace.chars().map(swap).collect()
        } else {
            self.namespace.clone()
        }
    }

    /// Checks its form; `field` is its path.
    ///
    /// # Errors
    /// `namespace` or `value`.
    pub fn check(&self, field: &str) -> Result<(), FieldError> {
        let key = self.key();
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let is_path = key
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..");
        if !key.starts_with("net/") || !key.chars().all(is_allowed) || !is_path {
            return Err(FieldError::new(
                format!("{field}.namespace"),
                format!("{:?} is no setting of a network namespace", self.namespace),
                "write one that begins with net., as net.core.somaxconn",
            ));
        }
        if self.value.contains(['\n', '\0']) || self.value.is_empty() {
            let problem = format!("{:?} is not one line", self.value);
            return Err(FieldError::new(
                format!("{field}.value"),
                problem,
                "write the value alone",
            ));
        }
        Ok(())
    }
}

/// Of several settings of one name the last counts.
#[must_use]
pub fn last_of_each(controls: impl IntoIterator<Item = SystemControl>) -> Vec<SystemControl> {
    let mut kept: Vec<SystemControl> = Vec::new();
    for control in controls {
        kept.retain(|other| other.key() != control.key());
        kept.push(control);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(namespace: &str, value: &str) -> SystemControl {
        SystemControl {
            namespace: namespace.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn names_are_read_as_sysctl_reads_them() {
        let rows = [
            ("net.core.somaxconn", "net/core/somaxconn"),
            (
                "net/ipv4/conf/eth0.1/rp_filter",
                "net/ipv4/conf/eth0.1/rp_filter",
            ),
            (
                "net.ipv4.conf.eth0/1.rp_filter",
                "net/ipv4/conf/eth0.1/rp_filter",
            ),
        ];
        for (namespace, key) in rows {
            assert_eq!(control(namespace, "1").key(), key);
            assert_eq!(control(namespace, "1").check("c"), Ok(()));
        }
    }

    #[test]
    fn what_is_not_the_networks_is_refused() {
        for namespace in [
            "",
            "net",
            "net.",
            "kernel.shmmax",
            "net/../kernel/core_pattern",
            "net..x",
            "net.a b",
        ] {
            let error = control(namespace, "1").check("systemControls[0]");
            let field = error.map_err(|error| error.field);
            assert_eq!(
                field,
                Err("systemControls[0].namespace".to_owned()),
                "{namespace}"
            );
        }
        assert!(control("net.core.somaxconn", "1\n2").check("c").is_err());
    }

    #[test]
    fn the_last_of_a_name_counts() {
        let kept = last_of_each([
            control("net.core.somaxconn", "1"),
            control("net.ipv4.ip_forward", "1"),
            control("net/core/somaxconn", "2"),
        ]);
        assert_eq!(
            kept,
            [
                control("net.ipv4.ip_forward", "1"),
                control("net/core/somaxconn", "2")
            ]
        );
    }
}
