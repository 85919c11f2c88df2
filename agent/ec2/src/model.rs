//! What EC2 tells, as plain values. What EC2 leaves out is empty; what cannot be is an error of the call.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// An ENI to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewInterface {
    /// Where.
    pub subnet_id: String,
    /// Ids of its groups; none means the VPC's default group.
    pub groups: Vec<String>,
    /// Shown in the console.
    pub description: String,
    /// Its tags, made with it in one step.
    pub tags: Tags,
    /// Makes a repeat harmless; 64 ASCII characters at most.
    pub client_token: String,
    /// Whether it is a trunk, which carries branches.
    pub is_trunk: bool,
    /// Whether EC2 is to choose an IPv6 address of the subnet.
    pub has_ipv6: bool,
    /// Whether that address is to be its primary one, which it keeps.
    pub has_primary_ipv6: bool,
}

/// An ENI.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInterface {
    /// `eni-…`.
    pub id: String,
    /// `available`, `associated`, `attaching`, `in-use` or `detaching`.
    pub status: String,
    /// `interface`, `trunk`, `branch` and others.
    pub interface_type: String,
    /// With colons, lower case.
    pub mac: String,
    /// Its subnet.
    pub subnet_id: String,
    /// Its VPC.
    pub vpc_id: String,
    /// Its zone.
    pub availability_zone: String,
    /// IPv4 addresses, the primary first.
    pub ipv4: Vec<Ipv4Addr>,
    /// Delegated IPv4 networks.
    pub ipv4_prefixes: Vec<Ipv4Net>,
    /// IPv6 addresses, the primary first if there is one.
    pub ipv6: Vec<Ipv6Addr>,
    /// Delegated IPv6 networks.
    pub ipv6_prefixes: Vec<Ipv6Net>,
    /// Ids of its groups.
    pub groups: Vec<String>,
    /// As `ip-10-0-1-10.ec2.internal`.
    pub private_dns_name: Option<String>,
    /// Whether EC2 drops what is not of or for its addresses.
    pub source_dest_check: bool,
    /// Its tags.
    pub tags: Tags,
    /// What it is attached to.
    pub attachment: Option<Attachment>,
}

/// Where an ENI is attached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// `eni-attach-…`.
    pub id: String,
    /// `attaching`, `attached`, `detaching` or `detached`.
    pub status: String,
    /// `None` of an instance of another account or service.
    pub instance_id: Option<String>,
    /// 0 of the primary.
    pub device_index: u32,
    /// 0 where the instance has one card.
    pub network_card_index: u32,
    /// Whether it goes with the instance.
    pub delete_on_termination: bool,
}

/// A branch on its trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkAssociation {
    /// `trunk-assoc-…`.
    pub id: String,
    /// The branch.
    pub branch_id: String,
    /// Its trunk.
    pub trunk_id: String,
    /// The branch's VLAN id there.
    pub vlan: u16,
}

/// A subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// `subnet-…`.
    pub id: String,
    /// Its VPC.
    pub vpc_id: String,
    /// Its zone.
    pub availability_zone: String,
    /// `None` of one for IPv6 only.
    pub ipv4: Option<Ipv4Net>,
    /// Where it has one.
    pub ipv6: Option<Ipv6Net>,
    /// IPv4 addresses that EC2 has left.
    pub available: u32,
}

/// A VPC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    /// `vpc-…`.
    pub id: String,
    /// IPv4 networks, the primary first.
    pub ipv4: Vec<Ipv4Net>,
    /// IPv6 networks.
    pub ipv6: Vec<Ipv6Net>,
    /// `dopt-…`, or `default`.
    pub dhcp_options_id: String,
}

/// A DHCP option set: option to values.
pub type DhcpOptions = BTreeMap<String, Vec<String>>;

/// A security group without its rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// `sg-…`.
    pub id: String,
    /// `default` of the VPC's default group.
    pub name: String,
    /// The operator's words.
    pub description: String,
    /// Its VPC.
    pub vpc_id: String,
}

/// A rule of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroupRule {
    /// `sgr-…`.
    pub id: String,
    /// Its group.
    pub group_id: String,
    /// Whether it is for what leaves the ENI.
    pub is_egress: bool,
    /// A name, a number, or `-1`.
    pub ip_protocol: String,
    /// First port or ICMP type; -1 for all.
    pub from_port: Option<i32>,
    /// Last port or ICMP code; -1 for all.
    pub to_port: Option<i32>,
    /// Who may be at the other end.
    pub peer: RulePeer,
    /// The operator's words.
    pub description: Option<String>,
}

/// The other end of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RulePeer {
    /// A network, of either family.
    Cidr(String),
    /// `pl-…`.
    PrefixList(String),
    /// Who carries a group.
    Group {
        /// `sg-…`.
        group_id: String,
        /// Its account.
        user_id: Option<String>,
        /// Its VPC.
        vpc_id: Option<String>,
        /// Of a group of a peered VPC.
        peering_status: Option<String>,
        /// The peering.
        vpc_peering_connection_id: Option<String>,
    },
}

impl Default for RulePeer {
    fn default() -> Self {
        Self::Cidr(String::new())
    }
}

/// A managed prefix list without its entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixList {
    /// `pl-…`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its weight in quotas; AWS's own have none.
    pub max_entries: Option<u32>,
    /// Grows with each change; AWS's own have none.
    pub version: Option<i64>,
}

/// An entry of a prefix list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixListEntry {
    /// A network.
    pub cidr: String,
    /// The operator's words.
    pub description: Option<String>,
}

/// A route table of a VPC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// `rtb-…`.
    pub id: String,
    /// Whether subnets without one have this.
    pub is_main: bool,
    /// Subnets that have it.
    pub subnets: Vec<String>,
    /// Its routes.
    pub routes: Vec<Route>,
}

/// A route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// A network or a prefix list's id.
    pub destination: String,
    /// The id of what it leads to: `igw-…`, `nat-…`, `local` and others; `None` of a black hole.
    pub target: Option<String>,
}

/// What an instance type takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceTypeLimits {
    /// As `m5.large`.
    pub instance_type: String,
    /// ENIs of the instance, all cards together.
    pub maximum_network_interfaces: u32,
    /// ENIs of each card.
    pub network_cards: Vec<u32>,
    /// Private IPv4 addresses of an ENI.
    pub ipv4_addresses_per_interface: u32,
    /// `nitro`, `xen`; empty of bare metal.
    pub hypervisor: String,
}
