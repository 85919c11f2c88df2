//! Disks that are full or have changed what was written: packets go on, and each is in a row or one
//! of those that SKIPDATA rows tell of.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use branchline::state::Store;
use branchline_tests::{
    host::Host,
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE},
    task::Task,
};
use nix::mount::{MsFlags, mount};

use crate::flow_logs::{CLOSED_PORT, lines, logs, send, until};

/// The disk, which has state and flow logs.
const DISK: &str = "/run/state";
const FILL: &str = "/run/state/fill";
/// Rows of this log are of the server's refused packets only, which nobody but the test sends.
const REJECTS: &str = "/run/state/rejects";
const MEBIBYTE: usize = 1 << 20;
const SIZE: usize = 48 * MEBIBYTE;

fn host(name: &str) -> Host {
    let rejects = format!(
        "[[flow_logs]]\n\
         flow_log_id = \"fl-00000001\"\n\
         dir = \"{REJECTS}\"\n\
         max_aggregation_interval = 1\n\
         rotation = 1\n\
         traffic_type = \"REJECT\"\n\
         log_format = \"packets bl-skipped-packets log-status start end\"\n\
         task_ids = [\"server\"]\n"
    );
    let settings = Settings {
        flow_log_dir: "/run/state/flows".into(),
        more_flow_logs: rejects,
        ..Settings::default()
    };
    let host = Host::new(name, settings).unwrap();
    let size = format!("size={SIZE}");
    host.run(|| {
        fs::create_dir(DISK).unwrap();
        let options = Some(size.as_str());
        mount(
            Some("tmpfs"),
            DISK,
            Some("tmpfs"),
            MsFlags::empty(),
            options,
        )
        .unwrap();
    });
    host
}

/// Packets in rows, and packets that rows say are in none.
fn said(host: &Host) -> (u64, u64) {
    let mut said = (0, 0);
    for line in lines(host, REJECTS) {
        let words: Vec<&str> = line.split(' ').collect();
        let [packets, skipped, status, start, end] = words[..] else {
            panic!("{line}")
        };
        let [start, end] = [start, end].map(|second| second.parse::<u64>().unwrap());
        assert!(start <= end, "{line}");
        match status {
            "OK" => said.0 += packets.parse::<u64>().unwrap(),
            "SKIPDATA" => said.1 += skipped.parse::<u64>().unwrap(),
            "NODATA" => {}
            other => panic!("{other}"),
        }
    }
    said
}

/// Lets the disk have `left` bytes free.
fn fill(host: &Host, left: usize) {
    host.run(|| {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(FILL)
            .unwrap();
        let page = [1; 4096];
        while file.write_all(&page).is_ok() {}
        let length = file.metadata().unwrap().len() - left as u64;
        file.set_len(length).unwrap();
    });
}

/// The data path is as it always is: a new connection, and a refused datagram for each of `count`.
fn traffic(client: &Task, server: &Task, count: u64) -> u64 {
    let open = SocketAddr::new(server.ipv4.into(), OPEN_PORT);
    talk::tcp(&client.netns, &server.netns, open, PATIENCE).unwrap();
    for address in server.addresses() {
        send(client, address, CLOSED_PORT, count);
    }
    2 * count
}

fn two_tasks(host: &Host) -> [Task; 2] {
    [("server", "sg-server"), ("client", "sg-client")]
        .map(|(id, group)| host.add_task(id, &["subnet-a"], &[group]).unwrap())
}

fn lost_epochs(host: &Host) -> u64 {
    logs(host).flow_logs[1].lost_epochs
}

#[test]
fn a_full_disk_stops_nothing_and_every_packet_is_in_a_row_or_said_to_be_in_none() {
    let host = host("full-disk");
    host.start_agent().unwrap();
    let [server, client] = two_tasks(&host);
    let mut sent = 0;
    // Nothing is free; then some is, but less than the 5 % that are to stay so.
    for left in [0, MEBIBYTE] {
        sent += traffic(&client, &server, 3);
        until("the log has it", || said(&host).0 + said(&host).1 == sent);
        let before = said(&host);
        let lost_before = lost_epochs(&host);
        fill(&host, left);
        for count in [5, 7, 11] {
            sent += traffic(&client, &server, count);
            thread::sleep(Duration::from_millis(1_100));
        }
        until("records are lost", || {
            let log = logs(&host).flow_logs.remove(1);
            log.error.is_some_and(|error| error.contains("make room")) && log.waiting_epochs > 2
        });
        host.kill_agent().unwrap();
        sent += traffic(&client, &server, 13);
        host.start_agent().unwrap();
        sent += traffic(&client, &server, 17);
        thread::sleep(Duration::from_millis(2_500));
        assert_eq!(said(&host), before, "nothing can be written");
        host.run(|| fs::remove_file(FILL)).unwrap();
        sent += traffic(&client, &server, 19);
        until("every packet is said", || {
            let (packets, skipped) = said(&host);
            packets + skipped == sent
        });
        let (packets, skipped) = said(&host);
        assert!(skipped > before.1, "{skipped} packets are in no row");
        assert!(packets > before.0, "{packets}");
        assert!(lost_epochs(&host) > lost_before);
    }
    host.stop_agent().unwrap();
    let (packets, skipped) = said(&host);
    assert_eq!(packets + skipped, sent);
    assert!(host.log().contains("flow records are lost"));
}

#[test]
fn what_a_disk_has_changed_is_said_after_a_kill_and_the_rest_is_written() {
    let host = host("damaged");
    host.run(|| fs::write(REJECTS, "in the way")).unwrap();
    host.start_agent().unwrap();
    let [server, client] = two_tasks(&host);
    let mut sent = 0;
    for count in [3, 5, 7, 11] {
        sent += traffic(&client, &server, count);
        thread::sleep(Duration::from_millis(1_100));
    }
    host.kill_agent().unwrap();
    let files = host.run(spooled);
    let damaged: Vec<PathBuf> = files.into_iter().take(2).collect();
    host.run(|| {
        let mut bytes = fs::read(&damaged[0]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(&damaged[0], &bytes).unwrap();
        let bytes = fs::read(&damaged[1]).unwrap();
        fs::write(&damaged[1], &bytes[..bytes.len() / 3]).unwrap();
        fs::remove_file(REJECTS).unwrap();
    });
    host.start_agent().unwrap();
    sent += traffic(&client, &server, 13);
    until("every packet is said", || {
        let (packets, skipped) = said(&host);
        packets + skipped == sent
    });
    assert_eq!(lost_epochs(&host), 2);
    let listed = host.branchline_ok(&["flow-log", "ls"]).unwrap();
    assert!(
        listed.contains("fl-00000001 lacks the records of 2 intervals"),
        "{listed}"
    );
    host.stop_agent().unwrap();
    let (packets, skipped) = said(&host);
    assert_eq!(packets + skipped, sent);
    assert!(packets > 0 && skipped > 0, "{packets} and {skipped}");
    assert!(host.run(spooled).is_empty());
}

#[test]
fn a_store_has_room_on_a_full_disk_and_goes_on_after_it_failed() {
    let host = host("full-store");
    let store = host.run(|| Store::open(Path::new(DISK))).unwrap();
    let value = "x".repeat(100_000);
    // It opens its file again where it is called.
    let put = |number: usize| host.run(|| store.put_fact(&format!("fact-{number}"), &value));
    put(0).unwrap();
    fill(&host, 0);
    for number in 1..=20 {
        put(number).unwrap();
    }
    let failed = (21..1_000).find(|number| put(*number).is_err()).unwrap();
    put(failed).unwrap_err();
    host.run(|| fs::remove_file(FILL)).unwrap();
    put(failed).unwrap();
    let stored = store.fact_names("fact-").unwrap();
    assert_eq!(stored.len(), failed + 1);
    for name in stored {
        let found: Option<String> = store.fact(&name).unwrap();
        assert!(found.is_some_and(|found| found == value), "{name}");
    }
}

/// Files of the spool, the largest first.
fn spooled() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(Path::new(DISK).join("spool"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|name| name == "flows"))
        .collect();
    files.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    files
}
