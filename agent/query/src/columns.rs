//! The columns of the table `flows`: those of every field, in the order of the fields' table, then
//! the flow log's id and what only the files know.
//!
//! Pure. The types are those of the files' Parquet columns.

use std::collections::BTreeSet;
use std::sync::Arc;

use branchline::flow_log::{ColumnType, Field};
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef};

/// The id in the file's name.
pub(crate) const FLOW_LOG_ID: &str = "flow_log_id";

/// What stands for no value in text, and in Parquet columns of text.
pub(crate) const ABSENT: &str = "-";

/// The name of a field's column, as Parquet files have it.
pub(crate) fn column_name(field: &str) -> String {
    field.replace('-', "_")
}

/// Whether a column is one of a flow log's fields.
pub(crate) fn is_field(column: &str) -> bool {
    Field::ALL.iter().any(|field| field.column_name() == column)
}

/// The table's columns, where files have `present`: what is no field of the table is text.
pub(crate) fn schema(present: &BTreeSet<String>) -> SchemaRef {
    let fields = Field::ALL
        .iter()
        .map(|field| column(&field.column_name(), data_type(field.column_type())));
    let log = column(FLOW_LOG_ID, DataType::Utf8);
    let is_new = |name: &&String| !is_field(name) && *name != FLOW_LOG_ID;
    let others = present.iter().filter(is_new);
    let others = others.map(|name| column(name, DataType::Utf8));
    Arc::new(Schema::new(
        fields.chain([log]).chain(others).collect::<Vec<_>>(),
    ))
}

fn column(name: &str, data_type: DataType) -> ArrowField {
    ArrowField::new(name, data_type, true)
}

fn data_type(column: ColumnType) -> DataType {
    match column {
        ColumnType::Int32 => DataType::Int32,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Text => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_column_and_foreign_ones_are_text() {
        let present = ["tgw_id", "srcaddr", FLOW_LOG_ID].map(str::to_owned);
        let schema = schema(&present.into());
        let names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
        assert_eq!(names.len(), Field::ALL.len() + 2);
        assert_eq!(names[..3], ["version", "account_id", "interface_id"]);
        assert_eq!(names[Field::ALL.len()..], [FLOW_LOG_ID, "tgw_id"]);
        let is_of = |name: &str, data_type: DataType| {
            schema.field_with_name(name).map(ArrowField::data_type).ok() == Some(&data_type)
        };
        assert!(is_of("account_id", DataType::Utf8));
        assert!(is_of("srcport", DataType::Int32));
        assert!(is_of("bytes", DataType::Int64));
    }
}
