//! A second pair of handles on the two tables that count flows, to read them without the data
//! plane's lock: a walk over a full table takes some tenths of a second.
//!
//! Never writes a map.

use std::os::fd::AsFd;
use std::sync::Arc;

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, MapError};
use branchline_common::conntrack::Connection;
use branchline_common::flow::FlowKey;
use branchline_common::maps::{Row, name};

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
    connections: Arc<HashMap<MapData, FlowKey, Connection>>,
    rows: Arc<HashMap<MapData, FlowKey, Row>>,
}

impl FlowTables {
    pub(super) fn open(ebpf: &Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {
            connections: Arc::new(second_handle(ebpf, name::CONNECTIONS)?),
            rows: Arc::new(second_handle(ebpf, name::ROWS)?),
        })
    }

    /// Shows every entry. Those that come or go meanwhile may be shown or not; when one goes, those
    /// before it may be shown again.
    ///
    /// # Errors
    /// `Map`, with a part of the entries shown.
    pub fn for_each(&self, mut visit: impl FnMut(&FlowKey, &Entry)) -> Result<(), DatapathError> {
        self.each_connection(|key, connection| visit(key, &Entry::Connection(*connection)))?;
        for pair in self.rows.iter() {
            let (key, row) = pair.map_err(|source| map_error("list", name::ROWS, source))?;
            visit(&key, &Entry::Row(row));
        }
        Ok(())
    }

    /// Shows every connection, as [`FlowTables::for_each`] does.
    ///
    /// # Errors
    /// `Map`, with a part of the entries shown.
    pub fn each_connection(
        &self,
        mut visit: impl FnMut(&FlowKey, &Connection),
    ) -> Result<(), DatapathError> {
        for pair in self.connections.iter() {
            let (key, connection) =
                pair.map_err(|source| map_error("list", name::CONNECTIONS, source))?;
            visit(&key, &connection);
        }
        Ok(())
    }
}

fn second_handle<V: aya::Pod>(
    ebpf: &Ebpf,
    name: &'static str,
) -> Result<HashMap<MapData, FlowKey, V>, DatapathError> {
    let Some(Map::HashMap(map)) = ebpf.map(name) else {
        return Err(DatapathError::Missing(name));
    };
    let fd = map.fd().as_fd().try_clone_to_owned();
    let map = fd.map_err(MapError::IoError).and_then(MapData::from_fd);
    let map = map.map_err(|source| map_error("open", name, source))?;
    HashMap::try_from(Map::HashMap(map)).map_err(|source| map_error("open", name, source))
}
