//! Followers over tables in memory.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicBool, AtomicU64};

use branchline_common::account::{FlagsSeen, Traffic};
use branchline_common::flow::{FlowKey, kind, mapped};
use branchline_common::maps::Row;
use branchline_common::verdict::{Action, Direction};

use super::*;
use crate::datapath::Entry;

/// Tables in memory of rows with rejected packets, as many as is said; each walk moves the clock by
/// a second.
#[derive(Default)]
pub(crate) struct Tables {
    rejected: AtomicU64,
    walks: AtomicU64,
    is_broken: AtomicBool,
}

impl Tables {
    /// From the next walk on, `rows` flows have a rejected packet.
    pub(crate) fn reject(&self, rows: u64) {
        self.rejected.store(rows, Ordering::SeqCst);
    }

    fn walks(&self) -> u64 {
        self.walks.load(Ordering::SeqCst)
    }
}

impl Source for Tables {
    fn now(&self) -> Result<Moment, DatapathError> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Err(DatapathError::Missing("ROWS"));
        }
        let walk = self.walks.fetch_add(1, Ordering::SeqCst);
        Ok(Moment {
            ticks: walk as u32 * 100,
            ticks_per_second: 100,
            epoch: 1,
            steady_us: walk * 1_000_000,
            wall_ms: walk * 1_000,
        })
    }

    fn for_each(&self, visit: &mut dyn FnMut(&FlowKey, &Entry)) -> Result<(), DatapathError> {
        for row in 0..self.rejected.load(Ordering::SeqCst) {
            let key = FlowKey {
                local: mapped([10, 0, 1, 5]),
                remote: mapped([10, 0, 2, 7]),
                remote_port: row as u16,
                local_port: 443,
                eni: 3,
                protocol: 6,
                kind: kind::row(Direction::Ingress, Action::Rejected),
            };
            let mut row = Row::default();
            let traffic = Traffic {
                packets: 1,
                bytes: 60,
                flags: FlagsSeen::default(),
            };
            row.account.add(&traffic, 1, 0);
            visit(&key, &Entry::Row(row));
        }
        Ok(())
    }
}

/// The one ENI of [`Tables`], of the task `web`.
pub(crate) fn identities() -> Identities {
    let identities = Identities::default();
    let identity = Identity::named("eni-1", Some("web"));
    identities.insert(3, identity);
    identities
}

fn live(tables: &Arc<Tables>) -> Live {
    let source: Arc<dyn Source> = Arc::clone(tables) as _;
    Live::over(source, identities(), Duration::from_millis(5))
}

async fn events(follower: &mut Follower) -> Vec<LiveEvent> {
    loop {
        match follower.next().await.unwrap() {
            Received::Step(step) if step.events.is_empty() => {}
            Received::Step(step) => return step.events.clone(),
            Received::Lost(lost) => panic!("{lost} lost"),
        }
    }
}

#[tokio::test]
async fn one_walker_serves_all_and_stops_with_the_last() {
    let tables = Arc::new(Tables::default());
    let live = live(&tables);
    assert!(!live.is_walking());
    let mut one = live.follow(false).await.unwrap();
    let mut other = live.follow(false).await.unwrap();
    tables.reject(2);
    let told = events(&mut one).await;
    assert_eq!(told.len(), 2);
    let flow = told[0].flow().unwrap();
    assert_eq!(flow.task_id.as_deref(), Some("web"));
    assert_eq!(events(&mut other).await, told);
    drop(one);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(live.is_walking());
    drop(other);
    for _ in 0..500 {
        if !live.is_walking() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!live.is_walking());
    let walks = tables.walks();
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(tables.walks(), walks);
    // A new one starts anew: what is there is no news.
    let mut late = live.follow(false).await.unwrap();
    tables.reject(3);
    assert_eq!(events(&mut late).await.len(), 1);
}

#[tokio::test]
async fn a_slow_follower_is_told_how_much_it_lost() {
    let tables = Arc::new(Tables::default());
    let live = live(&tables);
    let mut slow = live.follow(false).await.unwrap();
    let mut quick = live.follow(false).await.unwrap();
    // Far more walks than wait for anybody.
    const ROUNDS: u64 = 3 * BACKLOG as u64;
    for rows in 1..=ROUNDS {
        tables.reject(rows * 10);
        assert_eq!(events(&mut quick).await.len(), 10);
    }
    let (mut lost, mut told) = (0, 0);
    while lost + told < ROUNDS * 10 {
        match slow.next().await.unwrap() {
            Received::Lost(events) => lost += events,
            Received::Step(step) => told += step.events.len() as u64,
        }
    }
    assert_eq!(lost + told, ROUNDS * 10);
    assert!(lost > 0 && told > 0, "{lost} lost, {told} told");
}

#[tokio::test]
async fn rates_are_measured_while_someone_asks() {
    let tables = Arc::new(Tables::default());
    let live = live(&tables);
    let mut plain = live.follow(false).await.unwrap();
    let query = Query::default();
    let Received::Step(step) = plain.next().await.unwrap() else {
        panic!("lost")
    };
    assert_eq!(step.rates(&query), None);
    let mut measuring = live.follow(true).await.unwrap();
    tables.reject(4);
    let rates = loop {
        if let Received::Step(step) = measuring.next().await.unwrap()
            && let Some(rates) = step.rates(&query)
            && rates.flow_count > 0
        {
            break rates;
        }
    };
    // A walk is a second of the tables' clock.
    assert_eq!((rates.seconds, rates.flow_count), (1.0, 4));
    let [task] = &rates.tasks[..] else {
        panic!("{rates:?}")
    };
    assert_eq!((task.flows, task.rejected_packets_per_second), (0, 4.0));
    assert_eq!(rates.flows[0].rate.ingress_bytes_per_second, 60.0);
    let flow = |rates: &FlowRates| rates.flows[0].flow.srcport;
    assert_eq!((rates.flows.len(), flow(&rates)), (4, 0));
}

#[tokio::test]
async fn tables_that_cannot_be_read_are_an_error() {
    let tables = Arc::new(Tables::default());
    tables.is_broken.store(true, Ordering::SeqCst);
    let live = live(&tables);
    let error = live.follow(false).await.err().unwrap();
    assert!(error.to_string().contains("ROWS"), "{error}");
    assert!(!live.is_walking());
    tables.is_broken.store(false, Ordering::SeqCst);
    live.follow(false).await.unwrap();
}

#[test]
fn walking_takes_a_fiftieth_of_the_time_at_most() {
    let [second, millis] = [Duration::from_secs(1), Duration::from_millis(3)];
    assert_eq!(pause(second, millis), second - millis);
    assert_eq!(pause(second, millis * 10), millis * 490);
}
