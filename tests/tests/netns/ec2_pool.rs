//! Branches that wait on the trunk for tasks: handed out without a call, filled again, never two tasks' and never lost.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use branchline_ec2_stand_in::{Fault, Which};
use branchline_tests::{
    host::Host,
    settings::OPEN_PORT,
    talk::{self, PATIENCE, SHORT, is_silence},
    task::{Task, spec},
};
use serde_json::Value;

use super::ec2::{Account, eventually, instance_with, told};

const CREATE: &str = "CreateNetworkInterface";
const ASSOCIATE: &str = "AssociateTrunkInterface";
const DISASSOCIATE: &str = "DisassociateTrunkInterface";
const MODIFY: &str = "ModifyNetworkInterfaceAttribute";
const FILLED: Duration = Duration::from_secs(20);
/// Longer than a second look at what has no task comes after the first, with what it frees at rest.
const COLLECTED: Duration = Duration::from_secs(150);

struct Ground {
    host: Host,
    account: Account,
}

/// What `[ec2.warm_pool]` says of subnet and groups is known once the account is there.
fn ground(name: &str, lines: &str, branches: u32, group: fn(&Account) -> &String) -> Ground {
    let (mut host, account) = instance_with(name, lines);
    let pool = pool(&account, branches, group(&account));
    host.add_lines(&pool).unwrap();
    host.start_agent().unwrap();
    Ground { host, account }
}

fn pool(account: &Account, branches: u32, group: &str) -> String {
    format!(
        "[ec2.warm_pool]\nbranches = {branches}\nsubnets = [\"{}\"]\nsecurity_groups = [\"{group}\"]\n",
        account.subnet
    )
}

impl Ground {
    /// As the API says it of those that wait.
    fn waiting(&self) -> BTreeSet<String> {
        let mut api = self.host.api().unwrap();
        let list = api.json("GET", "/v1/network-interfaces", "").unwrap();
        let all = list["networkInterfaces"].as_array().unwrap();
        let waiting = all.iter().filter(|eni| eni["taskId"].is_null());
        waiting
            .map(|eni| eni["networkInterfaceId"].as_str().unwrap().to_owned())
            .collect()
    }

    fn capacity(&self) -> Value {
        let mut api = self.host.api().unwrap();
        api.json("GET", "/v1/capacity", "").unwrap()
    }

    #[track_caller]
    fn fill(&self, branches: usize) {
        eventually("the pool is full", FILLED, || {
            self.waiting().len() == branches
        });
        // A look that has read the rules of its groups.
        drop(self.account.ec2.take_calls());
        eventually("they are known", FILLED, || {
            self.account.ec2.count("DescribeSecurityGroupRules") > 0
                && self.account.ec2.count("DescribeTrunkInterfaceAssociations") > 0
        });
        thread::sleep(Duration::from_millis(300));
    }

    fn add(&self, id: &str, group: &str) -> Task {
        self.account.add(&self.host, id, group)
    }

    /// Nothing is on the trunk, or waits, that should not be.
    #[track_caller]
    fn assert_whole(&self, tasks: &[&Task], row: &str) {
        let waiting = self.waiting();
        let of_tasks: BTreeSet<_> = tasks.iter().map(|task| task.eni_id.clone()).collect();
        assert!(waiting.is_disjoint(&of_tasks), "{row}");
        let state = self.account.ec2.state();
        let on_trunk = state.trunk_associations.values();
        let on_trunk: BTreeSet<_> = on_trunk
            .map(|one| one.branch_interface_id.clone())
            .collect();
        assert_eq!(on_trunk, &waiting | &of_tasks, "{row}");
    }
}

#[test]
fn a_task_with_the_pools_groups_starts_without_a_call() {
    let ground = ground(
        "ec2-pool",
        "poll = 5\ndeadline = 20\nrequest_share_percent = 100",
        2,
        |account| &account.server,
    );
    ground.fill(2);
    let before = ground.waiting();
    let most = ground.capacity()["tasks"]["most"].clone();
    // Until it is over, whatever is asked for is refused.
    let away = Fault::Error(told("AuthFailure"));
    ground.account.ec2.fault(Which::any(), away);
    let first = ground.add("first", &ground.account.server);
    let second = ground.add("second", &ground.account.server);
    ground.account.ec2.clear_faults();
    assert_eq!(
        BTreeSet::from([first.eni_id.clone(), second.eni_id.clone()]),
        before
    );
    let capacity = ground.capacity();
    assert_eq!(capacity["tasks"]["most"], most, "what waits takes no room");
    assert_eq!(capacity["warmPool"]["hits"], 2);
    let text = ground.host.branchline_ok(&["capacity"]).unwrap();
    assert!(
        text.contains("warm pool") && text.contains("2 tasks got one, 0 none"),
        "{text}"
    );
    ground.fill(2);
    ground.assert_whole(&[&first, &second], "filled again");
    let listed = ground.host.branchline_ok(&["eni", "ls"]).unwrap();
    assert_eq!(listed.matches("(warm pool)").count(), 2, "{listed}");
    let metrics = ground
        .host
        .api()
        .unwrap()
        .request("GET", "/metrics", "")
        .unwrap()
        .1;
    for line in [
        "branchline_warm_pool_waiting 2",
        "branchline_warm_pool_requests_total{outcome=\"hit\"} 2",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
    // Its ENI rests and goes as any: another task never gets it.
    drop(ground.account.changes());
    ground.host.remove_task("first").unwrap();
    assert_eq!(ground.account.changes(), [DISASSOCIATE]);
    eventually("it is deleted", Duration::from_secs(60), || {
        !ground.account.branches().contains(&first.eni_id)
    });
    ground.assert_whole(&[&second], "after a removal");
}

#[test]
fn other_groups_are_set_by_one_call_and_hold_from_the_first_packet() {
    let ground = ground(
        "ec2-pool-groups",
        "poll = 5\ndeadline = 20\nrequest_share_percent = 100",
        2,
        |account| &account.client,
    );
    ground.fill(2);
    let (server, client) = (&ground.account.server, &ground.account.client);
    drop(ground.account.changes());
    let task = ground.add("server", server);
    let changes = ground.account.changes();
    assert_eq!(changes[0], MODIFY, "{changes:?}");
    let state = ground.account.ec2.state();
    assert_eq!(
        state.network_interfaces[&task.eni_id].group_ids,
        [server.as_str()]
    );
    let at = SocketAddr::new(task.ipv4.into(), OPEN_PORT);
    let friend = ground.add("friend", client);
    talk::tcp(&friend.netns, &task.netns, at, PATIENCE).unwrap();
    ground.fill(2);
    // By the pool's groups it would be let in.
    let stranger = ground.add("stranger", server);
    let tried = talk::tcp(&stranger.netns, &task.netns, at, SHORT);
    assert!(is_silence(&tried), "{tried:?}");
    // EC2 shows the old groups for a while: nothing is taken back.
    ground.assert_whole(&[&task, &friend, &stranger], "handed out");
    // Groups that there are not: nothing is handed out and none is lost.
    ground.fill(2);
    let wrong = spec(
        "wrong",
        &[&ground.account.subnet],
        &["sg-0fedcba9876543210"],
    );
    let output = ground.host.add_spec(&wrong).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("InvalidGroup.NotFound"), "{said}");
    assert_eq!(ground.waiting().len(), 2);
    ground.assert_whole(&[&task, &friend, &stranger], "refused");
}

#[test]
fn a_task_of_another_subnet_gets_none_and_has_the_room_all_the_same() {
    let (mut host, account) = instance_with(
        "ec2-pool-subnet",
        "poll = 5\ndeadline = 20\nrequest_share_percent = 100\nmax_branches = 3",
    );
    let other = account.ec2.change(|state| {
        let mut subnet = state.subnets[&account.subnet].clone();
        subnet.subnet_id = "subnet-0123456789abcdef0".to_owned();
        subnet.cidr_block = Some("10.0.12.0/24".parse().unwrap());
        subnet.ipv6_cidr_block = Some("2001:db8:1:c::/64".parse().unwrap());
        let id = subnet.subnet_id.clone();
        state.subnets.insert(id.clone(), subnet);
        id
    });
    host.add_lines(&pool(&account, 2, &account.client)).unwrap();
    host.start_agent().unwrap();
    let ground = Ground { host, account };
    ground.fill(2);
    let mut tasks = Vec::new();
    for number in 0..3 {
        let id = format!("other-{number}");
        let task = ground
            .host
            .add_task(&id, &[&other], &[&ground.account.client]);
        tasks.push(task.unwrap());
    }
    let tasks: Vec<_> = tasks.iter().collect();
    ground.assert_whole(&tasks, "full of tasks");
    assert_eq!(ground.waiting().len(), 0, "each gave way to a task");
    let capacity = ground.capacity();
    assert_eq!(capacity["tasks"]["available"], 0);
    assert_eq!(capacity["warmPool"]["misses"], 3);
    let full = spec("full", &[&other], &[&ground.account.client]);
    let output = ground.host.add_spec(&full).unwrap();
    assert!(!output.status.success());
    // A place that is free again is the pool's.
    ground.host.remove_task("other-0").unwrap();
    eventually("one waits", FILLED, || ground.waiting().len() == 1);
    ground.assert_whole(&tasks[1..], "one waits");
}

#[test]
fn what_waits_survives_restarts_and_kills_and_has_one_owner() {
    let ground = ground(
        "ec2-pool-kills",
        "poll = 5\ndeadline = 20\nrequest_share_percent = 100",
        3,
        |account| &account.client,
    );
    ground.fill(3);
    let before = ground.waiting();
    ground.host.kill_agent().unwrap();
    drop(ground.account.ec2.take_calls());
    ground.host.start_agent().unwrap();
    assert_eq!(ground.waiting(), before, "found by three describes");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(ground.account.changes(), [""; 0]);
    ground.host.stop_agent().unwrap();
    // Killed with a branch in hand: it is the task's or waits, and never both.
    for (number, point) in [
        "add/allocate/before",
        "add/allocate/after",
        "add/attach-eni/after",
        "add/carrier/after",
        "remove/release/before",
        "remove/release/after",
        "remove/forget/before",
    ]
    .into_iter()
    .enumerate()
    {
        ground.host.start_agent_until(point).unwrap();
        eventually(point, FILLED, || ground.waiting().len() == 3);
        let id = format!("task-{number}");
        let request = spec(&id, &[&ground.account.subnet], &[&ground.account.client]);
        let added = ground.host.add_spec(&request).unwrap().status.success();
        let had = added.then(|| ground.host.task(&id).unwrap());
        if added {
            let removed = ground.host.branchline(&["task", "rm", &id]).unwrap();
            assert!(!removed.status.success(), "{point}");
        }
        assert!(ground.host.agent_was_killed().unwrap(), "{point}");
        ground.host.start_agent().unwrap();
        eventually(point, FILLED, || ground.waiting().len() == 3);
        if let Some(had) = had {
            assert!(!ground.waiting().contains(&had.eni_id), "{point}: it rests");
        }
        eventually("the task is there or not", PATIENCE, || {
            let mut api = ground.host.api().unwrap();
            let tasks = api.json("GET", "/v1/tasks", "").unwrap();
            let tasks = tasks["tasks"].as_array().unwrap();
            tasks.iter().all(|task| task["lastStatus"] == "RUNNING")
        });
        let there = ground.host.task(&id).ok();
        ground.assert_whole(&there.iter().collect::<Vec<_>>(), point);
        if there.is_some() {
            ground.host.remove_task(&id).unwrap();
        }
        ground.host.stop_agent().unwrap();
    }
}

#[test]
#[ignore = "slow: the second look comes a minute after the first, and what it frees rests for half a one"]
fn what_no_pool_wants_any_more_goes_and_what_was_begun_is_never_lost() {
    let lines = "poll = 5\ndeadline = 20\nrequest_share_percent = 100";
    let (mut host, account) = instance_with("ec2-pool-orphans", lines);
    host.add_lines(&pool(&account, 2, &account.client)).unwrap();
    // Killed between the two calls of one that is to wait.
    account.ec2.fault(
        Which::of(ASSOCIATE).nth(1),
        Fault::Delay(Duration::from_secs(5)),
    );
    host.start_agent().unwrap();
    eventually("it is asked", PATIENCE, || {
        account.ec2.count(ASSOCIATE) == 1
    });
    host.kill_agent().unwrap();
    account.ec2.clear_faults();
    account.ec2.change(|state| state.trunk_associations.clear());
    let begun = account.branches();
    assert_eq!(begun.len(), 1);
    host.start_agent().unwrap();
    let ground = Ground { host, account };
    eventually("others wait", FILLED, || ground.waiting().len() == 2);
    assert!(
        ground.waiting().is_disjoint(&begun),
        "not on the trunk: nobody's"
    );
    let started = Instant::now();
    eventually("it is deleted", COLLECTED, || {
        ground.account.branches().is_disjoint(&begun)
    });
    assert!(started.elapsed() > Duration::from_secs(60));
    assert_eq!(ground.account.branches(), ground.waiting());
    // A reboot empties the store of tasks: whose they were nobody knows, so they are nobody's.
    let before = ground.waiting();
    ground.host.stop_agent().unwrap();
    ground.host.run(|| {
        std::fs::remove_dir_all("/run/branchline").unwrap();
    });
    ground.host.start_agent().unwrap();
    eventually("others wait", FILLED, || ground.waiting().len() == 2);
    assert!(ground.waiting().is_disjoint(&before));
    eventually("the old are deleted", COLLECTED, || {
        ground.account.branches() == ground.waiting()
    });
}

#[test]
fn a_pool_that_cannot_be_filled_does_no_harm() {
    let (mut host, account) = instance_with(
        "ec2-pool-faults",
        "poll = 5\ndeadline = 20\nrequest_share_percent = 100",
    );
    host.add_lines(&pool(&account, 2, &account.client)).unwrap();
    let error = |code| Fault::Error(told(code));
    for (operation, fault) in [
        (CREATE, error("InsufficientFreeAddressesInSubnet")),
        (ASSOCIATE, error("OperationNotPermitted")),
    ] {
        // The first of them is the trunk's own.
        let nth = if operation == CREATE { 2 } else { 1 };
        account.ec2.fault(Which::of(operation).nth(nth), fault);
    }
    account
        .ec2
        .fault(Which::of(ASSOCIATE).nth(3), Fault::LoseAnswer);
    host.start_agent().unwrap();
    let ground = Ground { host, account };
    eventually("it is full in the end", Duration::from_secs(40), || {
        ground.waiting().len() == 2
    });
    ground.assert_whole(&[], "filled");
    assert!(ground.host.log().contains("no ENI for the pool"));
}
