//! What was last read of EC2, and what of it is kept for a start without EC2.

use std::fmt::{self, Debug};
use std::sync::Arc;

use branchline_ec2::{
    self as ec2, DhcpOptions, Ec2, Error, Identity, InstanceTypeLimits, NetworkInterface,
    RouteTable, Subnet, Vpc,
};
use serde::{Deserialize, Serialize};

use super::Inner;
use super::trunk::TrunkEni;
use super::world::{self, Groups};
use crate::progress::now_ms;
use crate::provider::RouteTables;
use crate::security_groups::{Directory, Members};

/// What is kept is written again when it is so many milliseconds old, though it has not changed: its age is told.
const KEEP_AGAIN_MS: u64 = 600_000;

/// The VPC and what lies in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Surroundings {
    pub(super) vpc: Vpc,
    /// `enableDnsSupport` and `enableDnsHostnames`.
    pub(super) dns: (bool, bool),
    pub(super) dhcp_options: Option<DhcpOptions>,
    pub(super) subnets: Vec<Subnet>,
    pub(super) route_tables: Vec<RouteTable>,
}

impl Surroundings {
    /// Reads them.
    ///
    /// # Errors
    /// EC2's.
    pub(super) async fn read(ec2: &Ec2, vpc_id: &str) -> Result<Self, Error> {
        let (vpc, dns, subnets, route_tables) = tokio::try_join!(
            ec2.describe_vpc(vpc_id),
            ec2.describe_vpc_dns(vpc_id),
            ec2.describe_subnets(vpc_id),
            ec2.describe_route_tables(vpc_id),
        )?;
        let dhcp_options = match vpc.dhcp_options_id.as_str() {
            "default" => None,
            id => Some(ec2.describe_dhcp_options(id).await?),
        };
        Ok(Self {
            vpc,
            dns,
            dhcp_options,
            subnets,
            route_tables,
        })
    }
}

/// What a start needs of EC2 beside this host's ENIs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// When it was read; milliseconds since 1970.
    pub(super) read_ms: u64,
    pub(super) identity: Identity,
    /// `None` where each ENI has a link of its own.
    pub(super) trunk: Option<TrunkEni>,
    /// `None` where EC2 did not tell.
    pub(super) limits: Option<InstanceTypeLimits>,
    pub(super) surroundings: Surroundings,
    pub(super) groups: Groups,
    /// Of each only what it is and who it is.
    pub(super) members: Vec<NetworkInterface>,
}

impl Kept {
    /// Whether it is of this instance: a disk may have come from another.
    pub(super) fn is_of(&self, identity: &Identity) -> bool {
        let of = |identity: &Identity| (identity.instance_id.clone(), identity.vpc_id.clone());
        of(&self.identity) == of(identity)
    }

    /// Whether `self` is worth writing where `before` is.
    pub(super) fn replaces(&self, before: &Self) -> bool {
        self.content() != before.content()
            || self.read_ms.saturating_sub(before.read_ms) >= KEEP_AGAIN_MS
    }

    /// All but when it was read.
    fn content(&self) -> impl PartialEq {
        let Self {
            read_ms: _,
            identity,
            trunk,
            limits,
            surroundings,
            groups,
            members,
        } = self;
        (identity, trunk, limits, surroundings, groups, members)
    }
}

/// Only what is needed to tell whose addresses they are.
#[must_use]
pub(super) fn bare(interfaces: Vec<NetworkInterface>) -> Vec<NetworkInterface> {
    let bare = |interface: NetworkInterface| NetworkInterface {
        id: interface.id,
        ipv4: interface.ipv4,
        ipv4_prefixes: interface.ipv4_prefixes,
        ipv6: interface.ipv6,
        ipv6_prefixes: interface.ipv6_prefixes,
        groups: interface.groups,
        ..NetworkInterface::default()
    };
    interfaces.into_iter().map(bare).collect()
}

/// Writes down what is to be kept.
pub struct Keeper(pub Box<dyn Fn(&Kept) + Send + Sync>);

impl Debug for Keeper {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Inner {
    pub(super) fn directory(&self, groups: &Groups) -> Directory {
        let (directory, warnings) = world::directory(groups, &self.identity.vpc_id);
        for warning in warnings {
            tracing::warn!(%warning, "a security group of EC2");
        }
        directory
    }

    pub(super) fn route_tables(&self) -> RouteTables {
        world::route_tables(&self.world().surroundings.route_tables)
    }

    /// Reads the VPC and what lies in it anew.
    pub(super) async fn refresh(&self) -> Result<(), ec2::Error> {
        let surroundings = Surroundings::read(&self.ec2, &self.identity.vpc_id).await?;
        let vpc = Arc::new(world::vpc(&surroundings));
        let mut world = self.world_mut();
        (world.vpc, world.surroundings) = (vpc, surroundings);
        Ok(())
    }

    /// Keeps what was read for the next start, where it differs from what is kept.
    fn keep(&self, members: Vec<ec2::NetworkInterface>) {
        let mut world = self.world_mut();
        let kept = Kept {
            read_ms: now_ms(),
            identity: self.identity.clone(),
            trunk: self.trunk.clone(),
            limits: self.limits.clone(),
            surroundings: world.surroundings.clone(),
            groups: world.groups.clone(),
            members,
        };
        let replaces = |before: &Kept| kept.replaces(before);
        if world.kept.as_ref().is_none_or(replaces) {
            (self.keeper.0)(&kept);
            world.kept = Some(kept);
        }
    }

    /// Groups, their rules where somebody here carries them, and the prefix lists that those name.
    pub(super) async fn groups(&self) -> Result<Groups, ec2::Error> {
        let needed: Vec<_> = self.memory().needed.iter().cloned().collect();
        let (groups, rules) = tokio::try_join!(
            self.ec2.describe_security_groups(&self.identity.vpc_id),
            self.ec2.describe_security_group_rules(&needed),
        )?;
        let ids = world::referenced_lists(&rules);
        let mut prefix_lists = Vec::new();
        for list in self.ec2.describe_managed_prefix_lists(&ids).await? {
            let known = self.memory().lists.get(&list.id).cloned();
            let entries = match known {
                // Lists without versions are AWS's own, which change rarely and say nothing of it.
                Some((version, entries)) if version.is_some() && version == list.version => entries,
                Some(_) | None => {
                    let entries = self
                        .ec2
                        .managed_prefix_list_entries(&list.id, list.version)
                        .await?;
                    let known = (list.version, entries.clone());
                    self.memory().lists.insert(list.id.clone(), known);
                    entries
                }
            };
            prefix_lists.push((list, entries));
        }
        self.memory().lists.retain(|id, _| ids.contains(id));
        let groups = Groups {
            groups,
            needed: needed.into_iter().collect(),
            rules,
            prefix_lists,
        };
        self.world_mut().groups = groups.clone();
        Ok(groups)
    }

    /// Who carries the groups that rules here name, as those were last read; what is known then is kept.
    pub(super) async fn members(&self) -> Result<Members, ec2::Error> {
        let named = world::referenced_groups(&self.world().groups.rules);
        let mut found = Vec::new();
        for groups in named.chunks(ec2::FILTER_VALUES) {
            let filters: [(&str, &[String]); 1] = [("group-id", groups)];
            found.extend(self.ec2.describe_network_interfaces(&filters).await?);
        }
        let found = bare(found);
        let members = world::members(&found);
        self.keep(found);
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::MacAddress;

    fn kept(read_ms: u64) -> Kept {
        Kept {
            read_ms,
            identity: Identity::default(),
            trunk: Some(TrunkEni {
                id: "eni-1".to_owned(),
                mac: MacAddress([2; 6]),
            }),
            limits: None,
            surroundings: Surroundings::default(),
            groups: Groups::default(),
            members: Vec::new(),
        }
    }

    #[test]
    fn what_is_kept_is_written_when_it_has_changed_or_is_old() {
        let before = kept(1_000);
        assert!(!kept(2_000).replaces(&before));
        assert!(kept(1_000 + KEEP_AGAIN_MS).replaces(&before));
        let mut changed = kept(1_000);
        changed.groups.needed.insert("sg-1".to_owned());
        assert!(changed.replaces(&before));
    }

    #[test]
    fn what_another_instance_kept_is_not_ours() {
        let identity = |instance_id: &str, vpc_id: &str| Identity {
            instance_id: instance_id.to_owned(),
            vpc_id: vpc_id.to_owned(),
            ..Identity::default()
        };
        let kept = Kept {
            identity: identity("i-1", "vpc-1"),
            ..kept(0)
        };
        assert!(kept.is_of(&identity("i-1", "vpc-1")));
        assert!(!kept.is_of(&identity("i-2", "vpc-1")));
        assert!(!kept.is_of(&identity("i-1", "vpc-2")));
    }
}
