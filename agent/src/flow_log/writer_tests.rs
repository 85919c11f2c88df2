//! Text files.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Read;

use flate2::read::GzDecoder;

use super::*;
use crate::flow_log::row::Content;
use crate::flows::{Interface, Window};
use crate::test_dir::TestDir;

const WINDOW: Window = Window {
    start: 60,
    end: 120,
};

fn enis() -> Vec<Interface> {
    let eni = |number: u32| Interface {
        account_id: "123456789012".to_owned(),
        interface_id: format!("eni-{number:017x}"),
        ..Interface::default()
    };
    (0..20_000).map(eni).collect()
}

#[test]
fn a_text_file_is_one_gzip_member_of_the_names_and_every_row() {
    let enis = enis();
    let format = Arc::new(Format::default());
    let dir = TestDir::new();
    let path = dir.path().join("a.log.gz");
    let file = File::create_new(&path).unwrap();
    let mut writer = row_writer(file, FileFormat::PlainText, Arc::clone(&format)).unwrap();
    let (mut line, mut expected) = (Vec::new(), Vec::new());
    write_header(&format, &mut expected).unwrap();
    for eni in &enis {
        let row = Row::new(eni, Content::NoData, WINDOW);
        writer.write(&row).unwrap();
        write_line(&row, &format, &mut line, &mut expected).unwrap();
    }
    let estimate = writer.bytes_so_far();
    drop(writer.finish().unwrap());
    let bytes = fs::read(path).unwrap();
    // This decoder reads one member and stops.
    let mut decoder = GzDecoder::new(bytes.as_slice());
    let mut text = Vec::new();
    decoder.read_to_end(&mut text).unwrap();
    assert!(decoder.into_inner().is_empty());
    assert!(text == expected);
    let size = bytes.len() as u64;
    assert!(
        (size / 2..=size).contains(&estimate),
        "{estimate} of {size}"
    );
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    let enis = enis();
    for file_format in [FileFormat::PlainText, FileFormat::Parquet] {
        let dir = TestDir::new();
        let write = |name: &str| {
            let path = dir.path().join(name);
            let format = Arc::new(Format::default());
            let file = File::create_new(&path).unwrap();
            let mut writer = row_writer(file, file_format, format).unwrap();
            for eni in &enis {
                let row = Row::new(eni, Content::NoData, WINDOW);
                writer.write(&row).unwrap();
            }
            drop(writer.finish().unwrap());
            fs::read(path).unwrap()
        };
        assert!(write("a") == write("b"), "{file_format:?}");
    }
}
