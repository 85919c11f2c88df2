//! Flow logs as they are delivered: which fields a log shows, what each is in a row, and files of rows.
//!
//! Modules stand in the order of a row's path. Never counts a packet and never decides when a row is
//! written; see [`flows`](crate::flows).

mod field;

mod format;

mod aggregation;

mod row;

mod surroundings;

mod ip_ranges;

mod value;

mod text;

mod path;

mod writer;

mod parquet;

mod column;

pub use aggregation::{Aggregation, TrafficType, rows};
pub use field::{ColumnType, Field};
pub use format::{Format, FormatError, ResourceType, TagFieldSpecification};
pub use ip_ranges::{IpRanges, IpRangesError};
pub use parquet::ParquetWriter;
pub use path::{FileFormat, Layout, Prefix, PrefixError, ROOT};
pub use row::{Content, Row};
pub use surroundings::{Peers, Surroundings};
pub use text::{write_header, write_line};
pub use value::Value;
pub use writer::{RowWriter, TextWriter, row_writer};
