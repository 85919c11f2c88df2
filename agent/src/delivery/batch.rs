//! The files that a log is writing: one for each slot that its rows end in, another where one is
//! full. None has its name before all are complete.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

use super::ground::{DeliveryError, Ground, failed};
use super::progress::{Publication, Totals};
use crate::flow_log::{Content, Format, Layout, Row, RowWriter, row_writer};

/// Files that are being written.
pub(super) struct Batch {
    open: BTreeMap<u64, OpenFile>,
    complete: Vec<Publication>,
    totals: Totals,
}

struct OpenFile {
    publication: Publication,
    writer: Box<dyn RowWriter>,
}

/// Where a log's files go and what they are.
pub(super) struct Shape {
    pub(super) dir: PathBuf,
    pub(super) layout: Layout,
    pub(super) format: Arc<Format>,
    pub(super) max_file_bytes: u64,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            open: BTreeMap::new(),
            complete: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// Writes a row into the file of the slot that it ends in.
    pub(super) fn write(
        &mut self,
        ground: &impl Ground,
        shape: &Shape,
        row: &Row<'_>,
    ) -> Result<(), DeliveryError> {
        let slot = shape.layout.slot(row.end());
        let file = match self.open.entry(slot) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(OpenFile::create(ground, shape, slot)?),
        };
        let written = file.writer.write(row);
        written.map_err(failed("write the flow-log file", &file.publication.path))?;
        match row.content {
            Content::Ok(..) => self.totals.records += 1,
            Content::SkipData { packets } => self.totals.skipped_packets += packets,
            Content::NoData => {}
        }
        if file.writer.bytes_so_far() >= shape.max_file_bytes
            && let Some(file) = self.open.remove(&slot)
        {
            self.complete(ground, file)?;
        }
        Ok(())
    }

    /// Whether a file is complete already, as it is full.
    pub(super) fn has_full_file(&self) -> bool {
        !self.complete.is_empty()
    }

    /// Completes every file, under its unfinished name.
    pub(super) fn finish(
        &mut self,
        ground: &impl Ground,
    ) -> Result<(Vec<Publication>, Totals), DeliveryError> {
        while let Some((_, file)) = self.open.pop_first() {
            self.complete(ground, file)?;
        }
        Ok((self.complete.clone(), self.totals))
    }

    /// Removes every file.
    pub(super) fn discard(self, ground: &impl Ground) {
        let open = self.open.into_values().map(|file| file.publication);
        for publication in open.chain(self.complete) {
            ground.discard(&publication.unfinished);
        }
    }

    fn complete(&mut self, ground: &impl Ground, file: OpenFile) -> Result<(), DeliveryError> {
        let OpenFile {
            publication,
            writer,
        } = file;
        // Noted first: what fails from here on is removed with the batch.
        let place = self.complete.len();
        self.complete.push(publication.clone());
        let finished = writer.finish();
        let file = finished.map_err(failed("write the flow-log file", &publication.path))?;
        ground.sync(&publication.unfinished, &file)?;
        let size = file.metadata();
        let size = size.map_err(failed("read the size of", &publication.unfinished))?;
        self.complete[place].bytes = size.len();
        self.totals.files += 1;
        self.totals.bytes += size.len();
        Ok(())
    }
}

impl OpenFile {
    fn create(ground: &impl Ground, shape: &Shape, slot: u64) -> Result<Self, DeliveryError> {
        let publication = publication(shape, slot);
        let file = ground.create(&publication.unfinished)?;
        let writer = row_writer(file, shape.layout.file_format, Arc::clone(&shape.format));
        let writer = writer.map_err(failed("write the flow-log file", &publication.path))?;
        Ok(Self {
            publication,
            writer,
        })
    }
}

fn publication(shape: &Shape, slot: u64) -> Publication {
    let path = shape.dir.join(shape.layout.path(slot, random_hash()));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = format!(".{name}{UNFINISHED}{}", std::process::id());
    Publication {
        unfinished: path.with_file_name(unfinished),
        path,
        bytes: 0,
    }
}

/// What an unfinished file's name has between the final name and the process id.
pub(super) const UNFINISHED: &str = ".tmp-";

/// Tells files of one slot apart, also of several hosts that one bucket takes.
fn random_hash() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() as u32
}
