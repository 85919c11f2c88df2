//! Files of lines, gzip: a first line that names the fields, then a line for each row.
//!
//! A file is read to its end before its first row is passed on, so none of a damaged one is.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int32Builder, Int64Builder, RecordBatch, RecordBatchOptions, StringBuilder,
};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use flate2::bufread::MultiGzDecoder;

use crate::columns::{ABSENT, FLOW_LOG_ID};
use crate::notes::Notes;
use crate::survey::{FileError, Source};

/// Rows that are passed on at a time.
pub(crate) const BATCH: usize = 8_192;
/// Bytes of text that are kept in memory; a file with more is read twice.
const IN_MEMORY: u64 = 16 << 20;
/// Bytes of a first line; every field's name takes 1,100.
const FIRST_LINE: u64 = 65_536;

type Decoder = MultiGzDecoder<BufReader<File>>;

/// The names in a file's first line.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, FileError> {
    let mut line = String::new();
    let mut start = BufReader::new(open(path)?.take(FIRST_LINE));
    start.read_line(&mut line).map_err(FileError::Damaged)?;
    Ok(line.split_whitespace().map(str::to_owned).collect())
}

fn open(path: &Path) -> Result<Decoder, FileError> {
    Ok(MultiGzDecoder::new(BufReader::new(File::open(path)?)))
}

/// Passes a file's rows on as columns of `schema`, until `take` wants no more. Lines that are no row
/// of this file are left out, and said.
///
/// # Errors
/// The file is unreadable or damaged; then no row was passed on.
pub(crate) fn read(
    source: &Source,
    schema: &SchemaRef,
    notes: &Notes,
    take: &mut dyn FnMut(RecordBatch) -> bool,
) -> Result<(), FileError> {
    let path = &source.file.path;
    let mut text = Vec::new();
    let mut decoder = open(path)?;
    let start = decoder.by_ref().take(IN_MEMORY).read_to_end(&mut text);
    start.map_err(FileError::Damaged)?;
    let rest = io::copy(&mut decoder, &mut io::sink()).map_err(FileError::Damaged)?;
    let mut rows = Rows::new(source, schema);
    if rest == 0 {
        rows.read(&text[..], take)?;
    } else {
        drop(text);
        rows.read(BufReader::new(open(path)?), take)?;
    }
    if let Some((number, count)) = rows.wrong {
        let problem =
            format!("{count} lines that are no rows of it are left out, first line {number}");
        notes.warn(path, &problem);
    }
    Ok(())
}

/// Rows on their way to columns.
struct Rows {
    schema: SchemaRef,
    /// Words of a line.
    words: usize,
    columns: Vec<Column>,
    rows: usize,
    /// Number of the first line that is no row, and how many are not.
    wrong: Option<(usize, usize)>,
}

struct Column {
    from: From,
    builder: Builder,
}

/// Where a column's values are.
enum From {
    /// The line's word at this place.
    Word(usize),
    /// The same in every row.
    Same(String),
    Nowhere,
}

enum Builder {
    Int32(Int32Builder),
    Int64(Int64Builder),
    Text(StringBuilder),
}

/// A word that fits its column.
enum Value<'a> {
    Null,
    Int32(i32),
    Int64(i64),
    Text(&'a str),
}

impl Rows {
    fn new(source: &Source, schema: &SchemaRef) -> Self {
        let column = |name: &String, data_type: &DataType| {
            let place = source.columns.iter().position(|column| column == name);
            let named = source.file.named.as_ref();
            Column {
                from: match (place, named) {
                    (Some(place), _) => From::Word(place),
                    (None, Some(named)) if name == FLOW_LOG_ID => {
                        From::Same(named.flow_log_id.clone())
                    }
                    (None, _) => From::Nowhere,
                },
                builder: Builder::new(data_type),
            }
        };
        let fields = schema.fields().iter();
        Self {
            schema: Arc::clone(schema),
            words: source.columns.len(),
            columns: fields.map(|f| column(f.name(), f.data_type())).collect(),
            rows: 0,
            wrong: None,
        }
    }

    fn read(
        &mut self,
        mut text: impl BufRead,
        take: &mut dyn FnMut(RecordBatch) -> bool,
    ) -> Result<(), FileError> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if text.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let row = line.strip_suffix(b"\n").unwrap_or(&line);
            let row = row.strip_suffix(b"\r").unwrap_or(row);
            // The first line names the fields.
            if number == 1 || row.is_empty() {
                continue;
            }
            if self.push(row).is_none() {
                self.wrong.get_or_insert((number, 0)).1 += 1;
            }
            if self.rows == BATCH && !take(self.batch()?) {
                return Ok(());
            }
        }
        if self.rows > 0 {
            take(self.batch()?);
        }
        Ok(())
    }

    /// Adds a line's row; `None` if it is none, and then nothing was added.
    fn push(&mut self, line: &[u8]) -> Option<()> {
        let line = std::str::from_utf8(line).ok()?;
        let words: Vec<&str> = line.split(' ').collect();
        if words.len() != self.words {
            return None;
        }
        let values: Option<Vec<Value<'_>>> = self
            .columns
            .iter()
            .map(|column| match &column.from {
                From::Word(place) => column.builder.value(words.get(*place)?),
                From::Same(_) | From::Nowhere => Some(Value::Null),
            })
            .collect();
        for (column, value) in self.columns.iter_mut().zip(values?) {
            match &column.from {
                From::Same(text) => column.builder.append(Value::Text(text)),
                From::Word(_) | From::Nowhere => column.builder.append(value),
            }
        }
        self.rows += 1;
        Some(())
    }

    fn batch(&mut self) -> Result<RecordBatch, FileError> {
        let arrays = self
            .columns
            .iter_mut()
            .map(|column| column.builder.finish());
        let rows = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays.collect(), &rows);
        batch.map_err(|source| FileError::Rows { rows: 0, source })
    }
}

impl Builder {
    fn new(data_type: &DataType) -> Self {
        if *data_type == DataType::Int32 {
            Self::Int32(Int32Builder::new())
        } else if *data_type == DataType::Int64 {
            Self::Int64(Int64Builder::new())
        } else {
            Self::Text(StringBuilder::new())
        }
    }

    /// The word's value; `None` if it fits not.
    fn value<'a>(&self, word: &'a str) -> Option<Value<'a>> {
        if word == ABSENT {
            return Some(Value::Null);
        }
        match self {
            Self::Int32(_) => word.parse().ok().map(Value::Int32),
            Self::Int64(_) => word.parse().ok().map(Value::Int64),
            Self::Text(_) => Some(Value::Text(word)),
        }
    }

    /// Adds a value, which [`value`](Self::value) has found to fit.
    fn append(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::Int32(builder), Value::Int32(number)) => builder.append_value(number),
            (Self::Int64(builder), Value::Int64(number)) => builder.append_value(number),
            (Self::Text(builder), Value::Text(text)) => builder.append_value(text),
            (Self::Int32(builder), _) => builder.append_null(),
            (Self::Int64(builder), _) => builder.append_null(),
            (Self::Text(builder), _) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
        }
    }
}
