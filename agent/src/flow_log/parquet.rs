//! Rows as an Apache Parquet file, its columns as AWS has them ("Transfer flow log data to Amazon S3
//! in Apache Parquet format").
//!
//! A row group is kept in memory until it is full, column by column, and then written.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{
    Compression, ConvertedType, Encoding, GzipLevel, LogicalType, Repetition, Type as Physical,
};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};

use super::field::{ColumnType, Field};
use super::format::Format;
use super::row::Row;
use super::value::Value;
use super::writer::RowWriter;

/// Rows of a row group: enough for engines to scan many at a time, and some 10 to 40 MB of memory.
const ROW_GROUP: usize = 131_072;
/// Values that are handed to a column at a time, each of text in memory of its own.
const BATCH: usize = 1_024;
/// Bytes in memory for one in the file, until the first row group says better.
const FIRST_RATIO: u64 = 6;
/// Key of the footer's metadata that has the log's format, as AWS writes formats.
const FORMAT_KEY: &str = "branchline.format";
/// The name of the schema, which no reader shows.
const SCHEMA: &str = "vpc_flow_log";

/// A Parquet file of rows.
pub struct ParquetWriter<W: Write + Send> {
    format: Arc<Format>,
    file: SerializedFileWriter<W>,
    columns: Vec<Column>,
    rows: usize,
    row_group: usize,
    /// Bytes in memory of all row groups that were written.
    flushed: u64,
}

impl<W: Write + Send> ParquetWriter<W> {
    /// Starts a file in `out`.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn new(out: W, format: Arc<Format>) -> io::Result<Self> {
        Self::with_row_group(out, format, ROW_GROUP)
    }

    fn with_row_group(out: W, format: Arc<Format>, row_group: usize) -> io::Result<Self> {
        let schema = schema(&format).map_err(io::Error::other)?;
        let properties = properties(&format).map_err(io::Error::other)?;
        let file = SerializedFileWriter::new(out, schema, properties);
        let columns = format.fields().iter().map(|field| Column::new(*field));
        Ok(Self {
            columns: columns.collect(),
            format,
            file: file.map_err(io::Error::other)?,
            rows: 0,
            row_group,
            flushed: 0,
        })
    }

    /// See [`RowWriter::write`].
    ///
    /// # Errors
    /// As there.
    pub fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        for column in &mut self.columns {
            column.push(row.value(column.field, &self.format));
        }
        self.rows += 1;
        if self.rows == self.row_group {
            self.write_row_group().map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// See [`RowWriter::bytes_so_far`].
    #[must_use]
    pub fn bytes_so_far(&self) -> u64 {
        let written = self.file.bytes_written() as u64;
        let in_memory: u64 = self.columns.iter().map(Column::bytes).sum();
        let ratio = self.flushed.checked_div(written).unwrap_or_default();
        let ratio = if self.flushed == 0 {
            FIRST_RATIO
        } else {
            ratio
        };
        written + in_memory / ratio.max(1)
    }

    /// See [`RowWriter::finish`].
    ///
    /// # Errors
    /// As there.
    pub fn finish(mut self) -> io::Result<W> {
        self.write_row_group().map_err(io::Error::other)?;
        self.file.into_inner().map_err(io::Error::other)
    }

    fn write_row_group(&mut self) -> Result<(), ParquetError> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for column in &mut self.columns {
            self.flushed += column.bytes();
            // The schema has a column for each of ours.
            if let Some(mut out) = group.next_column()? {
                column.write_to(&mut out)?;
                out.close()?;
            }
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }
}

impl RowWriter for ParquetWriter<File> {
    fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        Self::write(self, row)
    }

    fn bytes_so_far(&self) -> u64 {
        Self::bytes_so_far(self)
    }

    fn finish(self: Box<Self>) -> io::Result<File> {
        Self::finish(*self)
    }
}

/// A column of the row group in memory.
struct Column {
    field: Field,
    values: Values,
    /// For each row 1 if it has a value, else 0.
    levels: Vec<i16>,
}

/// The values that there are, in order.
enum Values {
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Text(Texts),
}

/// Texts one behind another; equal ones in a row are there once.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    /// Start and end of each in `bytes`.
    ranges: Vec<(u32, u32)>,
}

impl Column {
    fn new(field: Field) -> Self {
        Self {
            field,
            values: match field.column_type() {
                ColumnType::Int32 => Values::Int32(Vec::new()),
                ColumnType::Int64 => Values::Int64(Vec::new()),
                ColumnType::Text => Values::Text(Texts::default()),
            },
            levels: Vec::new(),
        }
    }

    /// Adds a row's value: where there is none, null in a column of numbers and `-` in one of text.
    fn push(&mut self, value: Value<'_>) {
        let number = match value {
            Value::Int(number) => Some(number),
            Value::Absent | Value::Text(_) | Value::Address(_) | Value::Tag(_) => None,
        };
        let is_value = match &mut self.values {
            Values::Int32(values) => {
                let number = number.and_then(|number| i32::try_from(number).ok());
                values.extend(number);
                number.is_some()
            }
            Values::Int64(values) => {
                values.extend(number);
                number.is_some()
            }
            Values::Text(texts) => {
                texts.push(value);
                true
            }
        };
        self.levels.push(is_value.into());
    }

    /// Memory that the rows take.
    fn bytes(&self) -> u64 {
        let bytes = match &self.values {
            Values::Int32(values) => values.len() * 4,
            Values::Int64(values) => values.len() * 8,
            Values::Text(texts) => texts.bytes.len() + texts.ranges.len() * 8,
        };
        bytes as u64
    }

    /// Writes and forgets the rows.
    fn write_to(&mut self, out: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = std::mem::take(&mut self.levels);
        let levels = Some(levels.as_slice());
        match &mut self.values {
            Values::Int32(values) => {
                let out = out.typed::<Int32Type>();
                out.write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Int64(values) => {
                let out = out.typed::<Int64Type>();
                out.write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Text(texts) => std::mem::take(texts).write_to(out)?,
        }
        Ok(())
    }
}

impl Texts {
    fn push(&mut self, value: Value<'_>) {
        let start = self.bytes.len();
        value.append_to(&mut self.bytes);
        let range = match self.ranges.last() {
            Some(last) if self.bytes[start..] == self.bytes[span(*last)] => {
                let last = *last;
                self.bytes.truncate(start);
                last
            }
            // A row group's column is far from 4 GB: no text is as long as 32 KB.
            Some(_) | None => (start as u32, self.bytes.len() as u32),
        };
        self.ranges.push(range);
    }

    fn write_to(self, out: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let bytes = Bytes::from(self.bytes);
        let out = out.typed::<ByteArrayType>();
        let levels = [1; BATCH];
        for ranges in self.ranges.chunks(BATCH) {
            let texts = ranges.iter();
            let texts: Vec<ByteArray> = texts
                .map(|range| bytes.slice(span(*range)).into())
                .collect();
            out.write_batch(&texts, levels.get(..texts.len()), None)?;
        }
        Ok(())
    }
}

fn span((start, end): (u32, u32)) -> std::ops::Range<usize> {
    start as usize..end as usize
}

fn schema(format: &Format) -> Result<TypePtr, ParquetError> {
    let column = |field: &Field| {
        let name = field.column_name();
        let column = match field.column_type() {
            ColumnType::Int32 => Type::primitive_type_builder(&name, Physical::INT32),
            ColumnType::Int64 => Type::primitive_type_builder(&name, Physical::INT64),
            ColumnType::Text => Type::primitive_type_builder(&name, Physical::BYTE_ARRAY)
                .with_converted_type(ConvertedType::UTF8)
                .with_logical_type(Some(LogicalType::String)),
        };
        let column = column.with_repetition(Repetition::OPTIONAL).build()?;
        Ok(Arc::new(column))
    };
    let columns = format.fields().iter().map(column);
    let columns = columns.collect::<Result<Vec<_>, ParquetError>>()?;
    let schema = Type::group_type_builder(SCHEMA).with_fields(columns);
    Ok(Arc::new(schema.build()?))
}

fn properties(format: &Format) -> Result<WriterPropertiesPtr, ParquetError> {
    let level = GzipLevel::try_new(GZIP_LEVEL)?;
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("branchline version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::GZIP(level))
        .set_key_value_metadata(Some(vec![KeyValue::new(
            FORMAT_KEY.to_owned(),
            format.to_string(),
        )]));
    // Hardly any value comes twice: a dictionary would be as long as the column.
    for field in [Field::BlSequence, Field::BlFirstSeen, Field::BlLastSeen] {
        let column = ColumnPath::from(field.column_name());
        properties = properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    Ok(Arc::new(properties.build()))
}

/// Level of the pages' gzip, zlib's own default.
const GZIP_LEVEL: u32 = 6;

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
