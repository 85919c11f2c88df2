//! The golden format of scenarios, read and written. It judges nothing.
//!
//! The field names are the format's. Beyond it there are `env.conntrack_limit_per_eni`, and of a
//! packet `seq`, `ack`, `len` (bytes of data) and `target` (of neighbour discovery). A field that is
//! not known is an error.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::packet_format::Pkt;

/// The version of the format.
const FORMAT: u64 = 1;

/// A case: what there is, and what happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name in messages.
    pub id: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Why what is expected is right.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Around the ENIs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub env: Env,
    /// Prefix lists by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prefix_lists: BTreeMap<String, Vec<IpNet>>,
    /// Groups by id.
    #[serde(default)]
    pub groups: BTreeMap<String, Group>,
    /// ENIs by id.
    #[serde(default)]
    pub enis: BTreeMap<String, Eni>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// Counters after the last step, summed over all ENIs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect_counters: BTreeMap<String, u64>,
}

/// What is around the ENIs. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Env {
    /// The VPC's resolvers.
    pub vpc_dns: Vec<IpAddr>,
    /// The subnet's router.
    pub router: Vec<IpAddr>,
    /// Whether ENIs block instance metadata.
    pub block_imds: bool,
    /// Connections on the host.
    pub conntrack_limit: usize,
    /// Connections of one ENI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack_limit_per_eni: Option<usize>,
    /// Whether TCP flows may be picked up mid-stream.
    pub tcp_loose: bool,
    /// Peers whose flows are always tracked.
    pub auto_track: Vec<IpNet>,
    /// TCP established.
    pub t_tcp_est: u32,
    /// UDP, class `single`.
    pub t_udp: u32,
    /// UDP, class `stream`.
    pub t_udp_stream: u32,
    /// Other protocols.
    pub t_generic: u32,
    /// ICMP queries.
    pub t_icmp: u32,
    /// TCP SYN_SENT.
    pub t_syn_sent: u32,
    /// TCP SYN_RECV.
    pub t_syn_recv: u32,
    /// TCP FIN.
    pub t_fin: u32,
    /// TCP TIME_WAIT.
    pub t_time_wait: u32,
    /// TCP CLOSE.
    pub t_close: u32,
    /// TCP PICKUP.
    pub t_pickup: u32,
    /// The verdict on a first fragment.
    pub t_frag: u32,
}

impl Default for Env {
    fn default() -> Self {
        Self {
            vpc_dns: vec![Ipv4Addr::new(10, 0, 0, 2).into()],
            router: vec![Ipv4Addr::new(10, 0, 1, 1).into()],
            block_imds: false,
            conntrack_limit: 262_144,
            conntrack_limit_per_eni: None,
            tcp_loose: true,
            auto_track: Vec::new(),
            t_tcp_est: 432_000,
            t_udp: 30,
            t_udp_stream: 180,
            t_generic: 600,
            t_icmp: 30,
            t_syn_sent: 120,
            t_syn_recv: 60,
            t_fin: 120,
            t_time_wait: 120,
            t_close: 10,
            t_pickup: 300,
            t_frag: 30,
        }
    }
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Group {
    /// What others may open to members.
    pub ingress: Vec<IpPermission>,
    /// What members may open.
    pub egress: Vec<IpPermission>,
}

/// EC2's `IpPermission`, in EC2's spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct IpPermission {
    /// Name, number or -1.
    pub ip_protocol: String,
    /// First port, or ICMP type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_port: Option<i64>,
    /// Last port, or ICMP code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_port: Option<i64>,
    /// IPv4 peers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_ranges: Vec<IpRange>,
    /// IPv6 peers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_ranges: Vec<Ipv6Range>,
    /// Prefix lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix_list_ids: Vec<PrefixListId>,
    /// Groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_id_group_pairs: Vec<UserIdGroupPair>,
}

/// An IPv4 peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct IpRange {
    /// The network.
    pub cidr_ip: Ipv4Net,
    /// No effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// An IPv6 peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Ipv6Range {
    /// The network.
    pub cidr_ipv6: Ipv6Net,
    /// No effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A prefix list as peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct PrefixListId {
    /// The list.
    pub prefix_list_id: String,
    /// No effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A group as peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", default)]
pub struct UserIdGroupPair {
    /// The group.
    pub group_id: String,
    /// No effect here, as the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// See `user_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    /// See `user_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    /// See `user_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_peering_connection_id: Option<String>,
    /// See `user_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peering_status: Option<String>,
    /// See `user_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// An ENI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Eni {
    /// Primary address first.
    pub ipv4: Vec<Ipv4Addr>,
    /// See `ipv4`.
    pub ipv6: Vec<Ipv6Addr>,
    /// Delegated prefixes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<IpNet>,
    /// Its groups.
    pub groups: Vec<String>,
    /// EC2's `SourceDestCheck`.
    #[serde(skip_serializing_if = "is_true")]
    pub source_dest_check: bool,
}

impl Default for Eni {
    fn default() -> Self {
        Self {
            ipv4: Vec::new(),
            ipv6: Vec::new(),
            prefixes: Vec::new(),
            groups: Vec::new(),
            source_dest_check: true,
        }
    }
}

/// Keys to be merged into an ENI; null sets one back to its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EniKeys {
    /// See [`Eni`], as the rest.
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Option<Vec<Ipv4Addr>>>,
    /// See [`Eni`].
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Option<Vec<Ipv6Addr>>>,
    /// See [`Eni`].
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<Option<Vec<IpNet>>>,
    /// See [`Eni`].
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub groups: Option<Option<Vec<String>>>,
    /// See [`Eni`].
    #[serde(deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub source_dest_check: Option<Option<bool>>,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawStep", into = "RawStep")]
pub enum Step {
    /// A packet meets an ENI.
    Packet(Arrival),
    /// Groups, prefix lists or ENIs change, all at once.
    Change(Change),
}

/// A packet that meets an ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Second of the scenario; never less than that of the step before.
    pub t: u64,
    /// The ENI.
    pub eni: String,
    /// Seen from the ENI.
    pub dir: Direction,
    /// The packet.
    pub pkt: Pkt,
    /// What becomes of it, if the scenario says so.
    pub expect: Option<Verdict>,
    /// Whether it rides or opens a connection, if the scenario says so.
    pub tracked: Option<bool>,
}

/// What is replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Groups, wholly.
    pub set_group: BTreeMap<String, Group>,
    /// Prefix lists, wholly.
    pub set_prefix_list: BTreeMap<String, Vec<IpNet>>,
    /// Keys of ENIs; `None` deletes the ENI.
    pub set_eni: BTreeMap<String, Option<EniKeys>>,
}

/// Which way a packet goes, seen from the ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the ENI.
    Ingress,
    /// From the ENI.
    Egress,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// It passes.
    Accept,
    /// It is dropped and logged.
    Reject,
    /// It passes and is not logged.
    Exempt,
    /// It is dropped and not logged.
    DropUnlogged,
}

/// A step as it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawStep {
    #[serde(skip_serializing_if = "Option::is_none")]
    t: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eni: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dir: Option<Direction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pkt: Option<Pkt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracked: Option<bool>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    set_group: BTreeMap<String, Group>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    set_prefix_list: BTreeMap<String, Vec<IpNet>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    set_eni: BTreeMap<String, Option<EniKeys>>,
}

impl TryFrom<RawStep> for Step {
    type Error = String;

    fn try_from(raw: RawStep) -> Result<Self, String> {
        let change = Change {
            set_group: raw.set_group,
            set_prefix_list: raw.set_prefix_list,
            set_eni: raw.set_eni,
        };
        let missing = |name: &str| format!("a packet's step needs `{name}`");
        match raw.pkt {
            Some(_) if change != Change::default() => {
                Err("a step is a packet or a change, not both".to_owned())
            }
            Some(pkt) => Ok(Self::Packet(Arrival {
                t: raw.t.ok_or_else(|| missing("t"))?,
                eni: raw.eni.ok_or_else(|| missing("eni"))?,
                dir: raw.dir.ok_or_else(|| missing("dir"))?,
                pkt,
                expect: raw.expect,
                tracked: raw.tracked,
            })),
            None if change == Change::default() => {
                Err("a step needs `pkt`, `set_group`, `set_prefix_list` or `set_eni`".to_owned())
            }
            None => Ok(Self::Change(change)),
        }
    }
}

impl From<Step> for RawStep {
    fn from(step: Step) -> Self {
        match step {
            Step::Packet(arrival) => Self {
                t: Some(arrival.t),
                eni: Some(arrival.eni),
                dir: Some(arrival.dir),
                pkt: Some(arrival.pkt),
                expect: arrival.expect,
                tracked: arrival.tracked,
                ..Self::default()
            },
            Step::Change(change) => Self {
                set_group: change.set_group,
                set_prefix_list: change.set_prefix_list,
                set_eni: change.set_eni,
                ..Self::default()
            },
        }
    }
}

/// Reads a file's cases.
///
/// # Errors
/// The first case and field that do not fit.
pub fn parse(text: &str) -> Result<Vec<Scenario>> {
    let file: Value = serde_json::from_str(text).context("no JSON")?;
    let Value::Object(mut file) = file else {
        bail!("the file is no object");
    };
    let format = file.remove("format").context("`format` is missing")?;
    ensure!(
        format == FORMAT,
        "format {format} is not known; {FORMAT} is"
    );
    let cases = file.remove("cases").context("`cases` is missing")?;
    if let Some(name) = file.keys().next() {
        bail!("unknown field `{name}`");
    }
    let Value::Array(cases) = cases else {
        bail!("`cases` is no list");
    };
    let mut scenarios = Vec::new();
    for (index, case) in cases.into_iter().enumerate() {
        let name = match case.get("id").and_then(Value::as_str) {
            Some(id) => format!("case {id}"),
            None => format!("case {index}, which has no id"),
        };
        let scenario: Scenario =
            serde_path_to_error::deserialize(case).map_err(|error| {
                match error.path().to_string().as_str() {
                    "." => anyhow!("{name}: {}", error.inner()),
                    path => anyhow!("{name}: {path}: {}", error.inner()),
                }
            })?;
        scenario.check().with_context(|| name)?;
        scenarios.push(scenario);
    }
    Ok(scenarios)
}

/// The text of a file with these cases, a line each.
///
/// # Errors
/// None is known; the values are plain.
pub fn text(scenarios: &[Scenario]) -> Result<String> {
    let lines: Result<Vec<String>, _> = scenarios.iter().map(serde_json::to_string).collect();
    Ok(format!(
        "{{\"format\":{FORMAT},\n\"cases\":[\n{}\n]}}\n",
        lines?.join(",\n")
    ))
}

impl Scenario {
    /// Second of the last packet.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        let times = self.steps.iter().filter_map(|step| match step {
            Step::Packet(arrival) => Some(arrival.t),
            Step::Change(_) => None,
        });
        times.max().unwrap_or_default()
    }

    /// What the shape alone does not say.
    fn check(&self) -> Result<()> {
        let mut now = 0;
        for (index, step) in self.steps.iter().enumerate() {
            if let Step::Packet(arrival) = step {
                let t = arrival.t;
                ensure!(t >= now, "steps[{index}].t: {t} is before {now}");
                now = t;
            }
        }
        Ok(())
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it")]
fn is_true(value: &bool) -> bool {
    *value
}

/// A field that is there, be it null.
fn some<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}
