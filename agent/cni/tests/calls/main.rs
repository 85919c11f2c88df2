//! Calls of the plugin from environment and standard input to what it prints, with an agent in memory.
#![expect(clippy::unwrap_used, reason = "tests")]

mod add;
mod others;
mod refusals;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use branchline_cni::api::{Answer, Request};
use branchline_cni::environment::Environment;
use branchline_cni::http::{Agent, TalkError};
use branchline_cni::run::Outcome;
use serde_json::{Value, json};

const CONTAINER: &str = "3f2a9c5d7e8b4a6f0123456789abcdef3f2a9c5d7e8b4a6f0123456789abcdef";
const NETNS: &str = "/run/netns/cni-1";

/// What the agent says, in turn; keeps what it was asked.
#[derive(Default)]
struct Fake {
    says: RefCell<Vec<Result<Answer, TalkError>>>,
    asked: RefCell<Vec<(PathBuf, Request)>>,
}

impl Agent for Fake {
    fn ask(&self, socket: &Path, request: &Request) -> Result<Answer, TalkError> {
        let mut asked = self.asked.borrow_mut();
        asked.push((socket.to_owned(), request.clone()));
        self.says.borrow_mut().remove(0)
    }
}

impl Fake {
    fn saying(says: impl IntoIterator<Item = Result<Answer, TalkError>>) -> Self {
        Self {
            says: RefCell::new(says.into_iter().collect()),
            ..Self::default()
        }
    }

    fn requests(&self) -> Vec<Request> {
        let asked = self.asked.borrow();
        asked.iter().map(|(_, request)| request.clone()).collect()
    }
}

fn says(status: u16, body: &Value) -> Result<Answer, TalkError> {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    Ok(Answer {
        status,
        body: body.into_bytes(),
    })
}

fn refuses(
    status: u16,
    code: &str,
    message: &str,
    field: Option<&str>,
) -> Result<Answer, TalkError> {
    says(
        status,
        &json!({"error": {"code": code, "message": message, "field": field}}),
    )
}

fn refused_connection() -> Result<Answer, TalkError> {
    Err(TalkError::Connect(
        std::io::ErrorKind::ConnectionRefused.into(),
    ))
}

/// A task as the agent describes it, both families unless told otherwise.
fn task_of(addresses: &[(&str, &str)]) -> Value {
    let addresses: Vec<Value> = addresses
        .iter()
        .map(|(address, router)| json!({"address": address, "router": router}))
        .collect();
    json!({
        "taskId": "t", "hostLink": "bl0",
        "dns": {"nameServers": [], "searchDomains": []},
        "networkInterface": {
            "linkName": "eth0", "macAddress": "0a:00:00:00:00:01", "mtu": 9001,
            "addresses": addresses, "subnetId": "subnet-a", "vpcId": "vpc-1",
        },
    })
}

fn both() -> Value {
    task_of(&[
        ("10.0.1.4/24", "10.0.1.1"),
        ("2001:db8::4/64", "2001:db8::1"),
    ])
}

fn variables(command: &str, changes: &[(&str, &str)]) -> Environment {
    let mut variables = vec![
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", CONTAINER),
        ("CNI_NETNS", NETNS),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
        ("HOME", "/root"),
    ];
    variables.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    variables.extend_from_slice(changes);
    let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    variables.into_iter().map(text).collect()
}

/// A configuration of `version` with `changes` over it.
fn configuration(version: &str, changes: &Value) -> Vec<u8> {
    let mut configuration = json!({
        "cniVersion": version,
        "name": "pods",
        "type": "branchline-cni",
        "subnets": ["subnet-a"],
        "securityGroups": ["sg-web"],
    });
    for (key, value) in changes.as_object().unwrap() {
        configuration[key] = value.clone();
    }
    configuration.to_string().into_bytes()
}

fn printed(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.output).unwrap_or(Value::Null)
}

/// The error's code and its message.
fn failed(outcome: &Outcome) -> (u64, String) {
    assert!(!outcome.is_success, "{outcome:?}");
    let error = printed(outcome);
    (
        error["code"].as_u64().unwrap(),
        error["msg"].as_str().unwrap().to_owned(),
    )
}
