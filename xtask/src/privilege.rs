//! What this process may do, read from `/proc/self/status`. Never raises a privilege.

use std::fs;

/// A capability: its bit in `CapEff` and its name (`include/uapi/linux/capability.h`).
pub(crate) type Capability = (u32, &'static str);

pub(crate) const NET_ADMIN: Capability = (12, "CAP_NET_ADMIN");
pub(crate) const SYS_ADMIN: Capability = (21, "CAP_SYS_ADMIN");
pub(crate) const BPF: Capability = (39, "CAP_BPF");

/// True if the effective user is root.
pub(crate) fn is_root() -> bool {
    status_field("Uid:", 1).is_some_and(|uid| uid == "0")
}

/// The names of those of `wanted` that this process does not have in effect.
pub(crate) fn missing(wanted: &[Capability]) -> Vec<&'static str> {
    let effective = status_field("CapEff:", 0)
        .and_then(|mask| u64::from_str_radix(&mask, 16).ok())
        .unwrap_or(0);
    lacking(effective, wanted)
}

fn lacking(effective: u64, wanted: &[Capability]) -> Vec<&'static str> {
    wanted
        .iter()
        .filter(|(bit, _)| effective >> bit & 1 == 0)
        .map(|(_, name)| *name)
        .collect()
}

/// Word `index` after the label `field`.
fn status_field(field: &str, index: usize) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let words = status.lines().find_map(|line| line.strip_prefix(field))?;
    words.split_whitespace().nth(index).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_capabilities_that_are_not_in_the_mask() {
        assert_eq!(lacking(1 << 12, &[NET_ADMIN, BPF]), ["CAP_BPF"]);
        assert!(lacking(u64::MAX, &[NET_ADMIN, SYS_ADMIN, BPF]).is_empty());
    }
}
