//! Removes every trace of branchline from a host whose agent is stopped or was killed; flow-log files
//! stay unless they are to go as well.
//!
//! What is found of ours is removed, whatever the store knows of it, and what cannot be removed keeps
//! nothing else from going.

use std::fmt::Display;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{
    FORWARDING_FACT, SPOOL, TASK_FILES, fabric_netns, folders, pins, previous_forwarding,
    run_state, services_netns,
};
use crate::{
    cli::{HostError, Purged},
    config::Config,
    datapath,
    delivery::{self, FlowLog},
    fabric::Fabric,
    life::AttachmentStatus,
    nat,
    netlink::Netlink,
    netns::Netns,
    progress::now_ms,
    server::causes,
    services::Services,
    state::{Store, TaskStore},
    task,
};

/// What the names of the namespaces of tasks begin with, and so of those files' folders.
const OURS: &str = "branchline-";

/// Removes tasks, fabric, NAT, pins and state, and the files of flow logs if `flow_logs`.
///
/// # Errors
/// An agent holds the stores, or they or the host cannot be opened; nothing was removed then.
pub async fn purge(config: Config, flow_logs: bool) -> Result<Purged, HostError> {
    let store = Store::open(&config.state_dir)?;
    let tasks = TaskStore::open(&run_state(&config))?;
    let host = Netlink::open(&Netns::host()?)?;
    let mut purged = Purged::default();
    let logs = delivery::in_force(&store, &config.flow_logs);
    purge_tasks(&tasks, &host, &mut purged);
    purge_network(&config, &store, &host, &mut purged);
    let removed = datapath::purge(&pins(&config));
    note(
        &mut purged,
        removed.map(|()| "programs, maps and their pins"),
    );
    purge_namespaces(&config.netns_dir, &mut purged);
    each_of_ours(&config.etc_netns_dir, &mut purged, |path, _| {
        fs::remove_dir_all(path)
    });
    purge_files(&config, &mut purged);
    if flow_logs {
        match &logs {
            Ok(logs) => logs.iter().for_each(|log| purge_log(log, &mut purged)),
            Err(error) => purged.left.push(causes(error)),
        }
    }
    // Last, and only if nothing is left that they are needed for.
    if purged.left.is_empty() {
        drop((store, tasks));
        purge_folders(&config, &mut purged);
    }
    Ok(purged)
}

fn purge_tasks(tasks: &TaskStore, host: &Netlink, purged: &mut Purged) {
    for mut task in tasks.tasks() {
        let left = task::disconnect(host, &task);
        purged.left.extend(left.iter().map(|error| causes(error)));
        if left.is_empty() {
            task.life.enter(AttachmentStatus::Deleted, now_ms());
            let ended = tasks.end(&task, now_ms());
            note(purged, ended.map(|_| format!("task {}", task.spec.task_id)));
        }
    }
}

/// Files of tasks that no store knows any more, and their folder.
fn purge_files(config: &Config, purged: &mut Purged) {
    if let Err(error) = folders(config).remove_strays(&[]) {
        purged.left.push(causes(&error));
    }
    let files = config.run_dir.join(TASK_FILES);
    note_path(purged, &files, fs::remove_dir(&files));
}

fn purge_network(config: &Config, store: &Store, host: &Netlink, purged: &mut Purged) {
    let left = Fabric::purge(&fabric_netns(config), host);
    let what = "the local VPC's namespace and links";
    if left.is_empty() {
        purged.removed.push(what.to_owned());
    }
    purged.left.extend(left.iter().map(|error| causes(error)));
    let left = Services::purge(&services_netns(config), host);
    if left.is_empty() {
        let what = "the services' namespace and link";
        purged.removed.push(what.to_owned());
    }
    purged.left.extend(left.iter().map(|error| causes(error)));
    let restored = restore(store, host);
    match restored {
        Ok(true) => note::<_, io::Error>(
            purged,
            Ok("forwarding and the nftables table inet branchline"),
        ),
        Ok(false) => {}
        Err(error) => purged.left.push(causes(error.as_ref())),
    }
}

/// Sets forwarding back, and takes the host's table away; false if the agent changed neither.
fn restore(store: &Store, host: &Netlink) -> Result<bool, HostError> {
    let Some(previous) = previous_forwarding(store)? else {
        return Ok(false);
    };
    nat::restore_forwarding(host.netns(), &previous)?;
    nat::remove(host.netns())?;
    store.remove_fact(FORWARDING_FACT)?;
    Ok(true)
}

/// Namespaces of tasks that no store knows any more.
fn purge_namespaces(dir: &Path, purged: &mut Purged) {
    each_of_ours(dir, purged, |path, _| {
        Netns::remove(path).map_err(|error| io::Error::other(causes(&error)))
    });
}

/// Does `remove` to everything in `dir` whose name says that it is ours.
fn each_of_ours(dir: &Path, purged: &mut Purged, remove: impl Fn(&Path, &str) -> io::Result<()>) {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => return purged.left.push(format!("{}: {error}", dir.display())),
        Ok(entries) => entries,
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(OURS) {
            note_path(purged, &entry.path(), remove(&entry.path(), &name));
        }
    }
}

/// The folders of a log, and what is above them as far as it is empty.
fn purge_log(log: &FlowLog, purged: &mut Purged) {
    let root = log.root();
    let removed = fs::remove_dir_all(&root);
    if removed.is_ok() {
        drop(fs::remove_dir(&log.dir));
    }
    note_path(purged, &root, removed);
}

/// What the agent keeps below `state_dir` and `run_dir`, and these as far as nothing else is in them.
fn purge_folders(config: &Config, purged: &mut Purged) {
    let spool = config.state_dir.join(SPOOL);
    note_path(purged, &spool, fs::remove_dir_all(&spool));
    let store = Store::path(&config.state_dir);
    note_path(purged, &store, fs::remove_file(&store));
    let state = run_state(config);
    note_path(purged, &state, fs::remove_dir_all(&state));
    let socket = config.socket();
    note_path(purged, &socket, fs::remove_file(&socket));
    for dir in [&config.state_dir, &config.run_dir] {
        match fs::remove_dir(dir) {
            // A service manager's, or somebody else's files are in it.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            removed => note_path(purged, dir, removed),
        }
    }
}

/// Notes what became of a path; none being there is no news.
fn note_path(purged: &mut Purged, path: &Path, removed: io::Result<()>) {
    match removed {
        Ok(()) => purged.removed.push(path.display().to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => purged
            .left
            .push(format!("remove {}: {error}", PathBuf::from(path).display())),
    }
}

fn note<T: Display, E: std::error::Error + 'static>(purged: &mut Purged, result: Result<T, E>) {
    match result {
        Ok(what) => purged.removed.push(what.to_string()),
        Err(error) => purged.left.push(causes(&error)),
    }
}
