//! `trunk_ingress`: demux by trunk, VLAN and MAC address; judge; pop the VLAN; into the task.

use aya_ebpf::programs::TcContext;
use branchline_common::{
    maps::Endpoint,
    parse,
    verdict::{Direction, DropReason},
};

use crate::{
    hook::{self, Drop},
    maps,
    skb::{self, Frame},
};

/// One frame from the VPC.
#[inline(always)]
pub fn ingress(ctx: &TcContext) -> Result<i32, Drop> {
    let frame = Frame::new(ctx);
    let link = parse::ethernet(&frame, frame.tag())?;
    let endpoint = Endpoint::of(frame.ifindex(), link.vlan, link.destination);
    let (slot, eni) = maps::endpoint(&endpoint).ok_or(DropReason::UnknownEndpoint)?;
    hook::judge(&frame, &link, eni, slot, Direction::Ingress)?;
    let failed = |reason| Drop::of(slot, reason);
    if link.vlan.is_some() {
        frame.pop_vlan().map_err(failed)?;
    }
    frame.set_host().map_err(failed)?;
    skb::deliver(eni.branch_ifindex).map_err(failed)
}
