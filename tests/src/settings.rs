//! What a host under test is given: the agent's configuration and the VPC file. Writes no file.

use std::path::PathBuf;

/// A VPC of two subnets, both of both families, and groups that the tests share.
///
/// `sg-server` takes TCP and UDP on port 7 and echo requests from anywhere; `sg-client` takes
/// nothing. Both let everything out.
pub const VPC: &str = r#"
vpc_id = "vpc-test"
cidr_block = "10.0.0.0/16"
ipv6_cidr_block = "2001:db8:1::/56"

[[subnets]]
subnet_id = "subnet-a"
cidr_block = "10.0.1.0/24"
ipv6_cidr_block = "2001:db8:1:1::/64"

[[subnets]]
subnet_id = "subnet-b"
cidr_block = "10.0.2.0/24"
ipv6_cidr_block = "2001:db8:1:2::/64"

[[security_groups]]
group_id = "sg-server"
group_name = "server"
description = "port 7 and echo requests from anywhere"
ip_permissions = [
    { ip_protocol = "tcp", from_port = 7, to_port = 7, ip_ranges = [{ cidr_ip = "0.0.0.0/0" }], ipv6_ranges = [{ cidr_ipv6 = "::/0" }] },
    { ip_protocol = "udp", from_port = 7, to_port = 7, ip_ranges = [{ cidr_ip = "0.0.0.0/0" }], ipv6_ranges = [{ cidr_ipv6 = "::/0" }] },
    { ip_protocol = "icmp", from_port = 8, to_port = -1, ip_ranges = [{ cidr_ip = "0.0.0.0/0" }] },
    { ip_protocol = "icmpv6", from_port = 128, to_port = -1, ipv6_ranges = [{ cidr_ipv6 = "::/0" }] },
]

[[security_groups]]
group_id = "sg-client"
group_name = "client"
description = "nothing in"
ip_permissions = []
"#;

/// Where a host under test has the files of named namespaces: `/etc` is the machine's.
pub const ETC_NETNS: &str = "/run/etc-netns";

/// The port that `sg-server` of [`VPC`] opens.
pub const OPEN_PORT: u16 = 7;

/// Configuration and VPC of a host under test. Paths are the host's own, whose `/run` is private.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seconds between two flow-log files.
    pub interval: u64,
    /// Folder of the flow-log files.
    pub flow_log_dir: PathBuf,
    /// TOML that comes behind the log of `flow_log_dir`: a table of its own or another log.
    pub more_flow_logs: String,
    /// Variables that the agent is started with besides this process's.
    pub environment: Vec<(&'static str, &'static str)>,
    /// Command that starts the agent, as a service manager would; the agent and its arguments come
    /// behind it.
    pub launcher: Vec<String>,
    /// Whether host and VPC are linked.
    pub uplink: bool,
    /// Whether tasks reach the outside.
    pub nat_gateway: bool,
    /// TOML that comes before the first table, such as `mtu = 1500`.
    pub top_level: String,
    /// The VPC file.
    pub vpc: String,
}

impl Default for Settings {
    /// [`VPC`] with its uplink and NAT gateway, and a file each second.
    fn default() -> Self {
        Self {
            interval: 1,
            flow_log_dir: "/run/flows".into(),
            more_flow_logs: String::new(),
            environment: Vec::new(),
            launcher: Vec::new(),
            uplink: true,
            nat_gateway: true,
            top_level: String::new(),
            vpc: VPC.to_owned(),
        }
    }
}

impl Settings {
    /// The agent's configuration file.
    #[must_use]
    pub fn agent_toml(&self) -> String {
        let Self {
            interval,
            flow_log_dir,
            more_flow_logs,
            environment: _,
            launcher: _,
            uplink,
            nat_gateway,
            top_level,
            vpc: _,
        } = self;
        format!(
            "run_dir = \"/run/branchline\"\n\
             state_dir = \"/run/state\"\n\
             etc_netns_dir = \"{ETC_NETNS}\"\n\
             {top_level}\n\
             [[flow_logs]]\n\
             flow_log_id = \"fl-00000000000000000\"\n\
             dir = \"{}\"\n\
             max_aggregation_interval = {interval}\n\
             rotation = {interval}\n\
             {more_flow_logs}\n\
             [local]\n\
             vpc_file = \"vpc.toml\"\n\
             uplink = {uplink}\n\
             nat_gateway = {nat_gateway}\n",
            flow_log_dir.display()
        )
    }
}
