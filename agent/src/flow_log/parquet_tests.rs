//! Parquet files, read again by the crate's own reader; the tier `readers` has others.
#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field as Cell;

use super::*;
use crate::flow_log::row::Content;
use crate::flows::{Action, FlowCounts, FlowTuple, Interface, Window};

const WINDOW: Window = Window {
    start: 60,
    end: 120,
};

fn flow(number: u64) -> (FlowTuple, FlowCounts) {
    let tuple = FlowTuple {
        direction: branchline_common::verdict::Direction::Ingress,
        src: [10, 0, 1, 5].into(),
        dst: [10, 0, 1, 4].into(),
        src_port: number as u16,
        dst_port: 22,
        protocol: 6,
        action: Action::Accept,
        traffic_path: None,
        rule: None,
        drop_reason: None,
        service: None,
    };
    let counts = FlowCounts {
        packets: number,
        bytes: number * 60,
        tcp_flags: 2,
        first_ms: 61_000 + number,
        last_ms: 62_000 + number,
    };
    (tuple, counts)
}

/// Each row as text, `null` for null.
fn read(file: Vec<u8>) -> (Vec<Vec<String>>, SerializedFileReader<Bytes>) {
    let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
    let cell = |cell: &Cell| {
        if let Cell::Str(text) = cell {
            return text.clone();
        }
        cell.to_string()
    };
    let rows = reader.get_row_iter(None).unwrap();
    let row = |row: parquet::record::Row| {
        let cells = row.get_column_iter();
        cells.map(|(_, value)| cell(value)).collect()
    };
    let rows = rows.map(|found| row(found.unwrap())).collect();
    (rows, reader)
}

#[test]
fn rows_come_back_over_row_groups_with_nulls_and_dashes() {
    const ROWS: u64 = 25;
    let fields = "interface-id srcport packets log-status tcp-flags srcaddr traffic-path \
                  bl-first-seen bl-sequence region";
    let format = Arc::new(Format::parse(fields, &[]).unwrap());
    let interface = Interface {
        interface_id: "eni-0a".to_owned(),
        ..Interface::default()
    };
    let mut writer = ParquetWriter::with_row_group(Vec::new(), Arc::clone(&format), 10).unwrap();
    let mut expected = Vec::new();
    for number in 0..ROWS {
        let (tuple, counts) = flow(number);
        let content = if number % 7 == 3 {
            Content::NoData
        } else {
            Content::Ok(&tuple, &counts)
        };
        let row = Row {
            sequence: 100 + number,
            ..Row::new(&interface, content, WINDOW)
        };
        writer.write(&row).unwrap();
        let sequence = (100 + number).to_string();
        let cells = if number % 7 == 3 {
            [
                "eni-0a", "null", "null", "NODATA", "null", "-", "null", "null", &sequence, "-",
            ]
            .map(str::to_owned)
        } else {
            let (port, first) = (number.to_string(), (61_000 + number).to_string());
            [
                "eni-0a", &port, &port, "OK", "2", "10.0.1.5", "null", &first, &sequence, "-",
            ]
            .map(str::to_owned)
        };
        expected.push(cells.to_vec());
    }
    let estimate = writer.bytes_so_far();
    let file = writer.finish().unwrap();
    assert!(estimate > 0 && estimate <= file.len() as u64);
    let (rows, reader) = read(file);
    assert_eq!(rows, expected);
    let metadata = reader.metadata();
    let groups = metadata.row_groups().iter().map(|group| group.num_rows());
    assert_eq!(groups.collect::<Vec<_>>(), [10, 10, 5]);
}

#[test]
fn the_footer_says_what_the_columns_are_and_who_wrote_them() {
    let names: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
    let names: Vec<_> = names
        .into_iter()
        .filter(|name| !name.contains("-tag"))
        .collect();
    let format = Arc::new(Format::parse(&names.join(","), &[]).unwrap());
    let interface = Interface::default();
    let mut writer = ParquetWriter::new(Vec::new(), Arc::clone(&format)).unwrap();
    writer
        .write(&Row::new(&interface, Content::NoData, WINDOW))
        .unwrap();
    let (_, reader) = read(writer.finish().unwrap());
    let metadata = reader.metadata().file_metadata();
    assert!(
        metadata
            .created_by()
            .unwrap()
            .starts_with("branchline version 0.")
    );
    let said = metadata.key_value_metadata().unwrap();
    let said = said.iter().find(|entry| entry.key == FORMAT_KEY).unwrap();
    assert_eq!(said.value.as_deref(), Some(format.to_string().as_str()));
    let schema = metadata.schema_descr();
    assert_eq!(schema.num_columns(), format.fields().len());
    for (column, field) in schema.columns().iter().zip(format.fields()) {
        assert_eq!(column.name(), field.name().replace('-', "_"));
        assert_eq!(column.max_def_level(), 1, "{} is optional", column.name());
        let (physical, converted) = match field.column_type() {
            ColumnType::Int32 => (Physical::INT32, ConvertedType::NONE),
            ColumnType::Int64 => (Physical::INT64, ConvertedType::NONE),
            ColumnType::Text => (Physical::BYTE_ARRAY, ConvertedType::UTF8),
        };
        assert_eq!(
            (column.physical_type(), column.converted_type()),
            (physical, converted)
        );
    }
    let groups = reader.metadata().row_groups();
    let columns = groups.iter().flat_map(|group| group.columns());
    for column in columns {
        assert!(matches!(column.compression(), Compression::GZIP(_)));
    }
}

#[test]
fn a_file_of_no_rows_has_columns_all_the_same() {
    let writer = ParquetWriter::new(Vec::new(), Arc::default()).unwrap();
    let (rows, reader) = read(writer.finish().unwrap());
    assert!(rows.is_empty());
    assert_eq!(
        reader
            .metadata()
            .file_metadata()
            .schema_descr()
            .num_columns(),
        14
    );
}

#[test]
fn texts_come_back_whether_a_batch_of_rows_has_one_or_many() {
    let format = Arc::new(Format::parse("interface-id bl-sequence", &[]).unwrap());
    let interface = |id: &str| Interface {
        interface_id: id.to_owned(),
        ..Interface::default()
    };
    let interfaces = ["eni-0a", "eni-0bcd", "two words"].map(interface);
    // One text twice, another, many, the second again, and an end that is no whole batch.
    let of_batch = |batch: usize, row: usize| match batch {
        0 | 1 => 0,
        3 => row % 3,
        _ => 1,
    };
    let mut writer = ParquetWriter::new(Vec::new(), Arc::clone(&format)).unwrap();
    let mut expected = Vec::new();
    for row in 0..5 * BATCH + 7 {
        let interface = &interfaces[of_batch(row / BATCH, row)];
        let row = Row {
            sequence: row as u64,
            ..Row::new(interface, Content::NoData, WINDOW)
        };
        writer.write(&row).unwrap();
        let id = interface.interface_id.replace(' ', "%20");
        expected.push(vec![id, row.sequence.to_string()]);
    }
    let (rows, _) = read(writer.finish().unwrap());
    assert_eq!(rows, expected);
}
