//! What was last read of EC2, and what of it is kept for a start without EC2.

use std::fmt::{self, Debug};

use branchline_ec2::{
    DhcpOptions, Ec2, Error, Identity, InstanceTypeLimits, NetworkInterface, RouteTable, Subnet,
    Vpc,
};
use serde::{Deserialize, Serialize};

use super::trunk::TrunkEni;
use super::world::Groups;

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
    pub(super) trunk: TrunkEni,
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
        let as_old = Self {
            read_ms: before.read_ms,
            ..self.clone()
        };
        as_old != *before || self.read_ms.saturating_sub(before.read_ms) >= KEEP_AGAIN_MS
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::MacAddress;

    fn kept(read_ms: u64) -> Kept {
        Kept {
            read_ms,
            identity: Identity::default(),
            trunk: TrunkEni {
                id: "eni-1".to_owned(),
                mac: MacAddress([2; 6]),
            },
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
