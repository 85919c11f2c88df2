//! A second pair of handles on the tables that hold flows, to read them whole without the data
//! plane's lock: a walk over a full table takes some tenths of a second.
//!
//! Never writes a map.

use std::{
    marker::PhantomData,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use aya::{
    Ebpf,
    maps::{Map, MapError},
};
use branchline_common::{
    conntrack::Connection,
    flow::FlowKey,
    maps::{FragmentFate, Row, name},
};
use zerocopy::FromBytes;

use super::{DatapathError, error::map_error};

/// An entry that counts a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A tracked connection.
    Connection(Connection),
    /// Packets of no connection.
    Row(Row),
}

/// The tables of connections and rows; clones share the handles.
#[derive(Clone)]
pub struct FlowTables {
    connections: Table<FlowKey, Connection>,
    rows: Table<FlowKey, Row>,
    fragments: Table<FlowKey, FragmentFate>,
}

impl FlowTables {
    pub(super) fn open(ebpf: &Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {
            connections: Table::open(ebpf, name::CONNECTIONS)?,
            rows: Table::open(ebpf, name::ROWS)?,
            fragments: Table::open(ebpf, name::FRAGMENTS)?,
        })
    }

    /// Shows every entry, each at most once. Those that come or go meanwhile may be shown or not.
    ///
    /// An entry is as consistent as one that is read by itself: what packets change meanwhile may be
    /// from before or after. What an ended epoch counted is not among it, as no program writes it
    /// any more; so no entry's lock is taken.
    ///
    /// # Errors
    /// `Walk`, with a part of the entries shown.
    pub fn for_each(&self, mut visit: impl FnMut(&FlowKey, &Entry)) -> Result<(), DatapathError> {
        self.each_connection(|key, connection| visit(key, &Entry::Connection(*connection)))?;
        self.each_row(|key, row| visit(key, &Entry::Row(*row)))
    }

    /// Shows every connection, as [`FlowTables::for_each`] does.
    ///
    /// # Errors
    /// `Walk`, with a part of the entries shown.
    pub fn each_connection(
        &self,
        visit: impl FnMut(&FlowKey, &Connection),
    ) -> Result<(), DatapathError> {
        self.connections.for_each(visit)
    }

    /// Shows every row, as [`FlowTables::for_each`] does.
    ///
    /// # Errors
    /// `Walk`, with a part of the entries shown.
    pub fn each_row(&self, visit: impl FnMut(&FlowKey, &Row)) -> Result<(), DatapathError> {
        self.rows.for_each(visit)
    }

    /// Keys of an ENI's connections, rows and first fragments.
    pub(super) fn keys_of(&self, slot: u32) -> Result<[Vec<FlowKey>; 3], DatapathError> {
        Ok([
            self.connections.keys_of(slot)?,
            self.rows.keys_of(slot)?,
            self.fragments.keys_of(slot)?,
        ])
    }
}

/// A map that is read whole.
pub(super) struct Table<K, V> {
    fd: Arc<OwnedFd>,
    name: &'static str,
    entry: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self {
            fd: Arc::clone(&self.fd),
            ..*self
        }
    }
}

impl<K: FromBytes, V: FromBytes> Table<K, V> {
    pub(super) fn open(ebpf: &Ebpf, name: &'static str) -> Result<Self, DatapathError> {
        let (Map::HashMap(map) | Map::LruHashMap(map) | Map::Array(map)) =
            ebpf.map(name).ok_or(DatapathError::Missing(name))?
        else {
            return Err(DatapathError::Missing(name));
        };
        let fd = map.fd().as_fd().try_clone_to_owned();
        let fd = fd.map_err(|source| map_error("open", name, MapError::IoError(source)))?;
        Ok(Self {
            fd: Arc::new(fd),
            name,
            entry: PhantomData,
        })
    }

    /// Shows every entry, each at most once.
    pub(super) fn for_each(&self, visit: impl FnMut(&K, &V)) -> Result<(), DatapathError> {
        branchline_bpf_batch::for_each(self.fd.as_fd(), visit).map_err(|source| {
            DatapathError::Walk {
                map: self.name,
                source,
            }
        })
    }
}

impl<V: FromBytes> Table<FlowKey, V> {
    fn keys_of(&self, slot: u32) -> Result<Vec<FlowKey>, DatapathError> {
        let mut keys = Vec::new();
        self.for_each(|key, _| {
            if u32::from(key.eni) == slot {
                keys.push(*key);
            }
        })?;
        Ok(keys)
    }
}
