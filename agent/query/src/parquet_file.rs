//! Files of columns.
//!
//! Only the columns that are asked for are read. Numbers may be of other widths than ours.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array,
};
use datafusion::arrow::compute::kernels::cmp::eq;
use datafusion::arrow::compute::{cast, nullif};
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::arrow::error::ArrowError;
use parquet_of_datafusion::arrow::ProjectionMask;
use parquet_of_datafusion::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::columns::{ABSENT, FLOW_LOG_ID};
use crate::survey::{FileError, Source};
use crate::text_file::BATCH;

type Reader = ParquetRecordBatchReaderBuilder<File>;

/// The names of a file's columns.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, FileError> {
    let file = open(path)?;
    let fields = file.schema().fields().iter();
    Ok(fields.map(|field| field.name().clone()).collect())
}

fn open(path: &Path) -> Result<Reader, FileError> {
    Reader::try_new(File::open(path)?).map_err(FileError::Footer)
}

/// Passes a file's rows on as columns of `schema`, until `take` wants no more.
///
/// # Errors
/// The file is unreadable or damaged; says how many rows were passed on.
pub(crate) fn read(
    source: &Source,
    schema: &SchemaRef,
    take: &mut dyn FnMut(RecordBatch) -> bool,
) -> Result<(), FileError> {
    let file = open(&source.file.path)?;
    let place = |field: &Arc<Field>| source.columns.iter().position(|name| name == field.name());
    // The columns in the file's order, which is the order in which the reader has them.
    let mut wanted: Vec<usize> = schema.fields().iter().filter_map(place).collect();
    wanted.sort_unstable();
    let mask = ProjectionMask::roots(file.parquet_schema(), wanted.iter().copied());
    let reader = file.with_projection(mask).with_batch_size(BATCH).build();
    let mut rows = 0;
    for read in reader.map_err(FileError::Footer)? {
        let batch = read.and_then(|read| {
            let column = |field: &Arc<Field>| {
                let place = place(field).and_then(|place| wanted.binary_search(&place).ok());
                match place {
                    Some(place) => converted(read.column(place), field.data_type()),
                    None => Ok(constant(source, field, read.num_rows())),
                }
            };
            let columns = schema.fields().iter().map(column);
            let count = RecordBatchOptions::new().with_row_count(Some(read.num_rows()));
            let columns = columns.collect::<Result<_, ArrowError>>()?;
            RecordBatch::try_new_with_options(Arc::clone(schema), columns, &count)
        });
        let batch = batch.map_err(|source| FileError::Rows { rows, source })?;
        rows += batch.num_rows();
        if !take(batch) {
            break;
        }
    }
    Ok(())
}

/// As the table has it: text without a value is NULL.
fn converted(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let column = cast(column, data_type)?;
    if *data_type != DataType::Utf8 {
        return Ok(column);
    }
    let absent = eq(&column, &StringArray::new_scalar(ABSENT))?;
    nullif(&column, &absent)
}

/// A column that the file has not.
fn constant(source: &Source, field: &Field, rows: usize) -> ArrayRef {
    match &source.file.named {
        Some(named) if field.name() == FLOW_LOG_ID => {
            let id = named.flow_log_id.as_str();
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(id, rows)))
        }
        Some(_) | None => new_null_array(field.data_type(), rows),
    }
}
