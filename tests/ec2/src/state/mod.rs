//! What the account has. Plain values: who asks for a time or an effect gives `now`.

mod addresses;
mod eni;
mod group;
mod instance;
mod network;
mod prefix_list;
mod transition;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

pub use self::eni::{
    Attachment, AttachmentStatus, ConnectionTracking, InterfaceType, NetworkInterface,
    TrunkAssociation,
};
pub use self::group::{SecurityGroup, SecurityGroupRule, Target};
pub use self::instance::{Instance, InstanceState, InstanceType};
pub(crate) use self::network::zone_id;
pub use self::network::{DhcpOptions, Route, RouteTable, RouteTarget, Subnet, Vpc};
pub use self::prefix_list::{Entry, PrefixList};
pub use self::transition::Event;
use crate::error::{Ec2Error, Result};
use crate::id::{Ids, Kind};
use crate::token::Tokens;

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// One moment, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For durations.
    pub(crate) instant: Instant,
    /// For answers.
    pub(crate) timestamp: Timestamp,
}

impl Now {
    /// The moment of this call.
    pub(crate) fn read() -> Self {
        Self {
            instant: Instant::now(),
            timestamp: Timestamp::now(),
        }
    }
}

/// How long things take, and how many there may be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From AttachNetworkInterface to `attached`.
    pub attach_delay: Duration,
    /// From DetachNetworkInterface to `available`.
    pub detach_delay: Duration,
    /// How long a fresh id is NotFound, and how old the state is that describes answer.
    pub consistency_delay: Duration,
    /// Items on a page, whatever a request asks for.
    pub page_size: usize,
    /// ENIs of the account in the region.
    pub network_interface_quota: usize,
    /// Groups of an ENI.
    pub groups_per_interface: usize,
    /// Rules of a group and direction; a prefix list counts with its `max_entries`.
    pub rules_per_group: usize,
    /// What DeleteNetworkInterface says of an ENI in use: EC2's error list has two codes for it, and
    /// `InvalidParameterValue` is what it is seen to send.
    pub delete_in_use_code: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            attach_delay: Duration::ZERO,
            detach_delay: Duration::ZERO,
            consistency_delay: Duration::ZERO,
            page_size: 1000,
            network_interface_quota: 5000,
            groups_per_interface: 5,
            rules_per_group: 60,
            delete_in_use_code: "InvalidParameterValue",
        }
    }
}

/// One account in one region. Each map is by id.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct State {
    pub account_id: String,
    pub region: String,
    pub vpcs: BTreeMap<String, Vpc>,
    pub subnets: BTreeMap<String, Subnet>,
    pub dhcp_options: BTreeMap<String, DhcpOptions>,
    pub route_tables: BTreeMap<String, RouteTable>,
    pub security_groups: BTreeMap<String, SecurityGroup>,
    pub security_group_rules: BTreeMap<String, SecurityGroupRule>,
    pub prefix_lists: BTreeMap<String, PrefixList>,
    /// By name.
    pub instance_types: BTreeMap<String, InstanceType>,
    pub instances: BTreeMap<String, Instance>,
    pub network_interfaces: BTreeMap<String, NetworkInterface>,
    pub trunk_associations: BTreeMap<String, TrunkAssociation>,
    /// Delays and quotas.
    pub settings: Settings,
    pub(crate) ids: Ids,
    pub(crate) tokens: Tokens,
    /// What has happened since somebody took it.
    pub(crate) events: Vec<Event>,
}

/// Something with tags.
pub(crate) trait Tagged {
    fn tags(&self) -> &Tags;
}

macro_rules! tagged {
    ($($name:ty),*) => { $(impl Tagged for $name {
        fn tags(&self) -> &Tags { &self.tags }
    })* };
}
tagged!(
    Vpc,
    Subnet,
    DhcpOptions,
    RouteTable,
    SecurityGroup,
    SecurityGroupRule,
    PrefixList,
    Instance,
    NetworkInterface
);

/// The one with `id`, which a request names.
///
/// # Errors
/// It is malformed, or nobody's.
pub(crate) fn find<'a, T>(all: &'a BTreeMap<String, T>, kind: Kind, id: &str) -> Result<&'a T> {
    kind.check(id)?;
    all.get(id).ok_or_else(|| Ec2Error::not_found(kind, id))
}

impl State {
    pub(crate) fn new(region: &str) -> Self {
        let types = instance::known().into_iter();
        Self {
            account_id: "123456789012".to_owned(),
            region: region.to_owned(),
            vpcs: BTreeMap::new(),
            subnets: BTreeMap::new(),
            dhcp_options: BTreeMap::new(),
            route_tables: BTreeMap::new(),
            security_groups: BTreeMap::new(),
            security_group_rules: BTreeMap::new(),
            prefix_lists: BTreeMap::new(),
            instance_types: types.map(|of| (of.name.clone(), of)).collect(),
            instances: BTreeMap::new(),
            network_interfaces: BTreeMap::new(),
            trunk_associations: BTreeMap::new(),
            settings: Settings::default(),
            ids: Ids::default(),
            tokens: Tokens::default(),
            events: Vec::new(),
        }
    }

    /// The ENI that a mutating request names.
    ///
    /// # Errors
    /// There is none, or it is too fresh to be known.
    pub(crate) fn network_interface(&self, id: &str, now: Now) -> Result<&NetworkInterface> {
        let kind = Kind::NetworkInterface;
        let found = find(&self.network_interfaces, kind, id)?;
        if self.is_fresh(found.created, now) {
            return Err(Ec2Error::not_found(kind, id));
        }
        Ok(found)
    }

    /// [`State::network_interface`], to change it.
    pub(crate) fn network_interface_mut(
        &mut self,
        id: &str,
        now: Now,
    ) -> Result<&mut NetworkInterface> {
        self.network_interface(id, now)?;
        let found = self.network_interfaces.get_mut(id);
        found.ok_or_else(|| Ec2Error::not_found(Kind::NetworkInterface, id))
    }

    /// Whether what came to be at `created` is still unknown to other parts of EC2.
    pub(crate) fn is_fresh(&self, created: Instant, now: Now) -> bool {
        now.instant.saturating_duration_since(created) < self.settings.consistency_delay
    }

    /// The tags of what has this id.
    ///
    /// # Errors
    /// Nobody has it.
    pub(crate) fn tags_mut(&mut self, id: &str, now: Now) -> Result<&mut Tags> {
        let Some(kind) = Kind::of(id) else {
            let message = format!("The ID '{id}' is not valid");
            return Err(Ec2Error::new("InvalidID", message));
        };
        let tags = match kind {
            Kind::NetworkInterface => Some(&mut self.network_interface_mut(id, now)?.tags),
            Kind::Vpc => self.vpcs.get_mut(id).map(|of| &mut of.tags),
            Kind::Subnet => self.subnets.get_mut(id).map(|of| &mut of.tags),
            Kind::DhcpOptions => self.dhcp_options.get_mut(id).map(|of| &mut of.tags),
            Kind::RouteTable => self.route_tables.get_mut(id).map(|of| &mut of.tags),
            Kind::SecurityGroup => self.security_groups.get_mut(id).map(|of| &mut of.tags),
            Kind::SecurityGroupRule => self.security_group_rules.get_mut(id).map(|of| &mut of.tags),
            Kind::PrefixList => self.prefix_lists.get_mut(id).map(|of| &mut of.tags),
            Kind::Instance => self.instances.get_mut(id).map(|of| &mut of.tags),
            Kind::Attachment
            | Kind::TrunkAssociation
            | Kind::RouteTableAssociation
            | Kind::NatGateway
            | Kind::InternetGateway
            | Kind::EgressOnlyInternetGateway
            | Kind::CidrAssociation
            | Kind::Reservation => None,
        };
        tags.ok_or_else(|| Ec2Error::not_found(kind, id))
    }
}
