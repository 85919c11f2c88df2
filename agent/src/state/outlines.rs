//! The store's table of outlines: what is known of each epoch that flow logs still need, in few bytes.

use std::collections::BTreeMap;

use redb::{Durability, ReadableTable, TableDefinition};

use super::{StateError, Store};

/// Epoch to its outline, in bytes of `flows`.
pub(super) const OUTLINES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("flow_outlines");

impl Store {
    /// The outline of `epoch`, as [`Store::settle_flows`] was given it.
    ///
    /// # Errors
    /// `Database` if it cannot be read.
    pub fn outline(&self, epoch: u32) -> Result<Option<Vec<u8>>, StateError> {
        self.file.read(
            || format!("read the outline of epoch {epoch} from the store"),
            |read| {
                let outline = read.open_table(OUTLINES)?.get(epoch)?;
                Ok(outline.map(|outline| outline.value().to_owned()))
            },
        )
    }

    /// The epochs that have an outline, and its size in bytes.
    ///
    /// # Errors
    /// `Database` if they cannot be read.
    pub fn outline_sizes(&self) -> Result<BTreeMap<u32, u64>, StateError> {
        self.file.read(
            || "list the outlines of epochs".to_owned(),
            |read| {
                let mut sizes = BTreeMap::new();
                for row in read.open_table(OUTLINES)?.iter()? {
                    let (epoch, outline) = row?;
                    sizes.insert(epoch.value(), outline.value().len() as u64);
                }
                Ok(sizes)
            },
        )
    }

    /// Forgets the outlines of epochs before `epoch`. Is on disk with the next write only: until
    /// then a restart may bring them back.
    ///
    /// # Errors
    /// `Database` if they may still be there.
    pub fn forget_outlines(&self, epoch: u32) -> Result<(), StateError> {
        self.file.write_with(
            Durability::None,
            || "forget outlines of epochs".to_owned(),
            |write| {
                write.open_table(OUTLINES)?.retain(|of, _| of >= epoch)?;
                Ok(())
            },
        )
    }
}
