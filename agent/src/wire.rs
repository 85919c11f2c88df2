//! What carries the frames of every ENI: the embedded VPC of this host, or the link of a trunk ENI.

use std::time::{Duration, Instant};

use crate::fabric::{Fabric, FabricError, FabricPlan, HOST_TRUNK};
use crate::link::{Link, Mac};
use crate::netlink::{Netlink, NetlinkError};
use crate::sysctl::{self, SysctlError};

/// EC2 says `attached` before the link is there: seconds, and up to 150 s have been seen.
const LINK_DEADLINE: Duration = Duration::from_secs(180);
/// Between two looks for it, at the agent's start only.
const LINK_LOOK: Duration = Duration::from_millis(250);

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
        "no link with the trunk's MAC address {mac} on this host after {} s; is the trunk ENI attached to this instance?",
        LINK_DEADLINE.as_secs()
    )]
    NoLink {
        /// The trunk's.
        mac: Mac,
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

    /// The link with the MAC address of a trunk ENI. The host's own stack has no part in it.
    ///
    /// # Errors
    /// `NoLink` if it does not show up.
    pub fn of_trunk(mac: Mac, host: &Netlink) -> Result<Self, WireError> {
        let deadline = Instant::now() + LINK_DEADLINE;
        let link = loop {
            if let Some(link) = link_with(mac, host)? {
                break link;
            }
            if Instant::now() >= deadline {
                return Err(WireError::NoLink { mac });
            }
            std::thread::sleep(LINK_LOOK);
        };
        let key = format!("net/ipv6/conf/{}/disable_ipv6", link.name);
        sysctl::within(host.netns(), |sysctls| {
            if sysctls.has_ipv6() {
                sysctls.set(&key, "1")
            } else {
                Ok(())
            }
        })?;
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

fn link_with(mac: Mac, host: &Netlink) -> Result<Option<Link>, NetlinkError> {
    let links = host.links()?;
    Ok(links.into_iter().find(|link| link.mac == Some(mac)))
}
