//! Lines of text.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::flow_log::row::Content;
use crate::flows::{Interface, Window};

#[test]
fn the_header_and_a_line_have_the_formats_words_in_its_order() {
    let interface = Interface {
        account_id: "123456789012".to_owned(),
        interface_id: "eni-0a".to_owned(),
        ..Interface::default()
    };
    let window = Window {
        start: 60,
        end: 120,
    };
    let row = Row::new(&interface, Content::NoData, window);
    let rows = [
        (
            Format::default(),
            "2 123456789012 eni-0a - - - - - - - 60 119 - NODATA\n",
        ),
        (
            Format::parse("log-status,interface-id", &[]).unwrap(),
            "NODATA eni-0a\n",
        ),
        (Format::parse("az-id", &[]).unwrap(), "-\n"),
    ];
    for (format, expected) in rows {
        let mut out = Vec::new();
        write_header(&format, &mut out).unwrap();
        let header = format.to_string().replace(['$', '{', '}'], "");
        assert_eq!(String::from_utf8(out).unwrap(), format!("{header}\n"));
        let (mut line, mut out) = (b"what was there".to_vec(), Vec::new());
        write_line(&row, &format, &mut line, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
