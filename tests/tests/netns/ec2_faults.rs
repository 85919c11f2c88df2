//! Whatever EC2 does at whichever call, and wherever the agent is killed: a task is there with its branch, or nothing
//! of it is on host and trunk and its ENI rests.

use std::{
    collections::BTreeSet,
    ops::Deref,
    time::{Duration, Instant},
};

use branchline_ec2_stand_in::{Fault, Outcome, Which};

use super::ec2::{Account, eventually, instance_with, told};
use super::ec2_ground::{Ground, ID, faults};

const CREATE: &str = "CreateNetworkInterface";
const ASSOCIATE: &str = "AssociateTrunkInterface";
const DISASSOCIATE: &str = "DisassociateTrunkInterface";
const DELETE: &str = "DeleteNetworkInterface";
/// Few looks of the agent's own, and all of EC2's quota: many rows share one host.
const LINES: &str = "poll = 3600\ndeadline = 20\nrequest_share_percent = 100";
/// How long what could not be undone at once may take.
const UNDONE: Duration = Duration::from_secs(10);
/// Longer than what has left the trunk rests.
const RESTED: Duration = Duration::from_secs(45);

/// Where a task's ENI is a branch of the trunk.
struct Trunk(Ground);

impl Deref for Trunk {
    type Target = Ground;

    fn deref(&self) -> &Ground {
        &self.0
    }
}

impl Trunk {
    fn new(name: &str) -> Self {
        Self::with(name, |account| &account.server)
    }

    fn with(name: &str, group: fn(&Account) -> &String) -> Self {
        let (host, account) = instance_with(name, LINES);
        let group = group(&account).clone();
        let mut ground = Ground::new(host, account, group);
        ground.add().unwrap();
        assert!(ground.remove());
        ground.settled();
        let trunk = Self(ground);
        trunk.works("before any");
        trunk
    }

    /// Lets a fault strike the next call of `operation`.
    fn strike(&self, operation: &str, fault: Fault) {
        self.renew_lists();
        self.0.strike(operation, fault);
    }

    /// Prefix lists have a new version, so that their entries are asked for.
    fn renew_lists(&self) {
        self.account.ec2.change(|state| {
            for list in state.prefix_lists.values_mut() {
                let (version, entries) = list.versions.pop_last().unwrap();
                list.versions.insert(version, entries.clone());
                list.versions.insert(version + 1, entries);
            }
        });
    }

    /// The task is there: its branch alone is on the trunk, and on the host all is as it should be.
    #[track_caller]
    fn assert_there(&self, row: &str) {
        let task = self.host.task(ID).unwrap();
        let state = self.account.ec2.state();
        let association = state.association_of(&task.eni_id);
        let vlan = association.map(|association| association.vlan_id);
        assert_eq!(vlan, Some(task.vlan.into()), "{row}");
        assert_eq!(state.trunk_associations.len(), 1, "{row}");
        self.assert_sound(row);
    }

    /// Nothing of it is on the host or the trunk; its ENI is gone or rests.
    #[track_caller]
    fn assert_undone(&self, row: &str) {
        eventually(row, UNDONE, || !self.is_listed());
        assert_eq!(self.account.on_trunk(), BTreeSet::new(), "{row}");
        let left = self.left();
        assert!(left.is_empty(), "{row}: {left:#?}");
    }

    /// A task comes and goes as if nothing had happened.
    #[track_caller]
    fn works(&self, row: &str) {
        drop(self.account.ec2.take_calls());
        self.add().unwrap_or_else(|error| panic!("{row}: {error}"));
        self.assert_there(row);
        assert!(self.remove(), "{row}");
        self.assert_undone(row);
        let calls = self.account.ec2.take_calls().into_iter();
        let failed: Vec<_> = calls
            .filter(|call| call.outcome != Outcome::Done && call.operation != DELETE)
            .collect();
        assert!(failed.is_empty(), "{row}: {failed:#?}");
    }
}

impl Trunk {
    /// Each fault at the next call of each of `operations`, which an add makes.
    fn fail_adds(&self, operations: &[&str]) {
        for operation in operations {
            for (fault, is_made_up_for) in faults() {
                let row = format!("{operation}: {fault:?}");
                let began = Instant::now();
                let before = self.account.branches();
                self.strike(operation, fault);
                let added = self.add();
                let after = self.account.branches();
                assert!(after.difference(&before).count() <= 1, "{row}: made twice");
                self.assert_struck(operation, &row);
                match added {
                    Ok(()) if is_made_up_for => {
                        self.assert_there(&row);
                        assert!(self.remove(), "{row}");
                    }
                    Err(said) if !is_made_up_for => {
                        assert!(said.contains(operation), "{row}: {said}");
                    }
                    other => panic!("{row}: {other:?}"),
                }
                self.assert_undone(&row);
                println!("{row}: {:?}", began.elapsed());
            }
            self.works(operation);
        }
    }
}

#[test]
fn whatever_a_change_of_an_add_comes_to_a_task_is_there_or_not() {
    Trunk::new("ec2-faults-add").fail_adds(&[CREATE, ASSOCIATE]);
}

#[test]
fn whatever_a_describe_of_an_add_comes_to_a_task_is_there_or_not() {
    let describes = [
        "DescribeSecurityGroups",
        "DescribeSecurityGroupRules",
        "DescribeNetworkInterfaces",
    ];
    Trunk::new("ec2-faults-ask").fail_adds(&describes);
}

#[test]
fn whatever_a_call_about_prefix_lists_comes_to_a_task_is_there_or_not() {
    let calls = ["DescribeManagedPrefixLists", "GetManagedPrefixListEntries"];
    Trunk::with("ec2-faults-lists", |account| &account.listed).fail_adds(&calls);
}

#[test]
fn whatever_a_call_of_a_removal_comes_to_the_task_goes() {
    let ground = Trunk::new("ec2-faults-rm");
    let ec2 = &ground.account.ec2;
    // These strike at the end, once the ENIs have rested.
    for (number, (fault, _)) in (0..).zip(faults()) {
        ec2.fault(Which::of(DELETE).nth(2 * number + 1), fault);
    }
    for (fault, is_made_up_for) in faults() {
        let row = format!("{DISASSOCIATE}: {fault:?}");
        ground.add().unwrap();
        ground.strike(DISASSOCIATE, fault);
        assert_eq!(ground.remove(), is_made_up_for, "{row}");
        ground.assert_struck(DISASSOCIATE, &row);
        ground.assert_undone(&row);
        ground.works(&row);
    }
    // One could not be deleted, which a later look sees to.
    eventually("what has rested is deleted", RESTED, || {
        ground.account.branches().len() == 1
    });
    assert_eq!(ec2.faults_left(), 0);
}

#[test]
fn a_release_asks_what_is_on_the_trunk_whatever_that_call_comes_to() {
    let ground = Trunk::new("ec2-faults-look");
    let operation = "DescribeTrunkInterfaceAssociations";
    for (fault, _) in faults() {
        let row = format!("{fault:?}");
        ground.strike(operation, fault);
        // It failed, and may be on the trunk all the same.
        let refused = Fault::Error(told("OperationNotPermitted"));
        ground
            .account
            .ec2
            .fault(Which::of(ASSOCIATE).nth(1), refused);
        let said = ground.add().unwrap_err();
        assert!(said.contains(ASSOCIATE), "{row}: {said}");
        ground.assert_struck(operation, &row);
        ground.assert_undone(&row);
        ground.works(&row);
    }
}

#[test]
fn who_may_not_list_associations_frees_what_was_made_and_what_was_not() {
    let ground = Trunk::new("ec2-faults-denied");
    let ec2 = &ground.account.ec2;
    ec2.deny("DescribeTrunkInterfaceAssociations");
    ec2.deny(ASSOCIATE);
    let said = ground.add().unwrap_err();
    assert!(said.contains("UnauthorizedOperation"), "{said}");
    ground.assert_undone("denied");
    ec2.allow(ASSOCIATE);
    ground.add().unwrap();
    // The next agent did not make the association.
    ground.host.kill_agent().unwrap();
    ground.host.start_agent().unwrap();
    ground.assert_there("restarted");
    assert!(ground.remove());
    ground.assert_undone("restarted");
}

#[test]
fn killed_around_each_step_that_asks_ec2() {
    let ground = Trunk::new("ec2-kills");
    ground.host.stop_agent().unwrap();
    for point in [
        "add/allocate/before",
        "add/allocate/after",
        "add/attach-eni/before",
        "add/attach-eni/after",
        "add/carrier/after",
        "remove/release/before",
        "remove/release/after",
        "remove/forget/before",
    ] {
        ground.kill_at(point);
        ground.host.start_agent().unwrap();
        if point.starts_with("add/") && ground.is_listed() {
            ground.assert_there(point);
            assert!(ground.remove(), "{point}");
        }
        ground.assert_undone(point);
        ground.works(point);
        ground.host.stop_agent().unwrap();
    }
}

#[test]
fn killed_while_ec2_works() {
    let ground = Trunk::new("ec2-kills-inside");
    let ec2 = &ground.account.ec2;
    for operation in [CREATE, ASSOCIATE, DISASSOCIATE] {
        let is_add = operation != DISASSOCIATE;
        if !is_add {
            ground.add().unwrap();
        }
        let before = ground.account.branches();
        // It is done at once, and the answer comes when nobody waits for it any more.
        ground.strike(operation, Fault::Delay(Duration::from_secs(5)));
        ground.kill_inside(operation, is_add, operation);
        let after = ground.account.branches();
        let made: Vec<_> = after.difference(&before).collect();
        ground.host.start_agent().unwrap();
        if is_add && ground.is_listed() {
            ground.assert_there(operation);
            assert!(ground.remove(), "{operation}");
        }
        ground.assert_undone(operation);
        if operation == CREATE {
            // No store has this one, only its tags: its VLAN id is nobody else's, from the first moment on.
            let [made] = made[..] else {
                panic!("{made:?}");
            };
            let state = ec2.state();
            let vlan = &state.network_interfaces[made].tags["branchline-vlan"];
            let next = ground.account.add(&ground.host, ID, &ground.account.server);
            assert_ne!(next.vlan.to_string(), *vlan);
            assert!(ground.remove());
            assert!(ground.account.branches().contains(made), "freed too early");
        }
        ground.works(operation);
    }
}
