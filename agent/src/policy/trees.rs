//! The nodes and rule sets of all policies: equal ones are one. Pure; never touches a map.

use std::collections::BTreeSet;

use branchline_common::{
    maps::{NODES, RULE_SETS},
    policy::{LEAF, Node, RuleSet},
};

use super::pool::{NoRoom, Pool};
use super::rest::Mark;

/// Nodes and rule sets, with a count of what refers to each.
#[derive(Debug)]
pub struct Trees {
    pub(super) nodes: Pool<Node>,
    pub(super) sets: Pool<RuleSet>,
}

/// What the maps lack of the trees.
#[derive(Debug, Default)]
pub struct Writes {
    /// Rule sets by index.
    pub rule_sets: Vec<(u32, RuleSet)>,
    /// Nodes by index.
    pub nodes: Vec<(u32, Node)>,
}

/// What nobody held any more at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resting {
    nodes: Mark,
    sets: Mark,
}

/// Nodes and rule sets of the maps that an earlier agent's policies refer to, by index.
#[derive(Debug, Default)]
pub struct Taken {
    /// Nodes.
    pub nodes: BTreeSet<u32>,
    /// Rule sets.
    pub rule_sets: BTreeSet<u32>,
}

impl Default for Trees {
    fn default() -> Self {
        Self::beside(Taken::default())
    }
}

impl Trees {
    /// Trees beside those of an earlier agent.
    #[must_use]
    pub fn beside(taken: Taken) -> Self {
        Self {
            nodes: Pool::new("nodes", NODES, taken.nodes),
            sets: Pool::new("rule sets", RULE_SETS, taken.rule_sets),
        }
    }

    /// No ENI obeys a policy of the earlier agent any more, and no program reads one.
    pub fn reclaim(&mut self) {
        self.nodes.reclaim();
        self.sets.reclaim();
    }

    /// A leaf of a rule set.
    pub(super) fn leaf(&mut self, set: RuleSet) -> Result<u32, NoRoom> {
        if set.is_empty() {
            return Ok(LEAF);
        }
        Ok(LEAF | self.sets.hold(set)?.0)
    }

    /// A node over children that the caller holds, which it takes over.
    pub(super) fn node(&mut self, node: Node) -> Result<u32, NoRoom> {
        match self.nodes.hold(node) {
            Ok((index, true)) => Ok(index),
            Ok((index, false)) => {
                self.release_all(&node.children);
                Ok(index)
            }
            Err(error) => {
                self.release_all(&node.children);
                Err(error)
            }
        }
    }

    /// Holds a child once more.
    pub(super) fn hold(&mut self, child: u32) {
        self.hold_times(child, 1);
    }

    /// Holds a child so many times more.
    pub(super) fn hold_times(&mut self, child: u32, times: u32) {
        if child & LEAF == 0 {
            self.nodes.hold_again(child, times);
        } else {
            self.sets.hold_again(child & !LEAF, times);
        }
    }

    pub(super) fn release_all(&mut self, children: &[u32]) {
        for child in children {
            self.release(*child);
        }
    }

    /// Gives up a root or a child; 0 is none.
    pub fn release(&mut self, child: u32) {
        if child & LEAF != 0 {
            self.sets.release(child & !LEAF);
        } else if let Some(node) = self.nodes.release(child) {
            self.release_all(&node.children);
        }
    }

    /// What has to be in the maps before a new policy may be obeyed.
    #[must_use]
    pub fn unwritten(&self) -> Writes {
        Writes {
            rule_sets: self.sets.unwritten(),
            nodes: self.nodes.unwritten(),
        }
    }

    /// `writes` are in the maps.
    pub fn written(&mut self, writes: &Writes) {
        self.sets.written(&writes.rule_sets);
        self.nodes.written(&writes.nodes);
    }

    /// What nobody holds any more. It may be used again once every program that runs now is through.
    #[must_use]
    pub fn resting(&self) -> Resting {
        Resting {
            nodes: self.nodes.resting().mark(),
            sets: self.sets.resting().mark(),
        }
    }

    /// Whether there is nothing that nobody holds and that may not be used again yet.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.nodes.resting().is_empty() && self.sets.resting().is_empty()
    }

    /// Programs that ran when `resting` was taken are through.
    pub fn rested(&mut self, resting: Resting) {
        self.nodes.rested(resting.nodes);
        self.sets.rested(resting.sets);
    }

    /// Nodes and rule sets in use.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.nodes.len(), self.sets.len())
    }
}
