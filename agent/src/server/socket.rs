//! The API's socket file: made for root, and a group of readers if there is one, and never taken from an agent that runs.

use std::fs::{DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// An agent answers there.
    #[error("another agent serves {}; stop it, or give this one its own run_dir", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has its name.
    #[error("{} exists and is no socket; remove it, or choose another run_dir", path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// It could not be made.
    #[error("{attempt} {} (run_dir)", path.display())]
    Make {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Listens at `path`, mode 0600, or 0660 with the group `readers`, and makes the folder above (mode 0755) if it is missing.
///
/// A socket file that nobody serves is replaced. Agents that start at the same moment are kept apart by the store,
/// which is opened first.
///
/// # Errors
/// `InUse` while another agent answers, `NoSocket` for another kind of file, `Make` otherwise.
pub fn bind(path: &Path, readers: Option<u32>) -> Result<UnixListener, SocketError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.map_err(|source| failed("make folder", folder, source))?;
    check_unused(path)?;
    // Made under another name: the file must not be reachable before it has its mode.
    let fresh = path.with_extension("sock.new");
    remove(&fresh)?;
    let listener =
        UnixListener::bind(&fresh).map_err(|source| failed("listen at", &fresh, source))?;
    std::os::unix::fs::chown(&fresh, None, readers)
        .map_err(|source| failed("set the group of", &fresh, source))?;
    let mode = if readers.is_some() { 0o660 } else { 0o600 };
    std::fs::set_permissions(&fresh, Permissions::from_mode(mode))
        .map_err(|source| failed("set the mode of", &fresh, source))?;
    std::fs::rename(&fresh, path).map_err(|source| failed("put the socket at", path, source))?;
    Ok(listener)
}

fn check_unused(path: &Path) -> Result<(), SocketError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed("look at", path, source)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NoSocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse {
            path: path.to_owned(),
        }),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ConnectionRefused | ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        Err(source) => Err(failed("connect to", path, source)),
    }
}

fn remove(path: &Path) -> Result<(), SocketError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(failed("remove", path, source)),
        _ => Ok(()),
    }
}

fn failed(attempt: &'static str, path: &Path, source: std::io::Error) -> SocketError {
    SocketError::Make {
        attempt,
        path: path.to_owned(),
        source,
    }
}
