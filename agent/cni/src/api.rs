//! The agent's API as the plugin needs it: requests, the parts of answers that it reads, refusals in CNI's codes.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::configuration::{Network, ValidAttachment, Wish};
use crate::error::{CniError, code};

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// As `POST`.
    pub method: &'static str,
    /// As `/v1/tasks`.
    pub path: String,
    /// JSON.
    pub body: Option<Value>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// As 201.
    pub status: u16,
    /// JSON, or nothing.
    pub body: Vec<u8>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Its end of its veth.
    pub network_interface: NetworkInterface,
    /// The host's end.
    pub host_link: String,
    /// What it is told of names.
    pub dns: Dns,
}

/// What a task is told of names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// What it asks, in order.
    pub name_servers: Vec<String>,
    /// What it appends to short names.
    pub search_domains: Vec<String>,
}

/// A task's link.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterface {
    /// As `eth0`.
    pub link_name: String,
    /// Lower case, with colons.
    pub mac_address: String,
    /// Bytes.
    pub mtu: u32,
    /// IPv4 first.
    pub addresses: Vec<InterfaceAddress>,
}

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InterfaceAddress {
    /// As `10.0.1.4/24`.
    pub address: String,
    /// As `10.0.1.1`.
    pub router: String,
}

/// A task compared with what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TaskCheck {
    /// The task.
    pub task: Task,
    /// What is missing or different.
    pub differences: Vec<Difference>,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Difference {
    /// As `MTU of eth0`.
    pub what: String,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

/// The agent as it runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// What keeps every task from being reached as it should be.
    pub problems: Vec<String>,
}

impl Request {
    /// Adds a task.
    #[must_use]
    pub fn add(specification: Value) -> Self {
        Self::post("/v1/tasks", specification)
    }

    /// Asks whether a task could be added.
    #[must_use]
    pub fn try_add(specification: Value) -> Self {
        Self::post("/v1/dry-run/tasks", specification)
    }

    /// Removes a task.
    #[must_use]
    pub fn remove(task_id: &str) -> Self {
        Self {
            method: "DELETE",
            path: format!("/v1/tasks/{task_id}"),
            body: None,
        }
    }

    /// Compares a task with what it should be.
    #[must_use]
    pub fn check(task_id: &str) -> Self {
        Self::get(format!("/v1/tasks/{task_id}/check"))
    }

    /// Asks how the agent is.
    #[must_use]
    pub fn status() -> Self {
        Self::get("/v1/status".to_owned())
    }

    /// Removes all attachments of a network but `valid`.
    #[must_use]
    pub fn collect_garbage(network: &str, valid: &[ValidAttachment]) -> Self {
        let valid: Vec<Value> = valid
            .iter()
            .map(|each| json!({"containerId": each.container_id, "linkName": each.ifname}))
            .collect();
        Self::post(
            "/v1/cni/gc",
            json!({"network": network, "validAttachments": valid}),
        )
    }

    fn get(path: String) -> Self {
        Self {
            method: "GET",
            path,
            body: None,
        }
    }

    fn post(path: &str, body: Value) -> Self {
        Self {
            method: "POST",
            path: path.to_owned(),
            body: Some(body),
        }
    }
}

impl Answer {
    /// Its body, read as what was asked for.
    ///
    /// # Errors
    /// Code 100.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, CniError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let details = format!(
                "answer with status {}: {error}; are agent and plugin of one version?",
                self.status
            );
            CniError::new(code::AGENT, "cannot read the agent's answer", details)
        })
    }

    /// Whether the agent did as it was asked.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Why the agent did not, with its fields in the words of configuration and environment.
    #[must_use]
    pub fn refusal(&self, network: &Network, wish: Option<&Wish>) -> CniError {
        #[derive(Deserialize)]
        struct Body {
            error: Refusal,
        }
        #[derive(Deserialize)]
        struct Refusal {
            code: String,
            message: String,
            #[serde(default)]
            field: Option<String>,
        }
        let refusal = match self.read::<Body>() {
            Ok(body) => body.error,
            Err(error) => return error,
        };
        let details = |text: String| format!("network {}: {text}", network.name);
        match (refusal.code.as_str(), refusal.field) {
            ("InvalidRequest", Some(field)) => {
                let (code, origin) = origin(&field, wish);
                let text = refusal.message.replacen(&field, &origin, 1);
                let summary = match code {
                    code::ENVIRONMENT => "invalid environment variables",
                    _ => "invalid network configuration",
                };
                CniError::new(code, summary, details(text))
            }
            ("Exhausted", _) => {
                CniError::new(code::LATER, "the network is full", details(refusal.message))
            }
            ("NotFound", _) => CniError::new(
                code::UNKNOWN_CONTAINER,
                "unknown container",
                details(refusal.message),
            ),
            _ => CniError::new(code::AGENT, "the agent refused", details(refusal.message)),
        }
    }
}

/// Who wrote a field of the specification, and what it is called there.
fn origin(field: &str, wish: Option<&Wish>) -> (u32, String) {
    const AWSVPC: &str = "networkConfiguration.awsvpcConfiguration.";
    const NETWORK: &str = "networkConfiguration.";
    match field {
        "networkNamespace" => return (code::ENVIRONMENT, "CNI_NETNS".to_owned()),
        "linkName" => return (code::ENVIRONMENT, "CNI_IFNAME".to_owned()),
        _ => {}
    }
    let field = match field
        .strip_prefix(AWSVPC)
        .or_else(|| field.strip_prefix(NETWORK))
    {
        Some(field) => field,
        None => return (code::CONFIGURATION, field.to_owned()),
    };
    let lists = wish.map(|wish| {
        [
            ("subnets", &wish.subnets),
            ("securityGroups", &wish.security_groups),
        ]
    });
    for (name, listed) in lists.into_iter().flatten() {
        if let Some(index) = field.strip_prefix(name) {
            return (code::CONFIGURATION, format!("{}{index}", listed.origin));
        }
    }
    (code::CONFIGURATION, field.to_owned())
}
