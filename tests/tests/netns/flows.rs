//! The flow log over the kernel's own maps: pinned, drained, swept, and taken up again by another
//! agent. Packets are played by writing what the programs would count.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData};
use branchline::config::FlowRecordConfig;
use branchline::datapath::{Datapath, Settings};
use branchline::delivery::FlowLog;
use branchline::flows::{
    Exporter, ExporterSettings, FlowLogError, Identities, Identity, Interface,
};
use branchline::policy::RuleBook;
use branchline::provider::RouteTables;
use branchline::state::{RuleStore, StateError, Store};
use branchline::upload::Environment;
use branchline_common::account::{FlagsSeen, Traffic};
use branchline_common::conntrack::{Connection, State, Tracking, default_timeouts};
use branchline_common::flow::{FlowKey, kind, mapped};
use branchline_common::maps::{LAYOUT_VERSION, Row, name};
use branchline_common::verdict::{Action, Direction};
use branchline_tests::flow_row::FlowRow;

use crate::ground::PATIENCE;

const SLOT: u32 = 5;
const ENI: &str = "eni-00000000000000005";

/// The folders of one host, removed at the end.
struct Host {
    pins: PathBuf,
    dir: PathBuf,
}

/// A running agent's flow log.
struct Agent {
    datapath: Arc<Mutex<Datapath>>,
    exporter: Exporter,
}

impl Host {
    fn new(test: &str) -> Self {
        let own = format!("branchline-flows-{}-{test}", std::process::id());
        let host = Self {
            pins: Path::new("/sys/fs/bpf").join(&own),
            dir: std::env::temp_dir().join(&own),
        };
        fs::create_dir(&host.dir).unwrap();
        host
    }

    fn files(&self) -> PathBuf {
        self.dir.join("flows")
    }

    fn spool(&self) -> PathBuf {
        self.dir.join("spool")
    }

    async fn agent(&self) -> Agent {
        let settings = Settings {
            pins: Some(self.pins.clone()),
            connections: 1_024,
            rows: 1_024,
            log_drops: false,
            tcp_strict: false,
        };
        let datapath = Arc::new(Mutex::new(Datapath::load(&settings).unwrap()));
        let store = Arc::new(self.store().await);
        let settings_of_logs = ExporterSettings {
            traffic: branchline::metrics::Traffic::default(),
            spool: self.spool(),
            records: FlowRecordConfig::default(),
            logs: vec![FlowLog {
                dir: self.files(),
                max_aggregation_interval: 600,
                ..FlowLog::of_host()
            }],
            rules: RuleBook::default(),
            routes: RouteTables::default(),
            ip_ranges: Arc::default(),
            environment: Environment::default(),
        };
        let identities = Identities::default();
        let interface = Interface {
            account_id: "123456789012".to_owned(),
            interface_id: ENI.to_owned(),
            ..Interface::default()
        };
        let identity = Identity {
            interface: Arc::new(interface),
            since: 0,
        };
        identities.insert(SLOT, identity);
        let rules = Arc::new(RuleStore::open(&self.dir.join("run")).unwrap());
        let start = Exporter::start(
            Arc::clone(&datapath),
            store,
            rules,
            settings_of_logs,
            identities,
        );
        let exporter = start.await.unwrap();
        Agent { datapath, exporter }
    }

    /// The store, as soon as the killed agent's last thread has let go of it.
    async fn store(&self) -> Store {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Store::open(&self.dir.join("state")) {
                Err(StateError::InUse { .. }) if Instant::now() < deadline => {}
                store => return store.unwrap(),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn map<V: aya::Pod>(&self, name: &str) -> HashMap<MapData, FlowKey, V> {
        let pin = self.pins.join(format!("maps-v{LAYOUT_VERSION}")).join(name);
        Map::HashMap(MapData::from_pin(pin).unwrap())
            .try_into()
            .unwrap()
    }

    /// Packets by remote port and action, over all files.
    fn recorded(&self) -> BTreeMap<(String, String), u64> {
        let mut sums = BTreeMap::new();
        for row in FlowRow::read_dir(&self.files()).unwrap() {
            assert_eq!(row.eni_id, ENI);
            if let Some(flow) = row.flow {
                let action = if flow.accepted { "ACCEPT" } else { "REJECT" };
                let key = (flow.src_port.to_string(), action.to_owned());
                *sums.entry(key).or_default() += flow.packets;
            }
        }
        sums
    }

    /// What the program counts for one packet towards the task, `idle` seconds ago.
    fn packet(&self, agent: &Agent, remote_port: u16, is_rejected: bool, idle: u32) {
        let (now, epoch, rate) = {
            let mut datapath = agent.datapath.lock().unwrap();
            let rate = datapath.clock().ticks_per_second();
            let now = datapath.ticks().unwrap().wrapping_sub(idle * rate);
            (now, datapath.control().unwrap().epoch, rate)
        };
        let traffic = Traffic {
            packets: 1,
            bytes: 100,
            flags: FlagsSeen::default(),
        };
        let mut key = key(remote_port);
        if is_rejected {
            key.kind = kind::row(Direction::Ingress, Action::Rejected);
            let mut rows = self.map::<Row>(name::ROWS);
            let mut row = rows.get(&key, 0).unwrap_or_default();
            row.account.add(&traffic, epoch, now);
            rows.insert(key, row, 0).unwrap();
            return;
        }
        let mut connections = self.map::<Connection>(name::CONNECTIONS);
        let mut connection = connections.get(&key, 0).unwrap_or_default();
        let timeouts = default_timeouts(rate);
        connection.tracking = Tracking::opened(State::Udp, Direction::Ingress, now, &timeouts);
        connection.accounts[0].add(&traffic, epoch, now);
        connections.insert(key, connection, 0).unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for dir in [&self.pins, &self.dir] {
            if let Err(error) = fs::remove_dir_all(dir) {
                eprintln!("remove {}: {error}", dir.display());
            }
        }
    }
}

fn key(remote_port: u16) -> FlowKey {
    FlowKey {
        local: mapped([10, 0, 1, 10]),
        remote: mapped([198, 51, 100, 7]),
        local_port: 53,
        remote_port,
        eni: SLOT as u16,
        protocol: 17,
        kind: kind::CONNECTION,
    }
}

fn sums<const N: usize>(sums: [(&str, &str, u64); N]) -> BTreeMap<(String, String), u64> {
    sums.map(|(port, action, packets)| ((port.to_owned(), action.to_owned()), packets))
        .into()
}

/// Ends without a word, as by SIGKILL: only what is in the kernel and on disk stays.
fn kill(agent: Agent) {
    drop(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_counts_outlive_a_killed_agent_and_are_written_once() {
    let host = Host::new("killed");
    let agent = host.agent().await;
    host.packet(&agent, 1_000, false, 0);
    host.packet(&agent, 1_000, true, 0);
    agent.exporter.flush().await.unwrap();
    let expected = sums([("1000", "ACCEPT", 1), ("1000", "REJECT", 1)]);
    assert_eq!(host.recorded(), expected);
    assert_eq!(agent.exporter.logs()[0].totals.records, 2);
    let rejected = FlowKey {
        kind: kind::row(Direction::Ingress, Action::Rejected),
        ..key(1_000)
    };

    // Killed in an interval: the next agent ends it.
    host.packet(&agent, 1_000, false, 0);
    kill(agent);
    let agent = host.agent().await;
    host.packet(&agent, 1_000, false, 0);
    host.packet(&agent, 2_000, false, 0);
    // Killed with an ended interval that could not be spooled: the next agent's start does it.
    let aside = host.dir.join("aside");
    fs::rename(host.spool(), &aside).unwrap();
    fs::write(host.spool(), "in the way").unwrap();
    let error = agent.exporter.flush().await.unwrap_err();
    assert!(matches!(error, FlowLogError::Spool(_)), "{error}");
    host.packet(&agent, 2_000, false, 0);
    kill(agent);
    fs::remove_file(host.spool()).unwrap();
    fs::rename(&aside, host.spool()).unwrap();
    let agent = host.agent().await;
    // Killed with a spool that no file could be made of.
    fs::rename(host.files(), &aside).unwrap();
    fs::write(host.files(), "in the way").unwrap();
    agent.exporter.flush().await.unwrap();
    assert!(agent.exporter.logs()[0].error.is_some());
    kill(agent);
    fs::remove_file(host.files()).unwrap();
    fs::rename(&aside, host.files()).unwrap();
    let agent = host.agent().await;
    agent.exporter.flush().await.unwrap();
    let expected = sums([
        ("1000", "ACCEPT", 3),
        ("1000", "REJECT", 1),
        ("2000", "ACCEPT", 2),
    ]);
    assert_eq!(host.recorded(), expected);

    // The task goes in the middle of an interval, and the agent is killed before its end.
    host.packet(&agent, 2_000, false, 0);
    assert!(host.map::<Row>(name::ROWS).get(&rejected, 0).is_ok());
    agent.exporter.retire(SLOT).await.unwrap();
    assert!(
        agent
            .datapath
            .lock()
            .unwrap()
            .connections()
            .unwrap()
            .is_empty()
    );
    assert!(agent.datapath.lock().unwrap().rows().unwrap().is_empty());
    kill(agent);
    let agent = host.agent().await;
    // The task's removal had not got to its end: it is done again.
    agent.exporter.retire(SLOT).await.unwrap();
    agent.exporter.stop().await.unwrap();
    let expected = sums([
        ("1000", "ACCEPT", 3),
        ("1000", "REJECT", 1),
        ("2000", "ACCEPT", 3),
    ]);
    assert_eq!(host.recorded(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_dead_connections_are_swept_once_they_are_written() {
    let host = Host::new("swept");
    let agent = host.agent().await;
    host.packet(&agent, 1, false, 40);
    host.packet(&agent, 2, false, 0);
    host.packet(&agent, 3, true, 40);
    agent.exporter.flush().await.unwrap();
    // Dead as well, but in no file yet.
    host.packet(&agent, 4, false, 40);
    let connections = host.map::<Connection>(name::CONNECTIONS);
    let deadline = Instant::now() + Duration::from_secs(20);
    while connections.get(&key(1), 0).is_ok() {
        assert!(Instant::now() < deadline, "nothing was swept");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut left: Vec<_> = connections
        .keys()
        .map(|key| key.unwrap().remote_port)
        .collect();
    left.sort_unstable();
    assert_eq!(left, [2, 4]);
    agent.exporter.stop().await.unwrap();
    assert_eq!(host.map::<Row>(name::ROWS).keys().count(), 0);
    let expected = sums([
        ("1", "ACCEPT", 1),
        ("2", "ACCEPT", 1),
        ("3", "REJECT", 1),
        ("4", "ACCEPT", 1),
    ]);
    assert_eq!(host.recorded(), expected);
}
