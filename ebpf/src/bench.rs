//! Kernel programs of `cargo xtask bench`, an object of their own; never attached.
//!
//! A test run hands one frame to a program many times, as the program left it. `prepare` makes it
//! anew and tail-calls the program measured, which is the agent's own, unchanged. What `prepare`
//! costs is measured with `empty` behind it, and subtracted.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[expect(dead_code, reason = "the programs measured use the rest")]
mod skb;

use aya_ebpf::{
    bindings::TC_ACT_UNSPEC,
    btf_maps::{Array, HashMap, ProgramArray},
    helpers::generated::bpf_skb_change_type,
    macros::{btf_map, classifier},
    programs::TcContext,
};
use branchline_common::{
    bench::{KEY_WORDS, PORT_BASE, PORT_BITS, Preparation, VALUE_WORDS, preparation},
    maps::CONNECTIONS,
};

use crate::skb::Frame;

/// `skb->pkt_type` of a frame for another's MAC address (`include/uapi/linux/if_packet.h`), as
/// every frame for a branch arrives.
const PACKET_OTHERHOST: u32 = 3;

#[btf_map]
static PREPARATION: Array<Preparation, 1> = Array::new();
/// The program measured.
#[btf_map]
static MEASURED: ProgramArray<1> = ProgramArray::new();
/// What `find` looks in.
#[btf_map]
static FOUND: HashMap<[u64; 5], u64, 1_000> = HashMap::new();

/// What `lookup` looks in: as large as the table of connections.
#[btf_map]
static FLOWS: HashMap<[u64; KEY_WORDS], [u64; VALUE_WORDS], { CONNECTIONS as usize }> =
    HashMap::new();

/// Makes the next frame and hands it to the program measured.
#[classifier]
pub fn prepare(ctx: TcContext) -> i32 {
    let Some(preparation) = PREPARATION.get_ptr_mut(0) else {
        return TC_ACT_UNSPEC;
    };
    // SAFETY: one CPU runs the bench.
    let preparation = unsafe { &mut *preparation };
    let flow = next_flow(preparation);
    preparation.flow = flow;
    let frame = Frame::new(&ctx);
    let port = PORT_BASE | (flow as u16 & ((1 << PORT_BITS) - 1));
    let address = (flow >> PORT_BITS) as u16;
    if frame
        .write(0, &preparation.destination)
        .and_then(|()| frame.write(preparation.address_at as usize, &address.to_be_bytes()))
        .and_then(|()| frame.write(preparation.port_at as usize, &port.to_be_bytes()))
        .is_err()
    {
        return TC_ACT_UNSPEC;
    }
    if preparation.flags & preparation::POP != 0
        && frame.tag().is_some()
        && frame.pop_vlan().is_err()
    {
        return TC_ACT_UNSPEC;
    }
    if preparation.flags & preparation::PUSH != 0 && frame.push_vlan(preparation.vlan).is_err() {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: the helper changes the packet's type only.
    unsafe { bpf_skb_change_type(ctx.skb.skb, PACKET_OTHERHOST) };
    // SAFETY: nothing here waits for a drop.
    unsafe { MEASURED.tail_call(&ctx, 0) };
    TC_ACT_UNSPEC
}

/// The number of the flow that comes next (random numbers: Marsaglia's xorshift32).
#[inline(always)]
fn next_flow(preparation: &mut Preparation) -> u32 {
    if preparation.flags & preparation::SEQUENCE != 0 {
        let flow = preparation.state;
        preparation.state += 1;
        return flow;
    }
    let mut state = preparation.state;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    preparation.state = state;
    ((u64::from(state) * u64::from(preparation.flows)) >> 32) as u32
}

/// Finds a key of a connection's size in a hash map: with `empty`, a measure of the machine.
#[classifier]
pub fn find(_ctx: TcContext) -> i32 {
    let key = [1; 5];
    if FOUND.get_ptr(key).is_some() {
        0
    } else {
        TC_ACT_UNSPEC
    }
}

/// Finds the flow that `prepare` has chosen, and touches nothing of it: the least that a table of
/// connections costs.
#[classifier]
pub fn lookup(_ctx: TcContext) -> i32 {
    let Some(preparation) = PREPARATION.get_ptr(0) else {
        return TC_ACT_UNSPEC;
    };
    // SAFETY: one CPU runs the bench.
    let flow = unsafe { (*preparation).flow };
    let key = [u64::from(flow); KEY_WORDS];
    if FLOWS.get_ptr(key).is_some() {
        0
    } else {
        TC_ACT_UNSPEC
    }
}

/// Takes the tag off, nothing else: with `prepare` before it, what a tag costs to put on and take
/// off.
#[classifier]
pub fn pop(ctx: TcContext) -> i32 {
    match Frame::new(&ctx).pop_vlan() {
        Ok(()) => 0,
        Err(_) => TC_ACT_UNSPEC,
    }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
