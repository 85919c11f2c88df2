//! From the first batch to the last: how large a batch is, and when a walk ends.

use std::{num::NonZeroU32, os::fd::BorrowedFd};

use zerocopy::FromBytes;

use crate::{
    BatchError,
    kernel::{Batch, Outcome},
};

/// Entries of a batch: enough that the system call hardly counts, few enough that they are still in
/// the processor's cache when they are shown.
const ENTRIES: NonZeroU32 = NonZeroU32::new(512).unwrap();

/// How often in a row the kernel may be asked in vain.
const MOST_IDLE: u32 = 1_000;

/// Shows every entry of a hash map, an LRU hash map or an array; see the crate's documentation for
/// what is shown of a map that changes meanwhile.
///
/// # Errors
/// `Info`, `Type` or `Size` before anything is shown, `Read` or `Stuck` with a part of the entries
/// shown.
pub fn for_each<K: FromBytes, V: FromBytes>(
    map: BorrowedFd<'_>,
    visit: impl FnMut(&K, &V),
) -> Result<(), BatchError> {
    for_each_in_batches(map, ENTRIES, visit)
}

/// As [`for_each`], with `entries` at once; more where a bucket of the map has more.
///
/// # Errors
/// As [`for_each`].
pub fn for_each_in_batches<K: FromBytes, V: FromBytes>(
    map: BorrowedFd<'_>,
    entries: NonZeroU32,
    mut visit: impl FnMut(&K, &V),
) -> Result<(), BatchError> {
    let mut batch = Batch::<K, V>::of(map, entries)?;
    let mut place = None;
    let mut idle = 0;
    while idle < MOST_IDLE {
        let read = batch.read(place)?;
        for (key, value) in batch.entries(read.entries) {
            visit(key, value);
        }
        match read.outcome {
            Outcome::End => return Ok(()),
            Outcome::TooSmall => batch.grow(),
            Outcome::More | Outcome::Disturbed => {}
        }
        place = read.next;
        idle = if read.entries == 0 { idle + 1 } else { 0 };
    }
    Err(BatchError::Stuck)
}
