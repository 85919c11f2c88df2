//! Tests of `spool`.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::delivery::test_epochs::epoch;
use crate::test_dir::TestDir;

fn spool(dir: &TestDir) -> Spool {
    let spool = Spool::new(dir.path().join("spool"), MinFreeSpace::default());
    spool.prepare().unwrap();
    spool
}

#[test]
fn an_epoch_is_read_as_it_was_written_and_goes_when_told() {
    let dir = TestDir::new();
    let spool = spool(&dir);
    assert_eq!(spool.get(7).unwrap(), None);
    let (first, second) = (epoch(7, 60, 120, 3), epoch(7, 60, 120, 4));
    spool.put(&first).unwrap();
    assert_eq!(spool.get(7).unwrap(), Some(first));
    spool.put(&second).unwrap();
    spool.put(&epoch(12, 120, 180, 1)).unwrap();
    assert_eq!(spool.get(7).unwrap(), Some(second));
    let numbers: Vec<u32> = spool.sizes().unwrap().into_keys().collect();
    assert_eq!(numbers, [7, 12]);
    spool.remove(7).unwrap();
    spool.remove(7).unwrap();
    assert_eq!(spool.get(7).unwrap(), None);
}

#[test]
fn what_a_killed_agent_left_half_written_is_not_there() {
    let dir = TestDir::new();
    let spool = spool(&dir);
    fs::write(spool.path(3).with_extension("tmp"), b"BLSPOOL3 half").unwrap();
    spool.prepare().unwrap();
    assert!(spool.sizes().unwrap().is_empty());
    assert_eq!(fs::read_dir(dir.path().join("spool")).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_not_what_was_written_is_named_and_never_read() {
    let dir = TestDir::new();
    let spool = spool(&dir);
    spool.put(&epoch(1, 0, 60, 1)).unwrap();
    let path = spool.path(1);
    let whole = fs::read(&path).unwrap();
    let cut_in_half = whole[..whole.len() / 2].to_vec();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut longer = whole.clone();
    longer.push(0);
    let rows = [
        ("nothing", Vec::new(), "cut in its first bytes"),
        ("half", cut_in_half, "cut, or something"),
        ("a byte more", longer, "cut, or something"),
        ("a bit", flipped, "checksum"),
        ("another file", vec![b'x'; 64], "no spool file"),
    ];
    for (name, bytes, expected) in rows {
        fs::write(&path, bytes).unwrap();
        let error = spool.get(1).unwrap_err();
        assert!(
            matches!(error, SpoolError::Damaged { .. }),
            "{name}: {error:?}"
        );
        let text = error.to_string();
        assert!(
            text.contains(expected) && text.contains("0000000001.flows"),
            "{name}: {text}"
        );
    }
}

#[test]
fn an_epoch_of_the_version_before_is_read() {
    let dir = TestDir::new();
    let spool = spool(&dir);
    let mut epoch = epoch(7, 60, 120, 3);
    let interface = std::sync::Arc::make_mut(&mut epoch.reports[0].interface);
    interface.vpc_id = Some("vpc-1".to_owned());
    interface.tags.instance = [("team".to_owned(), "a".to_owned())].into();
    spool.put(&epoch).unwrap();
    let body = postcard::to_allocvec(&v2::of(epoch.clone())).unwrap();
    let mut old = MAGIC_2.to_vec();
    old.extend(crc32fast::hash(&body).to_le_bytes());
    old.extend((body.len() as u64).to_le_bytes());
    old.extend(body);
    assert_ne!(old, fs::read(spool.path(7)).unwrap());
    fs::write(spool.path(7), old).unwrap();
    assert_eq!(spool.get(7).unwrap(), Some(epoch));
}

#[test]
fn where_there_is_no_room_nothing_is_written_and_the_error_says_so() {
    let dir = TestDir::new();
    // No file system is 101 % free.
    let spool = Spool::new(dir.path().join("spool"), MinFreeSpace::percent(101));
    let error = spool.put(&epoch(1, 0, 60, 1)).unwrap_err();
    assert!(matches!(error, SpoolError::NoRoom { .. }), "{error:?}");
    assert!(!dir.path().join("spool").exists());
    let full = io::Error::from_raw_os_error(Errno::ENOSPC as i32);
    let error = failed("write", dir.path())(full).or_no_room();
    assert!(matches!(error, SpoolError::NoRoom { .. }), "{error:?}");
}
