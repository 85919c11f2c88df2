//! What a task's link layer may say. Judges no packet: that is [`pipeline`](crate::pipeline)'s.

use crate::{maps::Eni, parse::Ethernet, verdict::DropReason};

/// Checks the link layer of a frame that the task behind `eni` sent.
///
/// # Errors
/// `TaggedByTask` if it has a VLAN tag, `ForeignMac` if it is not from the ENI's MAC address.
#[inline(always)]
pub fn check_task(link: &Ethernet, eni: &Eni) -> Result<(), DropReason> {
    if link.vlan.is_some() {
        return Err(DropReason::TaggedByTask);
    }
    if link.source != eni.mac {
        return Err(DropReason::ForeignMac);
    }
    Ok(())
}
