//! TC programs of branchline: the hooks, and nothing but the hooks.
//!
//! Each program reads its frame's link layer, finds the ENI, lets [`pipeline`] decide and moves the
//! frame on or drops it. All programs sit where a task cannot reach: on the trunk, on the host side
//! of every branch, and in the local VPC's own namespace.
//!
//! [`pipeline`]: branchline_common::pipeline
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod hook;

mod trunk;

mod branch;

mod fabric;

mod sweep;

mod switch;

mod maps;

mod skb;

use aya_ebpf::{
    bindings::TC_ACT_SHOT, helpers::bpf_jiffies64, macros::classifier, programs::TcContext,
};

/// A trunk's TC ingress: frames from the VPC to the tasks' ENIs.
#[classifier]
pub fn trunk_ingress(ctx: TcContext) -> i32 {
    hook::finish(&ctx, trunk::ingress(&ctx))
}

/// A branch's TC ingress on the host side: frames that a task sends.
#[classifier]
pub fn branch_egress(ctx: TcContext) -> i32 {
    hook::finish(&ctx, branch::egress(&ctx))
}

/// TC ingress of the trunk's far end: the local VPC's router.
#[classifier]
pub fn fabric(ctx: TcContext) -> i32 {
    hook::finish(&ctx, fabric::route(&ctx))
}

/// TC egress of the trunk's far end: frames from the gateways of the local VPC to its ENIs.
#[classifier]
pub fn fabric_gateway(ctx: TcContext) -> i32 {
    hook::finish(&ctx, fabric::from_gateway(&ctx))
}

/// Removes dead entries that the agent names, or ends connections; never attached, run by the
/// agent. Returns how many.
#[classifier]
pub fn sweep(ctx: TcContext) -> i32 {
    sweep::run(&ctx)
}

/// Lets ENIs obey another policy; never attached, run by the agent. Returns how many it switched.
#[classifier]
pub fn switch_policy(ctx: TcContext) -> i32 {
    switch::run(&ctx)
}

/// Tells the agent the clock of all time stamps in the maps; never attached, run by the agent.
#[classifier]
pub fn clock(_ctx: TcContext) -> i32 {
    // SAFETY: the helper takes nothing and only reads the clock.
    (unsafe { bpf_jiffies64() }) as i32
}

/// Does nothing: what a program costs before it does anything, for `cargo xtask bench`.
#[classifier]
pub fn empty(_ctx: TcContext) -> i32 {
    TC_ACT_SHOT
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses this loop, so a program that could panic does not load.
    loop {}
}
