//! Removes every trace of branchline from a host whose agent is stopped; flow-log files stay.

use super::{FORWARDING_FACT, fabric_netns, pins, previous_forwarding, run_state};
use crate::{
    cli::HostError,
    config::Config,
    datapath,
    fabric::Fabric,
    life::AttachmentStatus,
    nat,
    netlink::Netlink,
    netns::Netns,
    progress::now_ms,
    server::causes,
    state::{Store, TaskStore},
    task,
};

/// Removes tasks, fabric, NAT, pins and state; returns one sentence for each thing removed.
///
/// # Errors
/// What could not be removed; the rest is gone.
pub async fn purge(config: Config) -> Result<Vec<String>, HostError> {
    let store = Store::open(&config.state_dir)?;
    let tasks = TaskStore::open(&run_state(&config))?;
    let host = Netlink::open(&Netns::host()?)?;
    let mut done = Vec::new();
    let mut errors: Vec<String> = Vec::new();
    for mut task in tasks.tasks() {
        let left = task::disconnect(&host, &task).await;
        if left.is_empty() {
            done.push(format!("task {}", task.spec.task_id));
            task.life.enter(AttachmentStatus::Deleted, now_ms());
            tasks.end(&task, now_ms())?;
        }
        errors.extend(left.iter().map(|error| causes(error)));
    }
    drop(tasks);
    if errors.is_empty() {
        std::fs::remove_dir_all(run_state(&config))?;
    }
    let left = Fabric::purge(&fabric_netns(&config), &host).await;
    done.push("the local VPC's namespace and links".to_owned());
    errors.extend(left.iter().map(|error| causes(error)));
    if let Some(previous) = previous_forwarding(&store)? {
        nat::restore_forwarding(host.netns(), &previous)?;
        nat::remove(host.netns())?;
        store.remove_fact(FORWARDING_FACT)?;
        done.push("forwarding and the nftables table inet branchline".to_owned());
    }
    datapath::purge(&pins(&config))?;
    done.push("programs, maps and their pins".to_owned());
    if errors.is_empty() {
        Ok(done)
    } else {
        Err(errors.join("; ").into())
    }
}
