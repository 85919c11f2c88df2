//! Rows as an Apache Parquet file, its columns as AWS has them ("Transfer flow log data to Amazon S3
//! in Apache Parquet format").
//!
//! A row group is kept in memory until it is full, column by column, encoded, and then written.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{
    Compression, ConvertedType, Encoding, GzipLevel, LogicalType, Repetition, Type as Physical,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescPtr, ColumnPath, Type, TypePtr};

use super::column::{BATCH, Column};
use super::field::{ColumnType, Field};
use super::format::Format;
use super::row::Row;
use super::writer::RowWriter;

/// Rows of a row group, enough for engines to scan many at a time.
const ROW_GROUP: usize = 131_072;
/// Rows after which is asked how much they are: the size of a file is asked for each.
const LOOK: usize = 64;
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
    /// Bytes of the values of this row group, [`LOOK`] rows ago at most, and of those before.
    in_memory: u64,
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
        let file = SerializedFileWriter::new(out, schema, properties).map_err(io::Error::other)?;
        let columns = columns(&format, &file);
        Ok(Self {
            format,
            file,
            columns,
            rows: 0,
            row_group,
            in_memory: 0,
            flushed: 0,
        })
    }

    /// See [`RowWriter::write`].
    ///
    /// # Errors
    /// As there.
    pub fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        for column in &mut self.columns {
            column.push(row.value(column.field(), &self.format));
        }
        self.rows += 1;
        if self.rows == self.row_group {
            self.write_row_group().map_err(io::Error::other)?;
        } else if self.rows.is_multiple_of(BATCH) {
            self.encode().map_err(io::Error::other)?;
        }
        if self.rows.is_multiple_of(LOOK) {
            self.in_memory = self.columns.iter().map(Column::bytes).sum();
        }
        Ok(())
    }

    /// See [`RowWriter::bytes_so_far`].
    #[must_use]
    pub fn bytes_so_far(&self) -> u64 {
        let written = self.file.bytes_written() as u64;
        let ratio = self.flushed.checked_div(written).unwrap_or_default();
        let ratio = if self.flushed == 0 {
            FIRST_RATIO
        } else {
            ratio
        };
        written + self.in_memory / ratio.max(1)
    }

    /// See [`RowWriter::finish`].
    ///
    /// # Errors
    /// As there.
    pub fn finish(mut self) -> io::Result<W> {
        self.write_row_group().map_err(io::Error::other)?;
        self.file.into_inner().map_err(io::Error::other)
    }

    fn encode(&mut self) -> Result<(), ParquetError> {
        for column in &mut self.columns {
            column.encode()?;
        }
        Ok(())
    }

    fn write_row_group(&mut self) -> Result<(), ParquetError> {
        if self.rows == 0 {
            return Ok(());
        }
        let next = columns(&self.format, &self.file);
        let mut group = self.file.next_row_group()?;
        for column in std::mem::replace(&mut self.columns, next) {
            self.flushed += column.bytes();
            let (pages, closed) = column.finish()?;
            group.append_column(&pages, closed)?;
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }
}

/// Columns of a row group without rows.
fn columns<W: Write + Send>(format: &Format, file: &SerializedFileWriter<W>) -> Vec<Column> {
    let descriptions = file.schema_descr().columns().iter();
    let columns = format.fields().iter().zip(descriptions);
    let column = |(field, description): (&Field, &ColumnDescPtr)| {
        Column::new(
            *field,
            Arc::clone(description),
            Arc::clone(file.properties()),
        )
    };
    columns.map(column).collect()
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
    for field in format.fields() {
        let column = ColumnPath::from(field.column_name());
        if DIFFERENCES.contains(field) {
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column.clone(), Encoding::DELTA_BINARY_PACKED);
        }
        // Rows are in order of time: the texts of a row group are from the first to the last that there
        // are, which tells no reader to leave it out.
        if field.column_type() == ColumnType::Text {
            properties = properties.set_column_statistics_enabled(column, EnabledStatistics::None);
        }
    }
    Ok(Arc::new(properties.build()))
}

/// Columns in which hardly any value comes twice, or those in a row are close to each other: a
/// dictionary would be as long as the column, and takes the time of a look into a table for each.
const DIFFERENCES: [Field; 7] = [
    Field::Packets,
    Field::Bytes,
    Field::Start,
    Field::End,
    Field::BlSequence,
    Field::BlFirstSeen,
    Field::BlLastSeen,
];

/// Level of the pages' gzip, the fastest: columns are encoded before. At level 6 a row of 14 fields
/// took 13 bytes instead of 15 and one of 29 fields 16 instead of 19; as text it takes 17 and 23.
const GZIP_LEVEL: u32 = 1;

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
