//! `branchline-bpf-batch` over real maps: what a walk shows, once each, whatever happens meanwhile.

use std::{
    collections::HashSet,
    fs::File,
    num::NonZeroU32,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use aya::maps::{Array, HashMap, Map, MapData};
use branchline_bpf_batch::{BatchError, for_each, for_each_in_batches};

/// `enum bpf_map_type` (`include/uapi/linux/bpf.h`).
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERCPU_HASH: u32 = 5;
const LRU_HASH: u32 = 9;

/// As long as a flow's key.
type Key = [u64; 5];
/// As long as a connection.
type Value = [u64; 21];

const KEY_SIZE: u32 = size_of::<Key>() as u32;
const VALUE_SIZE: u32 = size_of::<Value>() as u32;

fn key(number: u32) -> Key {
    [u64::from(number); 5]
}

fn value(number: u32) -> Value {
    let mut value = [0; 21];
    value[20] = u64::from(number);
    value
}

fn map(kind: u32, key_size: u32, value_size: u32, entries: u32) -> (OwnedFd, MapData) {
    let wanted = aya_obj::Map::new_from_params(kind, key_size, value_size, entries, 0);
    let map = MapData::create(wanted, "batch", None).unwrap();
    (map.fd().as_fd().try_clone_to_owned().unwrap(), map)
}

/// A hash map with room for so many, and those of `numbers` in it.
fn hash(room: u32, numbers: std::ops::Range<u32>) -> (OwnedFd, HashMap<MapData, Key, Value>) {
    let (fd, map) = map(HASH, KEY_SIZE, VALUE_SIZE, room);
    let mut map = HashMap::try_from(Map::HashMap(map)).unwrap();
    for number in numbers {
        map.insert(key(number), value(number), 0).unwrap();
    }
    (fd, map)
}

/// Numbers of all entries that a walk shows, each of which must be shown once and be whole.
fn shown(map: BorrowedFd<'_>, batch: u32) -> HashSet<u32> {
    let mut numbers = HashSet::new();
    let batch = NonZeroU32::new(batch).unwrap();
    for_each_in_batches(map, batch, |found: &Key, with: &Value| {
        let number = with[20] as u32;
        assert_eq!((*found, *with), (key(number), value(number)));
        assert!(numbers.insert(number), "{number} is shown twice");
    })
    .unwrap();
    numbers
}

#[test]
fn every_entry_of_a_large_table_is_shown_once() {
    let (fd, _map) = hash(131_072, 0..100_000);
    for batch in [100, 512, 200_000] {
        assert_eq!(shown(fd.as_fd(), batch).len(), 100_000, "{batch}");
    }
}

#[test]
fn a_bucket_that_does_not_fit_makes_the_batch_larger() {
    // As many entries as buckets: some buckets have several, for which one is no room.
    for entries in [1, 2, 64, 4_096] {
        let (fd, _map) = hash(entries, 0..entries);
        assert_eq!(shown(fd.as_fd(), 1), (0..entries).collect(), "{entries}");
    }
}

#[test]
fn an_empty_table_has_nothing_to_show() {
    let (fd, _map) = hash(64, 0..0);
    assert_eq!(shown(fd.as_fd(), 16), HashSet::new());
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_stays_is_shown_once_while_others_come_and_go() {
    const STAY: u32 = 100_000;
    let (fd, mut map) = hash(131_072, 0..STAY);
    let (stop, changes) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in (STAY..STAY + 20_000).cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // In turns, so that each comes and goes.
                if map.remove(&key(number)).is_err() {
                    map.insert(key(number), value(number), 0).unwrap();
                }
                changes.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Also if an assertion fails: the scope waits for the other thread.
        let _stop = StopOnDrop(&stop);
        for batch in [7, 64, 512, 4_096] {
            let before = changes.load(Ordering::Relaxed);
            let found = shown(fd.as_fd(), batch);
            let stayed = found.iter().filter(|number| **number < STAY).count();
            assert_eq!(stayed, STAY as usize, "{batch}");
            assert!(changes.load(Ordering::Relaxed) > before, "nothing changed");
        }
    });
}

#[test]
fn a_least_recently_used_table_is_walked_as_well() {
    let (fd, map) = map(LRU_HASH, KEY_SIZE, VALUE_SIZE, 1_000);
    let mut map: HashMap<_, Key, Value> = HashMap::try_from(Map::LruHashMap(map)).unwrap();
    for number in 0..100 {
        map.insert(key(number), value(number), 0).unwrap();
    }
    assert_eq!(shown(fd.as_fd(), 8), (0..100).collect());
}

#[test]
fn an_array_is_shown_from_its_first_element_to_its_last() {
    let (fd, map) = map(ARRAY, 4, VALUE_SIZE, 5);
    let mut map: Array<_, Value> = Array::try_from(Map::Array(map)).unwrap();
    for index in 0..5 {
        map.set(index, value(index), 0).unwrap();
    }
    // Also where the last batch is full.
    for batch in [1, 2, 5, 16] {
        let mut found = Vec::new();
        let batch = NonZeroU32::new(batch).unwrap();
        for_each_in_batches(fd.as_fd(), batch, |index: &u32, with: &Value| {
            assert_eq!(*with, value(*index));
            found.push(*index);
        })
        .unwrap();
        assert_eq!(found, [0, 1, 2, 3, 4], "{batch}");
    }
}

#[test]
fn a_map_of_other_entries_is_refused_before_it_is_read() {
    let refusal = |fd: &OwnedFd| {
        for_each(fd.as_fd(), |_: &Key, _: &Value| panic!("an entry is shown")).unwrap_err()
    };
    let (fd, _map) = map(HASH, KEY_SIZE + 8, VALUE_SIZE, 8);
    let error = refusal(&fd);
    assert!(
        matches!(
            error,
            BatchError::Size {
                part: "key",
                found: 48,
                expected: 40
            }
        ),
        "{error}"
    );
    let (fd, _map) = map(HASH, KEY_SIZE, VALUE_SIZE + 8, 8);
    let error = refusal(&fd);
    assert!(
        matches!(
            error,
            BatchError::Size {
                part: "value",
                found: 176,
                expected: 168
            }
        ),
        "{error}"
    );
    // Its values are one per CPU in a batch.
    let (fd, _map) = map(PERCPU_HASH, KEY_SIZE, VALUE_SIZE, 8);
    let error = refusal(&fd);
    assert!(matches!(error, BatchError::Type(PERCPU_HASH)), "{error}");
    let no_map = OwnedFd::from(File::open("/dev/null").unwrap());
    let error = refusal(&no_map);
    assert!(matches!(error, BatchError::Info(_)), "{error}");
}
