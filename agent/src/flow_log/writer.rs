//! Files of rows: what every kind of file can do, and text files.
//!
//! Never names, syncs or renames a file: whoever opened it does.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::format::Format;
use super::parquet::ParquetWriter;
use super::path::FileFormat;
use super::row::Row;
use super::text::{write_header, write_line};

/// A file that rows are written to, one after another.
pub trait RowWriter: Send {
    /// Writes a row. The file shows it once it is finished.
    ///
    /// # Errors
    /// The file cannot be written; it is of no use any more.
    fn write(&mut self, row: &Row<'_>) -> io::Result<()>;

    /// About how large the finished file would be by now, in bytes; compressed.
    fn bytes_so_far(&self) -> u64;

    /// Writes what is missing and gives the file back, which is not on disk yet.
    ///
    /// # Errors
    /// The file cannot be written; it is of no use any more.
    fn finish(self: Box<Self>) -> io::Result<File>;
}

/// Starts a file of rows in `file`, which is empty.
///
/// # Errors
/// The file cannot be written.
pub fn row_writer(
    file: File,
    file_format: FileFormat,
    format: Arc<Format>,
) -> io::Result<Box<dyn RowWriter>> {
    Ok(match file_format {
        FileFormat::PlainText => Box::new(TextWriter::new(file, format)?),
        FileFormat::Parquet => Box::new(ParquetWriter::new(file, format)?),
    })
}

/// Lines of text behind a line of names, as one gzip member. Its header holds no time, so the same
/// rows are the same bytes.
#[derive(Debug)]
pub struct TextWriter<W: Write> {
    format: Arc<Format>,
    line: Vec<u8>,
    text: BufWriter<GzEncoder<Counted<W>>>,
}

/// Counts what is written.
#[derive(Debug)]
struct Counted<W: Write> {
    inner: BufWriter<W>,
    bytes: u64,
}

impl<W: Write> TextWriter<W> {
    /// gzip's level, zlib's own default.
    pub const LEVEL: u32 = 6;

    /// Starts with the names of the fields.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn new(out: W, format: Arc<Format>) -> io::Result<Self> {
        let counted = Counted {
            inner: BufWriter::new(out),
            bytes: 0,
        };
        let encoder = GzEncoder::new(counted, Compression::new(Self::LEVEL));
        let mut text = BufWriter::new(encoder);
        write_header(&format, &mut text)?;
        Ok(Self {
            format,
            line: Vec::new(),
            text,
        })
    }

    /// See [`RowWriter::write`].
    ///
    /// # Errors
    /// As there.
    pub fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        write_line(row, &self.format, &mut self.line, &mut self.text)
    }

    /// See [`RowWriter::finish`].
    ///
    /// # Errors
    /// As there.
    pub fn finish(self) -> io::Result<W> {
        let encoder = self.text.into_inner()?;
        Ok(encoder.finish()?.inner.into_inner()?)
    }
}

impl RowWriter for TextWriter<File> {
    fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        Self::write(self, row)
    }

    fn bytes_so_far(&self) -> u64 {
        self.text.get_ref().get_ref().bytes
    }

    fn finish(self: Box<Self>) -> io::Result<File> {
        Self::finish(*self)
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
