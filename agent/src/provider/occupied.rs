//! What the ENIs of a host take up: VLAN ids, addresses and MAC addresses, and which of them cool
//! down after their ENI has gone. Pure: time is what the caller says.
//!
//! A name is freed by the attachment that has it, so a late or repeated release cannot free what
//! another ENI has by now.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use rangemap::RangeInclusiveSet;

use super::{Eni, MacAddress, VlanId};

/// ENIs by attachment, and what they take up.
#[derive(Debug, Clone, Default)]
pub struct Occupied {
    enis: BTreeMap<String, Eni>,
    /// VLAN ids of the trunk.
    pub vlans: Names<VlanId>,
    /// IPv4 addresses.
    pub ipv4: Names<Ipv4Addr>,
    /// IPv6 addresses.
    pub ipv6: Names<Ipv6Addr>,
    /// MAC addresses.
    pub macs: Names<MacAddress>,
    /// ENIs that have gone, and when, oldest first.
    cooling: VecDeque<(u64, Eni)>,
}

/// Names of one kind: taken, cooling, or free.
#[derive(Debug, Clone)]
pub struct Names<K> {
    uses: BTreeMap<K, Use>,
    /// Numbers of those in use, as runs: so the first free one is found without a look at each before it.
    in_use: RangeInclusiveSet<u128>,
}

/// A name that is a number too, in the same order.
pub trait Ordinal: Copy + Ord {
    /// Its number.
    fn number(self) -> u128;

    /// The name of a number; `None` if it is no name's.
    fn named(number: u128) -> Option<Self>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Taken,
    /// Since when, in milliseconds since 1970.
    Cooling(u64),
}

impl Occupied {
    /// What `enis` take up.
    pub fn of<'a>(enis: impl IntoIterator<Item = &'a Eni>) -> Self {
        let mut occupied = Self::default();
        for eni in enis {
            occupied.take(eni);
        }
        occupied
    }

    /// `eni` is there.
    pub fn take(&mut self, eni: &Eni) {
        eni.vlan.into_iter().for_each(|vlan| self.vlans.take(vlan));
        let ipv4 = eni.ipv4.map(|net| net.addr());
        ipv4.into_iter().for_each(|address| self.ipv4.take(address));
        let ipv6 = eni.ipv6.map(|net| net.addr());
        ipv6.into_iter().for_each(|address| self.ipv6.take(address));
        self.macs.take(eni.mac);
        self.enis.insert(eni.attachment_id.clone(), eni.clone());
    }

    /// The ENI of an attachment has gone at `at_ms`, no earlier than any before; what it took up
    /// cools down. One that is not there, or not any more, changes nothing.
    pub fn release(&mut self, attachment_id: &str, at_ms: u64) {
        let Some(eni) = self.enis.remove(attachment_id) else {
            return;
        };
        self.each_name(&eni, Use::Taken, Some(Use::Cooling(at_ms)));
        self.cooling.push_back((at_ms, eni));
    }

    /// Frees what has cooled for `cool_down_ms` at `now_ms`.
    pub fn free_cooled(&mut self, now_ms: u64, cool_down_ms: u64) {
        while let Some((at_ms, _)) = self.cooling.front()
            && at_ms.saturating_add(cool_down_ms) <= now_ms
            && let Some((at_ms, eni)) = self.cooling.pop_front()
        {
            self.each_name(&eni, Use::Cooling(at_ms), None);
        }
    }

    /// The ENI of an attachment.
    #[must_use]
    pub fn eni(&self, attachment_id: &str) -> Option<&Eni> {
        self.enis.get(attachment_id)
    }

    /// ENIs that are there; what cools down does not count.
    #[must_use]
    pub fn len(&self) -> usize {
        self.enis.len()
    }

    /// Whether there is no ENI.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.enis.is_empty()
    }

    /// Every ENI that is there.
    pub fn enis(&self) -> impl Iterator<Item = &Eni> {
        self.enis.values()
    }

    /// Changes the names of `eni` that are in use `from`.
    fn each_name(&mut self, eni: &Eni, from: Use, to: Option<Use>) {
        let ipv4 = eni.ipv4.map(|net| net.addr());
        let ipv6 = eni.ipv6.map(|net| net.addr());
        eni.vlan
            .iter()
            .for_each(|vlan| self.vlans.change(vlan, from, to));
        ipv4.iter()
            .for_each(|address| self.ipv4.change(address, from, to));
        ipv6.iter()
            .for_each(|address| self.ipv6.change(address, from, to));
        self.macs.change(&eni.mac, from, to);
    }
}

impl<K: Ordinal> Names<K> {
    /// Whether nobody has `name`, nor had it a moment ago.
    pub fn is_free(&self, name: &K) -> bool {
        !self.uses.contains_key(name)
    }

    /// Those from the first to the last of `names` that are free, in order.
    pub fn free_among(&self, names: RangeInclusive<K>) -> impl Iterator<Item = K> {
        let numbers = names.start().number()..=names.end().number();
        let mut next = Some(*numbers.start()).filter(|_| !numbers.is_empty());
        let free = std::iter::from_fn(move || {
            let rest = next?..=*numbers.end();
            let gap = self.in_use.gaps(&rest).next();
            next = gap.as_ref().and_then(|gap| gap.end().checked_add(1));
            next = next.filter(|next| next <= numbers.end());
            gap
        });
        free.flatten().filter_map(K::named)
    }

    /// Whether an ENI has `name`.
    pub fn is_taken(&self, name: &K) -> bool {
        self.uses.get(name) == Some(&Use::Taken)
    }

    /// Of the names that cool down and that `wanted` admits, the one that has done so for the
    /// longest: better than none.
    pub fn coolest(&self, wanted: impl Fn(&K) -> bool) -> Option<K> {
        let cooling = self.uses.iter().filter_map(|(name, used)| match used {
            Use::Cooling(at_ms) if wanted(name) => Some((*at_ms, *name)),
            Use::Cooling(_) | Use::Taken => None,
        });
        cooling.min().map(|(_, name)| name)
    }

    fn take(&mut self, name: K) {
        self.put(name, Use::Taken);
    }

    fn change(&mut self, name: &K, from: Use, to: Option<Use>) {
        if self.uses.get(name) != Some(&from) {
            return;
        }
        match to {
            Some(to) => self.put(*name, to),
            None => {
                self.uses.remove(name);
                self.in_use.remove(name.number()..=name.number());
            }
        }
    }

    fn put(&mut self, name: K, used: Use) {
        if self.uses.insert(name, used).is_none() {
            self.in_use.insert(name.number()..=name.number());
        }
    }
}

impl<K> Default for Names<K> {
    fn default() -> Self {
        Self {
            uses: BTreeMap::new(),
            in_use: RangeInclusiveSet::new(),
        }
    }
}

impl Ordinal for Ipv4Addr {
    fn number(self) -> u128 {
        self.to_bits().into()
    }

    fn named(number: u128) -> Option<Self> {
        number.try_into().ok().map(Self::from_bits)
    }
}

impl Ordinal for Ipv6Addr {
    fn number(self) -> u128 {
        self.to_bits()
    }

    fn named(number: u128) -> Option<Self> {
        Some(Self::from_bits(number))
    }
}

impl Ordinal for VlanId {
    fn number(self) -> u128 {
        self.get().into()
    }

    fn named(number: u128) -> Option<Self> {
        Self::try_from(u16::try_from(number).ok()?).ok()
    }
}

impl Ordinal for MacAddress {
    fn number(self) -> u128 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f]).into()
    }

    fn named(number: u128) -> Option<Self> {
        match u64::try_from(number).ok()?.to_be_bytes() {
            [0, 0, rest @ ..] => Some(Self(rest)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::task_record::tests::record;

    fn eni(attachment_id: &str, number: u8) -> Eni {
        Eni {
            attachment_id: attachment_id.to_owned(),
            vlan: Some(VlanId::try_from(u16::from(number)).unwrap()),
            ipv4: Some(format!("10.0.1.{number}/24").parse().unwrap()),
            ipv6: None,
            mac: MacAddress([0x0a, 0, 0, 0, 0, number]),
            ..record("any").eni
        }
    }

    fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 1, number)
    }

    #[test]
    fn what_has_gone_cools_down_and_is_free_again() {
        let mut occupied = Occupied::of([&eni("a", 4), &eni("b", 5)]);
        occupied.release("a", 1_000);
        assert_eq!(occupied.len(), 1);
        assert!(!occupied.ipv4.is_free(&address(4)) && !occupied.ipv4.is_taken(&address(4)));
        assert_eq!(occupied.ipv4.coolest(|_| true), Some(address(4)));
        assert_eq!(occupied.ipv4.coolest(|one| *one != address(4)), None);
        let find = |occupied: &Occupied| {
            let free = occupied.ipv4.free_among(address(4)..=address(5));
            free.collect::<Vec<_>>()
        };
        occupied.free_cooled(60_999, 60_000);
        assert!(!occupied.ipv4.is_free(&address(4)) && find(&occupied).is_empty());
        occupied.free_cooled(61_000, 60_000);
        assert_eq!(find(&occupied), [address(4)]);
        assert!(occupied.ipv4.is_free(&address(4)) && occupied.macs.is_free(&eni("a", 4).mac));
        assert!(occupied.vlans.is_free(&eni("a", 4).vlan.unwrap()));
        assert!(occupied.ipv4.is_taken(&address(5)));
    }

    #[test]
    fn a_release_never_frees_what_another_has_by_now() {
        let mut occupied = Occupied::of([&eni("a", 4)]);
        occupied.release("a", 1_000);
        // Nothing else was free: the new one has it before it has cooled down.
        occupied.take(&eni("b", 4));
        occupied.release("a", 2_000);
        occupied.free_cooled(100_000, 60_000);
        assert!(occupied.ipv4.is_taken(&address(4)));
        assert!(occupied.vlans.is_taken(&eni("b", 4).vlan.unwrap()));
        occupied.release("b", 100_000);
        assert_eq!((occupied.len(), occupied.is_empty()), (0, true));
        occupied.free_cooled(130_000, 60_000);
        assert!(
            !occupied.ipv4.is_free(&address(4)),
            "b's own cool-down counts"
        );
    }

    #[test]
    fn what_is_free_among_others_is_found_in_order() {
        let enis = [2, 4, 5, 9].map(|n| eni(&n.to_string(), n));
        let mut occupied = Occupied::of(&enis);
        occupied.release("4", 1_000);
        let among = |first, last| {
            let free = occupied.ipv4.free_among(address(first)..=address(last));
            free.map(|free| free.octets()[3]).collect::<Vec<_>>()
        };
        assert_eq!(among(1, 10), [1, 3, 6, 7, 8, 10]);
        assert_eq!(among(3, 8), [3, 6, 7, 8]);
        assert!(among(4, 5).is_empty() && among(9, 9).is_empty());
        // None in use, all before the first in use, and no range at all.
        assert_eq!(among(200, 202), [200, 201, 202]);
        assert_eq!(among(0, 1), [0, 1]);
        assert!(among(3, 2).is_empty());
    }

    #[test]
    fn a_name_is_its_number_to_the_last_one() {
        fn check<K: Ordinal + std::fmt::Debug>(last: K, after: Option<K>) {
            assert_eq!(K::named(last.number()), Some(last));
            let next = last.number().checked_add(1).and_then(K::named);
            assert_eq!(next, after);
            let names = Names::<K>::default();
            assert!(names.free_among(last..=last).eq([last]));
        }
        check(Ipv4Addr::BROADCAST, None);
        check(
            Ipv4Addr::new(10, 0, 0, 255),
            Some(Ipv4Addr::new(10, 0, 1, 0)),
        );
        check(Ipv6Addr::from_bits(u128::MAX), None);
        check(VlanId::LAST, None);
        check(MacAddress([0xff; 6]), None);
        check(
            MacAddress([10, 0, 0, 0, 0, 255]),
            Some(MacAddress([10, 0, 0, 0, 1, 0])),
        );
    }

    #[test]
    fn of_two_that_cool_the_older_is_taken_first() {
        let mut occupied = Occupied::of([&eni("a", 4), &eni("b", 5)]);
        occupied.release("b", 1_000);
        occupied.release("a", 2_000);
        assert_eq!(occupied.ipv4.coolest(|_| true), Some(address(5)));
    }
}
