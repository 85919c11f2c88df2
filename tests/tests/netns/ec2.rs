//! Tasks whose ENIs an EC2 gives: a stand-in that speaks EC2's protocol on the host's loopback, and checks every
//! parameter. The trunk's wire is the embedded VPC, so packets really flow by what that EC2 says.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use branchline_ec2_stand_in::{
    Call, Ec2, Ec2Error, Fault, Imds, InterfaceType, Outcome, Target, TrunkAssociation, Which,
    World,
};
use branchline_tests::{
    host::Host,
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE, SHORT, is_silence},
    task::{Task, spec},
};

/// What the agent and the doctor are given.
const CREDENTIALS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
    (
        "AWS_SECRET_ACCESS_KEY",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    ),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

/// What this EC2 has.
pub(crate) struct Account {
    pub(crate) ec2: Arc<Ec2>,
    /// Kept for its end.
    _imds: Imds,
    pub(crate) instance: String,
    pub(crate) subnet: String,
    pub(crate) server: String,
    pub(crate) client: String,
    /// A group that a prefix list may reach.
    pub(crate) listed: String,
}

/// A host on an EC2 instance, without an agent.
fn instance(name: &str) -> (Host, Account) {
    instance_with(name, "poll = 5\ndeadline = 20")
}

/// As [`instance`], with lines of `[ec2]`; where these name no mode, a trunk's wire is the embedded VPC.
pub(crate) fn instance_with(name: &str, lines: &str) -> (Host, Account) {
    let mut world = World::new("eu-west-1");
    let vpc = world.vpc("10.0.0.0/16", Some("2001:db8:1::/56"));
    let subnet = world.subnet(
        &vpc,
        "eu-west-1a",
        Some("10.0.4.0/22"),
        Some("2001:db8:1:1::/64"),
    );
    let client = world.group(&vpc, "client");
    let server = world.group(&vpc, "server");
    for protocol in ["tcp", "udp"] {
        let ports = Some((OPEN_PORT, OPEN_PORT));
        world.ingress(&server, protocol, ports, &client);
    }
    let listed = world.group(&vpc, "listed");
    let list = world.prefix_list("offices", &["192.0.2.0/24"]);
    world.ingress(&listed, "tcp", Some((OPEN_PORT, OPEN_PORT)), &list);
    let instance = world.instance(&subnet, "c5.large");

    let mut host = Host::new(name, Settings::default()).unwrap();
    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (for_ec2, for_imds) = host.run(|| (listen(), listen()));
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let (at, imds_at) = (address(&for_ec2), address(&for_imds));
    let ec2 = Arc::new(Ec2::start(world, [for_ec2]).unwrap());
    ec2.settings(|settings| {
        settings.attach_delay = Duration::from_millis(100);
    });
    let imds = Imds::start(&ec2, &instance, [for_imds]).unwrap();
    let wire = match lines.contains("mode") {
        true => "",
        false => "wire = \"fabric\"",
    };
    host.set(Settings {
        top_level: "provider = \"ec2\"".to_owned(),
        more_flow_logs: format!(
            "[ec2]\nendpoint_url = \"http://{at}\"\nmetadata_endpoint = \"http://{imds_at}\"\n\
             {wire}\ncool_down = 30\n{lines}"
        ),
        environment: CREDENTIALS.to_vec(),
        ..Settings::default()
    })
    .unwrap();
    let account = Account {
        ec2,
        _imds: imds,
        instance,
        subnet,
        server,
        client,
        listed,
    };
    (host, account)
}

impl Account {
    pub(crate) fn add(&self, host: &Host, id: &str, group: &str) -> Task {
        host.add_task(id, &[&self.subnet], &[group]).unwrap()
    }

    /// Branches by VLAN id.
    pub(crate) fn on_trunk(&self) -> BTreeSet<u16> {
        let associations = self.ec2.state().trunk_associations;
        let vlan = |one: &TrunkAssociation| u16::try_from(one.vlan_id).unwrap();
        associations.values().map(vlan).collect()
    }

    /// Ids of all ENIs that are neither the primary nor a trunk.
    pub(crate) fn branches(&self) -> BTreeSet<String> {
        let enis = self.ec2.state().network_interfaces.into_values();
        enis.filter(|eni| eni.attachment.is_none() && eni.interface_type != InterfaceType::Trunk)
            .map(|eni| eni.network_interface_id)
            .collect()
    }

    /// As [`Account::changes`], without those that only ask whether they would be allowed.
    pub(crate) fn changes_but_dry_runs(&self) -> Vec<String> {
        let calls = self.ec2.take_calls().into_iter();
        let is_dry = |call: &Call| call.parameters.contains_key("DryRun");
        let calls = calls
            .filter(|call| !is_dry(call))
            .map(|call| call.operation);
        calls.filter(|name| is_change(name)).collect()
    }

    /// Calls that change something, in order.
    pub(crate) fn changes(&self) -> Vec<String> {
        let calls = self.ec2.take_calls().into_iter().map(|call| call.operation);
        calls.filter(|name| is_change(name)).collect()
    }
}

fn is_change(operation: &str) -> bool {
    !operation.starts_with("Describe") && !operation.starts_with("Get")
}

pub(crate) fn open(task: &Task) -> SocketAddr {
    SocketAddr::new(task.ipv4.into(), OPEN_PORT)
}

/// An error that the stand-in is told to answer with.
pub(crate) fn told(code: &'static str) -> Ec2Error {
    Ec2Error::new(code, "as told")
}

pub(crate) fn eventually(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn tasks_on_branches_talk_by_the_groups_that_ec2_has() {
    let (host, account) = instance("ec2-talk");
    host.start_agent().unwrap();
    assert_eq!(
        account.changes(),
        [
            "CreateNetworkInterface",
            "AttachNetworkInterface",
            "ModifyNetworkInterfaceAttribute"
        ],
        "for the trunk"
    );
    let server = account.add(&host, "server", &account.server);
    let client = account.add(&host, "client", &account.client);
    assert_eq!(
        account.changes(),
        ["CreateNetworkInterface", "AssociateTrunkInterface"].repeat(2)
    );
    assert_eq!(
        account.on_trunk(),
        BTreeSet::from([server.vlan, client.vlan])
    );
    let state = account.ec2.state();
    let eni = &state.network_interfaces[&server.eni_id];
    assert_eq!(eni.tags["branchline-instance"], account.instance);
    assert_eq!(eni.tags["branchline-vlan"], server.vlan.to_string());
    for address in server.addresses() {
        let at = |port| SocketAddr::new(address, port);
        talk::tcp(&client.netns, &server.netns, at(OPEN_PORT), PATIENCE).unwrap();
        let denied = talk::udp(&client.netns, &server.netns, at(8), 100, SHORT);
        assert!(is_silence(&denied), "{denied:?}");
    }
    let back = talk::udp(&server.netns, &client.netns, open(&client), 100, SHORT);
    assert!(
        is_silence(&back),
        "nobody may open anything to the client: {back:?}"
    );

    host.remove_task("client").unwrap();
    assert_eq!(account.changes(), ["DisassociateTrunkInterface"]);
    assert_eq!(account.on_trunk(), BTreeSet::from([server.vlan]));
    // Its VLAN id and addresses rest with it.
    let next = account.add(&host, "next", &account.client);
    assert!(![server.vlan, client.vlan].contains(&next.vlan));
    eventually(
        "the client's ENI is deleted",
        Duration::from_secs(45),
        || !account.branches().contains(&client.eni_id),
    );
    assert_eq!(account.branches().len(), 2);
    let refused = account.ec2.calls().into_iter();
    let refused: Vec<_> = refused
        .filter(|call| call.outcome != Outcome::Done)
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn what_changes_in_ec2_is_in_force_without_a_restart() {
    let (host, account) = instance("ec2-rules");
    host.start_agent().unwrap();
    let server = account.add(&host, "server", &account.server);
    let stranger = account.add(&host, "stranger", &account.server);
    let try_it = || talk::tcp(&stranger.netns, &server.netns, open(&server), SHORT);
    assert!(is_silence(&try_it()), "no rule admits it");
    account.ec2.change(|state| {
        for rule in state.security_group_rules.values_mut() {
            if rule.group_id == account.server && rule.from_port == Some(OPEN_PORT.into()) {
                rule.target = Target::Group(account.server.clone());
            }
        }
    });
    eventually("the new rule", Duration::from_secs(20), || try_it().is_ok());
}

#[test]
fn a_lost_answer_makes_nothing_twice() {
    let (host, account) = instance("ec2-lost");
    for operation in [
        "CreateNetworkInterface",
        "AttachNetworkInterface",
        "AssociateTrunkInterface",
        "DisassociateTrunkInterface",
    ] {
        account
            .ec2
            .fault(Which::of(operation).nth(1), Fault::LoseAnswer);
    }
    host.start_agent().unwrap();
    let task = account.add(&host, "task", &account.client);
    assert_eq!(account.branches(), BTreeSet::from([task.eni_id.clone()]));
    assert_eq!(account.on_trunk(), BTreeSet::from([task.vlan]));
    host.remove_task("task").unwrap();
    assert_eq!(account.on_trunk(), BTreeSet::new());
    let trunks = account.ec2.state().network_interfaces.into_values();
    let trunks = trunks.filter(|eni| eni.interface_type == InterfaceType::Trunk);
    assert_eq!(trunks.count(), 1);
    assert_eq!(account.ec2.faults_left(), 0);
}

#[test]
fn ec2_that_has_not_settled_is_waited_for() {
    let (host, account) = instance("ec2-settles");
    host.start_agent().unwrap();
    account.ec2.settings(|settings| {
        settings.consistency_delay = Duration::from_secs(3);
    });
    let task = account.add(&host, "task", &account.client);
    assert_eq!(account.on_trunk(), BTreeSet::from([task.vlan]));
}

#[test]
fn a_task_whose_calls_fail_is_as_if_it_had_never_been() {
    let (host, account) = instance("ec2-fails");
    host.start_agent().unwrap();
    let group = [account.client.as_str()];
    for (operation, code, said) in [
        (
            "CreateNetworkInterface",
            "InsufficientFreeAddressesInSubnet",
            "no ENI in any subnet",
        ),
        (
            "CreateNetworkInterface",
            "UnauthorizedOperation",
            "UnauthorizedOperation",
        ),
        (
            "AssociateTrunkInterface",
            "OperationNotPermitted",
            "OperationNotPermitted",
        ),
        (
            "DescribeSecurityGroupRules",
            "UnauthorizedOperation",
            "UnauthorizedOperation",
        ),
    ] {
        let error = told(code);
        account
            .ec2
            .fault(Which::of(operation).nth(1), Fault::Error(error));
        let spec = spec("task", &[&account.subnet], &group);
        let output = host.add_spec(&spec).unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && text.contains(said),
            "{operation}: {text}"
        );
        assert_eq!(account.on_trunk(), BTreeSet::new(), "{operation}");
        account.ec2.clear_faults();
    }
    let task = account.add(&host, "task", &account.client);
    assert_eq!(account.on_trunk(), BTreeSet::from([task.vlan]));
    eventually("what failed is deleted", Duration::from_secs(45), || {
        account.branches() == BTreeSet::from([task.eni_id.clone()])
    });
}

#[test]
fn a_restart_writes_nothing_and_loses_no_task() {
    let (host, account) = instance("ec2-restart");
    host.start_agent().unwrap();
    let server = account.add(&host, "server", &account.server);
    let client = account.add(&host, "client", &account.client);
    let reach = || talk::tcp(&client.netns, &server.netns, open(&server), PATIENCE);
    reach().unwrap();
    host.kill_agent().unwrap();
    drop(account.ec2.take_calls());
    host.start_agent().unwrap();
    assert_eq!(account.changes(), [""; 0]);
    reach().unwrap();
    // It was associated by another agent.
    host.remove_task("client").unwrap();
    assert_eq!(account.changes(), ["DisassociateTrunkInterface"]);
}

#[test]
fn while_ec2_is_away_what_was_in_force_stays_and_is_said_to_be_old() {
    let (host, account) = instance("ec2-away");
    host.start_agent().unwrap();
    let server = account.add(&host, "server", &account.server);
    let client = account.add(&host, "client", &account.client);
    account
        .ec2
        .fault(Which::any(), Fault::Error(told("AuthFailure")));
    eventually("the status says so", Duration::from_secs(20), || {
        let problems = host.status().unwrap().problems;
        problems.iter().any(|text| text.contains("AuthFailure"))
    });
    talk::tcp(&client.netns, &server.netns, open(&server), PATIENCE).unwrap();
    account.ec2.clear_faults();
    eventually("it is read again", Duration::from_secs(20), || {
        host.status().unwrap().problems.is_empty()
    });
}

/// What the status says is wrong.
pub(crate) fn problems(host: &Host) -> String {
    host.status().unwrap().problems.join("; ")
}

#[test]
fn a_restart_with_twenty_tasks_asks_three_times_until_it_is_ready() {
    let (host, account) = instance("ec2-restart-20");
    account.ec2.change(|state| {
        let types = &mut state.instance_types;
        types.get_mut("c5.large").unwrap().branches = Some(30);
    });
    host.start_agent().unwrap();
    let server = account.add(&host, "server", &account.server);
    let client = account.add(&host, "client", &account.client);
    for number in 2..20 {
        account.add(&host, &format!("task-{number}"), &account.client);
    }
    host.kill_agent().unwrap();
    drop(account.ec2.take_calls());
    // Whatever it asks beyond that, it does not learn.
    let away = Fault::Error(told("AuthFailure"));
    account.ec2.fault(Which::any().from(4), away);
    host.start_agent().unwrap();
    let reach = || talk::tcp(&client.netns, &server.netns, open(&server), PATIENCE);
    reach().unwrap();
    let calls = account.ec2.calls().into_iter();
    let mut first: Vec<_> = calls.take(3).map(|call| call.operation).collect();
    first.sort();
    assert_eq!(
        first,
        [
            "DescribeNetworkInterfaces",
            "DescribeNetworkInterfaces",
            "DescribeTrunkInterfaceAssociations"
        ]
    );
    let said = problems(&host);
    assert!(said.contains("security groups are those of"), "{said}");
    account.ec2.clear_faults();
    eventually("all is read", Duration::from_secs(20), || {
        problems(&host).is_empty()
    });
    assert_eq!(account.changes(), [""; 0]);
    assert_eq!(account.on_trunk().len(), 20);
    // Its association is known from the look at the start.
    host.remove_task("client").unwrap();
    assert_eq!(account.changes(), ["DisassociateTrunkInterface"]);
}

#[test]
fn a_start_while_ec2_is_away_goes_on_with_what_was_known() {
    let (host, account) = instance("ec2-start-away");
    let away = Fault::Error(told("AuthFailure"));
    account.ec2.fault(Which::any(), away);
    let first = format!("{:#}", host.start_agent().unwrap_err());
    assert!(first.contains("AuthFailure"), "nothing is known: {first}");
    account.ec2.clear_faults();
    host.start_agent().unwrap();
    let server = account.add(&host, "server", &account.server);
    let client = account.add(&host, "client", &account.client);
    for fault in [Fault::Error(told("AuthFailure")), Fault::Refuse] {
        host.kill_agent().unwrap();
        account.ec2.fault(Which::any(), fault.clone());
        host.start_agent().unwrap();
        talk::tcp(&client.netns, &server.netns, open(&server), PATIENCE).unwrap();
        let denied = talk::tcp(&server.netns, &client.netns, open(&client), SHORT);
        assert!(is_silence(&denied), "{fault:?}: {denied:?}");
        let said = problems(&host);
        assert!(
            said.contains("security groups are those of"),
            "{fault:?}: {said}"
        );
        account.ec2.clear_faults();
        drop(account.ec2.take_calls());
        eventually("it is read again", Duration::from_secs(60), || {
            problems(&host).is_empty()
        });
        assert_eq!(account.changes(), [""; 0], "{fault:?}");
    }
    // What changed meanwhile, and what needs the look that the start did without.
    eventually("the primary ENI is counted", PATIENCE, || {
        let capacity = host.branchline_ok(&["capacity", "--json"]).unwrap();
        let capacity: serde_json::Value = serde_json::from_str(&capacity).unwrap();
        capacity["foreignNetworkInterfaces"] == 1
    });
    host.remove_task("client").unwrap();
    assert_eq!(account.on_trunk(), BTreeSet::from([server.vlan]));
}

#[test]
fn subnets_and_names_are_read_again_while_the_agent_runs() {
    let (host, account) = instance("ec2-vpc");
    host.start_agent().unwrap();
    let free = || {
        let subnets = host.branchline_ok(&["subnet", "ls", "--json"]).unwrap();
        let subnets: serde_json::Value = serde_json::from_str(&subnets).unwrap();
        subnets.to_string()
    };
    let before = free();
    account.ec2.change(|state| {
        for subnet in state.subnets.values_mut() {
            subnet.availability_zone = "eu-west-1b".to_owned();
        }
    });
    eventually("the subnet has gone", Duration::from_secs(20), || {
        free() != before
    });
    assert!(!free().contains(&account.subnet), "it is in another zone");
}

/// What the doctor says, and whether it is content. With the agent's credentials.
pub(crate) fn doctor(host: &Host, more: &str) -> (String, bool) {
    doctor_with(host, more, &[])
}

/// As [`doctor`], with more variables.
pub(crate) fn doctor_with(host: &Host, more: &str, variables: &[(&str, &str)]) -> (String, bool) {
    let output = host.run(|| {
        std::fs::write("/run/doctor.toml", {
            let agent = std::fs::read_to_string("/run/agent.toml").unwrap();
            format!("{agent}\n{more}")
        })
        .unwrap();
        let mut command = Command::new(Host::program().unwrap());
        command.args(["doctor", "--config", "/run/doctor.toml"]);
        command.envs(CREDENTIALS).envs(variables.iter().copied());
        command.stdin(Stdio::null());
        command.output().unwrap()
    });
    let text = String::from_utf8(output.stdout).unwrap();
    (text, output.status.success())
}

/// The doctor's line that begins with `name`.
pub(crate) fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let mut lines = text.lines();
    let of_it = |line: &&str| line.contains(name);
    lines
        .find(of_it)
        .unwrap_or_else(|| panic!("{name}: {text}"))
}

#[test]
fn the_doctor_says_what_the_credentials_may_not_do() {
    let (host, account) = instance("ec2-doctor");
    let (text, is_content) = doctor(&host, "");
    assert!(is_content, "{text}");
    assert!(line(&text, "EC2 instance").contains(&account.instance));
    assert!(line(&text, "trunk ENI").contains("1 of 3"), "{text}");
    assert_eq!(account.changes_but_dry_runs(), [""; 0]);
    host.start_agent().unwrap();
    account.ec2.deny("AssociateTrunkInterface");
    account.ec2.deny("DescribeInstanceTypes");
    let (text, is_content) = doctor(&host, "");
    assert!(!is_content, "{text}");
    let refused = line(&text, "ec2:AssociateTrunkInterface");
    assert!(
        refused.contains("missing") && text.contains("iam-policy.json"),
        "{text}"
    );
    assert!(line(&text, "ec2:DescribeInstanceTypes").contains("warn"));
    assert!(line(&text, "ec2:CreateNetworkInterface").contains("allowed"));
    assert!(line(&text, "trunk ENI").contains("is attached"));
    account.ec2.allow("AssociateTrunkInterface");
    let (text, is_content) = doctor(&host, "");
    assert!(is_content, "{text}");
    let refusal = Fault::Error(told("AuthFailure"));
    account.ec2.fault(Which::any(), refusal);
    let (text, is_content) = doctor(&host, "");
    assert!(!is_content && line(&text, "EC2 API").contains("AuthFailure"));
}

#[test]
fn no_trunk_has_one_clear_reason() {
    let (host, account) = instance("ec2-no-trunk");
    host.run(|| {
        let table = "instance_type,max_enis,trunking_compatible,branch_enis\nc5.large,3,false,\n";
        std::fs::write("/run/types.csv", table).unwrap();
    });
    let (text, is_content) = doctor(&host, "[capacity]\neni_limits = 'types.csv'");
    assert!(!is_content);
    assert!(
        line(&text, "trunk ENI").contains("c5.large has no trunk"),
        "{text}"
    );
    account.ec2.change(|state| {
        let types = &mut state.instance_types;
        types.get_mut("c5.large").unwrap().network_cards = vec![1];
    });
    let (text, is_content) = doctor(&host, "");
    assert!(!is_content);
    let reason = "1 of the 1 network interfaces";
    assert!(line(&text, "trunk ENI").contains(reason), "{text}");
    let error = format!("{:#}", host.start_agent().unwrap_err());
    assert!(error.contains(reason), "{error}");
    assert_eq!(account.changes_but_dry_runs(), [""; 0], "no trunk is made");
}
