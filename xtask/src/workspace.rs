//! Where things lie in the workspace. Creates nothing.

use std::path::{Path, PathBuf};

/// The folder of the root `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    const XTASK: &str = env!("CARGO_MANIFEST_DIR");
    Path::new(XTASK)
        .parent()
        .unwrap_or_else(|| Path::new(XTASK))
}

/// `name` below `target/`, where everything lies that a build may delete.
pub(crate) fn target(name: &str) -> PathBuf {
    root().join("target").join(name)
}

/// The compiled kernel programs; `agent/build.rs` looks for them at the same place.
pub(crate) fn object() -> PathBuf {
    target("bpf/branchline.o")
}

/// `path` as seen from the root where it lies below it: shorter in messages.
pub(crate) fn relative(path: &Path) -> &Path {
    path.strip_prefix(root()).unwrap_or(path)
}
