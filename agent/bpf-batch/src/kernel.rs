//! The two commands of bpf(2) that a walk needs, and all `unsafe` of this crate. Decides nothing.

use std::{
    io,
    num::NonZeroU32,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use zerocopy::FromBytes;

use crate::BatchError;

/// `enum bpf_cmd` (`include/uapi/linux/bpf.h`).
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;

/// Types of `enum bpf_map_type` whose places are four bytes and whose values are as long in a batch
/// as the map says; those per CPU are longer.
const WALKABLE: [u32; 3] = [BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_LRU_HASH];
const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_LRU_HASH: u32 = 9;

/// What no place of a map is: it has fewer buckets or elements.
const NO_PLACE: u32 = u32::MAX;

/// `union bpf_attr`, `info`. The kernel takes what is left out for zero.
#[repr(C)]
struct InfoRequest {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_map_info`, the start of it; the kernel fills in as much as there is room for.
#[repr(C)]
#[derive(Default)]
struct MapInfo {
    map_type: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// `union bpf_attr`, `batch`.
#[repr(C)]
struct BatchRequest {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    /// Room, and then entries.
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// How a system call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There is more.
    More,
    /// These were the last.
    End,
    /// The next bucket has more entries than there is room for.
    TooSmall,
    /// The kernel was disturbed and is to be asked again.
    Disturbed,
}

/// What a system call read.
#[derive(Debug)]
pub(crate) struct Read {
    /// Entries in the batch.
    pub(crate) entries: usize,
    /// Where the next batch starts; `None` for the map's start.
    pub(crate) next: Option<u32>,
    pub(crate) outcome: Outcome,
}

/// Room for entries of a map whose keys and values are as large as `K` and `V`.
pub(crate) struct Batch<'map, K, V> {
    map: BorrowedFd<'map>,
    max_entries: u32,
    keys: Vec<K>,
    values: Vec<V>,
}

impl<'map, K: FromBytes, V: FromBytes> Batch<'map, K, V> {
    /// Room for `entries` of the map.
    pub(crate) fn of(map: BorrowedFd<'map>, entries: NonZeroU32) -> Result<Self, BatchError> {
        let info = info(map).map_err(BatchError::Info)?;
        if !WALKABLE.contains(&info.map_type) {
            return Err(BatchError::Type(info.map_type));
        }
        is_of::<K>("key", info.key_size)?;
        is_of::<V>("value", info.value_size)?;
        let mut batch = Self {
            map,
            max_entries: info.max_entries,
            keys: Vec::new(),
            values: Vec::new(),
        };
        batch.make_room(entries.get());
        Ok(batch)
    }

    /// Makes room for twice as many, but no more than the map can have.
    pub(crate) fn grow(&mut self) {
        let room = self.room();
        self.make_room(room.saturating_mul(2).min(self.max_entries.max(room)));
    }

    /// The first `entries` of what was read last.
    pub(crate) fn entries(&self, entries: usize) -> impl Iterator<Item = (&K, &V)> {
        self.keys.iter().zip(&self.values).take(entries)
    }

    /// Reads the entries from `place` on; `None` is the map's start.
    pub(crate) fn read(&mut self, place: Option<u32>) -> Result<Read, BatchError> {
        let mut next = NO_PLACE;
        let mut request = BatchRequest {
            in_batch: place.as_ref().map_or(0, |place| address(place)),
            out_batch: address_mut(&raw mut next),
            keys: address_mut(self.keys.as_mut_ptr()),
            values: address_mut(self.values.as_mut_ptr()),
            count: self.room(),
            map_fd: self.map.as_raw_fd().cast_unsigned(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the kernel reads 4 bytes at `in_batch`, writes 4 at `out_batch` and `count` keys
        // and values. `of` has made sure that the map's are as long as these and of a type without
        // longer ones, and a map never changes in this. Any bytes are a `K` and a `V`, which are
        // `FromBytes`.
        let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut request) };
        let was_written = next != NO_PLACE;
        let entries = request.count.min(self.room()) as usize;
        let (entries, outcome) = match result {
            Ok(()) => (entries, Outcome::More),
            Err(error) => match error.raw_os_error() {
                // The count is the kernel's even where the place is not: it starts with 0.
                Some(libc::ENOENT) => (entries, Outcome::End),
                Some(libc::ENOSPC) => (0, Outcome::TooSmall),
                // Among others, a bucket's lock that this processor holds already ends a batch.
                Some(libc::EBUSY | libc::EAGAIN | libc::EINTR) if was_written => {
                    (entries, Outcome::Disturbed)
                }
                Some(libc::EBUSY | libc::EAGAIN | libc::EINTR) => (0, Outcome::Disturbed),
                _ => return Err(BatchError::Read(error)),
            },
        };
        Ok(Read {
            entries,
            next: if was_written { Some(next) } else { place },
            outcome,
        })
    }

    fn room(&self) -> u32 {
        self.keys.len().min(self.values.len()) as u32
    }

    fn make_room(&mut self, entries: u32) {
        self.keys.resize_with(entries as usize, K::new_zeroed);
        self.values.resize_with(entries as usize, V::new_zeroed);
    }
}

/// Whether a part of an entry has the size of `T`.
fn is_of<T>(part: &'static str, found: u32) -> Result<(), BatchError> {
    let expected = size_of::<T>();
    if found as usize == expected {
        Ok(())
    } else {
        Err(BatchError::Size {
            part,
            found,
            expected,
        })
    }
}

fn info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    let mut request = InfoRequest {
        bpf_fd: map.as_raw_fd().cast_unsigned(),
        info_len: size_of::<MapInfo>() as u32,
        info: address_mut(&raw mut info),
    };
    // SAFETY: the kernel writes `info_len` bytes at `info`, which are integers.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut request) }?;
    Ok(info)
}

/// bpf(2).
///
/// # Safety
/// What `request` points to must be valid for what `command` does with it.
unsafe fn bpf<R>(command: libc::c_int, request: &mut R) -> io::Result<()> {
    let size = size_of::<R>() as libc::c_uint;
    // SAFETY: the kernel reads and writes `size` bytes at `request`, and else what the caller
    // vouches for.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(request), size) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn address<T>(value: *const T) -> u64 {
    value.expose_provenance() as u64
}

fn address_mut<T>(value: *mut T) -> u64 {
    value.expose_provenance() as u64
}
