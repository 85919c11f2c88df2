//! The maps that compiled policies are in. It decides nothing.

use std::collections::BTreeSet;

use branchline_common::{
    maps::{SWITCH_SLOTS, SwitchRequest, name},
    memory::Compiled,
    policy::{LEAF, Policy},
};
use rustix::thread::{MembarrierCommand, membarrier};
use zerocopy::IntoBytes;

use super::{Datapath, DatapathError, error::map_error, program};
use crate::policy::{Taken, Writes};

/// The entry that no ENI obeys and that holds the last generation reserved.
const NO_POLICY: u32 = 0;

/// Waits until every program that runs now has ended: what it could still read may change then.
/// Takes some tens of milliseconds.
///
/// # Errors
/// `Grace` on a host with CPUs that the kernel does not wait for (`nohz_full`).
pub fn grace_period() -> Result<(), DatapathError> {
    // The kernel's `synchronize_rcu`, and programs run inside of RCU (membarrier(2)).
    membarrier(MembarrierCommand::Global).map_err(|source| DatapathError::Grace(source.into()))
}

impl Datapath {
    /// Writes nodes and rule sets. No ENI obeys a policy that refers to them yet.
    ///
    /// # Errors
    /// `Map`, with a part written.
    pub fn write_trees(&mut self, writes: &Writes) -> Result<(), DatapathError> {
        for (index, set) in &writes.rule_sets {
            self.rule_sets
                .set(*index, set, 0)
                .map_err(|source| map_error("write", name::RULE_SETS, source))?;
        }
        for (index, node) in &writes.nodes {
            self.nodes
                .set(*index, node, 0)
                .map_err(|source| map_error("write", name::NODES, source))?;
        }
        Ok(())
    }

    /// Writes a policy that no ENI obeys yet.
    ///
    /// # Errors
    /// `Map`.
    pub fn write_policy(&mut self, index: u32, policy: &Policy) -> Result<(), DatapathError> {
        self.policies
            .set(index, policy, 0)
            .map_err(|source| map_error("write", name::POLICIES, source))
    }

    /// A policy.
    ///
    /// # Errors
    /// `Map`.
    pub fn policy(&self, index: u32) -> Result<Policy, DatapathError> {
        self.policies
            .get(&index, 0)
            .map_err(|source| map_error("read", name::POLICIES, source))
    }

    /// The policy at `index` with all that it refers to.
    ///
    /// # Errors
    /// `Map`.
    pub fn compiled(&self, index: u32) -> Result<Compiled, DatapathError> {
        let taken = self.taken_by(&BTreeSet::from([index]))?;
        let mut compiled = Compiled::default();
        compiled.policies.insert(index, self.policy(index)?);
        for node in taken.nodes {
            let read = self.nodes.get(&node, 0);
            let read = read.map_err(|source| map_error("read", name::NODES, source))?;
            compiled.nodes.insert(node, read);
        }
        // 0 is the empty set, which is in no table.
        for set in taken.rule_sets.into_iter().filter(|set| *set != 0) {
            let read = self.rule_sets.get(&set, 0);
            let read = read.map_err(|source| map_error("read", name::RULE_SETS, source))?;
            compiled.rule_sets.insert(set, read);
        }
        Ok(compiled)
    }

    /// Lets the ENIs in `slots` obey the policy at `index`, each from one packet to the next.
    ///
    /// # Errors
    /// `Program` if the kernel does not run the program.
    pub fn switch_policy(
        &mut self,
        slots: &BTreeSet<u32>,
        index: u32,
    ) -> Result<(), DatapathError> {
        let slots: Vec<u32> = slots.iter().copied().collect();
        for slots in slots.chunks(SWITCH_SLOTS) {
            let request = SwitchRequest {
                slots: slots.len() as u32,
                policy: index,
                ..SwitchRequest::default()
            };
            let mut data = request.as_bytes().to_vec();
            data.extend_from_slice(slots.as_bytes());
            self.ask(program::SWITCH_POLICY, &data)?;
        }
        Ok(())
    }

    /// The last generation that any policy may have.
    ///
    /// # Errors
    /// `Map`.
    pub fn generation(&self) -> Result<u32, DatapathError> {
        Ok(self.policy(NO_POLICY)?.generation)
    }

    /// Generations up to `last` may be given out from now on.
    ///
    /// # Errors
    /// `Map`.
    pub fn reserve_generations(&mut self, last: u32) -> Result<(), DatapathError> {
        let entry = Policy {
            generation: last,
            ..Policy::default()
        };
        self.write_policy(NO_POLICY, &entry)
    }

    /// What the policies at `indices` refer to.
    ///
    /// # Errors
    /// `Map`.
    pub fn taken_by(&self, indices: &BTreeSet<u32>) -> Result<Taken, DatapathError> {
        let mut taken = Taken::default();
        let mut open = Vec::new();
        for index in indices {
            let Policy {
                peers,
                ports,
                portless,
                ..
            } = self.policy(*index)?;
            open.extend(peers.into_iter().chain(ports).chain(portless));
        }
        while let Some(child) = open.pop() {
            if child & LEAF != 0 {
                taken.rule_sets.insert(child & !LEAF);
            } else if taken.nodes.insert(child) {
                let node = self.nodes.get(&child, 0);
                let node = node.map_err(|source| map_error("read", name::NODES, source))?;
                open.extend(node.children);
            }
        }
        Ok(taken)
    }
}
