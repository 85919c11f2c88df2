//! Tests of `state`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::test_dir::TestDir;

#[test]
fn facts_survive_a_restart() {
    let dir = TestDir::new();
    let state_dir = dir.path().join("a/b");
    {
        let store = Store::open(&state_dir).unwrap();
        store.put_fact("sequence", &41_u64).unwrap();
        store.put_fact("sequence", &42_u64).unwrap();
    }
    let store = Store::open(&state_dir).unwrap();
    assert_eq!(store.fact::<u64>("sequence").unwrap(), Some(42));
    store.remove_fact("sequence").unwrap();
    assert_eq!(store.fact::<u64>("sequence").unwrap(), None);
    assert_eq!(
        std::fs::metadata(&state_dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[test]
fn a_second_agent_and_another_format_are_refused() {
    let dir = TestDir::new();
    let store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
    store
        .file
        .write(String::new, |write| {
            write
                .open_table(file::NUMBERS)?
                .insert("format_version", FORMAT_VERSION + 1)?;
            Ok(())
        })
        .unwrap();
    drop(store);
    let error = Store::open(dir.path()).unwrap_err().to_string();
    let expected = format!(
        "has format {}, this agent reads {FORMAT_VERSION}; run the version",
        FORMAT_VERSION + 1
    );
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn a_damaged_entry_is_named() {
    let dir = TestDir::new();
    let store = Store::open(dir.path()).unwrap();
    let spoil = |write: &redb::WriteTransaction| {
        write
            .open_table(FACTS)?
            .insert("sequence", b"{}".as_slice())?;
        Ok(())
    };
    store.file.write(String::new, spoil).unwrap();
    let error = store.fact::<u64>("sequence").unwrap_err().to_string();
    assert_eq!(error, "facts entry \"sequence\" in the store is damaged");
}

#[test]
fn a_state_dir_that_is_a_file_is_named() {
    let dir = TestDir::new();
    let path = dir.path().join("file");
    std::fs::write(&path, "").unwrap();
    let error = Store::open(&path).unwrap_err().to_string();
    assert!(
        error.starts_with("make state folder") && error.ends_with("/file"),
        "{error}"
    );
}

#[test]
fn retired_flows_stay_as_first_stored_until_their_epoch_is_settled() {
    let dir = TestDir::new();
    let store = Store::open(dir.path()).unwrap();
    let keep = |eni, counts: &[(u32, &str)]| store.retire_flows(eni, counts).unwrap();
    let kept = |epoch| store.retired_flows::<String>(epoch).unwrap();
    keep("eni-a", &[(4, "a4"), (5, "a5")]);
    keep("eni-b", &[(5, "b5")]);
    keep("eni-a", &[(5, "again"), (6, "a6")]);
    assert_eq!(kept(5), ["a5", "b5"]);
    store
        .settle_flows("flow_log", &"settled", 5, b"outline")
        .unwrap();
    assert_eq!(store.fact("flow_log").unwrap(), Some("settled".to_owned()));
    assert_eq!([kept(4), kept(5), kept(6)].concat(), ["a6"]);
}

#[test]
fn rules_survive_a_restart_until_they_are_forgotten() {
    let dir = TestDir::new();
    let store = RuleStore::open(dir.path()).unwrap();
    store
        .put_rule_pages(&[(7, "page 7"), (8, "page 8")], &[(7, "rules")])
        .unwrap();
    store
        .put_rule_pages::<_, &str>(&[(8, "again"), (70_000, "page")], &[])
        .unwrap();
    drop(store);
    let store = RuleStore::open(dir.path()).unwrap();
    let kept = || store.rule_pages::<String, String>().unwrap();
    let owned = |number, text: &str| (number, text.to_owned());
    let pages = vec![owned(7, "page 7"), owned(8, "again"), owned(70_000, "page")];
    assert_eq!(kept(), (pages, vec![owned(7, "rules")]));
    store.forget_rule_pages(&[7, 70_000, 9], &[]).unwrap();
    assert_eq!(kept().0, [owned(8, "again")]);
    store.forget_rule_pages(&[8], &[7]).unwrap();
    assert_eq!(kept(), (vec![], vec![]));
}
