//! Golden cases of what a task is told: its hostname, and its network as task metadata has it.
//!
//! Reads the formats of `hostnames.json` and `tmds_network.json`, and asks the agent's own functions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use branchline::{
    dns::{DnsAttributes, host_name},
    provider::MacAddress,
    task_metadata::{Addressed, EniNetwork},
};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;
use serde_json::Value;

use crate::flow_log::{Mismatch, Outcome, document, entries};

/// What stands for the container runtime's own name.
const RANDOM: &str = "<random>";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HostNameCase {
    id: String,
    region: String,
    #[serde(rename = "private_ipv4")]
    private_ipv4: Option<Ipv4Addr>,
    enable_dns_support: bool,
    enable_dns_hostnames: bool,
    #[serde(rename = "describe_private_dns_name")]
    described: Option<String>,
    #[serde(rename = "expect_hostname")]
    expected: String,
    #[serde(rename = "why", default)]
    _why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkCase {
    id: String,
    eni: EniCase,
    expect_network: Value,
    #[serde(rename = "why", default)]
    _why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EniCase {
    mac: String,
    ipv4: Vec<AddressCase>,
    ipv6: Vec<Ipv6Addr>,
    subnet_v4: Option<Ipv4Net>,
    subnet_v6: Option<Ipv6Net>,
    dns: Vec<IpAddr>,
    search: Vec<String>,
    #[serde(default)]
    private_dns_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressCase {
    address: Ipv4Addr,
    primary: bool,
}

/// Runs a file of hostnames.
///
/// # Errors
/// It is not in this format; names the field.
pub fn run_hostnames(text: &str) -> Result<Outcome> {
    let cases: Vec<HostNameCase> = entries(&document(text)?, "cases")?;
    let mut outcome = Outcome::default();
    for case in cases {
        let attributes = DnsAttributes {
            enable_dns_support: case.enable_dns_support,
            enable_dns_hostnames: case.enable_dns_hostnames,
        };
        let described = case.described.as_deref();
        let found = host_name(attributes, Some(&case.region), case.private_ipv4, described);
        let found = found.unwrap_or_else(|| RANDOM.to_owned());
        outcome.add(&case.id, &case.expected, &found);
    }
    Ok(outcome)
}

/// Runs a file of networks.
///
/// # Errors
/// It is not in this format; names the field.
pub fn run_metadata(text: &str) -> Result<Outcome> {
    let cases: Vec<NetworkCase> = entries(&document(text)?, "cases")?;
    let mut outcome = Outcome::default();
    for case in cases {
        let found = serde_json::to_value(network(&case.eni)?.document())?;
        outcome.add(&case.id, &case.expect_network, &found);
    }
    Ok(outcome)
}

fn network(eni: &EniCase) -> Result<EniNetwork> {
    let mac: MacAddress = eni.mac.to_ascii_lowercase().parse()?;
    let ipv4 = eni.ipv4.iter().map(|one| Addressed {
        address: one.address,
        is_primary: one.primary,
    });
    Ok(EniNetwork {
        mac,
        ipv4: ipv4.collect(),
        ipv6: eni.ipv6.clone(),
        subnet_ipv4: eni.subnet_v4,
        subnet_ipv6: eni.subnet_v6,
        router_ipv6: None,
        name_servers: eni.dns.clone(),
        search: eni.search.clone(),
        private_dns_name: eni.private_dns_name.clone(),
    })
}

impl Outcome {
    fn add<T: PartialEq + std::fmt::Display>(&mut self, case: &str, expected: &T, found: &T) {
        self.cases += 1;
        if expected != found {
            let text = format!("expected {expected}, got {found}");
            self.mismatches.push(Mismatch::new(case, text));
        }
    }
}
