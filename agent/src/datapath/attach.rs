//! Where programs are attached, so that they survive the agent and are replaced in one step.
//!
//! A trunk, and an ENI that has a link of its own, has one pinned TCX link where the kernel has them (6.6 and
//! later), which a stray `tc qdisc del` does not touch; else clsact. All branches share one TC block with one filter,
//! which each joins by an ingress qdisc, as a TCX link for each would cost 14 ms a task. The fabric, which is the VPC
//! and not the host, has clsact.

use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Mutex,
};

use aya::programs::{
    LinkOrder, ProgramInfo, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
};

use super::{Datapath, DatapathError, classifier, lock, program};
use crate::{link::Link, netlink::Netlink, tc::FilterAt};

/// Number of the TC block that all branches join.
pub const BRANCH_BLOCK: u32 = 0x626c;

/// How the trunk's program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrunkAttachment {
    /// By a pinned TCX link.
    Tcx,
    /// By clsact.
    Clsact,
}

impl TrunkAttachment {
    /// Its name in `status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// Attaches `trunk_ingress` to the link `name`, index `ifindex`, of the namespace of `host`, which
/// must be the calling thread's; or replaces the one that is there.
///
/// # Errors
/// `Netlink`, `Pin` or `Program` of the attachment that the kernel has.
pub fn attach_trunk(
    datapath: &Mutex<Datapath>,
    host: &Netlink,
    name: &str,
    ifindex: u32,
) -> Result<TrunkAttachment, DatapathError> {
    attach_ingress(datapath, host, name, (name, ifindex))
}

/// Attaches `trunk_ingress` to the link of the ENI `eni_id` alone, which is a trunk of one ENI without a VLAN; or
/// replaces the one that is there. The namespace of `host` must be the calling thread's.
///
/// # Errors
/// As [`attach_trunk`].
pub fn attach_eni(
    datapath: &Mutex<Datapath>,
    host: &Netlink,
    eni_id: &str,
    link: &Link,
) -> Result<TrunkAttachment, DatapathError> {
    attach_ingress(datapath, host, eni_id, (&link.name, link.index))
}

/// Whether `trunk_ingress` is on the ENI's link, as [`attach_eni`] puts it there.
///
/// # Errors
/// `Netlink` or `Program`.
pub fn is_eni_attached(
    datapath: &Mutex<Datapath>,
    host: &Netlink,
    eni_id: &str,
    link: &Link,
) -> Result<bool, DatapathError> {
    is_attached(datapath, host, eni_id, (&link.name, link.index))
}

/// `owner` names the pin, whatever the link is called by now.
fn attach_ingress(
    datapath: &Mutex<Datapath>,
    host: &Netlink,
    owner: &str,
    (name, ifindex): (&str, u32),
) -> Result<TrunkAttachment, DatapathError> {
    if lock(datapath).attach_tcx(owner, name, ifindex)? {
        return Ok(TrunkAttachment::Tcx);
    }
    attach(
        datapath,
        host,
        ifindex,
        FilterAt::Ingress(ifindex),
        program::TRUNK_INGRESS,
    )?;
    Ok(TrunkAttachment::Clsact)
}

/// Whether `trunk_ingress` is on the trunk, as [`attach_trunk`] puts it there.
///
/// # Errors
/// `Netlink` or `Program`.
pub fn is_trunk_attached(
    datapath: &Mutex<Datapath>,
    host: &Netlink,
    name: &str,
    ifindex: u32,
) -> Result<bool, DatapathError> {
    is_attached(datapath, host, name, (name, ifindex))
}

fn is_attached(
    datapath: &Mutex<Datapath>,
    host: &Netlink,
    owner: &str,
    (name, ifindex): (&str, u32),
) -> Result<bool, DatapathError> {
    if let Some(is_attached) = lock(datapath).is_tcx_attached(owner, name, ifindex)? {
        return Ok(is_attached);
    }
    let found = host.filter(FilterAt::Ingress(ifindex))?;
    Ok(found.is_some_and(|found| found.name == program::TRUNK_INGRESS))
}

/// Attaches the local VPC's programs to the far end of the trunk in the namespace of `fabric`.
///
/// # Errors
/// `Netlink`.
pub fn attach_fabric(
    datapath: &Mutex<Datapath>,
    fabric: &Netlink,
    ifindex: u32,
) -> Result<(), DatapathError> {
    attach(
        datapath,
        fabric,
        ifindex,
        FilterAt::Ingress(ifindex),
        program::FABRIC,
    )?;
    attach(
        datapath,
        fabric,
        ifindex,
        FilterAt::Egress(ifindex),
        program::FABRIC_GATEWAY,
    )
}

/// Whether both programs of the local VPC are on the far end of the trunk, as [`attach_fabric`] puts
/// them there.
///
/// # Errors
/// `Netlink`.
pub fn is_fabric_attached(fabric: &Netlink, ifindex: u32) -> Result<bool, DatapathError> {
    let places = [
        (FilterAt::Ingress(ifindex), program::FABRIC),
        (FilterAt::Egress(ifindex), program::FABRIC_GATEWAY),
    ];
    for (at, name) in places {
        if fabric.filter(at)?.is_none_or(|found| found.name != name) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lets a branch join the block of all branches, with `branch_egress` in it. The link should be
/// down.
///
/// # Errors
/// `Netlink`.
pub fn attach_branch(
    datapath: &Mutex<Datapath>,
    host: &Netlink,
    ifindex: u32,
) -> Result<(), DatapathError> {
    host.join_block(ifindex, BRANCH_BLOCK)?;
    // The block ends with its last link, and the filter with it.
    if host.filter(FilterAt::Block(BRANCH_BLOCK))?.is_none() {
        replace_branches(datapath, host)?;
    }
    Ok(())
}

/// Replaces the program of all branches by this build's, in one step; at least one branch must
/// have joined the block.
///
/// # Errors
/// `Netlink`.
pub fn replace_branches(datapath: &Mutex<Datapath>, host: &Netlink) -> Result<(), DatapathError> {
    let program = lock(datapath).program(program::BRANCH_EGRESS)?;
    let block = FilterAt::Block(BRANCH_BLOCK);
    host.set_filter(block, program.as_fd(), program::BRANCH_EGRESS)?;
    Ok(())
}

fn attach(
    datapath: &Mutex<Datapath>,
    netlink: &Netlink,
    ifindex: u32,
    at: FilterAt,
    name: &'static str,
) -> Result<(), DatapathError> {
    netlink.ensure_clsact(ifindex)?;
    let program = lock(datapath).program(name)?;
    netlink.set_filter(at, program.as_fd(), name)?;
    Ok(())
}

impl Datapath {
    /// Attaches `trunk_ingress` by a pinned TCX link; `false` if nothing is pinned or the kernel
    /// has none.
    fn attach_tcx(&mut self, owner: &str, name: &str, ifindex: u32) -> Result<bool, DatapathError> {
        let Some(pins) = &self.pins else {
            return Ok(false);
        };
        let pin = trunk_pin(pins, owner, ifindex);
        if self.is_tcx_attached(owner, name, ifindex)? == Some(false) {
            // A link that somebody detached cannot be attached again.
            remove_pin(&pin)?;
        }
        let program = classifier(&mut self.ebpf, program::TRUNK_INGRESS)?;
        attach_tcx(program, name, &pin)
    }

    /// Whether a pinned TCX link still has its program on the trunk; `None` if there is no such pin.
    fn is_tcx_attached(
        &self,
        owner: &str,
        name: &str,
        ifindex: u32,
    ) -> Result<Option<bool>, DatapathError> {
        let pins = self.pins.as_deref();
        let pin = pins.map(|pins| trunk_pin(pins, owner, ifindex));
        if !pin.is_some_and(|pin| pin.exists()) {
            return Ok(None);
        }
        let found = SchedClassifier::query_tcx(name, TcAttachType::Ingress);
        let (_, programs) = found.map_err(|source| {
            super::error::program_error("find", program::TRUNK_INGRESS, source)
        })?;
        // A program's name is cut to 15 bytes.
        let is_its = |found: &ProgramInfo| {
            let name = found.name_as_str();
            name.is_some_and(|name| !name.is_empty() && program::TRUNK_INGRESS.starts_with(name))
        };
        Ok(Some(programs.iter().any(is_its)))
    }

    /// Ends the pinned TCX links of ENIs with links of their own, but for those that `is_kept` says by the ENI's id.
    ///
    /// # Errors
    /// `Pins` or `Pin`.
    pub fn drop_eni_pins(&mut self, is_kept: impl Fn(&str) -> bool) -> Result<(), DatapathError> {
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        let failed = |source| DatapathError::Pins {
            path: pins.clone(),
            source,
        };
        for entry in std::fs::read_dir(pins).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if eni_of_pin(&name).is_some_and(|eni_id| !is_kept(eni_id)) {
                remove_pin(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// The ENI whose pin is called `name`.
fn eni_of_pin(name: &str) -> Option<&str> {
    let (eni_id, _) = name.strip_prefix("link-")?.rsplit_once('-')?;
    Some(eni_id).filter(|id| id.starts_with("eni-"))
}

fn remove_pin(pin: &Path) -> Result<(), DatapathError> {
    std::fs::remove_file(pin).map_err(|source| DatapathError::Pin {
        attempt: "remove",
        path: pin.to_owned(),
        source: source.into(),
    })
}

/// The index is part of the pin's name, so that a trunk that was made anew under the old name is not
/// taken for the one that the pin holds.
fn trunk_pin(pins: &Path, owner: &str, ifindex: u32) -> PathBuf {
    pins.join(format!("link-{owner}-{ifindex}"))
}

/// Attaches by TCX, in place of the pinned link's program if there is one. `false` if the kernel
/// has no TCX.
fn attach_tcx(
    program: &mut SchedClassifier,
    name: &str,
    pin: &Path,
) -> Result<bool, DatapathError> {
    let failed = |attempt: &'static str| {
        let path = pin.to_owned();
        move |source: Box<dyn std::error::Error + Send + Sync>| DatapathError::Pin {
            attempt,
            path,
            source,
        }
    };
    let program_failed =
        |source| super::error::program_error("attach", program::TRUNK_INGRESS, source);
    if pin.exists() {
        let link = PinnedLink::from_pin(pin).map_err(|e| failed("open")(e.into()))?;
        let link = FdLink::from(link);
        let link = SchedClassifierLink::try_from(link).map_err(|e| failed("use")(e.into()))?;
        let id = program.attach_to_link(link).map_err(program_failed)?;
        // The pin keeps the link; dropping it here closes the agent's own handle only.
        drop(program.take_link(id).map_err(program_failed)?);
        return Ok(true);
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = match program.attach_with_options(name, TcAttachType::Ingress, order) {
        Ok(id) => id,
        Err(aya::programs::ProgramError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(nix::libc::EINVAL) =>
        {
            return Ok(false);
        }
        Err(source) => return Err(program_failed(source)),
    };
    let link = program.take_link(id).map_err(program_failed)?;
    let link = FdLink::try_from(link).map_err(|e| failed("pin")(e.into()))?;
    link.pin(pin).map_err(|e| failed("pin")(e.into()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_says_whose_it_is() {
        let pin = trunk_pin(Path::new("/pins"), "eni-0a1b", 7);
        let name = pin.file_name().and_then(|name| name.to_str());
        assert_eq!(name.and_then(eni_of_pin), Some("eni-0a1b"));
        for other in ["link-bl-trunk-7", "maps-v1", "link-eni"] {
            assert_eq!(eni_of_pin(other), None, "{other}");
        }
    }
}
