//! `[api]`: who besides root may use the socket.

use nix::unistd::{Gid, Group};
use serde::{Deserialize, Serialize};

use crate::field_error::FieldError;

/// `[api]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Name or number of the group whose members may ask for everything and change nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_group: Option<String>,
}

impl ApiConfig {
    /// The number of the readers' group.
    ///
    /// # Errors
    /// `api.read_only_group` is no group of this host.
    pub fn readers(&self) -> Result<Option<u32>, FieldError> {
        let Some(group) = &self.read_only_group else {
            return Ok(None);
        };
        if let Ok(number) = group.parse() {
            return Ok(Some(number));
        }
        match Group::from_name(group) {
            Ok(Some(found)) => Ok(Some(Gid::as_raw(found.gid))),
            Ok(None) | Err(_) => Err(FieldError::new(
                "api.read_only_group",
                format!("{group:?} is no group of this host"),
                "write a group's name or number, or make it (groupadd)",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_group_is_a_name_or_a_number() {
        let readers = |group: Option<&str>| {
            let read_only_group = group.map(str::to_owned);
            ApiConfig { read_only_group }.readers()
        };
        assert_eq!(readers(None).unwrap(), None);
        assert_eq!(readers(Some("1234")).unwrap(), Some(1234));
        assert_eq!(readers(Some("root")).unwrap(), Some(0));
        let error = readers(Some("no-such-group")).unwrap_err();
        assert_eq!(error.field, "api.read_only_group");
    }
}
