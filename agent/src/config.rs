//! The agent's configuration file (TOML) and every default of it.
//!
//! Never reads the VPC file and never touches the host.

mod api;
mod capacity;
mod conntrack;
mod ec2;
mod metrics;
mod services;
mod warm_pool;

pub use api::ApiConfig;
pub use capacity::CapacityConfig;
pub use conntrack::{ConntrackConfig, NoPeerPrefix, PeerPrefix};
pub use ec2::{Ec2Config, Mode, WireKind};
pub use metrics::MetricsConfig;
pub use services::{DnsConfig, Forwarder, NoForwarder, TaskMetadataConfig};
pub use warm_pool::WarmPoolConfig;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::delivery::{FlowLog, check_all};
use crate::field_error::{FieldError, from_toml, within};

/// Bytes that flow counts on their way to the flow logs may take.
pub const SPOOL_BYTES: std::ops::RangeInclusive<u64> = 1_048_576..=1_099_511_627_776;
/// Percent of a file system that may be asked to be left free.
pub const MIN_FREE_SPACE_PERCENT: std::ops::RangeInclusive<u8> = 0..=50;
/// IPv6 needs 1280 bytes (RFC 8200 §5); 9198 is what fits a jumbo frame of 9216 with one VLAN tag.
pub const MTU: std::ops::RangeInclusive<u32> = 1280..=9198;
/// Seconds for which a name of an ENI that has gone may be kept back.
pub const COOL_DOWN: std::ops::RangeInclusive<u32> = 0..=3_600;
/// Most ENIs one trunk can carry: one VLAN id each, 1 to 4094, and the trunk itself.
pub const MAX_ENIS: u32 = 4095;
/// Entries a table of the data plane may be asked to hold.
pub const TABLE_ENTRIES: std::ops::RangeInclusive<u32> = 1024..=16_777_216;

/// What the agent was told; every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the API socket; emptied by a reboot.
    pub run_dir: PathBuf,
    /// Folder of the store that survives restarts.
    pub state_dir: PathBuf,
    /// Folder where named network namespaces are mounted.
    pub netns_dir: PathBuf,
    /// Folder where `ip netns exec` looks for a named namespace's files.
    pub etc_netns_dir: PathBuf,
    /// Where bpffs is mounted.
    pub bpffs_dir: PathBuf,
    /// Who besides root may use the socket.
    pub api: ApiConfig,
    /// Where Prometheus may ask besides the socket.
    pub metrics: MetricsConfig,
    /// The instance type whose limits the host keeps to.
    pub capacity: CapacityConfig,
    /// What every flow record says of this host, and how much of them may wait.
    pub flow_records: FlowRecordConfig,
    /// The flow logs of a host on which none were ever applied.
    pub flow_logs: Vec<FlowLog>,
    /// How connections are tracked.
    pub conntrack: ConntrackConfig,
    /// Flow rows between two files at most; past it rows are counted as skipped.
    pub flow_rows_max: u32,
    /// Whether each kind of dropped packet is also logged by the agent, rate-limited.
    pub log_drops: bool,
    /// Whether what others change of tasks' networks is mended; if not, only `task check` finds it.
    pub mend: bool,
    /// MTU of the trunk and of every task, in bytes.
    pub mtu: u32,
    /// ENIs the host takes at most; sizes the tables of the data plane.
    pub max_enis: u32,
    /// How often tasks may ask for their metadata.
    pub task_metadata: TaskMetadataConfig,
    /// Who hands out ENIs.
    pub provider: ProviderKind,
    /// Settings of the `local` provider.
    pub local: LocalConfig,
    /// Settings of the `ec2` provider.
    pub ec2: Ec2Config,
}

/// `[flow_records]`: what is the same in every flow log of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowRecordConfig {
    /// Account number in each record, 12 digits.
    pub account_id: String,
    /// Region in records and file names.
    pub region: String,
    /// Availability zone's id in records, as `use1-az1`.
    pub az_id: Option<String>,
    /// Instance in records, as `i-0123456789abcdef0`.
    pub instance_id: Option<String>,
    /// The host in records; its host name if left out.
    pub host_id: Option<String>,
    /// AWS's `ip-ranges.json`, which names the services in records; a relative path starts at the
    /// configuration file's folder.
    pub ip_ranges: Option<PathBuf>,
    /// Bytes of counts in `state_dir` that may wait for a flow log to write them.
    pub spool_max_bytes: u64,
    /// Percent of the file systems of `state_dir` and of each log's folder that flow records leave
    /// free, 0 to 50.
    pub min_free_space_percent: u8,
}

/// Who hands out ENIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// The embedded VPC of this host.
    Local,
    /// EC2: branches of the instance's trunk.
    Ec2,
}

/// `[local]`: the embedded VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// The VPC file; a relative path starts at the configuration file's folder.
    pub vpc_file: PathBuf,
    /// Whether host and VPC are linked, so that the host reaches tasks.
    pub uplink: bool,
    /// IPv4 network of that link: its first address is the host's, its second the VPC's.
    pub uplink_ipv4: Ipv4Net,
    /// IPv6 network of that link: base+1 is the host's, base+2 the VPC's.
    pub uplink_ipv6: Ipv6Net,
    /// Whether the host forwards and masquerades what tasks send outside.
    pub nat_gateway: bool,
    /// Seconds for which address and VLAN id of a task that has gone are given to no other, unless
    /// nothing else is left.
    pub cool_down: u32,
    /// The VPC's resolvers.
    pub dns: DnsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            run_dir: "/run/branchline".into(),
            state_dir: "/var/lib/branchline".into(),
            netns_dir: "/run/netns".into(),
            etc_netns_dir: "/etc/netns".into(),
            bpffs_dir: "/sys/fs/bpf".into(),
            api: ApiConfig::default(),
            metrics: MetricsConfig::default(),
            capacity: CapacityConfig::default(),
            flow_records: FlowRecordConfig::default(),
            flow_logs: vec![FlowLog::of_host()],
            conntrack: ConntrackConfig::default(),
            flow_rows_max: 131_072,
            log_drops: false,
            mend: true,
            mtu: 9001,
            max_enis: MAX_ENIS,
            task_metadata: TaskMetadataConfig::default(),
            provider: ProviderKind::Local,
            local: LocalConfig::default(),
            ec2: Ec2Config::default(),
        }
    }
}

impl Default for FlowRecordConfig {
    fn default() -> Self {
        Self {
            account_id: "000000000000".to_owned(),
            region: "local".to_owned(),
            az_id: None,
            instance_id: None,
            host_id: None,
            ip_ranges: None,
            spool_max_bytes: 1_073_741_824,
            min_free_space_percent: 5,
        }
    }
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            vpc_file: "/etc/branchline/vpc.toml".into(),
            uplink: true,
            uplink_ipv4: Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 77, 0), 30),
            uplink_ipv6: Ipv6Net::new_assert(
                Ipv6Addr::new(0xfdb1, 0x6272, 0x616e, 0x6368, 0, 0, 0, 0),
                126,
            ),
            nat_gateway: false,
            cool_down: 60,
            dns: DnsConfig::default(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A field of it is wrong.
    #[error("configuration {}: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which field, and what to write.
        #[source]
        source: FieldError,
    },
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// `Read` if the file cannot be read; `Invalid` names the first field that is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut config = Self::parse(&text).map_err(|source| ConfigError::Invalid {
            path: path.to_owned(),
            source,
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        config.local.vpc_file = folder.join(&config.local.vpc_file);
        config.capacity.start_at(folder);
        if let Some(path) = &mut config.flow_records.ip_ranges {
            *path = folder.join(&path);
        }
        Ok(config)
    }

    /// Reads and checks the text of a configuration file.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let config: Self = from_toml(text)?;
        config.check()?;
        Ok(config)
    }

    /// The API socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }

    /// Milliseconds for which names of a task that has gone rest.
    #[must_use]
    pub fn cool_down_ms(&self) -> u64 {
        match self.provider {
            ProviderKind::Local => self.local.cool_down_ms(),
            ProviderKind::Ec2 => u64::from(self.ec2.cool_down) * 1_000,
        }
    }

    fn check(&self) -> Result<(), FieldError> {
        for (field, dir) in [
            ("run_dir", &self.run_dir),
            ("state_dir", &self.state_dir),
            ("netns_dir", &self.netns_dir),
            ("etc_netns_dir", &self.etc_netns_dir),
            ("bpffs_dir", &self.bpffs_dir),
        ] {
            absolute(field, dir)?;
        }
        self.metrics.check()?;
        within("mtu", self.mtu, &MTU)?;
        within("max_enis", self.max_enis, &(1..=MAX_ENIS))?;
        self.conntrack.check()?;
        self.capacity.check(self.provider)?;
        within("flow_rows_max", self.flow_rows_max, &TABLE_ENTRIES)?;
        self.flow_records.check()?;
        check_all(&self.flow_logs)?;
        self.task_metadata.check()?;
        self.local.check()?;
        self.ec2.check()
    }
}

impl FlowRecordConfig {
    fn check(&self) -> Result<(), FieldError> {
        let field = |name: &str| format!("flow_records.{name}");
        let account = &self.account_id;
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(FieldError::new(
                field("account_id"),
                format!("{account:?} is no account number"),
                "write 12 digits in quotes",
            ));
        }
        check_region(&field("region"), &self.region)?;
        word(&field("az_id"), self.az_id.as_ref())?;
        word(&field("instance_id"), self.instance_id.as_ref())?;
        word(&field("host_id"), self.host_id.as_ref())?;
        within(
            &field("spool_max_bytes"),
            self.spool_max_bytes,
            &SPOOL_BYTES,
        )?;
        within(
            &field("min_free_space_percent"),
            self.min_free_space_percent,
            &MIN_FREE_SPACE_PERCENT,
        )
    }
}

impl LocalConfig {
    /// The cool-down in milliseconds.
    #[must_use]
    pub fn cool_down_ms(&self) -> u64 {
        u64::from(self.cool_down) * 1_000
    }

    /// The host's addresses on the uplink, with its prefix lengths.
    pub fn uplink_host(&self) -> (Ipv4Net, Ipv6Net) {
        self.uplink_addresses(1)
    }

    /// The VPC's addresses on the uplink, with its prefix lengths.
    pub fn uplink_fabric(&self) -> (Ipv4Net, Ipv6Net) {
        self.uplink_addresses(2)
    }

    /// `check` leaves room for the two addresses of each family, so the sums cannot leave the network.
    fn uplink_addresses(&self, offset: u32) -> (Ipv4Net, Ipv6Net) {
        let v4 = Ipv4Addr::from_bits(self.uplink_ipv4.network().to_bits().wrapping_add(offset));
        let v6 = Ipv6Addr::from_bits(
            self.uplink_ipv6
                .network()
                .to_bits()
                .wrapping_add(offset.into()),
        );
        (
            Ipv4Net::new_assert(v4, self.uplink_ipv4.prefix_len()),
            Ipv6Net::new_assert(v6, self.uplink_ipv6.prefix_len()),
        )
    }

    fn check(&self) -> Result<(), FieldError> {
        let (v4, v6) = (self.uplink_ipv4, self.uplink_ipv6);
        if v4 != v4.trunc() || !(8..=30).contains(&v4.prefix_len()) {
            return Err(FieldError::new(
                "local.uplink_ipv4",
                format!("{v4} is not a network of at least two addresses"),
                "write a network between /8 and /30 without host bits, as 169.254.77.0/30",
            ));
        }
        if v6 != v6.trunc() || !(16..=126).contains(&v6.prefix_len()) {
            return Err(FieldError::new(
                "local.uplink_ipv6",
                format!("{v6} is not a network of at least two addresses"),
                "write a network between /16 and /126 without host bits, as fdb1:6272:616e:6368::/126",
            ));
        }
        within("local.cool_down", self.cool_down, &COOL_DOWN)?;
        self.dns.check()?;
        if self.nat_gateway && !self.uplink {
            return Err(FieldError::new(
                "local.nat_gateway",
                "true, while local.uplink is false",
                "set local.uplink = true: the NAT gateway leads through it",
            ));
        }
        Ok(())
    }
}

/// What stands in a row or a file name must be one word of it.
/// A region names a folder, and stands between underscores in a file's name.
fn check_region(field: &str, region: &str) -> Result<(), FieldError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if (1..=64).contains(&region.len()) && region.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format!("{region:?} is no region"),
        "write 1 to 64 letters, digits or dashes, as eu-west-1",
    ))
}

fn word(field: &str, value: Option<&String>) -> Result<(), FieldError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    match value {
        Some(word) if word.is_empty() || !word.bytes().all(is_allowed) => Err(FieldError::new(
            field,
            format!("{word:?} cannot stand in a record"),
            "write letters, digits, dashes, dots or colons",
        )),
        Some(_) | None => Ok(()),
    }
}

fn absolute(field: &str, path: &Path) -> Result<(), FieldError> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format!("{:?} is not an absolute path", path),
        "start it with /",
    ))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
