//! What ADD answers, in the form of each version (CNI specification, section 5, "ADD Success", and its predecessors).

use serde_json::{Map, Value, json};

use crate::api::{InterfaceAddress, Task};
use crate::version::Version;

/// Index of the container's link among the interfaces; the host's end comes first.
const INSIDE: usize = 1;

/// The result of an ADD that gave `task` to the namespace `netns`.
#[must_use]
pub fn result(version: Version, task: &Task, netns: &str, dns: &Value) -> Value {
    if version < Version::V0_3_0 {
        return flat(version, task, dns);
    }
    let dns = &resolver(task, dns);
    let link = &task.network_interface;
    let mut host = json!({"name": task.host_link});
    let mut inside = json!({"name": link.link_name, "mac": link.mac_address, "sandbox": netns});
    if version >= Version::V1_1_0 {
        for interface in [&mut host, &mut inside] {
            interface["mtu"] = json!(link.mtu);
        }
    }
    let ips: Vec<Value> = link
        .addresses
        .iter()
        .map(|address| ip(version, address))
        .collect();
    let routes: Vec<Value> = link.addresses.iter().map(default_route).collect();
    json!({
        "cniVersion": version.text(),
        "interfaces": [host, inside],
        "ips": ips,
        "routes": routes,
        "dns": dns,
    })
}

/// One address of each family, and nothing of links: versions before 0.3.0.
fn flat(version: Version, task: &Task, dns: &Value) -> Value {
    let mut result = Map::new();
    result.insert("cniVersion".to_owned(), json!(version.text()));
    for address in &task.network_interface.addresses {
        let of_family = json!({
            "ip": address.address,
            "gateway": address.router,
            "routes": [default_route(address)],
        });
        result.insert(format!("ip{}", family(address)), of_family);
    }
    result.insert("dns".to_owned(), resolver(task, dns));
    Value::Object(result)
}

/// What the configuration says of names, all of it, or else what the task is told: its `resolv.conf`, which
/// has no options.
fn resolver(task: &Task, configured: &Value) -> Value {
    if configured.as_object().is_some_and(|dns| !dns.is_empty()) {
        return configured.clone();
    }
    let mut dns = Map::new();
    if !task.dns.name_servers.is_empty() {
        dns.insert("nameservers".to_owned(), json!(task.dns.name_servers));
    }
    if let Some(domain) = task.dns.search_domains.first() {
        dns.insert("domain".to_owned(), json!(domain));
        dns.insert("search".to_owned(), json!(task.dns.search_domains));
    }
    Value::Object(dns)
}

fn ip(version: Version, address: &InterfaceAddress) -> Value {
    let mut ip = json!({
        "address": address.address,
        "gateway": address.router,
        "interface": INSIDE,
    });
    if version < Version::V1_0_0 {
        ip["version"] = json!(family(address));
    }
    ip
}

fn default_route(address: &InterfaceAddress) -> Value {
    let destination = if family(address) == "4" {
        "0.0.0.0/0"
    } else {
        "::/0"
    };
    json!({"dst": destination, "gw": address.router})
}

fn family(address: &InterfaceAddress) -> &'static str {
    if address.address.contains(':') {
        "6"
    } else {
        "4"
    }
}
