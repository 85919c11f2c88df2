//! Customer-managed prefix lists, with all their versions.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::Tags;

/// An entry of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct Entry {
    pub cidr: IpNet,
    pub description: Option<String>,
}

/// A prefix list.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct PrefixList {
    pub prefix_list_id: String,
    pub prefix_list_name: String,
    pub ipv6: bool,
    pub max_entries: usize,
    /// From version 1 to the current one, which is the last.
    pub versions: BTreeMap<i64, Vec<Entry>>,
    /// Whether it was modified.
    pub(crate) modified: bool,
    pub tags: Tags,
}

impl PrefixList {
    /// The current version.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.versions.keys().next_back().copied().unwrap_or(1)
    }

    /// The entries of a version, of the current one if none is named.
    pub(crate) fn entries(&self, version: Option<i64>) -> Option<&Vec<Entry>> {
        self.versions
            .get(&version.unwrap_or_else(|| self.version()))
    }
}
