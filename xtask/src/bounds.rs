//! `xtask/bounds.toml`: the size that each program may have. Growth fails until it is recorded, so a commit shows it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::programs::Size;
use crate::workspace;

/// Sizes by program name.
pub(crate) type Sizes = BTreeMap<String, Size>;

const HEAD: &str = "# Each program's instructions, and bytes of stack, as recorded by `cargo xtask check --record`.\n\
                    # `cargo xtask check` fails when one has grown.\n\n";

/// The record; empty if there is none yet.
///
/// # Errors
/// The file is not what [`record`] writes.
pub(crate) fn load() -> Result<Sizes> {
    let text = fs::read_to_string(path()).unwrap_or_default();
    toml::from_str(&text).with_context(|| format!("read {}", path().display()))
}

/// Replaces the record by `sizes`.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn record(sizes: &Sizes) -> Result<()> {
    let text = format!("{HEAD}{}", toml::to_string(sizes)?);
    fs::write(path(), text).with_context(|| format!("write {}", path().display()))
}

/// How `measured` breaks the `recorded` bounds: a line for each program that has grown, is new, or is gone.
pub(crate) fn broken(recorded: &Sizes, measured: &Sizes) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, now) in measured {
        let Some(bound) = recorded.get(name) else {
            broken.push(format!("{name} is not recorded"));
            continue;
        };
        if now.instructions > bound.instructions {
            broken.push(format!(
                "{name} grew from {} to {} instructions",
                bound.instructions, now.instructions
            ));
        }
        if now.stack > bound.stack {
            broken.push(format!(
                "{name} grew from {} to {} bytes of stack",
                bound.stack, now.stack
            ));
        }
    }
    broken.extend(
        recorded
            .keys()
            .filter(|name| !measured.contains_key(*name))
            .map(|name| format!("{name} is gone")),
    );
    broken
}

fn path() -> PathBuf {
    workspace::root().join("xtask/bounds.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(entries: &[(&str, u64, u64)]) -> Sizes {
        let size = |&(name, instructions, stack): &(&str, u64, u64)| {
            (
                name.to_owned(),
                Size {
                    instructions,
                    stack,
                },
            )
        };
        entries.iter().map(size).collect()
    }

    #[test]
    fn growth_breaks_the_bound_and_shrinking_does_not() {
        let recorded = sizes(&[("fabric", 100, 64), ("old", 1, 0)]);
        assert_eq!(
            broken(&recorded, &sizes(&[("fabric", 90, 64), ("old", 1, 0)])),
            [""; 0]
        );
        assert_eq!(
            broken(&recorded, &sizes(&[("fabric", 101, 72), ("new", 1, 0)])),
            [
                "fabric grew from 100 to 101 instructions",
                "fabric grew from 64 to 72 bytes of stack",
                "new is not recorded",
                "old is gone",
            ]
        );
    }
}
