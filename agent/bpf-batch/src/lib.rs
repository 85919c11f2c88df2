//! Reads a whole BPF map with few system calls: `BPF_MAP_LOOKUP_BATCH` of bpf(2), Linux 5.6 and
//! later, behind a safe function.
//!
//! One entry of a hash map takes two system calls by the usual way, next key and value, and a batch
//! takes one for hundreds. Never writes a map. All that is `unsafe` lies in `kernel`.
//!
//! # What a walk shows
//!
//! A hash map has as many buckets from its start to its end, and its key alone says in which one an
//! entry lies. The kernel walks the buckets in order and copies each one whole, under the lock that
//! insertion and removal take (`__htab_map_lookup_and_delete_batch`, `kernel/bpf/hashtab.c`); a
//! bucket that does not fit any more is left, whole, to the next call. So
//!
//! - an entry that is there from the start of a walk to its end is shown exactly once;
//! - one that comes or goes meanwhile is shown once or not at all;
//! - no key is shown twice, unlike in a walk from key to key, which the kernel starts over when the
//!   key that it stands on is gone.
//!
//! Programs change values in place without the bucket's lock: a value is as consistent as one that
//! is read by itself without `BPF_F_LOCK`. The lock in a value (`bpf_spin_lock`) is not copied and
//! shows as zero.

mod kernel;

mod walk;

pub use walk::{for_each, for_each_in_batches};

use std::io;

/// Why a map cannot be walked.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The kernel does not say what the map is.
    #[error("ask the kernel for the map's type and sizes")]
    Info(#[source] io::Error),
    /// Maps of this type are read otherwise.
    #[error(
        "the map is of type {0} (enum bpf_map_type), and only hash (1), array (2) and LRU hash (9) are read in batches"
    )]
    Type(u32),
    /// The map holds something else.
    #[error("the map's {part} has {found} bytes and is read as one of {expected}")]
    Size {
        /// `key` or `value`.
        part: &'static str,
        /// Bytes in the map.
        found: u32,
        /// Bytes of the type that it is read as.
        expected: usize,
    },
    /// The kernel does not read on.
    #[error("read entries by BPF_MAP_LOOKUP_BATCH, which needs Linux 5.6")]
    Read(#[source] io::Error),
    /// The kernel was asked many times in vain.
    #[error("the kernel reads no entry and names no end by BPF_MAP_LOOKUP_BATCH")]
    Stuck,
}
