//! Packet bytes, their metadata, and the helpers that move a packet: all `unsafe` of the packet
//! path that is not about maps. It decides nothing.

use core::arch::asm;

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT},
    helpers::generated::{
        bpf_redirect, bpf_redirect_peer, bpf_skb_change_tail, bpf_skb_change_type,
        bpf_skb_pull_data, bpf_skb_vlan_pop, bpf_skb_vlan_push,
    },
    programs::TcContext,
};
use branchline_common::{
    account::Segments,
    headers::ethernet,
    parse::{Bytes, MAX_OFFSET},
    verdict::DropReason,
};

/// `skb->pkt_type` of a packet for this host (`include/uapi/linux/if_packet.h`).
const PACKET_HOST: u32 = 0;

/// A frame in the kernel's packet memory.
#[derive(Clone, Copy)]
pub struct Frame {
    /// The context.
    pub skb: *mut __sk_buff,
}

impl Frame {
    /// The frame that the hook was called for.
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self { skb: ctx.skb.skb }
    }

    /// The tag that the NIC has taken out of the frame.
    #[inline(always)]
    pub fn tag(&self) -> Option<u16> {
        // Both are read whatever they are: the verifier refuses what an empty option leaves
        // undefined and the compiler reads all the same.
        // SAFETY: `skb` is the context that the kernel handed to this program.
        let (present, tci) = unsafe {
            (
                (&raw const (*self.skb).vlan_present).read_volatile(),
                (&raw const (*self.skb).vlan_tci).read_volatile(),
            )
        };
        if present == 0 { None } else { Some(tci as u16) }
    }

    /// Segments of a GSO packet.
    #[inline(always)]
    pub fn segments(&self) -> Segments {
        // SAFETY: `skb` is the context that the kernel handed to this program.
        let (count, size) = unsafe { ((*self.skb).gso_segs, (*self.skb).gso_size) };
        Segments { count, size }
    }

    /// Index of the link that the frame came in by.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: `skb` is the context that the kernel handed to this program.
        unsafe { (*self.skb).ifindex }
    }

    /// `N` bytes at `offset`, if they are in the packet's linear part now.
    #[inline(always)]
    fn linear<const N: usize>(&self, offset: usize) -> Option<*mut [u8; N]> {
        if offset > MAX_OFFSET {
            return None;
        }
        // SAFETY: `skb` is the context that the kernel handed to this program.
        let (start, end) = unsafe { ((*self.skb).data as usize, (*self.skb).data_end as usize) };
        let at = add_bounded(start, offset);
        if at + N > end {
            return None;
        }
        Some(at as *mut [u8; N])
    }

    /// The same, fetching bytes that are in pages into the linear part first.
    #[inline(always)]
    fn fetch<const N: usize>(&self, offset: usize) -> Option<*mut [u8; N]> {
        if let Some(bytes) = self.linear(offset) {
            return Some(bytes);
        }
        if offset > MAX_OFFSET || offset + N > self.len() {
            return None;
        }
        // SAFETY: the helper checks the length itself; no packet pointer is kept across it.
        if unsafe { bpf_skb_pull_data(self.skb, (offset + N) as u32) } != 0 {
            return None;
        }
        self.linear(offset)
    }

    /// Overwrites `N` bytes at `offset`.
    ///
    /// # Errors
    /// `Truncated` if the frame ends first.
    #[inline(always)]
    pub fn write<const N: usize>(&self, offset: usize, bytes: &[u8; N]) -> Result<(), DropReason> {
        let at = self.fetch::<N>(offset).ok_or(DropReason::Truncated)?;
        // SAFETY: `fetch` compared the range with the packet's end.
        unsafe { at.write_unaligned(*bytes) };
        Ok(())
    }

    /// Overwrites both MAC addresses.
    ///
    /// # Errors
    /// `Truncated` if the frame ends first.
    #[inline(always)]
    pub fn set_macs(
        &self,
        destination: [u8; ethernet::MAC_LEN],
        source: [u8; ethernet::MAC_LEN],
    ) -> Result<(), DropReason> {
        self.write(0, &destination)?;
        self.write(ethernet::SOURCE, &source)
    }

    /// Cuts or extends the frame to `len` bytes.
    ///
    /// # Errors
    /// `Redirect` if the kernel refuses.
    #[inline(always)]
    pub fn set_len(&self, len: usize) -> Result<(), DropReason> {
        // SAFETY: the helper checks the length itself; no packet pointer is kept across it.
        done(unsafe { bpf_skb_change_tail(self.skb, len as u32, 0) })
    }

    /// Takes the outermost VLAN tag off.
    ///
    /// # Errors
    /// `Redirect` if the kernel refuses.
    #[inline(always)]
    pub fn pop_vlan(&self) -> Result<(), DropReason> {
        // SAFETY: the helper changes the packet only; no packet pointer is kept across it.
        done(unsafe { bpf_skb_vlan_pop(self.skb) })
    }

    /// Puts an 802.1Q tag on.
    ///
    /// # Errors
    /// `Redirect` if the kernel refuses.
    #[inline(always)]
    pub fn push_vlan(&self, vlan: u16) -> Result<(), DropReason> {
        // SAFETY: the helper changes the packet only; no packet pointer is kept across it.
        done(unsafe { bpf_skb_vlan_push(self.skb, ethernet::VLAN.to_be(), vlan) })
    }

    /// Makes the packet one for this host's stack, whatever MAC address it came with. 5.10 drops
    /// a redirected packet without it.
    ///
    /// # Errors
    /// `Redirect` if the kernel refuses.
    #[inline(always)]
    pub fn set_host(&self) -> Result<(), DropReason> {
        // SAFETY: `skb` is the context that the kernel handed to this program.
        if unsafe { (*self.skb).pkt_type } == PACKET_HOST {
            return Ok(());
        }
        // SAFETY: the helper changes the packet's type only.
        done(unsafe { bpf_skb_change_type(self.skb, PACKET_HOST) })
    }
}

/// `start` plus an offset that was compared with [`MAX_OFFSET`]. The mask changes nothing, but up
/// to 6.1 the verifier forgets the comparison when the compiler keeps the offset on the stack.
#[inline(always)]
fn add_bounded(start: usize, offset: usize) -> usize {
    const _: () = assert!(MAX_OFFSET == 511, "the mask below is of this bound");
    let at;
    // SAFETY: arithmetic on two registers.
    unsafe {
        asm!(
            "{offset} &= 511",
            "{at} += {offset}",
            offset = inout(reg) offset => _,
            at = inout(reg) start => at,
            options(pure, nomem, nostack)
        );
    }
    at
}

#[inline(always)]
fn done(result: i64) -> Result<(), DropReason> {
    if result == 0 {
        Ok(())
    } else {
        Err(DropReason::Redirect)
    }
}

/// Sends the packet out by a link of this namespace; returns the TC code.
#[inline(always)]
pub fn send(ifindex: u32) -> Result<i32, DropReason> {
    // SAFETY: the helper only notes the link; the kernel checks it when it redirects.
    code(unsafe { bpf_redirect(ifindex, 0) })
}

/// Lets the packet arrive at the other end of the veth pair `ifindex`; returns the TC code.
#[inline(always)]
pub fn deliver(ifindex: u32) -> Result<i32, DropReason> {
    // SAFETY: the helper only notes the link; the kernel checks it when it redirects.
    code(unsafe { bpf_redirect_peer(ifindex, 0) })
}

#[inline(always)]
fn code(action: i64) -> Result<i32, DropReason> {
    const SHOT: i64 = TC_ACT_SHOT as i64;
    if action == SHOT {
        Err(DropReason::Redirect)
    } else {
        Ok(action as i32)
    }
}

impl Bytes for Frame {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let bytes = self.fetch::<N>(offset)?;
        // SAFETY: `fetch` compared the range with the packet's end.
        Some(unsafe { bytes.read_unaligned() })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: `skb` is the context that the kernel handed to this program.
        (unsafe { (*self.skb).len }) as usize
    }
}
