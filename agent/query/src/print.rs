//! Rows on standard output, as a table for people, lines of JSON, or comma-separated values.

use std::io::{self, Write};

use branchline::cli::table;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SendableRecordBatchStream;
use futures_util::StreamExt;

use crate::answer::QueryError;
use crate::columns::ABSENT;
use crate::notes::Notes;

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Json,
    Csv,
}

/// Prints `most` rows at most, and says whether there are more.
///
/// # Errors
/// The engine fails, or nothing can be printed.
pub(crate) async fn print(
    mut rows: SendableRecordBatchStream,
    schema: &SchemaRef,
    form: Form,
    most: usize,
    notes: &Notes,
) -> Result<bool, QueryError> {
    if form == Form::Csv {
        // The names, also if there is no row.
        write(&csv(&RecordBatch::new_empty(schema.clone()), true)?, notes)?;
    }
    let mut cells = Vec::new();
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let left = most.saturating_sub(count);
        count = count.saturating_add(batch.num_rows());
        let batch = batch.slice(0, batch.num_rows().min(left));
        match form {
            Form::Table => cells.extend(texts(&batch)?),
            Form::Json => write(&json(&batch)?, notes)?,
            Form::Csv => write(&csv(&batch, false)?, notes)?,
        }
    }
    if form == Form::Table {
        let fields = schema.fields().iter();
        let names: Vec<_> = fields.map(|field| field.name().as_str()).collect();
        let text = table(Some(&names), cells.into_iter());
        write(text.as_bytes(), notes)?;
    }
    Ok(count > most)
}

fn write(bytes: &[u8], notes: &Notes) -> Result<(), QueryError> {
    notes.clear();
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(QueryError::Print)
}

fn json(batch: &RecordBatch) -> Result<Vec<u8>, QueryError> {
    let mut lines = LineDelimitedWriter::new(Vec::new());
    lines.write(batch).map_err(engine)?;
    lines.finish().map_err(engine)?;
    Ok(lines.into_inner())
}

fn csv(batch: &RecordBatch, has_names: bool) -> Result<Vec<u8>, QueryError> {
    let mut lines = Vec::new();
    let builder = csv::WriterBuilder::new().with_header(has_names);
    builder.build(&mut lines).write(batch).map_err(engine)?;
    Ok(lines)
}

/// Each row's cells; what is NULL is `-`.
fn texts(batch: &RecordBatch) -> Result<Vec<Vec<String>>, QueryError> {
    let options = FormatOptions::default().with_null(ABSENT);
    let columns = batch.columns().iter();
    let columns = columns
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<Vec<_>, _>>()
        .map_err(engine)?;
    let cells = |row| {
        columns
            .iter()
            .map(move |column| column.value(row).to_string())
    };
    Ok((0..batch.num_rows())
        .map(|row| cells(row).collect())
        .collect())
}

fn engine(error: ArrowError) -> QueryError {
    QueryError::Engine(error.into())
}
