//! The columns of a Parquet file in memory, to be written again: what writing costs without making
//! them of rows.

use std::sync::Arc;

use anyhow::{Result, bail};
use bytes::Bytes;
use parquet::{
    basic::{Compression, GzipLevel},
    column::{reader::ColumnReader, writer::ColumnWriter},
    data_type::ByteArray,
    file::{
        properties::WriterProperties,
        reader::{FileReader, SerializedFileReader},
        writer::SerializedFileWriter,
    },
    schema::types::TypePtr,
};

/// Level of the pages' gzip: the fastest, whatever the agent's writer has.
const LEVEL: u32 = 1;

/// Row groups of columns.
pub(crate) struct Columns {
    schema: TypePtr,
    groups: Vec<Vec<Column>>,
}

/// Values that there are, and for each row whether there is one.
enum Column {
    Int32(Vec<i32>, Vec<i16>),
    Int64(Vec<i64>, Vec<i16>),
    Text(Vec<ByteArray>, Vec<i16>),
}

/// Reads a column of so many rows by a reader of any type.
macro_rules! read {
    ($reader:expr, $rows:expr, $column:ident) => {{
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let (rows, _, _) = $reader.read_records($rows, Some(&mut levels), None, &mut values)?;
        anyhow::ensure!(rows == $rows, "{rows} rows of {}", $rows);
        Column::$column(values, levels)
    }};
}

impl Columns {
    /// Reads a file.
    pub(crate) fn read(file: Vec<u8>) -> Result<Self> {
        let reader = SerializedFileReader::new(Bytes::from(file))?;
        let metadata = reader.metadata();
        let mut groups = Vec::new();
        for index in 0..metadata.num_row_groups() {
            let group = reader.get_row_group(index)?;
            let rows = usize::try_from(group.metadata().num_rows())?;
            let mut columns = Vec::new();
            for index in 0..group.num_columns() {
                columns.push(column(group.get_column_reader(index)?, rows)?);
            }
            groups.push(columns);
        }
        Ok(Self {
            schema: metadata.file_metadata().schema_descr().root_schema_ptr(),
            groups,
        })
    }

    /// Writes them to a file of the same properties; returns its size.
    pub(crate) fn write(&self) -> Result<usize> {
        let compression = Compression::GZIP(GzipLevel::try_new(LEVEL)?);
        let properties = WriterProperties::builder().set_compression(compression);
        let properties = Arc::new(properties.build());
        let mut file = SerializedFileWriter::new(Vec::new(), Arc::clone(&self.schema), properties)?;
        for columns in &self.groups {
            let mut group = file.next_row_group()?;
            for column in columns {
                let Some(mut out) = group.next_column()? else {
                    bail!("the schema has fewer columns");
                };
                match (out.untyped(), column) {
                    (ColumnWriter::Int32ColumnWriter(out), Column::Int32(values, levels)) => {
                        out.write_batch(values, Some(levels), None)?
                    }
                    (ColumnWriter::Int64ColumnWriter(out), Column::Int64(values, levels)) => {
                        out.write_batch(values, Some(levels), None)?
                    }
                    (ColumnWriter::ByteArrayColumnWriter(out), Column::Text(values, levels)) => {
                        out.write_batch(values, Some(levels), None)?
                    }
                    _ => bail!("a column of another type"),
                };
                out.close()?;
            }
            group.close()?;
        }
        Ok(file.into_inner()?.len())
    }
}

fn column(reader: ColumnReader, rows: usize) -> Result<Column> {
    Ok(
        if let ColumnReader::Int32ColumnReader(mut reader) = reader {
            read!(reader, rows, Int32)
        } else if let ColumnReader::Int64ColumnReader(mut reader) = reader {
            read!(reader, rows, Int64)
        } else if let ColumnReader::ByteArrayColumnReader(mut reader) = reader {
            read!(reader, rows, Text)
        } else {
            bail!("a column of another type")
        },
    )
}
