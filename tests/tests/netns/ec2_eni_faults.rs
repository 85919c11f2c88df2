//! Whatever EC2 does at whichever call, and wherever the agent is killed: a task is there with its ENI and link, or
//! nothing of it is on host and instance.

use std::{
    ops::Deref,
    time::{Duration, Instant},
};

use branchline_ec2_stand_in::{Fault, Outcome};
use branchline_tests::{
    eni_links::{Delays, EniLinks},
    talk::PATIENCE,
    task::spec,
};

use super::ec2::{eventually, told};
use super::ec2_eni::{ATTACH, CREATE, DELETE, DETACH, MODIFY, enis, enlarge, instance};
use super::ec2_ground::{Ground, ID, faults};

/// Few looks of the agent's own, and all of EC2's quota: many rows share one host.
const LINES: &str = "poll = 3600\nrequest_share_percent = 100";
/// How long what could not be undone at once may take: EC2 is asked again after seconds.
const UNDONE: Duration = Duration::from_secs(30);

/// Where a task's ENI has a link of its own.
struct Whole {
    ground: Ground,
    links: EniLinks,
}

impl Deref for Whole {
    type Target = Ground;

    fn deref(&self) -> &Ground {
        &self.ground
    }
}

impl Whole {
    fn new(name: &str) -> Self {
        let (host, account, links) = instance(name, LINES);
        // One that leaves keeps its device until the agent hears that it has gone.
        enlarge(&account, 15);
        let group = account.server.clone();
        let ground = Ground::new(host, account, group);
        let mut whole = Self { ground, links };
        whole.add().unwrap();
        assert!(whole.remove());
        whole.freed("the first");
        whole.ground.settled();
        whole.works("before any");
        whole
    }

    /// The task is there: its ENI alone is attached, goes with the instance, and on the host all is as it should be.
    #[track_caller]
    fn assert_there(&self, row: &str) {
        let task = self.host.task(ID).unwrap();
        let state = self.account.ec2.state();
        let eni = &state.network_interfaces[&task.eni_id];
        let attachment = eni.attachment.as_ref();
        let attachment = attachment.unwrap_or_else(|| panic!("{row}: not attached"));
        assert!(attachment.delete_on_termination, "{row}");
        let attached = state.attached_to(&self.account.instance);
        assert_eq!(attached.len(), 2, "{row}: {attached:#?}");
        self.assert_sound(row);
    }

    /// No ENI is left.
    #[track_caller]
    fn freed(&self, row: &str) {
        eventually(row, UNDONE, || {
            !self.is_listed() && enis(&self.account).is_empty()
        });
    }

    /// Nothing of it is on the host or the instance; an ENI that nobody could delete is attached nowhere.
    #[track_caller]
    fn assert_undone(&self, row: &str) {
        eventually(row, UNDONE, || {
            let state = self.account.ec2.state();
            !self.is_listed() && state.attached_to(&self.account.instance).len() == 1
        });
        eventually(row, PATIENCE, || self.left().is_empty());
        assert_eq!(self.links.problem(), None, "{row}");
    }

    /// A task comes and goes as if nothing had happened.
    #[track_caller]
    fn works(&self, row: &str) {
        self.add().unwrap_or_else(|error| panic!("{row}: {error}"));
        self.assert_there(row);
        assert!(self.remove(), "{row}");
        self.assert_undone(row);
    }
}

#[test]
fn whatever_a_call_of_an_add_comes_to_a_task_is_there_or_not() {
    let ground = Whole::new("ec2-eni-faults");
    for operation in [CREATE, ATTACH, MODIFY] {
        for (fault, is_made_up_for) in faults() {
            let row = format!("{operation}: {fault:?}");
            let began = Instant::now();
            ground.freed(&row);
            ground.strike(operation, fault);
            let added = ground.add();
            assert!(enis(&ground.account).len() <= 1, "{row}: made twice");
            ground.assert_struck(operation, &row);
            match added {
                Ok(()) if is_made_up_for => {
                    ground.assert_there(&row);
                    assert!(ground.remove(), "{row}");
                }
                Err(said) if !is_made_up_for => assert!(said.contains(operation), "{row}: {said}"),
                other => panic!("{row}: {other:?}"),
            }
            ground.assert_undone(&row);
            println!("{row}: {:?}", began.elapsed());
        }
    }
    ground.freed("all");
    ground.works("after all");
}

#[test]
fn whatever_a_call_of_a_removal_comes_to_the_task_goes() {
    let ground = Whole::new("ec2-eni-faults-rm");
    for (fault, is_made_up_for) in faults() {
        let row = format!("{DETACH}: {fault:?}");
        ground.freed(&row);
        ground.add().unwrap();
        ground.strike(DETACH, fault);
        assert_eq!(ground.remove(), is_made_up_for, "{row}");
        ground.assert_struck(DETACH, &row);
        ground.assert_undone(&row);
    }
    for (fault, is_made_up_for) in faults() {
        let row = format!("{DELETE}: {fault:?}");
        ground.freed(&row);
        // One that could not be deleted waits for a later look, which is the last row's.
        if is_made_up_for {
            ground.add().unwrap();
            ground.strike(DELETE, fault);
            assert!(ground.remove(), "{row}");
            eventually(&row, UNDONE, || ground.account.ec2.faults_left() == 0);
            ground.assert_undone(&row);
        }
    }
    ground.freed("all");
}

#[test]
fn ec2_that_has_not_settled_is_waited_for() {
    let ground = Whole::new("ec2-eni-settles");
    ground.freed("before");
    ground.account.ec2.settings(|settings| {
        settings.consistency_delay = Duration::from_secs(3);
        settings.attach_delay = Duration::from_secs(2);
        settings.detach_delay = Duration::from_secs(2);
    });
    ground.add().unwrap();
    ground.assert_there("not settled");
    assert!(ground.remove());
    ground.freed("not settled");
    // What is attaching still cannot be detached yet.
    ground.account.ec2.settings(|settings| {
        settings.consistency_delay = Duration::ZERO;
    });
    let refused = Fault::Error(told("OperationNotPermitted"));
    ground.strike(MODIFY, refused);
    let said = ground.add().unwrap_err();
    assert!(said.contains(MODIFY), "{said}");
    let calls = ground.account.ec2.calls().into_iter();
    let detached = calls.filter(|call| call.operation == DETACH);
    let outcomes: Vec<_> = detached.map(|call| call.outcome == Outcome::Done).collect();
    assert_eq!(outcomes.first(), Some(&false), "it was attaching");
    ground.freed("attaching");
}

#[test]
fn killed_around_each_step_that_asks_ec2() {
    let ground = Whole::new("ec2-eni-kills");
    ground.host.stop_agent().unwrap();
    for point in [
        "add/allocate/before",
        "add/attach-eni/before",
        "add/attach-eni/after",
        "add/program/after",
        "add/carrier/after",
        "remove/unplug/after",
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
        // An ENI that the killed agent was to delete is the next one's orphan, which is freed after a minute.
        ground.account.ec2.change(|state| {
            let all = &mut state.network_interfaces;
            all.retain(|_, eni| eni.attachment.is_some());
        });
    }
}

#[test]
fn killed_while_ec2_works_or_the_link_is_waited_for() {
    let ground = Whole::new("ec2-eni-kills-inside");
    let ec2 = &ground.account.ec2;
    // The link's wait: all calls are answered, and nothing comes.
    for operation in [CREATE, ATTACH, MODIFY, "link", DETACH] {
        let is_add = operation != DETACH;
        if !is_add {
            ground.add().unwrap();
        }
        drop(ec2.take_calls());
        let awaited = match operation {
            "link" => {
                ground.links.set_delays(Delays {
                    plug: Duration::from_secs(3),
                    ..Delays::default()
                });
                MODIFY
            }
            // It is done at once, and the answer comes when nobody waits for it any more.
            operation => {
                ground.strike(operation, Fault::Delay(Duration::from_secs(5)));
                operation
            }
        };
        ground.kill_inside(awaited, is_add, operation);
        ground.host.start_agent().unwrap();
        if is_add && ground.is_listed() {
            ground.assert_there(operation);
            assert!(ground.remove(), "{operation}");
        }
        ground.links.set_delays(Delays::default());
        ground.assert_undone(operation);
        ground.works(operation);
    }
}

#[test]
#[ignore = "slow: the second look comes a minute after the first"]
fn an_eni_that_a_killed_agent_attached_is_freed_in_the_second_look_and_others_never() {
    let (host, account, links) = instance("ec2-eni-orphans", "poll = 5");
    enlarge(&account, 15);
    host.start_agent_until("add/attach-eni/after").unwrap();
    let request = spec(ID, &[&account.subnet], &[&account.server]);
    assert!(!host.add_spec(&request).unwrap().status.success());
    assert!(host.agent_was_killed().unwrap());
    // What the store knew is gone as well, as after a reboot.
    host.run(|| std::fs::remove_dir_all("/run/branchline/state").unwrap());
    let [orphan] = &enis(&account)[..] else {
        panic!("one ENI");
    };
    // Somebody's ENI, at the next device.
    let guest = "eni-0123456789abcdef9";
    account.ec2.change(|state| {
        let mut other = orphan.clone();
        other.network_interface_id = guest.to_owned();
        other.mac_address = "0a:00:00:00:0f:09".to_owned();
        other.private_ip_addresses = vec![[10, 0, 7, 209].into()];
        other.ipv6_addresses = Vec::new();
        other.tags.clear();
        let at = other.attachment.as_mut().unwrap();
        at.attachment_id = "eni-attach-0123456789abcdef9".to_owned();
        at.device_index = 2;
        state.network_interfaces.insert(guest.to_owned(), other);
    });
    host.start_agent().unwrap();
    let began = Instant::now();
    let task = account.add(&host, "task", &account.server);
    let index = |id: &str| {
        let state = account.ec2.state();
        let attachment = state.network_interfaces.get(id)?.attachment.clone();
        attachment.map(|at| at.device_index)
    };
    assert_eq!(index(&task.eni_id), Some(3), "1 and 2 are taken");
    let id = &orphan.network_interface_id;
    eventually("the orphan is freed", Duration::from_secs(120), || {
        !account.ec2.state().network_interfaces.contains_key(id)
    });
    assert!(began.elapsed() >= Duration::from_secs(60));
    assert_eq!((index(guest), index(&task.eni_id)), (Some(2), Some(3)));
    let next = account.add(&host, "next", &account.server);
    assert_eq!(index(&next.eni_id), Some(1));
    assert_eq!(links.problem(), None);
}
