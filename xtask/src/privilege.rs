//! What this process may do, read from `/proc/self/status`. Never raises a privilege.

use std::fs;

/// True if the effective user is root.
pub(crate) fn is_root() -> bool {
    status_field("Uid:", 1).is_some_and(|uid| uid == "0")
}

/// Word `index` after the label `field`.
fn status_field(field: &str, index: usize) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let words = status.lines().find_map(|line| line.strip_prefix(field))?;
    words.split_whitespace().nth(index).map(str::to_owned)
}
