//! Tier containers: the CNI plugin and tasks' namespaces under container runtimes that others wrote.
//!
//! Needs root, runc, crun, podman, containerd, and the Python environment of tier interop for CRI requests. Every test
//! has a host of its own with folders of its own, and leaves nothing.
#![expect(clippy::unwrap_used, reason = "tests")]

mod containerd;
mod ground;
mod oci;
mod podman;
