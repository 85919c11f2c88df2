//! On which network card and at which device index the next ENI is attached. Pure.

use std::collections::BTreeSet;

use branchline_ec2::{InstanceTypeLimits, NetworkInterface};

use crate::provider::{Device, ProviderError};

/// What an instance type takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Room {
    /// ENIs of all cards together, the primary one among them.
    pub(super) most: u64,
    /// ENIs of each card.
    cards: Vec<u32>,
}

impl Room {
    /// By what EC2 says of the type (DescribeInstanceTypes) and what an operator's table does, of both the smaller. Where
    /// neither is known there is one card without end, and EC2 says at the attachment what it does not take.
    #[must_use]
    pub(super) fn of(limits: Option<&InstanceTypeLimits>, table: Option<u64>) -> Self {
        let cards = limits.map(|limits| limits.network_cards.clone());
        let cards = cards.filter(|cards| !cards.is_empty());
        let cards = cards.unwrap_or_else(|| vec![u32::from(Device::INDICES)]);
        let sum: u64 = cards.iter().copied().map(u64::from).sum();
        let of_type = limits.map(|limits| u64::from(limits.maximum_network_interfaces));
        let most = [of_type, table].into_iter().flatten().fold(sum, u64::min);
        Self { most, cards }
    }
}

/// The devices of `attached`.
#[must_use]
pub(super) fn taken(attached: &[NetworkInterface]) -> BTreeSet<Device> {
    let attachments = attached
        .iter()
        .filter_map(|interface| interface.attachment.as_ref());
    let devices = attachments.map(|at| Device::new(at.network_card_index, at.device_index));
    devices.filter_map(Result::ok).collect()
}

/// The lowest free device index, on the card with the fewest ENIs: each has its own bandwidth. Index 0 of a card is never
/// taken: the first card's is the primary ENI's.
///
/// # Errors
/// `Exhausted` if the instance takes no more, of which `leaving` are on their way out.
pub(super) fn choose(
    room: &Room,
    taken: &BTreeSet<Device>,
    leaving: usize,
) -> Result<Device, ProviderError> {
    let used = |card: usize| {
        let on_it = taken
            .iter()
            .filter(|device| usize::from(device.card()) == card);
        on_it.count()
    };
    let cards = room.cards.iter().enumerate();
    let has_room =
        |(card, most): &(usize, &u32)| u32::try_from(used(*card)).is_ok_and(|used| used < **most);
    let with_room = cards.filter(has_room);
    let mut cards: Vec<_> = with_room.map(|(card, _)| (used(card), card)).collect();
    cards.sort_unstable();
    let devices = cards.into_iter().flat_map(|(_, card)| {
        let card = u32::try_from(card).unwrap_or(u32::MAX);
        (1..u32::from(Device::INDICES)).filter_map(move |index| Device::new(card, index).ok())
    });
    let mut free = devices.filter(|device| !taken.contains(device));
    let is_full = u64::try_from(taken.len()).is_ok_and(|taken| taken >= room.most);
    free.next().filter(|_| !is_full).ok_or_else(|| {
        let (used, most) = (taken.len(), room.most);
        let leaving = match leaving {
            0 => String::new(),
            leaving => format!(", {leaving} of them on their way out"),
        };
        ProviderError::Exhausted(format!(
            "{used} of the instance's {most} network interfaces are in use{leaving}; remove tasks, detach what is not \
             needed, or use a larger instance type"
        ))
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn limits(most: u32, cards: &[u32]) -> InstanceTypeLimits {
        InstanceTypeLimits {
            maximum_network_interfaces: most,
            network_cards: cards.to_vec(),
            ..InstanceTypeLimits::default()
        }
    }

    fn devices(texts: &[&str]) -> BTreeSet<Device> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn chosen(room: &Room, taken: &[&str]) -> Option<String> {
        let chosen = choose(room, &devices(taken), 0);
        chosen.ok().map(|device| device.to_string())
    }

    #[test]
    fn the_emptiest_card_and_there_the_lowest_index_is_taken() {
        let one = Room::of(Some(&limits(3, &[3])), None);
        assert_eq!(chosen(&one, &["0/0"]).as_deref(), Some("0/1"));
        assert_eq!(chosen(&one, &["0/0", "0/2"]).as_deref(), Some("0/1"));
        assert_eq!(chosen(&one, &["0/0", "0/1", "0/2"]), None);
        let two = Room::of(Some(&limits(5, &[3, 3])), None);
        assert_eq!(chosen(&two, &["0/0"]).as_deref(), Some("1/1"));
        assert_eq!(chosen(&two, &["0/0", "1/1"]).as_deref(), Some("0/1"));
        let last = ["0/0", "0/1", "0/2", "1/1"];
        assert_eq!(chosen(&two, &last).as_deref(), Some("1/2"));
        let full = ["0/0", "0/1", "0/2", "1/1", "1/2"];
        assert_eq!(chosen(&two, &full), None, "all cards together");
    }

    #[test]
    fn of_two_limits_the_smaller_counts_and_none_is_none() {
        assert_eq!(Room::of(Some(&limits(8, &[4, 4])), Some(3)).most, 3);
        assert_eq!(Room::of(Some(&limits(8, &[3, 3])), None).most, 6);
        assert_eq!(Room::of(None, Some(4)).most, 4);
        let unknown = Room::of(None, None);
        assert_eq!(unknown.most, 64);
        assert_eq!(chosen(&unknown, &["0/0"]).as_deref(), Some("0/1"));
    }

    #[test]
    fn a_full_instance_says_what_is_on_its_way_out() {
        let room = Room::of(Some(&limits(2, &[2])), None);
        let error = choose(&room, &devices(&["0/0", "0/1"]), 1).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("2 of the instance's 2 network interfaces are in use, 1 of"),
            "{text}"
        );
    }
}
