//! The text format as VRL's `parse_aws_vpc_flow_log` reads it, in the program `BRANCHLINE_VRL`.
//!
//! It knows the fields of VPC Flow Logs and refuses any other, so these formats have none of ours.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use branchline::flow_log::{Field, FileFormat, Format};
use branchline_tests::{
    flow_log::random_rows::{self, OwnedRow},
    random::Random,
};
use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};

use super::{FORMATS, Folder, ROWS, VERSION_5, values, write};

/// Lines of a text file, the first of which names the fields.
fn lines(path: &Path) -> Vec<String> {
    let mut text = String::new();
    let mut file = GzDecoder::new(File::open(path).unwrap());
    file.read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// What VRL reads in the lines of a text file, by its first line's fields.
fn read(path: &Path) -> Vec<Map<String, Value>> {
    let program = env::var_os("BRANCHLINE_VRL").map(PathBuf::from);
    let program = program.expect("BRANCHLINE_VRL is not set: run `cargo xtask test interop`");
    let lines = lines(path);
    let (header, rows) = lines.split_first().unwrap();
    let events: Vec<String> = rows
        .iter()
        .map(|line| json!({ "message": line }).to_string())
        .collect();
    let input = path.with_extension("jsonl");
    fs::write(&input, events.join("\n")).unwrap();
    let format = header.replace('-', "_");
    let output = Command::new(program)
        .arg("--input")
        .arg(&input)
        .arg(format!(
            "encode_json(parse_aws_vpc_flow_log!(.message, \"{format}\"))"
        ))
        .output()
        .unwrap();
    // A row that it cannot read is an error there, and the program goes on.
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |line| {
        let json: String = serde_json::from_str(line).unwrap();
        serde_json::from_str(&json).unwrap()
    };
    text.lines().map(row).collect()
}

/// The rows as VRL's answer must have them.
fn expected(rows: &[OwnedRow], format: &Format) -> Vec<Map<String, Value>> {
    let names: Vec<String> = format
        .fields()
        .iter()
        .map(|field| field.column_name())
        .collect();
    let row = |row: &OwnedRow| {
        let values = values(&row.row(), format);
        names.iter().cloned().zip(values).collect()
    };
    rows.iter().map(row).collect()
}

fn check(path: &Path, format: &Arc<Format>, rows: &[OwnedRow]) {
    write(path, FileFormat::PlainText, format, rows);
    let (found, expected) = (read(path), expected(rows, format));
    assert_eq!(found.len(), expected.len(), "{format}");
    for (number, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "row {number} of {format}");
    }
}

#[test]
fn vrl_reads_from_text_what_the_rows_say() {
    let folder = Folder::new("vrl");
    let standard: Vec<Field> = Field::ALL
        .iter()
        .copied()
        .filter(|field| field.version().is_some())
        .collect();
    for seed in 0..FORMATS {
        let mut random = Random::new(seed);
        let format = Arc::new(random_rows::format_of(&mut random, &standard));
        let rows = random_rows::rows(&mut random, ROWS);
        check(&folder.0.join(format!("{seed}.log.gz")), &format, &rows);
    }
}

#[test]
fn vrl_counts_the_rows_of_each_status_packets_and_bytes_as_we_do() {
    let folder = Folder::new("vrl-counts");
    let formats = [Format::default(), Format::parse(VERSION_5, &[]).unwrap()];
    for (number, format) in formats.into_iter().enumerate() {
        let path = folder.0.join(format!("{number}.log.gz"));
        let (format, rows) = (
            Arc::new(format),
            random_rows::rows(&mut Random::new(number as u64), ROWS),
        );
        check(&path, &format, &rows);
        let found = count(&read(&path));
        assert_eq!(found, count(&expected(&rows, &format)), "{format}");
        assert_eq!(
            found.keys().map(String::as_str).collect::<Vec<_>>(),
            ["NODATA", "OK IPv4", "OK IPv6", "SKIPDATA"],
            "each kind of row is there"
        );
    }
}

/// Rows, packets and bytes by status and, of counted ones, the address's version.
fn count(rows: &[Map<String, Value>]) -> BTreeMap<String, [u128; 3]> {
    let mut counts: BTreeMap<String, [u128; 3]> = BTreeMap::new();
    for row in rows {
        let mut kind = row["log_status"].as_str().unwrap().to_owned();
        if let Some(address) = row["srcaddr"].as_str() {
            kind += if address.contains(':') {
                " IPv6"
            } else {
                " IPv4"
            };
        }
        let number = |name: &str| u128::from(row[name].as_u64().unwrap_or(0));
        let sums = counts.entry(kind).or_default();
        for (sum, number) in sums.iter_mut().zip([1, number("packets"), number("bytes")]) {
            *sum += number;
        }
    }
    counts
}
