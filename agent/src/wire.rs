//! What carries the frames of every ENI that has no link of its own: the embedded VPC of this host, or the link of a
//! trunk ENI.

use std::time::Duration;

use tokio::time::Instant;

use crate::fabric::{Fabric, FabricError, FabricPlan, HOST_TRUNK};
use crate::ipv6_conf::without_ipv6;
use crate::link::Mac;
use crate::link_news;
use crate::netlink::{Netlink, NetlinkError};
use crate::sysctl::SysctlError;

/// The wire.
#[derive(Debug)]
pub struct Wire {
    /// The link's index in the host's namespace.
    pub index: u32,
    /// Its name there.
    pub name: String,
    /// The embedded VPC behind it; `None` where it leads to a VPC of AWS.
    pub fabric: Option<Fabric>,
}

/// Why there is no wire.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The embedded VPC.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// The trunk's link does not show up.
    #[error(
        "no link with the trunk's MAC address {mac} on this host after {seconds} s; is the trunk ENI attached to this \
         instance?"
    )]
    NoLink {
        /// The trunk's.
        mac: Mac,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The kernel's answer.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A kernel setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

impl Wire {
    /// The embedded VPC, made or found.
    ///
    /// # Errors
    /// As [`Fabric::ensure`].
    pub fn embedded(plan: &FabricPlan, host: &Netlink) -> Result<Self, WireError> {
        let fabric = Fabric::ensure(plan, host)?;
        Ok(Self {
            index: fabric.host_trunk,
            name: HOST_TRUNK.to_owned(),
            fabric: Some(fabric),
        })
    }

    /// The link with the MAC address of a trunk ENI, waited for as long as `patience`. The host's own stack has no part
    /// in it.
    ///
    /// # Errors
    /// `NoLink` if it does not show up.
    pub async fn of_trunk(mac: Mac, host: &Netlink, patience: Duration) -> Result<Self, WireError> {
        let found = link_news::wait_for(host, mac, Instant::now() + patience).await?;
        let seconds = patience.as_secs();
        let link = found.ok_or(WireError::NoLink { mac, seconds })?;
        without_ipv6(host.netns(), &link.name)?;
        Ok(Self {
            index: link.index,
            name: link.name,
            fabric: None,
        })
    }

    /// The far end's index, 0 where it is not on this host.
    #[must_use]
    pub fn far_index(&self) -> u32 {
        self.fabric.as_ref().map_or(0, |fabric| fabric.trunk)
    }

    /// Sets it up, once its programs are attached.
    ///
    /// # Errors
    /// Names the link or route; nothing is undone, a second call is safe.
    pub fn bring_up(&self, host: &Netlink) -> Result<(), WireError> {
        match &self.fabric {
            Some(fabric) => fabric.bring_up(host)?,
            None => {
                host.set_up(self.index, true)?;
                host.wait_until_sending(self.index)?;
            }
        }
        Ok(())
    }
}
