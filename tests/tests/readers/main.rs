//! Tier `readers`: files of rows, read by programs that others wrote. Needs no privilege.
//!
//! Rows, text and Parquet files are made here; `read.py` reads them by DuckDB, PyArrow and
//! flowlogs-reader, and compares each value with what the rows say; `vrl` does so by VRL.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod vrl;

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use branchline::flow_log::{
    ColumnType, Field, FileFormat, Format, Layout, Prefix, Row, Value, row_writer,
};
use branchline_tests::{
    flow_log::random_rows::{self, OwnedRow},
    random::Random,
};
use serde_json::json;

/// Formats, and rows of each.
const FORMATS: u64 = 16;
const ROWS: usize = 700;
/// Format of version 5, as AWS's examples have it.
const VERSION_5: &str = "version srcaddr dstaddr srcport dstport protocol start end type packets bytes \
    account-id vpc-id subnet-id instance-id interface-id region az-id sublocation-type \
    sublocation-id action tcp-flags pkt-srcaddr pkt-dstaddr pkt-src-aws-service \
    pkt-dst-aws-service traffic-path flow-direction log-status";

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            env::temp_dir().join(format!("branchline-readers-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("remove {}: {error}", self.0.display());
        }
    }
}

fn write(path: &Path, file_format: FileFormat, format: &Arc<Format>, rows: &[OwnedRow]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create_new(path).unwrap();
    let mut writer = row_writer(file, file_format, Arc::clone(format)).unwrap();
    for row in rows {
        writer.write(&row.row()).unwrap();
    }
    drop(writer.finish().unwrap());
}

/// What readers must find: names and types of the fields, and each row's values.
fn write_expected(path: &Path, format: &Format, rows: &[OwnedRow]) {
    let fields: Vec<_> = format
        .fields()
        .iter()
        .map(|field| describe(*field))
        .collect();
    let rows: Vec<_> = rows.iter().map(|row| values(&row.row(), format)).collect();
    let expected = json!({ "format": format.to_string(), "fields": fields, "rows": rows });
    fs::write(path, expected.to_string()).unwrap();
}

fn describe(field: Field) -> serde_json::Value {
    let column_type = match field.column_type() {
        ColumnType::Int32 => "int32",
        ColumnType::Int64 => "int64",
        ColumnType::Text => "string",
    };
    json!([field.name(), column_type])
}

fn values(row: &Row<'_>, format: &Format) -> Vec<serde_json::Value> {
    let fields = format.fields().iter();
    let value = |field: &Field| match row.value(*field, format) {
        Value::Absent => serde_json::Value::Null,
        Value::Int(number) => number.into(),
        value @ (Value::Text(_) | Value::Address(_) | Value::Tag(_)) => {
            let mut text = Vec::new();
            value.append_to(&mut text);
            String::from_utf8(text).unwrap().into()
        }
    };
    fields.map(value).collect()
}

/// Runs `read.py`, which says what is wrong.
fn read(how: &str, folder: &Path) {
    let venv = env::var_os("BRANCHLINE_VENV").map(PathBuf::from);
    let venv = venv.expect("BRANCHLINE_VENV is not set: run `cargo xtask test interop`");
    let python = venv.join("bin/python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/read.py");
    let status = Command::new(python)
        .arg(script)
        .arg(how)
        .arg(folder)
        .status();
    assert!(status.unwrap().success(), "read.py {how} failed");
}

#[test]
fn engines_read_from_text_and_parquet_what_the_rows_say() {
    let folder = Folder::new("engines");
    for seed in 0..FORMATS {
        let mut random = Random::new(seed);
        let format = Arc::new(random_rows::format(&mut random));
        let rows = random_rows::rows(&mut random, ROWS);
        let dir = folder.0.join(seed.to_string());
        write(
            &dir.join("rows.log.gz"),
            FileFormat::PlainText,
            &format,
            &rows,
        );
        write(
            &dir.join("rows.log.parquet"),
            FileFormat::Parquet,
            &format,
            &rows,
        );
        write_expected(&dir.join("expected.json"), &format, &rows);
    }
    read("engines", &folder.0);
}

#[test]
fn flowlogs_reader_finds_the_text_files_on_s3_and_reads_what_the_rows_say() {
    // Not Parquet: the library that it reads it with does not know RLE_DICTIONARY, the encoding of
    // every column with a dictionary.
    let folder = Folder::new("s3");
    let formats = [Format::default(), Format::parse(VERSION_5, &[]).unwrap()];
    for (number, format) in formats.into_iter().enumerate() {
        let format = Arc::new(format);
        let rows = random_rows::rows(&mut Random::new(number as u64), ROWS);
        let dir = folder.0.join(number.to_string());
        let layout = Layout {
            account_id: "012345678901".to_owned(),
            region: "eu-west-1".to_owned(),
            flow_log_id: "fl-0123456789abcdef0".to_owned(),
            prefix: Prefix::parse("my/logs").unwrap(),
            ..Layout::default()
        };
        let slot = layout.slot(rows[0].row().end());
        for (hash, rows) in rows.chunks(ROWS.div_ceil(2)).enumerate() {
            let path = dir.join("bucket").join(layout.path(slot, hash as u32));
            write(&path, FileFormat::PlainText, &format, rows);
        }
        write_expected(&dir.join("expected.json"), &format, &rows);
    }
    read("s3", &folder.0);
}
