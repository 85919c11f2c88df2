//! The wall clock is stepped while packets are counted: each is in one row, of the right file.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use branchline::flow_log::Layout;
use branchline_tests::{
    flow_row::FlowRow,
    host::Host,
    settings::{OPEN_PORT, Settings},
    talk,
    task::Task,
};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use super::require_guest;

const UDP: u8 = 17;
const QUICK: &str = "/run/flows";
const SLOW: &str = "/run/slow";
/// Guests are slow.
const LONG: Duration = Duration::from_secs(120);
/// No row spans more of the traffic than this, whatever the clock did meanwhile.
const LONGEST_ROW: u64 = 60;

/// Steps the machine's wall clock.
fn step(seconds: i64) {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).unwrap();
    let then = TimeSpec::new(now.tv_sec() + seconds, now.tv_nsec());
    clock_settime(ClockId::CLOCK_REALTIME, then).unwrap();
}

/// Sends datagrams from the client to the server, some before the clock is stepped and some after it.
fn across_step(client: &Task, server: &Task, seconds: i64, count: u64) -> u64 {
    for address in server.addresses() {
        let socket = client.run(|| UdpSocket::bind(talk::unspecified(address)));
        let socket = socket.unwrap();
        let send = || {
            for _ in 0..count {
                let at = SocketAddr::new(address, OPEN_PORT);
                socket.send_to(&[0; 100], at).unwrap();
            }
        };
        send();
        step(if address.is_ipv4() { seconds } else { 0 });
        send();
    }
    4 * count
}

/// Rows with the files that they are in, below `dir`.
fn rows(host: &Host, dir: &str) -> Vec<(PathBuf, FlowRow)> {
    fn find(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                find(&path, found);
            } else if path.to_string_lossy().ends_with(".log.gz") {
                found.push(path);
            }
        }
    }
    host.run(|| {
        let mut paths = Vec::new();
        find(Path::new(dir), &mut paths);
        let rows = |path: PathBuf| {
            let rows = FlowRow::read(fs::File::open(&path).unwrap()).unwrap();
            rows.into_iter().map(move |row| (path.clone(), row))
        };
        paths.into_iter().flat_map(rows).collect()
    })
}

/// Packets to the server's port in the rows of an ENI.
fn counted(rows: &[(PathBuf, FlowRow)], eni: &Task) -> u64 {
    let flows = rows.iter().filter(|(_, row)| row.eni_id == eni.eni_id);
    flows
        .filter_map(|(_, row)| row.flow.as_ref())
        .filter(|flow| flow.protocol == UDP && flow.dst_port == OPEN_PORT)
        .map(|flow| flow.packets)
        .sum()
}

fn until(what: &str, reached: impl Fn() -> bool) {
    let began = Instant::now();
    while !reached() {
        assert!(began.elapsed() < LONG, "{what}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Each row is in the file of the slot that it ends in.
fn check_slots(rows: &[(PathBuf, FlowRow)], dir: &str, flow_log_id: &str, rotation: u64) {
    let layout = Layout {
        account_id: "000000000000".to_owned(),
        region: "local".to_owned(),
        flow_log_id: flow_log_id.to_owned(),
        slot_seconds: rotation,
        ..Layout::default()
    };
    for (path, row) in rows {
        let named = Path::new(dir).join(layout.path(layout.slot(row.end), 0));
        let but_hash = |path: &Path| {
            let path = path.to_string_lossy().into_owned();
            path.rsplit_once('_').unwrap().0.to_owned()
        };
        assert_eq!(but_hash(path), but_hash(&named), "{row:?}");
        if row.flow.is_some() {
            assert!(row.end - row.start < LONGEST_ROW, "{row:?}");
        }
    }
}

#[test]
fn each_packet_is_in_one_row_of_the_right_file_however_the_clock_is_stepped() {
    require_guest();
    let slow = format!(
        "[[flow_logs]]\n\
         flow_log_id = \"fl-00000001\"\n\
         dir = \"{SLOW}\"\n\
         max_aggregation_interval = 5\n\
         rotation = 60\n"
    );
    let settings = Settings {
        more_flow_logs: slow,
        ..Settings::default()
    };
    let host = Host::new("clock", settings).unwrap();
    host.start_agent().unwrap();
    let [server, client] = [("server", "sg-server"), ("client", "sg-client")]
        .map(|(id, group)| host.add_task(id, &["subnet-a"], &[group]).unwrap());
    let mut sent = 0;
    for (number, seconds) in [0, 3_600, -7_200, -3, 100, 86_400].into_iter().enumerate() {
        sent += across_step(&client, &server, seconds, 3 + number as u64);
        let both = || [&server, &client].map(|eni| counted(&rows(&host, QUICK), eni));
        until("the rows of this step are there", || both() == [sent; 2]);
        if seconds == -7_200 {
            // Not two hours later, when the clock shows the first slot's end again.
            let both = || [&server, &client].map(|eni| counted(&rows(&host, SLOW), eni));
            until("a slot ends by a step back", || both() == [sent; 2]);
        }
    }
    // While no agent runs.
    for seconds in [-100_000, 50_000] {
        host.kill_agent().unwrap();
        sent += across_step(&client, &server, seconds, 11);
        host.start_agent().unwrap();
    }
    host.stop_agent().unwrap();
    for (dir, flow_log_id, rotation) in [
        (QUICK, "fl-00000000000000000", 1),
        (SLOW, "fl-00000001", 60),
    ] {
        let rows = rows(&host, dir);
        assert!(rows.iter().all(|(_, row)| row.log_status != "SKIPDATA"));
        for eni in [&server, &client] {
            assert_eq!(counted(&rows, eni), sent, "{} in {dir}", eni.id);
        }
        check_slots(&rows, dir, flow_log_id, rotation);
    }
}
