//! Entries of an array map that equal ones share: content to index, with a count of who holds it. Pure.
//!
//! An index that nobody holds any more rests until the programs that may still read it are through,
//! which whoever writes the map knows. Never touches the map.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    hash::Hash,
};

use super::rest::{Mark, Rest};

/// An array map is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "all {limit} {what} of compiled policies are taken; merge networks or port ranges, \
     or give tasks the same set of groups"
)]
pub struct NoRoom {
    /// What there is too little of.
    pub what: &'static str,
    /// How many fit.
    pub limit: u32,
}

/// An entry, at the place of its index.
#[derive(Debug, Clone, Copy, Default)]
struct Slot<T> {
    content: T,
    /// 0 if nobody holds it.
    holders: u32,
    /// Whether `unwritten` lists it.
    is_listed: bool,
}

/// The entries of one map.
#[derive(Debug)]
pub(super) struct Pool<T> {
    what: &'static str,
    limit: u32,
    indices: HashMap<T, u32>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    resting: Rest,
    /// Indices that were held anew and are not in the map, each once; some may be given up by now.
    unwritten: Vec<u32>,
    taken: BTreeSet<u32>,
    next: u32,
}

impl<T: Copy + Default + Eq + Hash> Pool<T> {
    /// Indices from 1 to below `limit`, but those that are `taken` by others. Index 0 is nobody's: it
    /// stands for nothing, which everyone may refer to.
    pub(super) fn new(what: &'static str, limit: u32, mut taken: BTreeSet<u32>) -> Self {
        taken.remove(&0);
        Self {
            what,
            limit,
            indices: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            resting: Rest::default(),
            unwritten: Vec::new(),
            taken,
            next: 1,
        }
    }

    /// The index of `content`, held once more; and whether it is new.
    pub(super) fn hold(&mut self, content: T) -> Result<(u32, bool), NoRoom> {
        let vacant = match self.indices.entry(content) {
            Entry::Occupied(held) => {
                let index = *held.get();
                self.hold_again(index, 1);
                return Ok((index, false));
            }
            Entry::Vacant(vacant) => vacant,
        };
        let (free, next) = (&mut self.free, &mut self.next);
        let index = free
            .pop()
            .or_else(|| take_next(next, self.limit, &self.taken));
        let index = index.ok_or(NoRoom {
            what: self.what,
            limit: self.limit,
        })?;
        vacant.insert(index);
        let at = index as usize;
        if at >= self.slots.len() {
            self.slots.resize(at + 1, Slot::default());
        }
        let slot = &mut self.slots[at];
        if !slot.is_listed {
            self.unwritten.push(index);
        }
        *slot = Slot {
            content,
            holders: 1,
            is_listed: true,
        };
        Ok((index, true))
    }

    /// Holds an index that is held already so many times more.
    pub(super) fn hold_again(&mut self, index: u32, times: u32) {
        if let Some(slot) = self.held_mut(index) {
            slot.holders += times;
        }
    }

    /// Gives an index up; returns its content if nobody holds it any more.
    pub(super) fn release(&mut self, index: u32) -> Option<T> {
        let slot = self.held_mut(index)?;
        slot.holders -= 1;
        if slot.holders > 0 {
            return None;
        }
        let content = slot.content;
        self.indices.remove(&content);
        self.resting.push(index);
        Some(content)
    }

    /// The others need what they have taken no more.
    pub(super) fn reclaim(&mut self) {
        // Those from `next` on come in their turn.
        let later = self.taken.split_off(&self.next);
        self.free.extend(std::mem::take(&mut self.taken));
        drop(later);
    }

    /// The content of an index that is held.
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.held(index).map(|slot| &slot.content)
    }

    /// What is held and not yet in the map.
    pub(super) fn unwritten(&self) -> Vec<(u32, T)> {
        let content = |index: &u32| Some((*index, self.held(*index)?.content));
        self.unwritten.iter().filter_map(content).collect()
    }

    /// `entries` are in the map.
    pub(super) fn written(&mut self, entries: &[(u32, T)]) {
        for (index, _) in entries {
            if let Some(slot) = self.slots.get_mut(*index as usize) {
                slot.is_listed = false;
            }
        }
        let slots = &self.slots;
        let is_listed = |index: &u32| {
            slots
                .get(*index as usize)
                .is_some_and(|slot| slot.is_listed)
        };
        self.unwritten.retain(is_listed);
    }

    /// Indices that wait for programs to get through.
    pub(super) fn resting(&self) -> &Rest {
        &self.resting
    }

    /// No program reads what was given up before `mark` any more.
    pub(super) fn rested(&mut self, mark: Mark) {
        self.free.extend(self.resting.wake(mark));
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.indices.len()
    }

    fn held(&self, index: u32) -> Option<&Slot<T>> {
        let slot = self.slots.get(index as usize);
        slot.filter(|slot| slot.holders > 0)
    }

    fn held_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut(index as usize);
        slot.filter(|slot| slot.holders > 0)
    }
}

/// The first index from `next` on that is not taken.
fn take_next(next: &mut u32, limit: u32, taken: &BTreeSet<u32>) -> Option<u32> {
    let index = (*next..limit).find(|index| !taken.contains(index))?;
    *next = index + 1;
    Some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_had_is_used_again_but_never_the_index_that_stands_for_nothing() {
        let mut pool = Pool::new("things", 5, BTreeSet::from([0, 2]));
        let hold = |pool: &mut Pool<u8>, content| pool.hold(content).map(|(index, _)| index);
        assert_eq!([hold(&mut pool, 10), hold(&mut pool, 11)], [Ok(1), Ok(3)]);
        pool.reclaim();
        let rest = [hold(&mut pool, 12), hold(&mut pool, 13)];
        assert_eq!(rest, [Ok(2), Ok(4)]);
        assert!(hold(&mut pool, 14).is_err());
    }
}
