//! An ENI made for a task or the pool, whatever it is to be: subnet choice, tags, and its deletion where it is of no use.

use branchline_ec2::{self as ec2, Class, NewInterface, client_token};

use super::groups::wrong_groups;
use super::owner::{Owner, Purpose};
use super::{Inner, failed, placement, world};
use crate::provider::{Eni, EniRequest, ProviderError, VlanId};

/// Field of the task specification that lists the groups.
pub(super) const GROUPS: &str = "networkConfiguration.awsvpcConfiguration.securityGroups";

impl Inner {
    /// The subnets to try for a request.
    pub(super) fn candidates(
        &self,
        request: &EniRequest,
    ) -> Result<Vec<ec2::Subnet>, ProviderError> {
        let world = self.world();
        let here = (
            world.vpc.vpc_id.as_str(),
            self.identity.availability_zone.as_str(),
        );
        let subnets = &world.surroundings.subnets;
        let candidates = placement::candidates(subnets, &request.subnets, here)?;
        Ok(candidates.into_iter().cloned().collect())
    }

    /// To be a branch of this trunk for a request, on `vlan`; with `pool` it waits for its task.
    pub(super) fn purpose_of_branch(
        &self,
        request: &EniRequest,
        vlan: VlanId,
        pool: Option<String>,
    ) -> Purpose {
        Purpose::Branch {
            attachment_id: request.attachment_id.clone(),
            vlan,
            trunk_id: self.trunk_id().to_owned(),
            pool,
        }
    }

    /// Makes an ENI in the first of `subnets` that has addresses.
    pub(super) async fn create(
        &self,
        subnets: &[ec2::Subnet],
        request: &EniRequest,
        purpose: Purpose,
    ) -> Result<Eni, ProviderError> {
        let owner = Owner {
            cluster: self.cluster.clone(),
            instance_id: self.identity.instance_id.clone(),
            generation: self.generation.clone(),
            purpose,
        };
        let mut full = Vec::new();
        for subnet in subnets {
            let step = format!("create {}", subnet.id);
            let new = NewInterface {
                subnet_id: subnet.id.clone(),
                groups: request.security_groups.clone(),
                description: format!("branchline {}", request.attachment_id),
                tags: owner.tags(),
                client_token: client_token(&request.attachment_id, &step),
                is_trunk: false,
                has_ipv6: subnet.ipv6.is_some(),
                has_primary_ipv6: subnet.ipv6.is_some() && subnet.ipv4.is_none(),
            };
            match self.ec2.create_network_interface(&new).await {
                Ok(interface) => {
                    return self.made(&interface, subnet, request, &owner.purpose).await;
                }
                Err(error) => match wrong_groups(GROUPS, &error) {
                    Some(wrong) => return Err(wrong),
                    None if error.class() == Class::Capacity => full.push(error.to_string()),
                    None => return Err(failed("make an ENI", error)),
                },
            }
        }
        Err(ProviderError::Exhausted(format!(
            "no ENI in any subnet: {}",
            full.join("; ")
        )))
    }

    /// The ENI that was just made, as a task's; one that cannot be is deleted again.
    async fn made(
        &self,
        interface: &ec2::NetworkInterface,
        subnet: &ec2::Subnet,
        request: &EniRequest,
        purpose: &Purpose,
    ) -> Result<Eni, ProviderError> {
        let (vlan, device) = match purpose {
            Purpose::Branch { vlan, .. } => (Some(*vlan), None),
            Purpose::Whole { device, .. } => (None, Some(*device)),
            Purpose::Trunk => (None, None),
        };
        let (id, attachment) = (&interface.id, &request.attachment_id);
        match world::branch(interface, subnet, attachment, vlan, self.router_mac) {
            Ok(eni) => {
                self.memory().needed.extend(eni.groups.iter().cloned());
                Ok(Eni { device, ..eni })
            }
            Err(error) => {
                if let Err(error) = self.ec2.delete_network_interface(id).await {
                    tracing::warn!(eni = id, %error, "an ENI of no use stays; it is collected later");
                }
                Err(failed("make an ENI", error))
            }
        }
    }
}
