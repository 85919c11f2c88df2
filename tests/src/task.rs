//! Tasks of a host under test, made and removed by the command line as a user would.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::Output,
};

use anyhow::{Context, Result, ensure};
use branchline::{api::TaskDescription, netns::Netns};
use serde_json::{Value, json};

use crate::host::Host;

/// A task that runs on a host under test.
#[derive(Debug)]
pub struct Task {
    /// Its name.
    pub id: String,
    /// Its ENI's id.
    pub eni_id: String,
    /// Its ENI's IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its ENI's IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Its ENI's MAC address.
    pub mac: [u8; 6],
    /// Its ENI's VLAN id on the trunk; 0 of an ENI that has a link of its own.
    pub vlan: u16,
    /// The host's end of its veth.
    pub host_link: String,
    /// Its namespace.
    pub netns: Netns,
    /// Where the host finds it.
    pub netns_path: PathBuf,
}

/// A task specification.
#[must_use]
pub fn spec(id: &str, subnets: &[&str], groups: &[&str]) -> Value {
    json!({
        "taskId": id,
        "networkConfiguration": {
            "awsvpcConfiguration": { "subnets": subnets, "securityGroups": groups }
        }
    })
}

impl Task {
    /// Its addresses, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ipv4.into(), self.ipv6.into()]
    }

    /// Runs `work` on a thread inside the task's namespace and waits for it; a panic goes on here.
    ///
    /// # Panics
    /// If the thread cannot enter, or `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns
            .run(work)
            .unwrap_or_else(|error| panic!("enter task {}: {error}", self.id))
    }
}

impl Host {
    /// Runs `branchline task add` with any specification.
    ///
    /// # Errors
    /// The command cannot be started.
    pub fn add_spec(&self, spec: &Value) -> Result<Output> {
        let path = "/run/spec.json";
        self.run(|| fs::write(path, spec.to_string()))?;
        self.branchline(&["task", "add", path])
    }

    /// Adds a task of both families.
    ///
    /// # Errors
    /// What the agent says, or the task lacks an address.
    pub fn add_task(&self, id: &str, subnets: &[&str], groups: &[&str]) -> Result<Task> {
        let output = self.add_spec(&spec(id, subnets, groups))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "branchline task add {id}: {stderr}"
        );
        self.task(id)
    }

    /// A task that the agent knows.
    ///
    /// # Errors
    /// The agent does not know it, or it lacks an address.
    pub fn task(&self, id: &str) -> Result<Task> {
        let shown = self.branchline_ok(&["task", "show", id, "--json"])?;
        let task: TaskDescription = serde_json::from_str(&shown)?;
        let detail = |name| {
            let value = task.detail(name);
            value.with_context(|| format!("task {id} has no {name}"))
        };
        Ok(Task {
            id: id.to_owned(),
            eni_id: detail("networkInterfaceId")?.to_owned(),
            ipv4: detail("privateIPv4Address")?.parse()?,
            ipv6: detail("ipv6Address")?.parse()?,
            mac: mac(detail("macAddress")?)?,
            vlan: task.vlan_id.unwrap_or_default(),
            netns: self.run(|| Netns::open(&task.network_namespace))?,
            host_link: task.host_link,
            netns_path: task.network_namespace,
        })
    }

    /// Removes a task.
    ///
    /// # Errors
    /// What the agent says.
    pub fn remove_task(&self, id: &str) -> Result<()> {
        self.branchline_ok(&["task", "rm", id]).map(drop)
    }
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()?;
    bytes
        .try_into()
        .map_err(|bytes| anyhow::anyhow!("{bytes:?} is no MAC address"))
}
