//! What every hook does around its own part: the clock, the verdict's TC code, drop counters.

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT},
    helpers::bpf_jiffies64,
    programs::TcContext,
};
use aya_log_ebpf::debug;
use branchline_common::{
    maps::{Control, Eni, control},
    parse::Ethernet,
    pipeline::{self, Hook},
    verdict::{Direction, DropReason, Verdict},
};

use crate::{
    maps::{self, Kernel},
    skb::Frame,
};

/// A drop: whose packet, and why.
#[derive(Clone, Copy)]
pub struct Drop {
    /// Slot of the ENI, 0 where none was found.
    pub slot: u32,
    /// Number of the [`DropReason`].
    pub reason: u32,
}

impl Drop {
    /// A drop of an ENI's packet.
    #[inline(always)]
    pub fn of(slot: u32, reason: DropReason) -> Self {
        Self {
            slot,
            reason: reason as u32,
        }
    }
}

impl From<DropReason> for Drop {
    #[inline(always)]
    fn from(reason: DropReason) -> Self {
        Self::of(0, reason)
    }
}

/// Where a packet goes that may pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// Its way.
    On,
    /// To this host's own services.
    ToServices,
}

/// Lets the packet go on up the stack of this namespace.
pub const PASS: i32 = TC_ACT_OK;

/// Judges a frame of an ENI; `Ok` lets it pass. Only what a task sends may be for this host's services.
#[inline(always)]
pub fn judge(
    frame: &Frame,
    link: &Ethernet,
    eni: &Eni,
    slot: u32,
    direction: Direction,
) -> Result<Passed, Drop> {
    let room = maps::room().ok_or(DropReason::UnknownEndpoint)?;
    // Else the compiler adds the packet's offset before it asks whether there is a room at all, which
    // the verifier of 5.10 refuses.
    let room = core::hint::black_box(room);
    let control = maps::control().ok_or(DropReason::UnknownEndpoint)?;
    let hook = at(control, eni, slot, direction);
    match pipeline::run(&Kernel, &hook, room, frame, link, frame.segments()) {
        Verdict::Allow => Ok(Passed::On),
        Verdict::Exempt => {
            maps::count_packet(slot, 0);
            let is_sent = matches!(direction, Direction::Egress);
            if is_sent && pipeline::is_served_here(eni, room, link) {
                return Ok(Passed::ToServices);
            }
            Ok(Passed::On)
        }
        Verdict::Deny(reason) => Err(Drop::of(slot, reason)),
    }
}

#[inline(always)]
fn at<'a>(control: &Control, eni: &'a Eni, slot: u32, direction: Direction) -> Hook<'a> {
    Hook {
        eni,
        slot: slot as u16,
        direction,
        // SAFETY: the helper takes nothing and only reads the clock.
        now: (unsafe { bpf_jiffies64() }) as u32,
        policy: maps::policy_of(eni),
        epoch: control.epoch,
        tcp_strict: control.flags & control::TCP_STRICT != 0,
        has_auto_track: control.flags & control::AUTO_TRACK != 0,
        fragment_ticks: control.fragment_ticks,
        services: control.flags & control::SERVICES,
    }
}

/// Turns a hook's result into the TC code and counts a drop.
#[inline(always)]
pub fn finish(ctx: &TcContext, result: Result<i32, Drop>) -> i32 {
    match result {
        Ok(code) => code,
        Err(drop) => {
            maps::count_packet(drop.slot, drop.reason as usize);
            log_drop(ctx, drop);
            TC_ACT_SHOT
        }
    }
}

/// Says which packet was dropped where, if the agent asks for it.
#[inline(always)]
fn log_drop(ctx: &TcContext, drop: Drop) {
    let Some(control) = maps::control() else {
        return;
    };
    if control.flags & control::LOG_DROPS != 0 {
        let ifindex = Frame::new(ctx).ifindex();
        debug!(
            ctx,
            "drop: eni slot {}, link {}, reason {}", drop.slot, ifindex, drop.reason
        );
    }
}
