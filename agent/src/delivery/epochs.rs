//! Where the logs take epochs from: the spool, and the store for those whose file is damaged or never
//! was.
//!
//! Never decides which epoch may go.

use std::collections::BTreeMap;
use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;

use super::logs::FlowLogsError;
use crate::flows::{Epoch, Outline, Spool, SpoolError};
use crate::server::causes;
use crate::state::Store;

/// What there is of an epoch.
pub(super) enum Found {
    /// All.
    Whole(Epoch),
    /// Whose packets and how many.
    Outline(Outline),
    /// Nothing: it is of an agent that kept no outlines, or spool and store are both gone.
    Nothing,
}

/// Bytes that epochs take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// In the spool, and in the store beside it.
    pub(super) bytes: u64,
    /// Of them, those of outlines without a file.
    pub(super) lone_outlines: u64,
}

/// Spool and store.
pub(super) struct Epochs {
    pub(super) spool: Spool,
    pub(super) store: Arc<Store>,
}

impl Epochs {
    /// Reads an epoch. A damaged file is set aside, so it is read once.
    ///
    /// # Errors
    /// `Spool` or `State`.
    pub(super) fn find(&self, number: u32) -> Result<Found, FlowLogsError> {
        match self.spool.get(number) {
            Ok(Some(epoch)) => return Ok(Found::Whole(epoch)),
            Ok(None) => {}
            Err(error @ SpoolError::Damaged { .. }) => {
                tracing::error!(error = causes(&error), "flow records are lost");
                if let Err(error) = self.spool.set_aside(number) {
                    tracing::warn!(error = causes(&error), "the damaged file stays");
                }
            }
            Err(error) => return Err(error.into()),
        }
        let kept = self.kept(number)?;
        Ok(kept.map_or(Found::Nothing, Found::Outline))
    }

    /// The outline of an epoch, if anything is known of it.
    ///
    /// # Errors
    /// `Spool` or `State`.
    pub(super) fn outline(&self, number: u32) -> Result<Option<Outline>, FlowLogsError> {
        if let Some(kept) = self.kept(number)? {
            return Ok(Some(kept));
        }
        Ok(match self.find(number)? {
            Found::Whole(epoch) => Some(Outline::of(&epoch)),
            Found::Outline(outline) => Some(outline),
            Found::Nothing => None,
        })
    }

    /// The epochs that there is anything of.
    ///
    /// # Errors
    /// `Spool` or `State`.
    pub(super) fn sizes(&self) -> Result<BTreeMap<u32, Size>, FlowLogsError> {
        let files = self.spool.sizes()?;
        let mut sizes: BTreeMap<u32, Size> = BTreeMap::new();
        for (number, bytes) in self.store.outline_sizes()? {
            let lone_outlines = if files.contains_key(&number) {
                0
            } else {
                bytes
            };
            let size = Size {
                bytes,
                lone_outlines,
            };
            sizes.insert(number, size);
        }
        for (number, bytes) in files {
            sizes.entry(number).or_default().bytes += bytes;
        }
        Ok(sizes)
    }

    fn kept(&self, number: u32) -> Result<Option<Outline>, FlowLogsError> {
        let Some(bytes) = self.store.outline(number)? else {
            return Ok(None);
        };
        let outline = Outline::from_bytes(&bytes);
        if outline.is_none() {
            tracing::error!(epoch = number, "the outline in the store is damaged");
        }
        Ok(outline)
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.lone_outlines += other.lone_outlines;
    }
}

impl SubAssign for Size {
    fn sub_assign(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.lone_outlines -= other.lone_outlines;
    }
}
