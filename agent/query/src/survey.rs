//! What each file has, by its first line or its footer. Files that are unreadable there are left out.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use parquet_of_datafusion::errors::ParquetError;

use crate::columns;
use crate::files::LogFile;
use crate::notes::Notes;
use crate::{parquet_file, text_file};

/// A file whose columns are known.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: LogFile,
    /// Names of its columns, in its order.
    pub(crate) columns: Vec<String>,
}

/// Why a file is not read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("left out: cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// gzip ends early, or its checksum is another.
    #[error("left out: damaged or cut short: {0}")]
    Damaged(io::Error),
    #[error("left out: damaged or cut short: {0}")]
    Footer(ParquetError),
    #[error("left out: its first line names no fields of a flow log")]
    NoFields,
    #[error("left out: it names the field {0} twice")]
    Duplicate(String),
    /// After the footer was right.
    #[error("damaged: its rows after the first {rows} are left out: {source}")]
    Rows { rows: usize, source: ArrowError },
}

/// Looks into each file.
pub(crate) fn survey(files: Vec<LogFile>, notes: &Notes) -> Vec<Source> {
    let count = files.len();
    let look = |(index, file): (usize, LogFile)| {
        notes.progress(index, count, "looked into");
        match columns_of(&file) {
            Ok(columns) => Some(Source { file, columns }),
            Err(problem) => {
                notes.warn(&file.path, &problem);
                None
            }
        }
    };
    files.into_iter().enumerate().filter_map(look).collect()
}

fn columns_of(file: &LogFile) -> Result<Vec<String>, FileError> {
    let names = if file.is_parquet {
        parquet_file::names(&file.path)?
    } else {
        text_file::names(&file.path)?
    };
    let columns: Vec<_> = names
        .iter()
        .map(|name| columns::column_name(name))
        .collect();
    if !columns.iter().any(|column| columns::is_field(column)) {
        return Err(FileError::NoFields);
    }
    let mut seen = BTreeSet::new();
    match columns.iter().find(|column| !seen.insert(*column)) {
        Some(twice) => Err(FileError::Duplicate(twice.clone())),
        None => Ok(columns),
    }
}

/// Every column that some file has.
pub(crate) fn present(sources: &[Source]) -> BTreeSet<String> {
    let columns = sources.iter().flat_map(|source| &source.columns);
    columns.cloned().collect()
}

/// The logs that the files are of, as far as their names say.
pub(crate) fn flow_log_ids(sources: &[Source]) -> BTreeSet<Arc<str>> {
    let named = sources
        .iter()
        .filter_map(|source| source.file.named.as_ref());
    named
        .map(|named| named.flow_log_id.as_str().into())
        .collect()
}
