//! Flow-log files of a real agent in an object store: each once, whatever stops in between.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use branchline::api::FlowLogDescription;
use branchline_tests::{
    flow_row::FlowRow,
    host::Host,
    s3_server::S3Server,
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE},
    task::Task,
};

use crate::restart::{DATA, UDP, sum, under_datagrams};

const BUCKET: &str = "flow-logs";
/// Of the host's own loopback.
const PORT: u16 = 9000;
/// The table of a log that goes to the server at [`PORT`].
const TO_SERVER: &str = "[flow_logs.upload]\n\
    url = \"s3://flow-logs/team\"\n\
    endpoint = \"http://127.0.0.1:9000\"\n\
    allow_http = true\n";
/// How long uploads may take; pauses after failures double.
const LONG: Duration = Duration::from_secs(60);

fn host(name: &str, more_flow_logs: &str) -> (Host, Task, Task) {
    let settings = Settings {
        more_flow_logs: more_flow_logs.to_owned(),
        environment: vec![
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ],
        ..Settings::default()
    };
    let host = Host::new(name, settings).unwrap();
    host.start_agent().unwrap();
    let server = host
        .add_task("server", &["subnet-a"], &["sg-server"])
        .unwrap();
    let client = host
        .add_task("client", &["subnet-b"], &["sg-client"])
        .unwrap();
    (host, server, client)
}

/// Every finished file below a folder of the host, by its path below it.
fn files(host: &Host, dir: &str) -> BTreeMap<String, Vec<u8>> {
    fn read(folder: &Path, root: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, root, into);
            } else {
                let relative = path.strip_prefix(root).unwrap().to_str().unwrap();
                into.insert(relative.to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    host.run(|| {
        let mut found = BTreeMap::new();
        read(Path::new(dir), Path::new(dir), &mut found);
        found
    })
}

/// Waits until `reached` holds of the host's logs.
fn until(host: &Host, what: &str, reached: impl Fn(&[FlowLogDescription]) -> bool) {
    let began = Instant::now();
    loop {
        let logs = host.status().unwrap().flow_logs;
        if reached(&logs) {
            return;
        }
        assert!(began.elapsed() < LONG, "{what}: {logs:#?}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn uploads_of_a_killed_agent_are_each_there_once() {
    let (host, server, client) = host("uploaded", TO_SERVER);
    let store = host.run(|| {
        let store = S3Server::start(PORT);
        store.make_bucket(BUCKET);
        store
    });
    let at = |address| SocketAddr::new(address, OPEN_PORT);
    let [v4, v6] = server.addresses();
    let kill_and_restart = || {
        for pause in [1_300, 700] {
            thread::sleep(Duration::from_millis(2_500));
            host.kill_agent().unwrap();
            thread::sleep(Duration::from_millis(pause));
            host.start_agent().unwrap();
        }
        thread::sleep(Duration::from_millis(1_500));
    };
    let (((), counts6), counts4) = under_datagrams(&client, &server, at(v4), || {
        under_datagrams(&client, &server, at(v6), kill_and_restart)
    });
    // Its end waits for the last files.
    host.stop_agent().unwrap();
    let objects = host.run(|| store.objects(BUCKET));
    let expected: BTreeMap<String, Vec<u8>> = files(&host, "/run/flows")
        .into_iter()
        .map(|(relative, content)| (format!("team/{relative}"), content))
        .collect();
    assert!(expected.len() >= 5, "{} files", expected.len());
    assert!(
        objects.keys().eq(expected.keys()),
        "{:#?} are not {:#?}",
        objects.keys(),
        expected.keys()
    );
    assert!(objects == expected, "an object has other bytes");
    let rows = objects.values().map(|object| FlowRow::read(&object[..]));
    let rows: Vec<FlowRow> = rows.flat_map(Result::unwrap).collect();
    for (counts, address, header) in [(counts4, v4, 28), (counts6, v6, 48)] {
        assert!(counts.sent > 1_000, "{counts:?}");
        let expected = (counts.sent, counts.sent * (DATA as u64 + header));
        for eni in [&client.eni_id, &server.eni_id] {
            let found = sum(&rows, eni, |flow| {
                flow.protocol == UDP && flow.dst == address
            });
            assert_eq!(found, expected, "UDP to {address} as {eni} sees it");
        }
    }
}

#[test]
fn uploads_wait_for_a_server_that_is_down_and_other_logs_go_on() {
    let other = "[[flow_logs]]\n\
        flow_log_id = \"fl-00000002\"\n\
        dir = \"/run/other\"\n\
        max_aggregation_interval = 1\n\
        rotation = 1\n\
        [flow_logs.upload]\n\
        url = \"file:///run/copy\"\n";
    let (host, server, client) = host("waiting", &format!("{TO_SERVER}{other}"));
    let at = SocketAddr::new(server.ipv4.into(), OPEN_PORT);
    talk::tcp(&client.netns, &server.netns, at, PATIENCE).unwrap();
    let uploads = |log: &FlowLogDescription| log.upload.clone().unwrap();
    until(&host, "one waits, one goes on", |logs| {
        let [waiting, going] = [uploads(&logs[0]), uploads(&logs[1])];
        let error = waiting.last_error.unwrap_or_default();
        waiting.files_waiting >= 3
            && error.contains("Connection refused")
            && going.files_uploaded >= 3
            && going.last_error.is_none()
    });
    let listed = host.branchline_ok(&["flow-log", "ls"]).unwrap();
    let line = "fl-00000000000000000 uploads: upload to s3://flow-logs/team/";
    assert!(listed.contains(line), "{listed}");
    let status = host.branchline_ok(&["status"]).unwrap();
    assert!(status.contains("0 files uploaded, "), "{status}");
    let store = host.run(|| {
        let store = S3Server::start(PORT);
        store.make_bucket(BUCKET);
        store
    });
    until(&host, "it is up", |logs| {
        let status = uploads(&logs[0]);
        status.files_uploaded >= 3 && status.files_waiting <= 1 && status.last_error.is_none()
    });
    host.stop_agent().unwrap();
    let objects = host.run(|| store.objects(BUCKET));
    assert_eq!(objects.len(), files(&host, "/run/flows").len());
    assert!(files(&host, "/run/copy") == files(&host, "/run/other"));
}
