//! The CNI plugin on a host under test, called as a container runtime calls it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use branchline::netns::Netns;
use serde_json::{Value, json};

use crate::host::Host;

/// The plugin's file name, which is the `type` of its configurations.
pub const PLUGIN: &str = "branchline-cni";

/// What a runtime says of one attachment.
#[derive(Clone, Debug)]
pub struct Call {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_NETNS`.
    pub netns: String,
    /// `CNI_IFNAME`.
    pub link: String,
    /// Standard input.
    pub configuration: Value,
}

/// A configuration of network `name`, in version 1.1.0.
#[must_use]
pub fn configuration(name: &str, subnets: &[&str], groups: &[&str]) -> Value {
    json!({
        "cniVersion": "1.1.0",
        "name": name,
        "type": PLUGIN,
        "subnets": subnets,
        "securityGroups": groups,
    })
}

impl Call {
    /// Of `eth0` of a container whose namespace is `/run/netns/NAME`.
    #[must_use]
    pub fn new(container: &str, configuration: &Value) -> Self {
        Self {
            container: container.to_owned(),
            netns: format!("/run/netns/{container}"),
            link: "eth0".to_owned(),
            configuration: configuration.clone(),
        }
    }

    /// The same with `key` of the configuration set.
    #[must_use]
    pub fn with(&self, key: &str, value: Value) -> Self {
        let mut call = self.clone();
        call.configuration[key] = value;
        call
    }
}

impl Host {
    /// The plugin under test, which is built beside the agent.
    ///
    /// # Errors
    /// It is not there.
    pub fn plugin() -> Result<PathBuf> {
        let plugin = Self::program()?.with_file_name(PLUGIN);
        let path = plugin.display();
        ensure!(
            plugin.is_file(),
            "{path} is not there; make it by `cargo xtask build`"
        );
        Ok(plugin)
    }

    /// Makes the namespace that a runtime would have made for `container`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn container_netns(&self, container: &str) -> Result<Netns> {
        let path = Path::new("/run/netns").join(container);
        let (netns, _) = self.run(|| Netns::create(&path))?;
        Ok(netns)
    }

    /// Runs the plugin.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn cni(&self, command: &str, call: &Call) -> Result<Output> {
        let plugin = Self::plugin()?;
        let mut child = Command::new(&plugin);
        child
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &call.container)
            .env("CNI_NETNS", &call.netns)
            .env("CNI_IFNAME", &call.link)
            .env("CNI_PATH", plugin.parent().unwrap_or(Path::new("/")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let input = call.configuration.to_string();
        self.run(|| {
            let mut child = child
                .spawn()
                .with_context(|| format!("start {}", plugin.display()))?;
            let mut stdin = child.stdin.take().context("no standard input")?;
            stdin.write_all(input.as_bytes())?;
            drop(stdin);
            Ok(child.wait_with_output()?)
        })
    }

    /// As [`Host::cni`]; what the plugin printed, or null.
    ///
    /// # Errors
    /// It failed, with what it said.
    pub fn cni_ok(&self, command: &str, call: &Call) -> Result<Value> {
        let output = self.cni(command, call)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{command} of {}: {said}",
            call.container
        );
        if said.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&said)?)
    }

    /// As [`Host::cni`], which is to fail; code and message.
    ///
    /// # Errors
    /// It succeeded, or printed no error.
    pub fn cni_error(&self, command: &str, call: &Call) -> Result<(u64, String)> {
        let output = self.cni(command, call)?;
        ensure!(
            !output.status.success(),
            "{command} of {} succeeded",
            call.container
        );
        let error: Value = serde_json::from_slice(&output.stdout)?;
        let code = error["code"].as_u64().context("no code")?;
        Ok((
            code,
            error["msg"].as_str().context("no message")?.to_owned(),
        ))
    }
}
