//! Rows as lines of text, in any format.
//!
//! Never opens a file and never compresses.

use std::io::{self, Write};

use super::format::Format;
use super::row::Row;

/// Writes the first line of a file: the names of the fields.
///
/// # Errors
/// `out` takes no more.
pub fn write_header(format: &Format, out: &mut impl Write) -> io::Result<()> {
    let names: Vec<_> = format.fields().iter().map(|field| field.name()).collect();
    writeln!(out, "{}", names.join(" "))
}

/// Writes the line of a row in one piece. `line` is memory to make it in, of any content; given
/// again for each row it is allocated once.
///
/// # Errors
/// `out` takes no more.
pub fn write_line(
    row: &Row<'_>,
    format: &Format,
    line: &mut Vec<u8>,
    out: &mut impl Write,
) -> io::Result<()> {
    line.clear();
    for field in format.fields() {
        row.value(*field, format).append_to(line);
        line.push(b' ');
    }
    // A format has a field, so the last byte is the blank behind it.
    if let Some(last) = line.last_mut() {
        *last = b'\n';
    }
    out.write_all(line)
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
