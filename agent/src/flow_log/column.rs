//! A column of a Parquet file's row group: values of rows to encoded pages in memory.
//!
//! Some rows' values wait in a batch that the processor's caches hold; what has been encoded is all
//! that a row group takes in memory. Never knows the file.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use parquet::column::page::{CompressedPage, PageWriteSpec, PageWriter};
use parquet::column::writer::{
    ColumnCloseResult, ColumnWriterImpl, get_column_writer, get_typed_column_writer,
};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::field::{ColumnType, Field};
use super::value::Value;

/// Values that are encoded at a time.
pub(super) const BATCH: usize = 1_024;

/// A column of a row group.
pub(super) struct Column {
    field: Field,
    values: Values,
    pages: Pages,
    /// Bytes of the values that were encoded.
    encoded: u64,
}

/// What the last rows have, in order, and where it is encoded.
enum Values {
    Int32(Numbers<Int32Type>),
    Int64(Numbers<Int64Type>),
    Text(Texts),
}

/// Numbers, where there are any.
struct Numbers<T: DataType> {
    values: Vec<T::T>,
    /// For each row 1 if it has a value, else 0.
    levels: Vec<i16>,
    out: ColumnWriterImpl<'static, T>,
}

/// Texts one behind another; equal ones in a row are there once.
struct Texts {
    bytes: Vec<u8>,
    /// Start and end of each in `bytes`.
    ranges: Vec<(usize, usize)>,
    /// Those that were encoded last.
    texts: Vec<ByteArray>,
    /// Whether these are all the same.
    is_one: bool,
    out: ColumnWriterImpl<'static, ByteArrayType>,
}

impl Column {
    /// A column without rows.
    pub(super) fn new(
        field: Field,
        description: ColumnDescPtr,
        properties: WriterPropertiesPtr,
    ) -> Self {
        let pages = Pages::default();
        let out = get_column_writer(description, properties, Box::new(pages.clone()));
        Self {
            field,
            values: match field.column_type() {
                ColumnType::Int32 => Values::Int32(Numbers::new(get_typed_column_writer(out))),
                ColumnType::Int64 => Values::Int64(Numbers::new(get_typed_column_writer(out))),
                ColumnType::Text => Values::Text(Texts::new(get_typed_column_writer(out))),
            },
            pages,
            encoded: 0,
        }
    }

    /// Whose values it has.
    pub(super) fn field(&self) -> Field {
        self.field
    }

    /// Adds a row's value: where there is none, null in a column of numbers and `-` in one of text.
    pub(super) fn push(&mut self, value: Value<'_>) {
        match &mut self.values {
            Values::Int32(numbers) => {
                numbers.push(number(value).and_then(|number| i32::try_from(number).ok()));
            }
            Values::Int64(numbers) => numbers.push(number(value)),
            Values::Text(texts) => texts.push(value),
        }
    }

    /// Memory that the values of all rows so far take.
    pub(super) fn bytes(&self) -> u64 {
        let waiting = match &self.values {
            Values::Int32(numbers) => numbers.values.len() * 4,
            Values::Int64(numbers) => numbers.values.len() * 8,
            Values::Text(texts) => texts.bytes.len(),
        };
        self.encoded + waiting as u64
    }

    /// Encodes the rows that wait, [`BATCH`] at most.
    pub(super) fn encode(&mut self) -> Result<(), ParquetError> {
        self.encoded = self.bytes();
        match &mut self.values {
            Values::Int32(numbers) => numbers.encode(),
            Values::Int64(numbers) => numbers.encode(),
            Values::Text(texts) => texts.encode(),
        }
    }

    /// Encodes what waits; returns all pages, and what a file's footer says of them.
    pub(super) fn finish(mut self) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        self.encode()?;
        let closed = match self.values {
            Values::Int32(numbers) => numbers.out.close(),
            Values::Int64(numbers) => numbers.out.close(),
            Values::Text(texts) => texts.out.close(),
        }?;
        Ok((self.pages.take()?, closed))
    }
}

fn number(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        Value::Absent | Value::Text(_) | Value::Address(_) | Value::Tag(_) => None,
    }
}

impl<T: DataType> Numbers<T> {
    fn new(out: ColumnWriterImpl<'static, T>) -> Self {
        Self {
            values: Vec::with_capacity(BATCH),
            levels: Vec::with_capacity(BATCH),
            out,
        }
    }

    fn push(&mut self, number: Option<T::T>) {
        self.levels.push(number.is_some().into());
        self.values.extend(number);
    }

    fn encode(&mut self) -> Result<(), ParquetError> {
        let Self {
            values,
            levels,
            out,
        } = self;
        out.write_batch(values, Some(levels), None)?;
        values.clear();
        levels.clear();
        Ok(())
    }
}

impl Texts {
    fn new(out: ColumnWriterImpl<'static, ByteArrayType>) -> Self {
        Self {
            bytes: Vec::new(),
            ranges: Vec::with_capacity(BATCH),
            texts: Vec::with_capacity(BATCH),
            is_one: false,
            out,
        }
    }

    fn push(&mut self, value: Value<'_>) {
        let last = self.ranges.last().copied();
        let is_last = |bytes: &[u8], text: &[u8]| {
            last.is_some_and(|(start, end)| bytes.get(start..end) == Some(text))
        };
        // What the last text is as it stands is that text encoded too.
        if let (Value::Text(text), Some(last)) = (value, last)
            && is_last(&self.bytes, text.as_bytes())
        {
            self.ranges.push(last);
            return;
        }
        let start = self.bytes.len();
        value.append_to(&mut self.bytes);
        let range = match last {
            Some(last) if is_last(&self.bytes, &self.bytes[start..]) => {
                self.bytes.truncate(start);
                last
            }
            Some(_) | None => (start, self.bytes.len()),
        };
        self.ranges.push(range);
    }

    fn encode(&mut self) -> Result<(), ParquetError> {
        let Some(first) = self.ranges.first().copied() else {
            return Ok(());
        };
        let was_one = self.is_one;
        self.is_one = self.ranges.iter().all(|range| *range == first);
        let text = self.bytes.get(first.0..first.1);
        let last = self.texts.first().filter(|_| was_one && self.is_one);
        match last.cloned().filter(|last| Some(last.data()) == text) {
            // Most columns of most logs. Each other text has an owner more of its memory to count.
            Some(last) => {
                self.texts.resize(self.ranges.len(), last);
                self.bytes.clear();
            }
            None => self.make_texts(),
        }
        self.ranges.clear();
        let levels = [1; BATCH];
        let levels = levels.get(..self.texts.len());
        self.out.write_batch(&self.texts, levels, None).map(drop)
    }

    fn make_texts(&mut self) {
        let next = Vec::with_capacity(self.bytes.len());
        let bytes = Bytes::from(std::mem::replace(&mut self.bytes, next));
        let ranges = self.ranges.iter();
        let texts = ranges.map(|(start, end)| ByteArray::from(bytes.slice(*start..*end)));
        self.texts.clear();
        self.texts.extend(texts);
    }
}

/// The pages of a column, one behind another. Two hold them: the column's writer and the column.
#[derive(Clone)]
struct Pages(Arc<Mutex<TrackedWrite<Vec<u8>>>>);

impl Default for Pages {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(TrackedWrite::new(Vec::new()))))
    }
}

impl Pages {
    /// Nothing is left half done where a holder could panic.
    fn lock(&self) -> MutexGuard<'_, TrackedWrite<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<Bytes, ParquetError> {
        let pages = std::mem::replace(&mut *self.lock(), TrackedWrite::new(Vec::new()));
        Ok(pages.into_inner()?.into())
    }
}

impl PageWriter for Pages {
    fn write_page(&mut self, page: CompressedPage) -> Result<PageWriteSpec, ParquetError> {
        SerializedPageWriter::new(&mut *self.lock()).write_page(page)
    }

    fn close(&mut self) -> Result<(), ParquetError> {
        SerializedPageWriter::new(&mut *self.lock()).close()
    }
}
