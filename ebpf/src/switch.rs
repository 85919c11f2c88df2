//! `switch_policy`: lets ENIs obey another policy, each by one store.
//!
//! The agent cannot do it itself: an update from user space copies an entry byte by byte.

use aya_ebpf::programs::TcContext;
use branchline_common::maps::{SWITCH_SLOTS, SwitchRequest};

use crate::{maps, sweep::Aligned};

/// Handles one [`SwitchRequest`]; returns how many ENIs it switched.
#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let Ok(Aligned(request)) = ctx.load::<Aligned<SwitchRequest>>(0) else {
        return 0;
    };
    let mut switched = 0;
    for index in 0..SWITCH_SLOTS {
        if index as u32 >= request.slots {
            break;
        }
        let at = size_of::<SwitchRequest>() + index * size_of::<u32>();
        let Ok(slot) = ctx.load::<u32>(at) else {
            break;
        };
        maps::switch_policy(slot, request.policy);
        switched += 1;
    }
    switched
}
