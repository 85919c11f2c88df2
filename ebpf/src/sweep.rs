//! `sweep`: removes entries that the agent found dead or written, if they still are; or ends
//! connections that it found revoked.
//!
//! The agent cannot do it itself: between its look and its removal a packet may come. Here the
//! entry's lock decides, so no live flow and no count is ever lost.

use aya_ebpf::{helpers::bpf_jiffies64, programs::TcContext};
use branchline_common::{
    conntrack::{ENDED_SECONDS, SWEEP_GRACE_SECONDS},
    flow::{FlowKey, kind},
    maps::{SWEEP_KEYS, SweepRequest},
};

use crate::maps;

/// Handles one [`SweepRequest`]; returns how many entries it removed or ended.
#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let Some(control) = maps::control() else {
        return 0;
    };
    let grace = SWEEP_GRACE_SECONDS * control.ticks_per_second;
    let ended = ENDED_SECONDS * control.ticks_per_second;
    // SAFETY: the helper takes nothing and only reads the clock.
    let now = (unsafe { bpf_jiffies64() }) as u32;
    let Ok(Aligned(request)) = ctx.load::<Aligned<SweepRequest>>(0) else {
        return 0;
    };
    let mut removed = 0;
    for index in 0..SWEEP_KEYS {
        if index as u32 >= request.keys {
            break;
        }
        let at = size_of::<SweepRequest>() + index * size_of::<FlowKey>();
        let Ok(Aligned(key)) = ctx.load::<Aligned<FlowKey>>(at) else {
            break;
        };
        let is_removed = if request.is_end != 0 {
            key.kind == kind::CONNECTION && maps::end_connection(&key, now, ended)
        } else if key.kind == kind::CONNECTION {
            maps::sweep_connection(&key, now, grace, request.written_epoch)
        } else {
            maps::sweep_row(&key, request.written_epoch)
        };
        removed += i32::from(is_removed);
    }
    removed
}

/// The kernel's stack is read and written in aligned words only.
#[repr(C, align(8))]
pub(crate) struct Aligned<T>(pub(crate) T);
