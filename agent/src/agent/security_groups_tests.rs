#![expect(clippy::unwrap_used, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::security_groups::{SecurityGroup, quotas::MAX_GROUPS_PER_ENI};
use crate::test_dir::TestDir;

fn directory(name: &str) -> Directory {
    let group = SecurityGroup {
        group_id: "sg-a".to_owned(),
        group_name: name.to_owned(),
        ..SecurityGroup::default()
    };
    Directory {
        groups: [(group.group_id.clone(), group)].into(),
        ..Directory::default()
    }
}

/// Where an apply stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Never,
    /// The groups cannot be compiled or written.
    FailsBeforeCommit,
    /// The first switch fails.
    FailsAfterCommit,
    KilledBeforeCommit,
    KilledAfterCommit,
    /// Some ENIs obey the new groups already.
    KilledWhileSwitching,
}

/// Two ENIs that obey a directory by its group's name.
struct Enis {
    stop: Stop,
    obey: [String; 2],
}

impl Enforce for Enis {
    type Left = ();

    fn enforce(
        &mut self,
        directory: Directory,
        commit: impl FnOnce() -> Result<(), PolicyError>,
    ) -> Result<(), PolicyError> {
        let stop = |at| assert!(self.stop != at, "killed");
        if self.stop == Stop::FailsBeforeCommit {
            return Err(PolicyError::Full);
        }
        stop(Stop::KilledBeforeCommit);
        commit()?;
        stop(Stop::KilledAfterCommit);
        if self.stop == Stop::FailsAfterCommit {
            return Err(PolicyError::Full);
        }
        let [first, second] = &mut self.obey;
        let name = &directory.groups["sg-a"].group_name;
        first.clone_from(name);
        assert!(self.stop != Stop::KilledWhileSwitching, "killed");
        second.clone_from(name);
        Ok(())
    }
}

#[test]
fn an_apply_that_stops_anywhere_leaves_one_of_the_two_whole() {
    let (file, second, third) = (directory("first"), directory("second"), directory("third"));
    let rows = [
        // Where it stops, whether it says so, what ENIs obey, what the next start has.
        (Stop::Never, "ok", ["third", "third"], "third"),
        (
            Stop::FailsBeforeCommit,
            "failed",
            ["second", "second"],
            "second",
        ),
        (
            Stop::FailsAfterCommit,
            "failed",
            ["second", "second"],
            "second",
        ),
        (
            Stop::KilledBeforeCommit,
            "killed",
            ["second", "second"],
            "second",
        ),
        (
            Stop::KilledAfterCommit,
            "killed",
            ["second", "second"],
            "third",
        ),
        (
            Stop::KilledWhileSwitching,
            "killed",
            ["third", "second"],
            "third",
        ),
    ];
    for (stop, says, obeyed, next_start) in rows {
        let dir = TestDir::new();
        let store = Store::open(dir.path()).unwrap();
        let mut enis = Enis {
            stop: Stop::Never,
            obey: ["first".into(), "first".into()],
        };
        put_in_force(&store, &mut enis, &file, second.clone()).unwrap();
        enis.stop = stop;
        let applied_now = catch_unwind(AssertUnwindSafe(|| {
            put_in_force(&store, &mut enis, &second, third.clone())
        }));
        let said = match applied_now {
            Ok(Ok(())) => "ok",
            Ok(Err(_)) => "failed",
            Err(_) => "killed",
        };
        assert_eq!(
            (said, &enis.obey),
            (says, &obeyed.map(str::to_owned)),
            "{stop:?}"
        );
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        let (in_force, _) = applied(&store).unwrap().unwrap().over(file.clone());
        assert_eq!(in_force, directory(next_start), "{stop:?}");
    }
}

#[test]
fn a_first_apply_that_fails_leaves_nothing_in_the_store() {
    let dir = TestDir::new();
    let store = Store::open(dir.path()).unwrap();
    for stop in [Stop::FailsBeforeCommit, Stop::FailsAfterCommit] {
        let mut enis = Enis {
            stop,
            obey: ["first".into(), "first".into()],
        };
        put_in_force(&store, &mut enis, &directory("first"), directory("second")).unwrap_err();
        assert_eq!(applied(&store).unwrap(), None, "{stop:?}");
    }
}

#[test]
fn each_set_of_groups_of_an_eni_is_held_against_the_quotas() {
    let count = MAX_GROUPS_PER_ENI + 1;
    let ids: Vec<String> = (0..count).map(|number| format!("sg-{number}")).collect();
    let group = |id: &String| SecurityGroup {
        group_id: id.clone(),
        ..SecurityGroup::default()
    };
    let directory = Directory {
        groups: ids.iter().map(|id| (id.clone(), group(id))).collect(),
        ..Directory::default()
    };
    let check = |sets: &[&[String]]| check_quotas(sets.iter().copied(), &directory);
    assert_eq!(
        check(&[&ids[..2], &ids[3..5]]).unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(check(&[&ids[..2], &ids[..6]]).unwrap().len(), 1);
    let error = check(&[&ids[..2], &ids]).unwrap_err();
    assert_eq!(error.field, "security_groups");
    assert!(error.problem.contains("an ENI can have 16"), "{error}");
}

#[test]
fn a_policy_error_is_the_files_the_hosts_or_the_agents() {
    let rows = [
        (PolicyError::Full, "exhausted"),
        (
            PolicyError::UnknownGroup {
                group_id: "sg-a".into(),
            },
            "invalid",
        ),
        (
            PolicyError::Compile(CompileError::TooManyRules {
                groups: vec!["sg-a".into()],
                direction: "ingress",
                family: "IPv4",
                count: 1_025,
            }),
            "invalid",
        ),
        (
            PolicyError::Store(StateError::Unknown("web".parse().unwrap())),
            "failed",
        ),
    ];
    for (error, expected) in rows {
        let text = error.to_string();
        let refused = refused(error);
        let found = [
            ("exhausted", matches!(refused, ControlError::Exhausted(_))),
            ("invalid", matches!(refused, ControlError::Invalid(_))),
            ("failed", matches!(refused, ControlError::Failed { .. })),
        ];
        let kind = found.iter().find(|(_, is_it)| *is_it);
        let kind = kind.map(|(kind, _)| *kind);
        assert_eq!(kind, Some(expected), "{text}");
    }
}
