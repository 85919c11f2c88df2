//! Another build of the agent takes the place of the one that runs: its programs replace the old ones in one step each,
//! and connections and counts go on.

use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::Command,
    sync::LazyLock,
    thread,
    time::Duration,
};

use branchline_tests::{
    host::Host,
    settings::{OPEN_PORT, Settings},
    talk,
};

use crate::restart::{UDP, sum, under_datagrams};

/// The other build, on the host's own `/run`.
const OTHER: &str = "/run/branchline-of-another-build";
/// The block of all branches, as `tc` takes it.
const BLOCK: &str = "25196";

/// The program under test with other kernel programs of the same meaning: where one has `rX = N`, not negative, before
/// `exit` or `goto`, it sets the lower half of `rX`, which clears the upper one.
static ANOTHER_BUILD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const MOV64: u8 = 0xb7;
    const MOV32: u8 = 0xb4;
    let mut program = fs::read(Host::program().unwrap()).unwrap();
    let mut changed = 0;
    for at in 0..program.len() - 16 {
        let [first, second] = [&program[at..at + 8], &program[at + 8..at + 16]];
        let is_mov = first[0] == MOV64 && first[1] < 10 && first[2..4] == [0, 0] && first[7] < 0x80;
        let is_jump = second[..2] == [0x05, 0] || second[..4] == [0x95, 0, 0, 0];
        if is_mov && is_jump && second[4..] == [0; 4] {
            program[at] = MOV32;
            changed += 1;
        }
    }
    assert!(changed > 10, "{changed} places");
    program
});

/// Id and tag of the programs that judge packets: of the branches and of the fabric's two directions.
fn programs(host: &Host) -> Vec<(u64, String)> {
    let fabric = ["netns", "exec", "branchline-fabric", "tc"];
    let far_end = "dev trunk";
    let filters = [
        (vec!["tc"], format!("block {BLOCK}")),
        (
            [vec!["ip"], fabric.to_vec()].concat(),
            format!("{far_end} ingress"),
        ),
        (
            [vec!["ip"], fabric.to_vec()].concat(),
            format!("{far_end} egress"),
        ),
    ];
    let one = |(command, place): (Vec<&str>, String)| {
        let mut tc = Command::new(command[0]);
        tc.args(&command[1..]).args(["-j", "filter", "show"]);
        tc.args(place.split(' '));
        let output = host.run(|| tc.output()).unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let filters = shown.as_array().unwrap().iter();
        let mut found = filters.filter_map(|filter| {
            let program = &filter["options"]["prog"];
            Some((program["id"].as_u64()?, program["tag"].as_str()?.to_owned()))
        });
        let program = found.next();
        program.unwrap_or_else(|| panic!("{place}: {shown:#}"))
    };
    filters.into_iter().map(one).collect()
}

/// Whether the kernel still has a program.
fn is_loaded(id: u64) -> bool {
    let mut bpftool = Command::new("bpftool");
    let shown = bpftool
        .args(["prog", "show", "id", &id.to_string()])
        .output();
    shown.unwrap().status.success()
}

/// An upgrade under traffic; the old agent ends by `end`.
fn upgraded(name: &str, end: impl Fn(&Host) -> anyhow::Result<()> + Sync) {
    let mut host = Host::new(name, Settings::default()).unwrap();
    host.start_agent().unwrap();
    let server = host
        .add_task("server", &["subnet-a"], &["sg-server"])
        .unwrap();
    let client = host
        .add_task("client", &["subnet-b"], &["sg-client"])
        .unwrap();
    host.run(|| {
        fs::write(OTHER, &*ANOTHER_BUILD).unwrap();
        fs::set_permissions(OTHER, Permissions::from_mode(0o755)).unwrap();
    });
    let before = programs(&host);
    // A connection with bytes before and after.
    let at = SocketAddr::new(server.ipv4.into(), OPEN_PORT);
    let listener = server.run(|| TcpListener::bind(at)).unwrap();
    let mut opened = client.run(|| TcpStream::connect(at)).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let mut say = |text: &[u8; 5]| {
        opened.write_all(text).unwrap();
        let mut heard = [0; 5];
        accepted.set_read_timeout(Some(talk::PATIENCE)).unwrap();
        accepted.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, text);
    };
    say(b"older");
    let ((), counts) = under_datagrams(&client, &server, at, || {
        thread::sleep(Duration::from_millis(300));
        end(&host).unwrap();
        thread::sleep(Duration::from_millis(300));
        let exec = format!("shift; exec {OTHER} \"$@\"");
        let launcher = ["sh", "-c", &exec, "sh"].map(str::to_owned).to_vec();
        host.set(Settings {
            launcher,
            ..Settings::default()
        })
        .unwrap();
        host.start_agent().unwrap();
        thread::sleep(Duration::from_millis(300));
    });
    say(b"newer");
    assert!(counts.sent > 1_000, "{counts:?}");
    assert_eq!(counts.sent, counts.received);
    let after = programs(&host);
    for ((old, _), (new, _)) in before.iter().zip(&after) {
        assert!(is_loaded(*new) && !is_loaded(*old), "{before:?} {after:?}");
    }
    // The last, fabric_gateway, has no such place.
    for (old, new) in before.iter().zip(&after).take(2) {
        assert_ne!(old.1, new.1, "the build is no other");
    }
    assert_eq!(host.status().unwrap().tasks.running, 2);
    host.stop_agent().unwrap();
    let rows = host.flow_rows().unwrap();
    for eni in [&client.eni_id, &server.eni_id] {
        let (packets, _) = sum(&rows, eni, |flow| flow.protocol == UDP);
        assert_eq!(packets, counts.sent, "as {eni} counts them");
    }
}

#[test]
fn another_build_takes_over_from_a_stopped_agent() {
    upgraded("upgrade", Host::stop_agent);
}

#[test]
fn another_build_takes_over_from_a_killed_agent() {
    upgraded("upgrade-killed", Host::kill_agent);
}
