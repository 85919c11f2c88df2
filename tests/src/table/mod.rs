//! The table of cases that the pure tier and the program tier share.
//!
//! Every row reads as a sentence. The pure tier runs it through `common`, the program tier through
//! the loaded programs; both must say what the row says.

mod account;

mod exempt;

mod fragments;

mod icmp;

mod link_layer;

mod malformed;

mod security_groups;

mod tcp_states;

use branchline_common::{
    headers::tcp as bits,
    verdict::{
        Direction, DropReason,
        Verdict::{self, Deny},
    },
};

use crate::case::Case;

const INGRESS: Direction = Direction::Ingress;
const EGRESS: Direction = Direction::Egress;
const NO_RULE: Verdict = Deny(DropReason::NoRule);
const SYN: u8 = bits::SYN;
const ACK: u8 = bits::ACK;
const FIN: u8 = bits::FIN;
const RST: u8 = bits::RST;
const SYN_ACK: u8 = SYN | ACK;
const FIN_ACK: u8 = FIN | ACK;
const RST_ACK: u8 = RST | ACK;

/// Both directions, with the peer's and the task's end in the order of the packet.
fn both_ways<'a>(peer: &'a str, task: &'a str) -> [(Direction, &'a str, &'a str); 2] {
    [(INGRESS, peer, task), (EGRESS, task, peer)]
}

/// Every case.
#[must_use]
pub fn cases() -> Vec<Case> {
    [
        security_groups::cases(),
        tcp_states::cases(),
        icmp::cases(),
        fragments::cases(),
        exempt::cases(),
        link_layer::cases(),
        malformed::cases(),
        account::cases(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn no_two_cases_have_the_same_name() {
        let mut names = HashSet::new();
        for case in super::cases() {
            assert!(names.insert(case.name.clone()), "{} twice", case.name);
            assert!(!case.steps.is_empty(), "{} does nothing", case.name);
        }
    }
}
