//! The maps behind typed functions, and [`Tables`] over them: all `unsafe` about map memory.
//!
//! Counters are added with atomic instructions; whatever changes more than a counter holds the
//! entry's lock. It decides nothing.

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_NOEXIST, bpf_spin_lock as kernel_lock},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie},
    helpers::generated::{bpf_spin_lock, bpf_spin_unlock},
    macros::btf_map,
};
use branchline_common::{
    account::{Account, IS_COUNTED, Slot, Traffic, slot_index},
    admission::{DENIED, Question, answer},
    conntrack::{Connection, SWEPT, State, Tracking},
    fabric::Route,
    flow::{Address, FlowKey},
    maps::{self, Control, Counters, Endpoint, Eni, FragmentFate, Row},
    parse::Packet,
    pipeline::{Created, Hook, Opened, Room, Tables},
    policy::{self, Key, Node, Policies, Policy, RuleSet},
    sequence::Windows,
    verdict::Direction,
};

#[btf_map]
static CONTROL: Array<Control, 1> = Array::new();
#[btf_map]
static ENIS: Array<Eni, { maps::ENI_SLOTS as usize }> = Array::new();
#[btf_map]
static ENDPOINTS: HashMap<Endpoint, u32, { 2 * maps::ENI_SLOTS as usize }> = HashMap::new();
#[btf_map]
static BRANCHES: HashMap<u32, u32, { maps::ENI_SLOTS as usize }> = HashMap::new();
#[btf_map]
static ENDPOINT_HINTS: Array<u32, { maps::HINTS as usize }> = Array::new();
#[btf_map]
static BRANCH_HINTS: Array<u32, { maps::HINTS as usize }> = Array::new();
#[btf_map]
static ADDRESSES: HashMap<Address, u32, { maps::ADDRESSES as usize }> = HashMap::new();
#[btf_map]
static ROUTES: LpmTrie<Address, Route, { maps::ROUTES as usize }> = LpmTrie::new();
#[btf_map]
static POLICIES: Array<Policy, { maps::POLICIES as usize }> = Array::new();
#[btf_map]
static NODES: Array<Node, { maps::NODES as usize }> = Array::new();
#[btf_map]
static RULE_SETS: Array<RuleSet, { maps::RULE_SETS as usize }> = Array::new();
#[btf_map]
static AUTO_TRACK: LpmTrie<Address, u32, { maps::AUTO_TRACK as usize }> = LpmTrie::new();
#[btf_map]
static TRACKED: Array<u64, { maps::ENI_SLOTS as usize }> = Array::new();
#[btf_map]
static CONNECTIONS: HashMap<FlowKey, Connection, { maps::CONNECTIONS as usize }> = HashMap::new();
#[btf_map]
static ROWS: HashMap<FlowKey, Row, { maps::ROWS as usize }> = HashMap::new();
#[btf_map]
static FRAGMENTS: LruHashMap<FlowKey, FragmentFate, { maps::FRAGMENTS as usize }> =
    LruHashMap::new();
#[btf_map]
static COUNTERS: PerCpuArray<Counters, { maps::ENI_SLOTS as usize }> = PerCpuArray::new();

/// A connection before it is entered: a program's stack has no room for one. Plain words, as a
/// value with a lock may not be copied out of a map.
#[btf_map]
static NEW_CONNECTION: PerCpuArray<[u64; size_of::<Connection>() / 8], 1> = PerCpuArray::new();
/// Room for keys that a program's stack has no room for.
#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();
/// A row before its first packet: always zero.
#[btf_map]
static NEW_ROW: Array<[u64; size_of::<Row>() / 8], 1> = Array::new();

#[repr(C)]
struct Scratch {
    peer: lpm_trie::Key<Address>,
    rule: u16,
    room: Room,
    packet: Packet,
}

/// Room for a packet that is routed.
#[inline(always)]
pub fn packet() -> Option<&'static mut Packet> {
    // SAFETY: per-CPU memory, and a program is not interrupted by another on its CPU.
    SCRATCH
        .get_ptr_mut(0)
        .map(|scratch| unsafe { &mut (*scratch).packet })
}

/// Room for the packet that is being judged.
#[inline(always)]
pub fn room() -> Option<&'static mut Room> {
    // SAFETY: per-CPU memory, and a program is not interrupted by another on its CPU.
    SCRATCH
        .get_ptr_mut(0)
        .map(|scratch| unsafe { &mut (*scratch).room })
}

/// What the agent tells the programs.
#[inline(always)]
pub fn control() -> Option<&'static Control> {
    CONTROL.get(0)
}

/// The ENI of a slot.
#[inline(always)]
pub fn eni(slot: u32) -> Option<&'static Eni> {
    ENIS.get(slot)
}

/// The ENI that a frame on a trunk is for, and its slot.
#[inline(always)]
pub fn endpoint(endpoint: &Endpoint) -> Option<(u32, &'static Eni)> {
    if let Some(index) = endpoint.hint()
        && let Some(&slot) = ENDPOINT_HINTS.get(index)
        && slot != 0
        && let Some(eni) = ENIS.get(slot)
        && endpoint.is_of(eni)
    {
        return Some((slot, eni));
    }
    // SAFETY: the value is copied at once.
    let slot = unsafe { ENDPOINTS.get(endpoint) }.copied()?;
    Some((slot, ENIS.get(slot)?))
}

/// The ENI whose branch has this link as host side, and its slot.
#[inline(always)]
pub fn branch(ifindex: u32) -> Option<(u32, &'static Eni)> {
    if let Some(&slot) = BRANCH_HINTS.get(maps::branch_hint(ifindex))
        && slot != 0
        && let Some(eni) = ENIS.get(slot)
        && eni.branch_ifindex == ifindex
    {
        return Some((slot, eni));
    }
    // SAFETY: the value is copied at once.
    let slot = unsafe { BRANCHES.get(ifindex) }.copied()?;
    Some((slot, ENIS.get(slot)?))
}

/// Slot of the ENI that has an address in the VPC.
#[inline(always)]
pub fn address(address: &Address) -> Option<u32> {
    // SAFETY: the value is copied at once.
    unsafe { ADDRESSES.get(address) }.copied()
}

/// What the VPC's route table says of a destination.
#[inline(always)]
pub fn route(destination: &Address) -> Option<Route> {
    ROUTES.get(&lpm_trie::Key::new(128, *destination)).copied()
}

/// Counts a packet of an ENI by the index of [`Counters::packets`].
#[inline(always)]
pub fn count_packet(slot: u32, index: usize) {
    let Some(counters) = COUNTERS.get_ptr_mut(slot) else {
        return;
    };
    // The verifier of 5.10 forgets the bound of an index that went over the stack, and the
    // compiler would leave out a mask that it finds superfluous.
    let index = core::hint::black_box(index) & (maps::COUNTERS - 1);
    // SAFETY: per-CPU memory, and a program is not interrupted by another on its CPU; the mask
    // keeps the index inside.
    unsafe {
        let packets = (&raw mut (*counters).packets).cast::<u64>();
        *packets.add(index) += 1;
    }
}

#[inline(always)]
fn count_unlogged(slot: u32) {
    if let Some(counters) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: per-CPU memory, and a program is not interrupted by another on its CPU.
        unsafe { (*counters).unlogged += 1 };
    }
}

/// Lets the ENI of a slot obey another policy, in one store: packets of that moment are judged by
/// one or the other.
#[inline(always)]
pub fn switch_policy(slot: u32, policy: u32) {
    if let Some(eni) = ENIS.get_ptr_mut(slot) {
        // SAFETY: the entry stays mapped while the program runs; the word is stored whole.
        unsafe { (&raw mut (*eni).policy).write_volatile(policy) };
    }
}

/// The policy that an ENI obeys at this moment.
#[inline(always)]
pub fn policy_of(eni: &Eni) -> u32 {
    // SAFETY: a reference is valid; `switch_policy` may store the word meanwhile, whole.
    unsafe { (&raw const eni.policy).read_volatile() }
}

#[inline(always)]
fn add_tracked(slot: u32, value: i64) {
    if let Some(tracked) = TRACKED.get_ptr_mut(slot) {
        // SAFETY: map memory of this program's.
        unsafe { add(tracked, value as u64) };
    }
}

/// Whether an ENI has as many connections as it may have. Two CPUs that ask at once may both be
/// told no, so that an ENI can have one more for each CPU.
#[inline(always)]
fn is_share_taken(hook: &Hook<'_>) -> bool {
    let share = u64::from(hook.eni.max_connections);
    match TRACKED.get(u32::from(hook.slot)) {
        Some(&tracked) => share != 0 && tracked >= share,
        None => true,
    }
}

/// Ends a connection: it is closed for `ticks`, unless it was opened under the policy that its ENI
/// obeys.
#[inline(always)]
pub fn end_connection(key: &FlowKey, now: u32, ticks: u32) -> bool {
    let Some(eni) = ENIS.get(u32::from(key.eni)) else {
        return false;
    };
    let Some(policy) = POLICIES.get(policy_of(eni)) else {
        return false;
    };
    let generation = policy.generation;
    let Some(entry) = CONNECTIONS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: the entry stays mapped while the program runs; the lock keeps others out.
    unsafe {
        let lock = lock_of(&raw mut (*entry).lock);
        bpf_spin_lock(lock);
        let is_old = (*entry).tracking.generation != generation && (*entry).tracking.state != SWEPT;
        if is_old {
            (*entry).tracking.state = State::Close as u8;
            (*entry).tracking.last_seen = now;
            (*entry).tracking.timeout = ticks;
        }
        bpf_spin_unlock(lock);
        is_old
    }
}

/// Removes a connection that the sweeper may remove.
#[inline(always)]
pub fn sweep_connection(key: &FlowKey, now: u32, grace: u32, written_epoch: u32) -> bool {
    let Some(entry) = CONNECTIONS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: the entry stays mapped while the program runs; the lock keeps others out.
    let is_dead = unsafe {
        let lock = lock_of(&raw mut (*entry).lock);
        bpf_spin_lock(lock);
        let [ingress, egress] = &(*entry).accounts;
        let is_dead = (*entry).tracking.is_sweepable(now, grace)
            && ingress.is_written(written_epoch)
            && egress.is_written(written_epoch);
        if is_dead {
            (*entry).tracking.state = SWEPT;
        }
        bpf_spin_unlock(lock);
        is_dead
    };
    let is_removed = is_dead && CONNECTIONS.remove(key).is_ok();
    if is_removed {
        add_tracked(u32::from(key.eni), -1);
    }
    is_removed
}

/// Removes a row whose records are all written.
#[inline(always)]
pub fn sweep_row(key: &FlowKey, written_epoch: u32) -> bool {
    let Some(row) = ROWS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: the entry stays mapped while the program runs; the lock keeps others out.
    let is_written = unsafe {
        let lock = lock_of(&raw mut (*row).lock);
        bpf_spin_lock(lock);
        let is_written = (*row).account.is_written(written_epoch);
        if is_written {
            (*row).is_swept = 1;
        }
        bpf_spin_unlock(lock);
        is_written
    };
    is_written && ROWS.remove(key).is_ok()
}

#[inline(always)]
fn lock_of(lock: *mut branchline_common::conntrack::bpf_spin_lock) -> *mut kernel_lock {
    lock.cast()
}

/// `*at += value`, whole whatever other CPUs do. A plain add without fetch, which 5.10 has.
#[inline(always)]
unsafe fn add(at: *mut u64, value: u64) {
    // SAFETY: the caller passes map memory.
    unsafe { asm!("lock *(u64 *)({at} + 0) += {value}", at = in(reg) at, value = in(reg) value) };
}

/// `N` words from `at` on, read one by one. Left to the compiler, a value that goes from map to map
/// would be moved byte by byte by a function, whose loop the verifier walks at every call.
#[inline(always)]
unsafe fn words<const N: usize>(at: *const u32) -> [u32; N] {
    // SAFETY: the caller passes map memory of that size.
    core::array::from_fn(|word| unsafe { at.add(word).read_volatile() })
}

/// Stores `N` words from `at` on, one by one, as [`words`] reads them.
#[inline(always)]
unsafe fn set_words<const N: usize>(at: *mut u32, words: [u32; N]) {
    for (word, value) in words.into_iter().enumerate() {
        // SAFETY: the caller passes map memory of that size.
        unsafe { at.add(word).write_volatile(value) };
    }
}

/// Adds to a slot of the current epoch.
#[inline(always)]
unsafe fn add_to(slot: *mut Slot, traffic: &Traffic, now: u32) {
    // SAFETY: the caller passes map memory. Time and flags are stored whole, the same by all.
    unsafe {
        add(&raw mut (*slot).packets, traffic.packets);
        add(&raw mut (*slot).bytes, traffic.bytes);
        (*slot).last = now;
        let flags = &raw mut (*slot).flags;
        if traffic.flags.fin != 0 {
            (*flags).fin = 1;
        }
        if traffic.flags.syn != 0 {
            (*flags).syn = 1;
        }
        if traffic.flags.rst != 0 {
            (*flags).rst = 1;
        }
        if traffic.flags.syn_ack != 0 {
            (*flags).syn_ack = 1;
        }
    }
}

#[inline(always)]
unsafe fn slot_of(account: *mut Account, epoch: u32) -> *mut Slot {
    // SAFETY: an account has two slots, and the index is 0 or 1.
    unsafe {
        (&raw mut (*account).slots)
            .cast::<Slot>()
            .add(slot_index(epoch))
    }
}

/// The account of a direction. The verifier forgets the bound of a direction that went over the
/// stack.
#[inline(always)]
unsafe fn account_of(accounts: *mut Account, direction: Direction) -> *mut Account {
    // SAFETY: a connection has two accounts, and the index is 0 or 1.
    unsafe { accounts.add(core::hint::black_box(direction as usize) & 1) }
}

/// Empties a slot for the current epoch. Where others may see it, the caller holds the entry's
/// lock; who sees the epoch may add, so it is stored last. Stored word by word: left to the
/// compiler it would be a call, which the verifier forbids under the lock.
#[inline(always)]
unsafe fn open_slot(slot: *mut Slot, hook: &Hook<'_>) {
    // SAFETY: the caller passes map memory.
    unsafe {
        (&raw mut (*slot).packets).write_volatile(0);
        (&raw mut (*slot).bytes).write_volatile(0);
        (&raw mut (*slot).first).write_volatile(hook.now);
        (&raw mut (*slot).last).write_volatile(hook.now);
        (&raw mut (*slot).flags).cast::<u32>().write_volatile(0);
        (&raw mut (*slot).epoch).write_volatile(hook.epoch);
    }
}

/// The tables in the kernel's maps.
pub struct Kernel;

impl Tables for Kernel {
    type Entry = *mut Connection;

    #[inline(always)]
    fn find(&self, key: &FlowKey) -> Option<*mut Connection> {
        CONNECTIONS.get_ptr_mut(key)
    }

    #[inline(always)]
    fn ask(&self, policy: u32, _question: &Question) -> u32 {
        // The question lies in the room, where the function reads it.
        ask(policy)
    }

    #[inline(always)]
    fn count_audited(&self, hook: &Hook<'_>) {
        if let Some(counters) = COUNTERS.get_ptr_mut(u32::from(hook.slot)) {
            // SAFETY: per-CPU memory, and a program is not interrupted by another on its CPU.
            unsafe { (*counters).audited += 1 };
        }
    }

    #[inline(always)]
    fn windows(&self, entry: *mut Connection) -> Windows {
        // SAFETY: the entry stays mapped while the program runs; numbers are read whole.
        zerocopy::transmute!(unsafe { words::<4>((&raw const (*entry).windows).cast()) })
    }

    #[inline(always)]
    fn set_windows(&self, entry: *mut Connection, windows: &Windows) {
        // SAFETY: the entry stays mapped while the program runs; numbers are stored whole.
        unsafe {
            set_words::<4>(
                (&raw mut (*entry).windows).cast(),
                zerocopy::transmute!(*windows),
            );
        }
    }

    #[inline(always)]
    fn tracking(&self, entry: *mut Connection) -> Tracking {
        // SAFETY: the entry stays mapped while the program runs. A state that another CPU is just
        // changing is as good as the one before: whoever changes it reads it again under the lock.
        zerocopy::transmute!(unsafe { words::<5>((&raw const (*entry).tracking).cast()) })
    }

    #[inline(always)]
    fn touch(&self, entry: *mut Connection, now: u32) {
        // SAFETY: the entry stays mapped while the program runs; the time is stored whole.
        unsafe { (*entry).tracking.last_seen = now };
    }

    #[inline(always)]
    fn advance(&self, entry: *mut Connection, [low, high]: [u32; 2], to: &Tracking) -> bool {
        let [next_low, next_high] = to.words();
        let timeout = to.timeout;
        // SAFETY: the entry stays mapped while the program runs; the lock keeps others out. The
        // words are the third and fourth of a tracking's five.
        unsafe {
            let words = (&raw mut (*entry).tracking).cast::<u32>();
            let lock = lock_of(&raw mut (*entry).lock);
            bpf_spin_lock(lock);
            let is_same =
                words.add(2).read_volatile() == low && words.add(3).read_volatile() == high;
            if is_same {
                (*entry).tracking.timeout = timeout;
                words.add(2).write_volatile(next_low);
                words.add(3).write_volatile(next_high);
            }
            bpf_spin_unlock(lock);
            is_same
        }
    }

    #[inline(always)]
    fn reopen(&self, entry: *mut Connection, tracking: &Tracking) -> bool {
        // SAFETY: the entry stays mapped while the program runs; the lock keeps others out.
        unsafe {
            let lock = lock_of(&raw mut (*entry).lock);
            bpf_spin_lock(lock);
            let is_there = (*entry).tracking.state != SWEPT;
            if is_there {
                set_words::<5>(
                    (&raw mut (*entry).tracking).cast(),
                    zerocopy::transmute!(*tracking),
                );
            }
            bpf_spin_unlock(lock);
            is_there
        }
    }

    #[expect(
        clippy::needless_borrows_for_generic_args,
        reason = "by value it would be copied to the stack, which has no room for it"
    )]
    #[inline(always)]
    fn create(
        &self,
        key: &FlowKey,
        opened: &Opened,
        hook: &Hook<'_>,
        traffic: &Traffic,
    ) -> Created<*mut Connection> {
        if is_share_taken(hook) {
            return Created::Full;
        }
        let Some(new) = NEW_CONNECTION.get_ptr_mut(0) else {
            return Created::Full;
        };
        let new = new.cast::<Connection>();
        // SAFETY: per-CPU memory of a connection's size, and a program is not interrupted by
        // another on its CPU.
        let is_entered = unsafe {
            set_words::<5>(
                (&raw mut (*new).tracking).cast(),
                zerocopy::transmute!(opened.tracking),
            );
            set_words::<4>(
                (&raw mut (*new).windows).cast(),
                zerocopy::transmute!(opened.windows),
            );
            let accounts = (&raw mut (*new).accounts).cast::<Account>();
            for slot in 0..4 {
                // Epoch 0 is no epoch: nothing else of an unused slot is ever read.
                (*accounts.cast::<Slot>().add(slot)).epoch = 0;
            }
            if IS_COUNTED {
                let slot = slot_of(account_of(accounts, hook.direction), hook.epoch);
                open_slot(slot, hook);
                add_to(slot, traffic, hook.now);
            }
            CONNECTIONS
                .insert(key, &*new, u64::from(BPF_NOEXIST))
                .is_ok()
        };
        if is_entered {
            add_tracked(u32::from(hook.slot), 1);
            return Created::Counted;
        }
        match self.find(key) {
            Some(entry) => Created::Exists(entry),
            None => Created::Full,
        }
    }

    #[inline(always)]
    fn count(&self, entry: *mut Connection, hook: &Hook<'_>, traffic: &Traffic) {
        if !IS_COUNTED {
            return;
        }
        // SAFETY: the entry stays mapped while the program runs; the lock keeps others out while
        // the slot is emptied.
        unsafe {
            let accounts = (&raw mut (*entry).accounts).cast::<Account>();
            let slot = slot_of(account_of(accounts, hook.direction), hook.epoch);
            if (*slot).epoch != hook.epoch {
                let lock = lock_of(&raw mut (*entry).lock);
                bpf_spin_lock(lock);
                if (*slot).epoch != hook.epoch {
                    open_slot(slot, hook);
                }
                bpf_spin_unlock(lock);
            }
            add_to(slot, traffic, hook.now);
        }
    }

    #[expect(
        clippy::needless_borrows_for_generic_args,
        reason = "by value it would be copied to the stack, which has no room for it"
    )]
    #[inline(always)]
    fn count_row(&self, key: &FlowKey, hook: &Hook<'_>, traffic: &Traffic) {
        if !IS_COUNTED {
            return;
        }
        let row = match ROWS.get_ptr_mut(key) {
            Some(row) => row,
            None => {
                let Some(new) = NEW_ROW.get_ptr(0) else {
                    return;
                };
                // If another CPU enters it first, or there is no room, the second look tells.
                // SAFETY: zeroed memory of a row's size.
                let _: Result<(), i32> =
                    unsafe { ROWS.insert(key, &*new.cast::<Row>(), u64::from(BPF_NOEXIST)) };
                match ROWS.get_ptr_mut(key) {
                    Some(row) => row,
                    None => return count_unlogged(u32::from(hook.slot)),
                }
            }
        };
        // SAFETY: the entry stays mapped while the program runs; the lock keeps others out while
        // the slot is emptied.
        let is_counted = unsafe {
            let slot = slot_of(&raw mut (*row).account, hook.epoch);
            let mut is_there = true;
            if (*slot).epoch != hook.epoch {
                let lock = lock_of(&raw mut (*row).lock);
                bpf_spin_lock(lock);
                is_there = (*row).is_swept == 0;
                if is_there && (*slot).epoch != hook.epoch {
                    open_slot(slot, hook);
                }
                bpf_spin_unlock(lock);
            }
            if is_there {
                add_to(slot, traffic, hook.now);
            }
            is_there
        };
        if !is_counted {
            count_unlogged(u32::from(hook.slot));
        }
    }

    #[inline(always)]
    fn first_fragment(&self, key: &FlowKey) -> Option<FragmentFate> {
        // SAFETY: the value is copied at once.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn remember(&self, key: &FlowKey, fate: &FragmentFate) {
        // The least recently used gives way; without an entry the later fragments are orphans.
        let _: Result<(), i32> = FRAGMENTS.insert(key, fate, 0);
    }
}

impl Policies for Kernel {
    #[inline(always)]
    fn policy(&self, index: u32) -> Option<&Policy> {
        POLICIES.get(index)
    }

    #[inline(always)]
    fn leaf(&self, root: u32, (high, low): Key) -> u32 {
        leaf(root, high, low)
    }

    #[inline(always)]
    fn rule_set(&self, index: u32) -> Option<&RuleSet> {
        RULE_SETS.get(index)
    }

    #[inline(always)]
    fn is_auto_tracked(&self, peer: &Address) -> bool {
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
            return true;
        };
        // SAFETY: per-CPU memory, and a program is not interrupted by another on its CPU.
        let scratch = unsafe { &mut *scratch };
        scratch.peer = lpm_trie::Key::new(128, *peer);
        AUTO_TRACK.get(&scratch.peer).is_some()
    }

    #[inline(always)]
    fn opaque(&self, number: u16) -> Option<u16> {
        let scratch = SCRATCH.get_ptr_mut(0)?;
        // SAFETY: per-CPU memory, and a program is not interrupted by another on its CPU.
        unsafe {
            let rule = &raw mut (*scratch).rule;
            rule.write_volatile(number);
            Some(rule.read_volatile())
        }
    }
}

/// What a policy says to the question in [`room`]. A global function, which the verifier walks once
/// and by itself, not for each way that leads there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ask(policy: u32) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr(0) else {
        return DENIED;
    };
    let Some(policy) = POLICIES.get(policy) else {
        return DENIED;
    };
    // SAFETY: per-CPU memory, and a program is not interrupted by another on its CPU.
    let question = unsafe { (*scratch).room.question() };
    answer(&Kernel, policy, question)
}

/// The leaf of a tree. A global function, which the verifier walks once and by itself, not for each
/// tree that a program looks in and each way that leads there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn leaf(root: u32, high: u64, low: u64) -> u32 {
    policy::descend(root, (high, low), |index| NODES.get(index))
}
