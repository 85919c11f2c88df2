//! A compiled policy asked from user space, as the programs ask it. Pure.

use branchline_common::{
    conntrack::Tracking,
    flow::{Address, FlowKey, is_icmp, is_ipv4},
    policy::{AUDITED, Key, Policies, Policy, RuleSet, descend, scope},
    verdict::Direction,
};

use super::trees::Trees;

impl Policies for Trees {
    /// Trees know no policies: callers hold theirs.
    fn policy(&self, _index: u32) -> Option<&Policy> {
        None
    }

    fn leaf(&self, root: u32, key: Key) -> u32 {
        descend(root, key, |index| self.nodes.get(index))
    }

    fn rule_set(&self, index: u32) -> Option<&RuleSet> {
        self.sets.get(index)
    }

    /// Whether a flow is tracked does not matter to those who ask the trees.
    fn is_auto_tracked(&self, _peer: &Address) -> bool {
        false
    }
}

/// Whether the packet that opened a connection would still be let through by `policy`. The code of
/// an ICMP query is taken for 0, as every query has it.
#[must_use]
pub fn still_admits(trees: &Trees, policy: &Policy, key: &FlowKey, tracking: &Tracking) -> bool {
    if tracking.rule == AUDITED && policy.audits() {
        return true;
    }
    let direction = Direction::from_byte(tracking.opener);
    let port = match direction {
        _ if is_icmp(key.protocol) => key.remote_port & 0xff00,
        Direction::Ingress => key.local_port,
        Direction::Egress => key.remote_port,
    };
    let scope = scope(direction, is_ipv4(&key.remote));
    let rule = policy.rule(trees, scope, &key.remote, key.protocol, Some(port));
    rule.is_some()
}
