//! The name of a link, checked as the kernel does and a little more. Never touches a link.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a task's link is called unless its specification says otherwise.
pub const DEFAULT: &str = "eth0";
/// Bytes of the longest name: `IFNAMSIZ` without the end.
const MAX_LEN: usize = 15;
/// Taken in every namespace: the loopback link, and the folders of settings that hold for all links.
const TAKEN: [&str; 5] = ["lo", "all", "default", ".", ".."];

/// A link's name: 1 to 15 visible ASCII characters without `/`, `:` and `%`, not `lo`, `all`, `default`, `.` or `..`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 15, example = "eth0")]
pub struct LinkName(String);

/// Text that is no name of a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no link name; write 1 to {MAX_LEN} visible ASCII characters without /, : and %, \
     and neither lo, all, default, . nor .."
)]
pub struct NoLinkName(pub String);

impl LinkName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nothing needs to be said of it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }
}

impl Default for LinkName {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl TryFrom<String> for LinkName {
    type Error = NoLinkName;

    fn try_from(text: String) -> Result<Self, NoLinkName> {
        // The kernel replaces a %d by a number.
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b"/:%".contains(&byte);
        let is_name = (1..=MAX_LEN).contains(&text.len()) && text.bytes().all(allowed);
        if is_name && !TAKEN.contains(&text.as_str()) {
            Ok(Self(text))
        } else {
            Err(NoLinkName(text))
        }
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> Self {
        name.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_one_link_of_a_namespace_can_have() {
        for name in [
            "eth0",
            "net1",
            "a",
            "ens5.100",
            "x-y_z@w",
            "abcdefghijklmno",
        ] {
            assert!(LinkName::try_from(name.to_owned()).is_ok(), "{name}");
        }
        for name in [
            "",
            "abcdefghijklmnop",
            "a/b",
            "a:1",
            "a b",
            "eth%d",
            "lo",
            "all",
            "default",
            ".",
            "..",
            "\u{e4}",
            "a\n",
        ] {
            assert!(LinkName::try_from(name.to_owned()).is_err(), "{name:?}");
        }
    }
}
