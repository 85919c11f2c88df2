//! `branch_egress`: the task's link layer is checked; judge; push the VLAN; out by the trunk.

use aya_ebpf::programs::TcContext;
use branchline_common::{
    link::check_task,
    parse,
    verdict::{Direction, DropReason},
};

use crate::{
    hook::{self, Drop},
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
    hook::judge(&frame, &link, eni, slot, Direction::Egress)?;
    if eni.vlan != 0 {
        frame.push_vlan(eni.vlan).map_err(failed)?;
    }
    skb::send(eni.trunk_ifindex).map_err(failed)
}
