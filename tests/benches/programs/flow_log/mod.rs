//! Rows of flow logs per second of a processor's time: text and Parquet, 14 and 29 fields, each beside a floor of
//! the same round: lines that are text already, columns that are columns already.
//!
//! Files are memory.

mod columns;
mod rows;

use std::{hint::black_box, io::Write, sync::Arc};

use anyhow::Result;
use branchline::flow_log::{Format, ParquetWriter, Row, TextWriter, write_line};
use flate2::{Compression, write::GzEncoder};

use crate::{
    cases::median,
    report::{Amount, amount},
    table::processor_time,
};
use columns::Columns;
use rows::Rows;

/// Rows of a file; more than one row group.
const ROWS: usize = 200_000;
/// Most that rows may take, as a multiple of the floor.
const GOAL: f64 = 1.5;
/// Version 5, in the order of AWS's examples.
const VERSION_5: &str = "version srcaddr dstaddr srcport dstport protocol start end type packets bytes \
    account-id vpc-id subnet-id instance-id interface-id region az-id sublocation-type \
    sublocation-id action tcp-flags pkt-srcaddr pkt-dstaddr pkt-src-aws-service \
    pkt-dst-aws-service traffic-path flow-direction log-status";

/// Something to time; returns the bytes that it made.
type Work<'a> = Box<dyn Fn() -> Result<usize> + 'a>;

/// A kind of file: its rows, and the least that they could take.
struct Kind<'a> {
    name: &'static str,
    rows: Work<'a>,
    floor: Work<'a>,
}

/// Measures both formats.
pub(crate) fn measure(rounds: u32) -> Result<Vec<Amount>> {
    let rows = Rows::new(ROWS);
    let rows: Vec<_> = rows.rows().collect();
    let mut amounts = Vec::new();
    for format in [Format::default(), Format::parse(VERSION_5, &[])?] {
        amounts.extend(measure_format(&rows, &Arc::new(format), rounds)?);
    }
    Ok(amounts)
}

fn measure_format(rows: &[Row<'_>], format: &Arc<Format>, rounds: u32) -> Result<Vec<Amount>> {
    let lines = lines(rows, format)?;
    let columns = Columns::read(parquet(rows, format)?)?;
    let level = TextWriter::<Vec<u8>>::LEVEL;
    let kinds = [
        Kind {
            name: "text, gzip",
            rows: Box::new(|| text_file(rows, format)),
            floor: Box::new(|| gzip(&finished(&lines)?, level)),
        },
        Kind {
            name: "Parquet",
            rows: Box::new(|| Ok(parquet(rows, format)?.len())),
            floor: Box::new(|| columns.write()),
        },
    ];
    let mut amounts = Vec::new();
    for kind in &kinds {
        let of = format!("flow log, {} fields, {}", format.fields().len(), kind.name);
        amounts.extend(compare(&of, kind, rounds)?);
    }
    Ok(amounts)
}

/// Each round is one of each, so that what slows the machine down slows both.
fn compare(of: &str, kind: &Kind<'_>, rounds: u32) -> Result<Vec<Amount>> {
    let (mut times, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut sizes = (0, 0);
    for _ in 0..rounds {
        let (time, size) = timed(&kind.rows)?;
        let (floor, floor_size) = timed(&kind.floor)?;
        times.push(time);
        floors.push(floor);
        ratios.push(time / floor);
        sizes = (size, floor_size);
    }
    let per_second = |times| ROWS as f64 / median(times);
    let per_row = |size: usize| size as f64 / ROWS as f64;
    Ok(vec![
        amount(&format!("{of}: rows"), per_second(times), "rows/s", None),
        amount("... the floor's", per_second(floors), "rows/s", None),
        amount("... time / the floor's", median(ratios), "x", Some(GOAL)),
        amount("... size of a row", per_row(sizes.0), "bytes", None),
        amount("... the floor's", per_row(sizes.1), "bytes", None),
    ])
}

/// Seconds of processor time, which others on the machine take nothing of, and bytes.
fn timed(work: &Work<'_>) -> Result<(f64, usize)> {
    let start = processor_time()?;
    let size = black_box(work()?);
    Ok(((processor_time()? - start).as_secs_f64(), size))
}

fn lines(rows: &[Row<'_>], format: &Format) -> Result<Vec<String>> {
    let (mut line, mut lines) = (Vec::new(), Vec::new());
    for row in rows {
        let mut text = Vec::new();
        write_line(row, format, &mut line, &mut text)?;
        lines.push(String::from_utf8(text)?.trim_end().to_owned());
    }
    Ok(lines)
}

fn finished(lines: &[String]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in lines {
        writeln!(text, "{line}")?;
    }
    Ok(text)
}

fn gzip(text: &[u8], level: u32) -> Result<usize> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(text)?;
    Ok(encoder.finish()?.len())
}

fn text_file(rows: &[Row<'_>], format: &Arc<Format>) -> Result<usize> {
    let mut writer = TextWriter::new(Vec::new(), Arc::clone(format))?;
    for row in rows {
        writer.write(row)?;
    }
    Ok(writer.finish()?.len())
}

fn parquet(rows: &[Row<'_>], format: &Arc<Format>) -> Result<Vec<u8>> {
    let mut writer = ParquetWriter::new(Vec::new(), Arc::clone(format))?;
    for row in rows {
        writer.write(row)?;
    }
    Ok(writer.finish()?)
}
