//! Files on a real disk.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Read;

use flate2::read::GzDecoder;

use super::*;
use crate::flows::interface::Interface;
use crate::flows::ledger::Window;
use crate::test_dir::TestDir;

fn eni(number: u32) -> Interface {
    Interface {
        account_id: "123456789012".to_owned(),
        interface_id: format!("eni-{number:017x}"),
        ..Interface::default()
    }
}

const WINDOW: Window = Window {
    start: 60,
    end: 120,
};

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn names_say_account_end_and_epoch() {
    assert_eq!(
        name("123456789012", 1_700_000_040, 17),
        "123456789012_vpcflowlogs_local_20231114T221400Z_17.log.gz"
    );
}

#[test]
fn a_file_is_one_gzip_member_of_the_header_and_every_line() {
    let dir = TestDir::new();
    let enis: Vec<_> = (0..2_000).map(eni).collect();
    let lines: Vec<_> = enis.iter().map(|eni| Line::NoData(eni, WINDOW)).collect();
    let folder = FlowLogDir::new(dir.path().join("made/by/it"));
    let path = folder.write("a.log.gz", &lines).unwrap();
    let bytes = fs::read(&path).unwrap();
    // This decoder reads one member and stops.
    let mut decoder = GzDecoder::new(bytes.as_slice());
    let mut text = String::new();
    decoder.read_to_string(&mut text).unwrap();
    assert!(decoder.into_inner().is_empty());
    let mut expected = format!("{HEADER}\n");
    for line in &lines {
        expected += &format!("{line}\n");
    }
    assert_eq!(text, expected);
    assert_eq!(names(path.parent().unwrap()), ["a.log.gz"]);

    let again = folder.write("a.log.gz", &lines).unwrap();
    assert_eq!(fs::read(again).unwrap(), bytes);
}

#[test]
fn a_start_removes_unfinished_files_and_nothing_else() {
    let dir = TestDir::new();
    let finished = name("123456789012", 60, 1);
    let unfinished = format!(".{finished}.tmp-4711");
    for name in [&finished, &unfinished, ".hidden", "notes.tmp-1"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    FlowLogDir::new(dir.path().to_owned()).prepare().unwrap();
    assert_eq!(
        names(dir.path()),
        [".hidden", finished.as_str(), "notes.tmp-1"]
    );
}

#[test]
fn a_folder_that_cannot_be_is_named_with_the_field_and_the_fix() {
    let dir = TestDir::new();
    let path = dir.path().join("file");
    fs::write(&path, "x").unwrap();
    let error = FlowLogDir::new(path.clone()).write("a", &[]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(text.contains("flow_log.dir"), "{text}");
}
