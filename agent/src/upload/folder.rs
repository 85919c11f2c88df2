//! The folder of finished files: finds them, reads them, removes them. Follows no symbolic link.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::name;

/// The files of the log `flow_log_id` below `dir` with their sizes, by relative path. A folder that is not
/// there is empty.
///
/// # Errors
/// A folder cannot be read.
pub(super) fn scan(dir: &Path, flow_log_id: &str) -> io::Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(dir.join(&folder)) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            // A name of ours is ASCII.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let relative = match folder.as_str() {
                "" => name,
                folder => format!("{folder}/{name}"),
            };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(relative);
            } else if kind.is_file()
                && name::parse(&relative).is_some_and(|name| name.flow_log_id == flow_log_id)
            {
                match entry.metadata() {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    metadata => drop(found.insert(relative, metadata?.len())),
                }
            }
        }
    }
    Ok(found)
}

/// Removes the file at `relative`, and the folders of its path below `dir` that are empty then. One that
/// is gone is success.
///
/// # Errors
/// The file is still there.
pub(super) fn remove(dir: &Path, relative: &str) -> io::Result<()> {
    match fs::remove_file(dir.join(relative)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut folder = PathBuf::from(relative);
    // Ends at the first folder that is not empty, which cannot be removed.
    while folder.pop()
        && !folder.as_os_str().is_empty()
        && fs::remove_dir(dir.join(&folder)).is_ok()
    {}
    Ok(())
}

/// Reads `bytes` bytes of a file from `offset` on.
///
/// # Errors
/// The file is gone (`NotFound`), ends before, or cannot be read.
pub(super) fn read(path: &Path, offset: u64, bytes: u64) -> io::Result<Bytes> {
    let size = usize::try_from(bytes).map_err(io::Error::other)?;
    let mut content = vec![0; size];
    File::open(path)?.read_exact_at(&mut content, offset)?;
    Ok(content.into())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::test_dir::TestDir;

    const DAY: &str = "AWSLogs/123456789012/vpcflowlogs/local/2026/11/28";

    fn file(log: &str, hash: &str) -> String {
        format!("{DAY}/123456789012_vpcflowlogs_local_{log}_20261128T1005Z_{hash}.log.gz")
    }

    fn write(dir: &Path, relative: &str) {
        let path = dir.join(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "content").unwrap();
    }

    #[test]
    fn finds_only_the_log_s_own_finished_files() {
        let dir = TestDir::new();
        assert_eq!(scan(&dir.path().join("missing"), "fl-a").unwrap().len(), 0);
        let own = file("fl-a", "fe123456");
        for relative in [
            own.as_str(),
            &file("fl-b", "fe123456"),
            "notes.txt",
            &format!("{DAY}/notes.log.gz"),
            &format!("{own}.tmp-1"),
        ] {
            write(dir.path(), relative);
        }
        let link = dir.path().join(file("fl-a", "link"));
        std::os::unix::fs::symlink(dir.path().join("notes.txt"), link).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("AWSLogs/loop")).unwrap();
        let found = scan(dir.path(), "fl-a").unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(own, 7)]);
    }

    #[test]
    fn removes_a_file_and_the_folders_that_it_leaves_empty() {
        let dir = TestDir::new();
        let (first, second) = (file("fl-a", "1"), file("fl-a", "2"));
        write(dir.path(), &first);
        write(dir.path(), &second);
        remove(dir.path(), &first).unwrap();
        assert!(dir.path().join(DAY).is_dir());
        write(dir.path(), "AWSLogs/123456789012/notes.txt");
        remove(dir.path(), &second).unwrap();
        assert!(!dir.path().join("AWSLogs/123456789012/vpcflowlogs").exists());
        assert!(dir.path().join("AWSLogs/123456789012/notes.txt").exists());
        remove(dir.path(), &second).unwrap();
    }

    #[test]
    fn a_short_file_is_no_part() {
        let dir = TestDir::new();
        let path = dir.path().join("file");
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(read(&path, 3, 4).unwrap(), "3456");
        assert_eq!(
            read(&path, 8, 4).unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
        let missing = read(&dir.path().join("no"), 0, 1).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
}
