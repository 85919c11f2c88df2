//! The maps' content: ENIs and what leads to them, rules, connections, counters.
//!
//! One method for each thing that the agent writes or reads. It decides nothing.

use std::collections::BTreeSet;

use aya::{
    TestRunOptions,
    maps::{Array, MapData, MapError, lpm_trie},
    programs::TestRun,
};
use branchline_common::{
    conntrack::Connection,
    fabric::Route,
    flow::{Address, FlowKey},
    maps::{Counters, Endpoint, Eni, Row, SWEEP_KEYS, SweepRequest, branch_hint, control, name},
    verdict::Service,
};
use zerocopy::IntoBytes;

use super::{
    Datapath, DatapathError, classifier,
    error::{found, gone, keys, keys_of, map_error, program_error},
    program,
};

type Hints = Array<MapData, u32>;

/// What leads packets to an ENI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leads {
    /// By what trunks find it.
    pub endpoints: Vec<Endpoint>,
    /// Links that are its branch.
    pub branches: Vec<u32>,
    /// Its addresses.
    pub addresses: Vec<Address>,
}

impl Datapath {
    /// Writes an ENI into its slot.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_eni(&mut self, slot: u32, eni: &Eni) -> Result<(), DatapathError> {
        self.enis
            .set(slot, eni, 0)
            .map_err(|source| map_error("write", name::ENIS, source))
    }

    /// The ENI in a slot; all zero if the slot is free.
    ///
    /// # Errors
    /// `Map`.
    pub fn eni(&self, slot: u32) -> Result<Eni, DatapathError> {
        self.enis
            .get(&slot, 0)
            .map_err(|source| map_error("read", name::ENIS, source))
    }

    /// Shows every slot and the ENI in it, which is all zero if the slot is free.
    ///
    /// # Errors
    /// `Walk`.
    pub fn each_eni(&self, visit: impl FnMut(&u32, &Eni)) -> Result<(), DatapathError> {
        self.eni_table.for_each(visit)
    }

    /// Leads frames for `endpoint` to a slot.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_endpoint(&mut self, endpoint: Endpoint, slot: u32) -> Result<(), DatapathError> {
        self.endpoints
            .insert(endpoint, slot, 0)
            .map_err(|source| map_error("write", name::ENDPOINTS, source))?;
        match endpoint.hint() {
            Some(place) => set_hint(&mut self.endpoint_hints, place, slot, name::ENDPOINT_HINTS),
            None => Ok(()),
        }
    }

    /// Leads frames of this host's services for `endpoint` to a slot. It has no hint: its place is one of the
    /// trunk's, whose packets are many.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_services_endpoint(
        &mut self,
        endpoint: Endpoint,
        slot: u32,
    ) -> Result<(), DatapathError> {
        self.endpoints
            .insert(endpoint, slot, 0)
            .map_err(|source| map_error("write", name::ENDPOINTS, source))
    }

    /// Says which slot's branch a link is.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_branch(&mut self, ifindex: u32, slot: u32) -> Result<(), DatapathError> {
        self.branches
            .insert(ifindex, slot, 0)
            .map_err(|source| map_error("write", name::BRANCHES, source))?;
        let place = branch_hint(ifindex);
        set_hint(&mut self.branch_hints, place, slot, name::BRANCH_HINTS)
    }

    /// The slots to which each of `leads` leads.
    ///
    /// # Errors
    /// `Map`.
    pub fn leads(&self, leads: &Leads) -> Result<Vec<Option<u32>>, DatapathError> {
        let mut slots = Vec::new();
        for branch in &leads.branches {
            slots.push(found(self.branches.get(branch, 0), name::BRANCHES)?);
        }
        for address in &leads.addresses {
            slots.push(found(self.addresses.get(address, 0), name::ADDRESSES)?);
        }
        for endpoint in &leads.endpoints {
            slots.push(found(self.endpoints.get(endpoint, 0), name::ENDPOINTS)?);
        }
        Ok(slots)
    }

    /// Says which slot an address of the VPC belongs to.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_address(&mut self, address: Address, slot: u32) -> Result<(), DatapathError> {
        self.addresses
            .insert(address, slot, 0)
            .map_err(|source| map_error("write", name::ADDRESSES, source))
    }

    /// Sets a route of the VPC; `bits` count from the start of the mapped address.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_route(
        &mut self,
        address: Address,
        bits: u32,
        target: u32,
    ) -> Result<(), DatapathError> {
        self.routes
            .insert(&lpm_trie::Key::new(bits, address), Route { target }, 0)
            .map_err(|source| map_error("write", name::ROUTES, source))
    }

    /// Removes what leads to `slot`, of these. Returns whether all of it was there.
    ///
    /// # Errors
    /// `Map`.
    pub fn remove_leads(&mut self, slot: u32, leads: &Leads) -> Result<bool, DatapathError> {
        let mut were_there = true;
        for endpoint in &leads.endpoints {
            were_there &= self.remove_endpoint(endpoint, slot)?;
        }
        for branch in &leads.branches {
            were_there &= self.remove_branch(*branch, slot)?;
        }
        for address in &leads.addresses {
            let held = found(self.addresses.get(address, 0), name::ADDRESSES)?;
            were_there &=
                held == Some(slot) && gone(self.addresses.remove(address), name::ADDRESSES)?;
        }
        Ok(were_there)
    }

    /// Takes an ENI out by looking at all that leads anywhere: no frame finds it any more. What it
    /// counted stays for [`Datapath::forget_eni`].
    ///
    /// # Errors
    /// `Map`.
    pub fn unplug_eni(&mut self, slot: u32) -> Result<(), DatapathError> {
        let leads = Leads {
            endpoints: keys_of(self.endpoints.iter(), slot, name::ENDPOINTS)?,
            branches: keys_of(self.branches.iter(), slot, name::BRANCHES)?,
            addresses: keys_of(self.addresses.iter(), slot, name::ADDRESSES)?,
        };
        self.remove_leads(slot, &leads).map(drop)
    }

    fn remove_endpoint(&mut self, endpoint: &Endpoint, slot: u32) -> Result<bool, DatapathError> {
        // The hint first: were the agent killed in between, the key still says where it is.
        if let Some(place) = endpoint.hint() {
            drop_hint(&mut self.endpoint_hints, place, slot, name::ENDPOINT_HINTS)?;
        }
        let held = found(self.endpoints.get(endpoint, 0), name::ENDPOINTS)?;
        Ok(held == Some(slot) && gone(self.endpoints.remove(endpoint), name::ENDPOINTS)?)
    }

    fn remove_branch(&mut self, ifindex: u32, slot: u32) -> Result<bool, DatapathError> {
        let place = branch_hint(ifindex);
        drop_hint(&mut self.branch_hints, place, slot, name::BRANCH_HINTS)?;
        let held = found(self.branches.get(&ifindex, 0), name::BRANCHES)?;
        Ok(held == Some(slot) && gone(self.branches.remove(&ifindex), name::BRANCHES)?)
    }

    /// Removes all that an unplugged ENI left, its connections and counts among it, and frees its
    /// slot.
    ///
    /// # Errors
    /// `Map`.
    pub fn forget_eni(&mut self, slot: u32) -> Result<(), DatapathError> {
        let [connections, rows, fragments] = self.flow_tables.keys_of(slot)?;
        for key in &connections {
            gone(self.connections.remove(key), name::CONNECTIONS)?;
        }
        for key in &rows {
            gone(self.rows.remove(key), name::ROWS)?;
        }
        for key in &fragments {
            gone(self.fragments.remove(key), name::FRAGMENTS)?;
        }
        let cpus = self
            .counters
            .get(&slot, 0)
            .map_err(|source| map_error("read", name::COUNTERS, source))?;
        let zero = vec![Counters::default(); cpus.len()];
        let zero = aya::maps::PerCpuValues::try_from(zero)
            .map_err(|source| map_error("write", name::COUNTERS, MapError::IoError(source)))?;
        self.counters
            .set(slot, zero, 0)
            .map_err(|source| map_error("write", name::COUNTERS, source))?;
        self.tracked
            .set(slot, 0, 0)
            .map_err(|source| map_error("write", name::TRACKED, source))?;
        self.set_eni(slot, &Eni::default())
    }

    /// Connections of an ENI, dead ones that are not swept yet among them.
    ///
    /// # Errors
    /// `Map`.
    pub fn tracked(&self, slot: u32) -> Result<u64, DatapathError> {
        self.tracked
            .get(&slot, 0)
            .map_err(|source| map_error("read", name::TRACKED, source))
    }

    /// Tracks all flows with peers in these networks and no others. `bits` count from the start of
    /// the mapped address.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_auto_track(&mut self, networks: &[(Address, u32)]) -> Result<(), DatapathError> {
        let wanted: Vec<_> = networks
            .iter()
            .map(|(address, bits)| lpm_trie::Key::new(*bits, *address))
            .collect();
        for key in &wanted {
            self.auto_track
                .insert(key, 1, 0)
                .map_err(|source| map_error("write", name::AUTO_TRACK, source))?;
        }
        let is_wanted = |key: &lpm_trie::Key<Address>| {
            let same = |other: &lpm_trie::Key<Address>| {
                (other.prefix_len(), other.data()) == (key.prefix_len(), key.data())
            };
            wanted.iter().any(same)
        };
        for key in keys(self.auto_track.keys(), name::AUTO_TRACK)? {
            if !is_wanted(&key) {
                gone(self.auto_track.remove(&key), name::AUTO_TRACK)?;
            }
        }
        let mut control = self.control()?;
        control.flags &= !control::AUTO_TRACK;
        if !networks.is_empty() {
            control.flags |= control::AUTO_TRACK;
        }
        self.set_control(control)
    }

    /// Counts exempt packets of these services and of no others.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_services(&mut self, services: &BTreeSet<Service>) -> Result<(), DatapathError> {
        let mut control = self.control()?;
        control.flags &= !control::SERVICES;
        for service in services {
            control.flags |= control::service(*service);
        }
        self.set_control(control)
    }

    /// What all CPUs counted of an ENI; slot 0 is frames that belong to none.
    ///
    /// # Errors
    /// `Map`.
    pub fn counters(&self, slot: u32) -> Result<Counters, DatapathError> {
        let cpus = self
            .counters
            .get(&slot, 0)
            .map_err(|source| map_error("read", name::COUNTERS, source))?;
        let mut sum = Counters::default();
        for cpu in cpus.iter() {
            for (total, packets) in sum.packets.iter_mut().zip(cpu.packets) {
                *total += packets;
            }
            sum.unlogged += cpu.unlogged;
            sum.audited += cpu.audited;
        }
        Ok(sum)
    }

    /// The connection of a key.
    ///
    /// # Errors
    /// `Map`.
    pub fn connection(&self, key: &FlowKey) -> Result<Option<Connection>, DatapathError> {
        found(self.connections.get(key, 0), name::CONNECTIONS)
    }

    /// Every connection. Those that come or go meanwhile may be in it or not.
    ///
    /// # Errors
    /// `Map`.
    pub fn connections(&self) -> Result<Vec<(FlowKey, Connection)>, DatapathError> {
        let mut all = Vec::new();
        let keep = |key: &FlowKey, connection: &Connection| all.push((*key, *connection));
        self.flow_tables.each_connection(keep)?;
        Ok(all)
    }

    /// Every row, as [`Datapath::connections`].
    ///
    /// # Errors
    /// `Map`.
    pub fn rows(&self) -> Result<Vec<(FlowKey, Row)>, DatapathError> {
        let mut all = Vec::new();
        self.flow_tables
            .each_row(|key, row| all.push((*key, *row)))?;
        Ok(all)
    }

    /// Removes those of `keys` that are dead or written by now; returns how many were.
    ///
    /// # Errors
    /// `Program` if the kernel does not run the program.
    pub fn sweep(&mut self, keys: &[FlowKey], written_epoch: u32) -> Result<u32, DatapathError> {
        let request = SweepRequest {
            written_epoch,
            ..SweepRequest::default()
        };
        self.request_sweep(request, keys)
    }

    /// Ends the connections of `keys` at once, but those opened under the policy that their ENI
    /// obeys now; returns how many it ended.
    ///
    /// # Errors
    /// `Program` if the kernel does not run the program.
    pub fn end_connections(&mut self, keys: &[FlowKey]) -> Result<u32, DatapathError> {
        let request = SweepRequest {
            is_end: 1,
            ..SweepRequest::default()
        };
        self.request_sweep(request, keys)
    }

    fn request_sweep(
        &mut self,
        request: SweepRequest,
        keys: &[FlowKey],
    ) -> Result<u32, DatapathError> {
        let mut handled = 0;
        for keys in keys.chunks(SWEEP_KEYS) {
            let request = SweepRequest {
                keys: keys.len() as u32,
                ..request
            };
            let mut data = request.as_bytes().to_vec();
            data.extend_from_slice(keys.as_bytes());
            handled += self.ask(program::SWEEP, &data)?;
        }
        Ok(handled)
    }

    /// Runs a program that is the agent's own with `data` as its packet.
    pub(super) fn ask(&mut self, name: &'static str, data: &[u8]) -> Result<u32, DatapathError> {
        let options = TestRunOptions {
            data_in: Some(data),
            ..TestRunOptions::default()
        };
        let result = classifier(&mut self.ebpf, name)?
            .test_run(options)
            .map_err(|source| program_error("run", name, source))?;
        Ok(result.return_value)
    }
}

fn set_hint(
    hints: &mut Hints,
    place: u32,
    slot: u32,
    map: &'static str,
) -> Result<(), DatapathError> {
    hints
        .set(place, slot, 0)
        .map_err(|source| map_error("write", map, source))
}

/// Empties a place if it leads to `slot`.
fn drop_hint(
    hints: &mut Hints,
    place: u32,
    slot: u32,
    map: &'static str,
) -> Result<(), DatapathError> {
    let held = hints
        .get(&place, 0)
        .map_err(|source| map_error("read", map, source))?;
    if held == slot {
        set_hint(hints, place, 0, map)?;
    }
    Ok(())
}
