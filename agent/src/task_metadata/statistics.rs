//! `/stats` and `/task/stats`: what the task's link has carried, in the form of Docker's statistics.
//!
//! Of a container's CPU and memory only its runtime knows. Read in the task's namespace; changes nothing.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Refusal;
use super::id::{Subject, task_id};
use crate::api::rfc3339;
use crate::netns::Netns;
use crate::task_record::TaskRecord;

/// Every link of the reading thread's namespace.
const LINKS: &str = "/proc/thread-self/net/dev";

/// One container's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Statistics {
    id: String,
    read: String,
    networks: BTreeMap<String, LinkStatistics>,
}

/// One link's, in Docker's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct LinkStatistics {
    rx_bytes: u64,
    rx_packets: u64,
    rx_errors: u64,
    rx_dropped: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_errors: u64,
    tx_dropped: u64,
}

/// Those of one container.
pub(super) async fn of_container(task: TaskRecord, subject: Subject) -> Response {
    let id = match subject {
        Subject::Task => task_id(&task),
        Subject::Container(index) => match task.spec.ecs.containers.get(index) {
            Some(container) => container.runtime_id.clone(),
            None => return Refusal::Unknown.into_response(),
        },
    };
    match read(task).await {
        Some((read, networks)) => Json(Statistics { id, read, networks }).into_response(),
        None => Refusal::NotReady.into_response(),
    }
}

/// Those of every container of a task, by runtime id.
pub(super) async fn of_task(task: TaskRecord) -> Response {
    let ids = task.spec.ecs.containers.iter();
    let ids: Vec<_> = ids.map(|container| container.runtime_id.clone()).collect();
    let Some((read, networks)) = read(task).await else {
        return Refusal::NotReady.into_response();
    };
    let all: BTreeMap<_, _> = ids
        .into_iter()
        .map(|id| {
            let statistics = Statistics {
                id: id.clone(),
                read: read.clone(),
                networks: networks.clone(),
            };
            (id, statistics)
        })
        .collect();
    Json(all).into_response()
}

/// Now, and what the task's link has carried.
async fn read(task: TaskRecord) -> Option<(String, BTreeMap<String, LinkStatistics>)> {
    let link = task.spec.link_name.to_string();
    let text = tokio::task::spawn_blocking(move || {
        let netns = Netns::open(&task.netns).ok()?;
        netns.run(|| std::fs::read_to_string(LINKS)).ok()?.ok()
    });
    let text = text.await.ok()??;
    let statistics = of_link(&text, &link)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let now = rfc3339(u64::try_from(now.as_millis()).ok()?);
    Some((now, BTreeMap::from([(link, statistics)])))
}

/// The line of `link` (`Documentation/filesystems/proc.rst`, `net/dev`).
fn of_link(text: &str, link: &str) -> Option<LinkStatistics> {
    let lines = text.lines().filter_map(|line| line.trim().split_once(':'));
    let (_, counts) = lines.into_iter().find(|(name, _)| *name == link)?;
    let counts: Vec<u64> = counts
        .split_whitespace()
        .filter_map(|one| one.parse().ok())
        .collect();
    let count = |index: usize| counts.get(index).copied();
    Some(LinkStatistics {
        rx_bytes: count(0)?,
        rx_packets: count(1)?,
        rx_errors: count(2)?,
        rx_dropped: count(3)?,
        tx_bytes: count(8)?,
        tx_packets: count(9)?,
        tx_errors: count(10)?,
        tx_dropped: count(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_links_line_is_found_by_its_whole_name() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets ...\n\
            xeth0: 9 9 9 9 0 0 0 0 9 9 9 9 0 0 0 0\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        let found = of_link(text, "eth0").expect("its line");
        assert_eq!((found.rx_bytes, found.rx_dropped), (1, 4));
        assert_eq!((found.tx_bytes, found.tx_dropped), (5, 8));
        assert_eq!(of_link(text, "eth1"), None);
        assert_eq!(of_link("eth0: 1 2 3", "eth0"), None);
    }
}
