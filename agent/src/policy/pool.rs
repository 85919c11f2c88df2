//! Entries of an array map that equal ones share: content to index, with a count of who holds it. Pure.
//!
//! An index that nobody holds any more rests until the programs that may still read it are through,
//! which whoever writes the map knows. Never touches the map.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

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

/// The entries of one map.
#[derive(Debug)]
pub(super) struct Pool<T> {
    what: &'static str,
    limit: u32,
    indices: HashMap<T, u32>,
    held: HashMap<u32, (T, u32)>,
    free: Vec<u32>,
    resting: Vec<u32>,
    unwritten: BTreeSet<u32>,
    taken: BTreeSet<u32>,
    next: u32,
}

impl<T: Copy + Eq + Hash> Pool<T> {
    /// Indices from 1 to below `limit`, but those that are `taken` by others.
    pub(super) fn new(what: &'static str, limit: u32, taken: BTreeSet<u32>) -> Self {
        Self {
            what,
            limit,
            indices: HashMap::new(),
            held: HashMap::new(),
            free: Vec::new(),
            resting: Vec::new(),
            unwritten: BTreeSet::new(),
            taken,
            next: 1,
        }
    }

    /// The index of `content`, held once more; and whether it is new.
    pub(super) fn hold(&mut self, content: T) -> Result<(u32, bool), NoRoom> {
        if let Some(index) = self.indices.get(&content) {
            if let Some((_, holders)) = self.held.get_mut(index) {
                *holders += 1;
            }
            return Ok((*index, false));
        }
        let index = self.take_free().ok_or(NoRoom {
            what: self.what,
            limit: self.limit,
        })?;
        self.indices.insert(content, index);
        self.held.insert(index, (content, 1));
        self.unwritten.insert(index);
        Ok((index, true))
    }

    fn take_free(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        let index = (self.next..self.limit).find(|index| !self.taken.contains(index))?;
        self.next = index + 1;
        Some(index)
    }

    /// Holds an index that is held already once more.
    pub(super) fn hold_again(&mut self, index: u32) {
        if let Some((_, holders)) = self.held.get_mut(&index) {
            *holders += 1;
        }
    }

    /// Gives an index up; returns its content if nobody holds it any more.
    pub(super) fn release(&mut self, index: u32) -> Option<T> {
        let (content, holders) = self.held.get_mut(&index)?;
        *holders -= 1;
        if *holders > 0 {
            return None;
        }
        let content = *content;
        self.held.remove(&index);
        self.indices.remove(&content);
        self.unwritten.remove(&index);
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
        self.held.get(&index).map(|(content, _)| content)
    }

    /// What is held and not yet in the map.
    pub(super) fn unwritten(&self) -> Vec<(u32, T)> {
        let content = |index: &u32| Some((*index, self.held.get(index)?.0));
        self.unwritten.iter().filter_map(content).collect()
    }

    /// `index` is in the map.
    pub(super) fn written(&mut self, index: u32) {
        self.unwritten.remove(&index);
    }

    /// Indices that wait for programs to get through.
    pub(super) fn resting(&self) -> usize {
        self.resting.len()
    }

    /// No program reads the first `count` resting indices any more.
    pub(super) fn rested(&mut self, count: usize) {
        let count = count.min(self.resting.len());
        self.free.extend(self.resting.drain(..count));
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
}
