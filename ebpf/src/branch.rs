//! `branch_egress`: the task's link layer is checked; judge; push the VLAN; out by the trunk, or to this
//! host's services.

use aya_ebpf::programs::TcContext;
use branchline_common::{
    link::check_task,
    maps::SERVICES_MAC,
    parse,
    verdict::{Direction, DropReason},
};

use crate::{
    hook::{self, Drop, Passed},
    maps,
    skb::{self, Frame},
};

/// One frame from a task.
#[inline(always)]
pub fn egress(ctx: &TcContext) -> Result<i32, Drop> {
    let frame = Frame::new(ctx);
    let (slot, eni) = maps::branch(frame.ifindex()).ok_or(DropReason::UnknownEndpoint)?;
    let failed = |reason| Drop::of(slot, reason);
    let link = parse::ethernet(&frame, frame.tag()).map_err(failed)?;
    check_task(&link, eni).map_err(failed)?;
    if hook::judge(&frame, &link, eni, slot, Direction::Egress)? == Passed::ToServices {
        frame.write(0, &SERVICES_MAC).map_err(failed)?;
        return skb::send(eni.services_ifindex).map_err(failed);
    }
    if eni.vlan != 0 {
        frame.push_vlan(eni.vlan).map_err(failed)?;
    }
    skb::send(eni.trunk_ifindex).map_err(failed)
}
