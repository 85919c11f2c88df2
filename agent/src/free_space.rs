//! How much of a file system the agent's own writing leaves free, for what else is on it.
//!
//! Asks, and never frees anything.

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// A share of a file system, in percent; 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MinFreeSpace(u8);

impl MinFreeSpace {
    /// So many percent.
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        Self(percent)
    }

    /// Whether something may be written at `path`, which need not be there.
    ///
    /// # Errors
    /// `StorageFull` if less than this is free for users (`statvfs`, `f_bavail` of `f_blocks`); or
    /// what the system says.
    pub fn check(self, path: &Path) -> io::Result<()> {
        if self.0 == 0 {
            return Ok(());
        }
        let there = path.ancestors().find(|folder| folder.exists());
        let stat = statvfs(there.unwrap_or(Path::new("/")))?;
        let (free, all) = (stat.blocks_available(), stat.blocks());
        if self.allows(free, all) {
            return Ok(());
        }
        let free = free as f64 * 100.0 / all as f64;
        Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!(
                "{free:.1} % of the file system is free, and flow_records.min_free_space_percent is {}",
                self.0
            ),
        ))
    }

    fn allows(self, free: u64, all: u64) -> bool {
        u128::from(free) * 100 >= u128::from(all) * u128::from(self.0)
    }
}

/// Whether writing failed for want of room.
#[must_use]
pub fn is_want_of_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_all_blocks_and_its_last_one_may_be_written_to() {
        for (percent, free, all, expected) in [
            (5, 50, 1_000, true),
            (5, 49, 1_000, false),
            (5, 0, 0, true),
            (50, u64::MAX / 2, u64::MAX, false),
            (50, u64::MAX / 2 + 1, u64::MAX, true),
        ] {
            let allows = MinFreeSpace::percent(percent).allows(free, all);
            assert_eq!(allows, expected, "{percent} % of {all}: {free}");
        }
    }

    #[test]
    fn a_full_file_system_is_named_and_a_missing_folder_is_asked_of_its_parent() {
        let somewhere = std::env::temp_dir().join("branchline/is/not/here");
        let error = MinFreeSpace::percent(101)
            .check(&somewhere)
            .map_err(|error| {
                assert!(is_want_of_room(&error), "{error}");
                error.to_string()
            });
        assert!(
            error.is_err_and(|text| text.contains("min_free_space_percent is 101")),
            "no file system is 101 % free"
        );
        assert!(MinFreeSpace::default().check(&somewhere).is_ok());
    }
}
