//! A host on an EC2 instance with one task that comes and goes, to which everything may happen.

use std::thread;
use std::time::Duration;

use branchline_ec2_stand_in::{Fault, Outcome, Which};
use branchline_tests::{host::Host, talk::PATIENCE, task::spec, traces::Traces};
use serde_json::json;

use super::ec2::{Account, eventually, told};

pub(crate) const ID: &str = "task";

/// What may go wrong once, and whether asking again helps.
pub(crate) fn faults() -> [(Fault, bool); 5] {
    [
        (Fault::Error(told("OperationNotPermitted")), false),
        (Fault::Error(told("RequestLimitExceeded")), true),
        (Fault::ErrorAfterEffect(told("InternalError")), true),
        (Fault::LoseAnswer, true),
        (Fault::Refuse, true),
    ]
}

/// A host with an agent, and how it is without tasks.
pub(crate) struct Ground {
    pub(crate) host: Host,
    pub(crate) account: Account,
    /// Of its tasks.
    group: String,
    absent: Traces,
}

impl Ground {
    /// Starts the agent. The caller lets a first task come and go and says [`Ground::settled`].
    pub(crate) fn new(host: Host, account: Account, group: String) -> Self {
        host.start_agent().unwrap();
        let absent = Traces::of(&host).unwrap();
        Self {
            host,
            account,
            group,
            absent,
        }
    }

    /// What the first task has left, as its groups' rules, is no trace of the next.
    pub(crate) fn settled(&mut self) {
        self.absent = Traces::of(&self.host).unwrap();
    }

    pub(crate) fn add(&self) -> Result<(), String> {
        let request = spec(ID, &[&self.account.subnet], &[&self.group]);
        let output = self.host.add_spec(&request).unwrap();
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub(crate) fn remove(&self) -> bool {
        let output = self.host.branchline(&["task", "rm", ID]).unwrap();
        output.status.success()
    }

    /// Asks for what `is_add` says.
    pub(crate) fn ask(&self, is_add: bool) -> bool {
        match is_add {
            true => self.add().is_ok(),
            false => self.remove(),
        }
    }

    pub(crate) fn is_listed(&self) -> bool {
        let mut api = self.host.api().unwrap();
        api.json("GET", "/v1/tasks", "").unwrap()["tasks"] != json!([])
    }

    /// What was left of the task on the host.
    pub(crate) fn left(&self) -> Vec<String> {
        Traces::of(&self.host).unwrap().since(&self.absent)
    }

    /// Lets a fault strike the next call of `operation`.
    pub(crate) fn strike(&self, operation: &str, fault: Fault) {
        drop(self.account.ec2.take_calls());
        self.account.ec2.fault(Which::of(operation).nth(1), fault);
    }

    #[track_caller]
    pub(crate) fn assert_struck(&self, operation: &str, row: &str) {
        let calls = self.account.ec2.calls();
        let mut of_it = calls.iter().filter(|call| call.operation == operation);
        let is_struck = of_it.any(|call| call.outcome != Outcome::Done);
        assert!(is_struck, "{row}: {calls:#?}");
    }

    /// On the host the task is as it should be.
    #[track_caller]
    pub(crate) fn assert_sound(&self, row: &str) {
        let mut api = self.host.api().unwrap();
        let path = format!("/v1/tasks/{ID}/check");
        let check = api.json("GET", &path, "").unwrap();
        assert_eq!(check["differences"], json!([]), "{row}");
    }

    /// An add or a removal by an agent that is killed at `point`.
    #[track_caller]
    pub(crate) fn kill_at(&self, point: &str) {
        self.host.start_agent_until(point).unwrap();
        let is_add = point.starts_with("add/");
        assert_eq!(self.add().is_err(), is_add, "{point}");
        if !is_add {
            assert!(!self.remove(), "{point}");
        }
        assert!(self.host.agent_was_killed().unwrap(), "{point}");
    }

    /// The agent is killed while it waits for the `awaited` call of an add or a removal.
    #[track_caller]
    pub(crate) fn kill_inside(&self, awaited: &str, is_add: bool, row: &str) {
        thread::scope(|scope| {
            let request = scope.spawn(|| self.ask(is_add));
            let ec2 = &self.account.ec2;
            eventually(row, PATIENCE, || ec2.count(awaited) == 1);
            thread::sleep(Duration::from_millis(300));
            self.host.kill_agent().unwrap();
            assert!(!request.join().unwrap(), "{row}");
        });
    }
}
