//! The network configuration, as the runtime hands it over (CNI specification, sections 1 and 3).
//!
//! A key that nobody knows is an error: a misspelt `securityGroups` would give a container the VPC's default group.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::environment::is_name;
use crate::error::{CniError, code};
use crate::version::Version;

/// Where the agent listens unless `socket` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/branchline/agent.sock";
/// The capability by which a CRI runtime hands over a pod's annotations.
pub const POD_ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
/// The annotation that stands in for `subnets`.
pub const SUBNETS_ANNOTATION: &str = "branchline/subnets";
/// The annotation that stands in for `securityGroups`.
pub const GROUPS_ANNOTATION: &str = "branchline/security-groups";
/// What holds the attachments that stay at GC; libcni 1.1.0 to 1.1.2 knew it by the second name only.
const VALID_ATTACHMENTS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];
/// What runtimes put there for themselves begins with this.
const RESERVED: &str = "cni.dev/";

/// Keys that are ours or the protocol's, each read or rightly passed over.
const KNOWN: [&str; 17] = [
    "cniVersion",
    "cniVersions",
    "name",
    "type",
    "args",
    "capabilities",
    "runtimeConfig",
    "prevResult",
    "disableCheck",
    "disableGC",
    "loadOnlyInlinedPlugins",
    "dns",
    "socket",
    "subnets",
    "securityGroups",
    "networkInterfaceAttributes",
    "plugins",
];

/// The configuration's JSON object.
#[derive(Debug, Clone, PartialEq)]
pub struct Document(Map<String, Value>);

/// Which agent is asked about which network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// `name`.
    pub name: String,
    /// `socket`.
    pub socket: PathBuf,
}

/// What a container's interface shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// Where it may get its addresses.
    pub subnets: Listed,
    /// Its security groups; none means the VPC's default group.
    pub security_groups: Listed,
    /// `networkInterfaceAttributes`, for the agent to check.
    pub attributes: Option<Value>,
    /// `args.cni.labels`.
    pub labels: Vec<(String, String)>,
    /// `dns`, in the result instead of the task's.
    pub dns: Value,
}

/// Ids, and where they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// In their order.
    pub ids: Vec<String>,
    /// The key or annotation, for messages.
    pub origin: String,
}

/// An attachment that stays at GC.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ValidAttachment {
    /// `CNI_CONTAINERID` of its ADD.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME` of its ADD.
    pub ifname: String,
}

impl Document {
    /// Reads the configuration's text.
    ///
    /// # Errors
    /// Code 6.
    pub fn parse(text: &[u8]) -> Result<Self, CniError> {
        let decoded = serde_json::from_slice(text);
        decoded.map(Self).map_err(|error| {
            let details = format!("network configuration: {error}; write one JSON object");
            CniError::new(
                code::DECODE,
                "cannot decode the network configuration",
                details,
            )
        })
    }

    /// `cniVersion`.
    ///
    /// # Errors
    /// Code 1 for one that is not supported, 6 if it is no text.
    pub fn version(&self) -> Result<Version, CniError> {
        Version::parse(self.text("cniVersion")?.unwrap_or_default())
    }

    /// Which agent is asked about which network.
    ///
    /// # Errors
    /// Code 7 for a wrong value, 6 for one of another type.
    pub fn network(&self) -> Result<Network, CniError> {
        let name = self.text("name")?.unwrap_or_default();
        if !is_name(name) {
            return Err(invalid(format!(
                "name: {name:?} is no network name; write letters, digits, _, . or -, beginning with a letter or digit"
            )));
        }
        let socket = PathBuf::from(self.text("socket")?.unwrap_or(DEFAULT_SOCKET));
        if !socket.is_absolute() {
            return Err(invalid(format!(
                "socket: {socket:?} is no absolute path; write the path of the agent's socket, as {DEFAULT_SOCKET}"
            )));
        }
        Ok(Network {
            name: name.to_owned(),
            socket,
        })
    }

    /// What a container's interface shall be.
    ///
    /// # Errors
    /// Code 2 for what cannot be honoured, 7 for a wrong value, 6 for one of another type.
    pub fn wish(&self) -> Result<Wish, CniError> {
        self.check_keys()?;
        let annotations = self.annotations()?;
        let subnets = self.listed("subnets", &annotations, SUBNETS_ANNOTATION)?;
        let groups = self.listed("securityGroups", &annotations, GROUPS_ANNOTATION)?;
        Ok(Wish {
            subnets,
            security_groups: groups,
            attributes: self.value("networkInterfaceAttributes").cloned(),
            labels: self.labels(),
            dns: self.dns()?,
        })
    }

    /// `prevResult`, unless it is null.
    #[must_use]
    pub fn previous_result(&self) -> Option<&Value> {
        self.value("prevResult")
    }

    /// What stays at GC.
    ///
    /// # Errors
    /// Code 7 if it is not said, which is another thing than that nothing stays; 6 if it is no such list.
    pub fn valid_attachments(&self) -> Result<Vec<ValidAttachment>, CniError> {
        let [name, _] = VALID_ATTACHMENTS;
        let mut values = VALID_ATTACHMENTS
            .into_iter()
            .filter_map(|key| self.0.get(key));
        match values.next() {
            None => Err(invalid(format!(
                "{name}: is missing; the runtime lists what stays, or writes null if nothing does"
            ))),
            Some(Value::Null) => Ok(Vec::new()),
            Some(list) => {
                Vec::deserialize(list).map_err(|error| wrong_type(name, &error.to_string()))
            }
        }
    }

    /// A value that is there and not null.
    fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Result<Option<&str>, CniError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(key, &format!("{other} is no text"))),
        }
    }

    fn check_keys(&self) -> Result<(), CniError> {
        for (key, value) in &self.0 {
            let is_fine = match key.as_str() {
                "ipam" => is_empty(value) || value.get("type").is_some_and(is_empty),
                "ipMasq" => is_empty(value),
                key => KNOWN.contains(&key) || key.starts_with(RESERVED),
            };
            if !is_fine {
                let fix = match key.as_str() {
                    "ipam" => "addresses come from the VPC's subnets; remove it",
                    "ipMasq" => {
                        "what leaves the VPC is translated if the agent's local.nat_gateway says so; remove it"
                    }
                    _ => "there is no such key; correct or remove it",
                };
                return Err(unsupported(key, value, fix));
            }
        }
        for (capability, value) in self
            .value("runtimeConfig")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if capability != POD_ANNOTATIONS && !is_empty(value) {
                let key = format!("runtimeConfig.{capability}");
                let fix = "the plugin has no such capability; remove it from capabilities";
                return Err(unsupported(&key, value, fix));
            }
        }
        Ok(())
    }

    fn annotations(&self) -> Result<Map<String, Value>, CniError> {
        let given = self
            .value("runtimeConfig")
            .and_then(|config| config.get(POD_ANNOTATIONS));
        match given {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(annotations)) => Ok(annotations.clone()),
            Some(other) => {
                let key = format!("runtimeConfig[{POD_ANNOTATIONS:?}]");
                Err(wrong_type(&key, &format!("{other} is no object")))
            }
        }
    }

    /// What the pod's annotation says, or else the configuration's key.
    fn listed(
        &self,
        key: &str,
        annotations: &Map<String, Value>,
        annotation: &str,
    ) -> Result<Listed, CniError> {
        if let Some(value) = annotations.get(annotation) {
            let origin = format!("pod annotation {annotation}");
            let text = value.as_str().unwrap_or_default();
            let ids: Vec<String> = text.split(',').map(|id| id.trim().to_owned()).collect();
            if ids.iter().any(String::is_empty) {
                return Err(invalid(format!(
                    "{origin}: {value} has an empty id; write ids with commas between them, or leave the annotation out"
                )));
            }
            return Ok(Listed { ids, origin });
        }
        let ids = match self.value(key) {
            None => Vec::new(),
            Some(list) => {
                Vec::deserialize(list).map_err(|error| wrong_type(key, &error.to_string()))?
            }
        };
        let origin = key.to_owned();
        Ok(Listed { ids, origin })
    }

    /// Key-value pairs that runtimes may hand over; optional, so that what is none is passed over.
    fn labels(&self) -> Vec<(String, String)> {
        let labels = self
            .0
            .get("args")
            .and_then(|args| args.pointer("/cni/labels"));
        let labels = labels.and_then(Value::as_array).into_iter().flatten();
        let text = |label: &Value, key: &str| label.get(key)?.as_str().map(str::to_owned);
        labels
            .filter_map(|label| Some((text(label, "key")?, text(label, "value")?)))
            .collect()
    }

    fn dns(&self) -> Result<Value, CniError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only its form is looked at")]
        struct Dns {
            #[serde(default)]
            nameservers: Vec<std::net::IpAddr>,
            #[serde(default)]
            domain: String,
            #[serde(default)]
            search: Vec<String>,
            #[serde(default)]
            options: Vec<String>,
        }
        let Some(dns) = self.value("dns") else {
            return Ok(Value::Object(Map::new()));
        };
        match Dns::deserialize(dns) {
            Ok(_) => Ok(dns.clone()),
            Err(error) => Err(wrong_type("dns", &error.to_string())),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn unsupported(key: &str, value: &Value, fix: &str) -> CniError {
    let details = format!("{key}: {value}: {fix}");
    CniError::new(
        code::UNSUPPORTED,
        "unsupported key of the network configuration",
        details,
    )
}

fn invalid(details: String) -> CniError {
    CniError::new(
        code::CONFIGURATION,
        "invalid network configuration",
        details,
    )
}

fn wrong_type(key: &str, problem: &str) -> CniError {
    let details = format!("{key}: {problem}; correct it");
    CniError::new(
        code::DECODE,
        "cannot decode the network configuration",
        details,
    )
}
