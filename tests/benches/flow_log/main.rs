//! Rows of flow logs per second and CPU: text and Parquet, 14 and 29 fields, each beside a floor of
//! the same run: lines that are text already, columns that are columns already.
//!
//! Run by `cargo xtask bench --only flow_log`. Files are memory. Asserts nothing about time.
#![forbid(unsafe_code)]

mod columns;
mod rows;

use std::{
    env,
    hint::black_box,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use branchline::flow_log::{Format, ParquetWriter, Row, TextWriter, write_line};
use flate2::{Compression, write::GzEncoder};
use serde::Serialize;

use columns::Columns;
use rows::Rows;

/// Rows of a file; more than one row group.
const ROWS: usize = 200_000;
/// Levels of gzip to compare.
const LEVELS: [u32; 6] = [1, 2, 3, 4, 6, 9];
/// Version 5, in the order of AWS's examples.
const VERSION_5: &str = "version srcaddr dstaddr srcport dstport protocol start end type packets bytes \
    account-id vpc-id subnet-id instance-id interface-id region az-id sublocation-type \
    sublocation-id action tcp-flags pkt-srcaddr pkt-dstaddr pkt-src-aws-service \
    pkt-dst-aws-service traffic-path flow-direction log-status";

/// What was measured: the median of the rounds.
#[derive(Serialize)]
struct Figure {
    fields: usize,
    what: String,
    rows_per_second: f64,
    /// Lowest and highest time of a round, as parts of the median.
    spread: (f64, f64),
    bytes_per_row: f64,
    /// Time as a multiple of the floor's.
    of_floor: Option<f64>,
}

/// Something to time; returns the bytes that it made.
type Work<'a> = (String, Box<dyn Fn() -> Result<usize> + 'a>);

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let rounds = arguments
        .next()
        .context("run this by `cargo xtask bench --only flow_log`")?;
    let rounds: usize = rounds.parse()?;
    let is_json = arguments.next().is_some();
    let rows = Rows::new(ROWS);
    let rows: Vec<_> = rows.rows().collect();
    let mut figures = Vec::new();
    for format in [Format::default(), Format::parse(VERSION_5, &[])?] {
        figures.extend(measure(&rows, &Arc::new(format), rounds.max(1))?);
    }
    if is_json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        print(&figures);
    }
    Ok(())
}

fn measure(rows: &[Row<'_>], format: &Arc<Format>, rounds: usize) -> Result<Vec<Figure>> {
    let lines = lines(rows, format)?;
    let text: Vec<u8> = lines
        .iter()
        .flat_map(|line| [line.as_bytes(), b"\n"].concat())
        .collect();
    let columns = Columns::read(parquet(rows, format)?)?;
    let (text, lines, columns) = (&text, &lines, &columns);
    let mut works: Vec<Work<'_>> = vec![
        (
            "write! of finished lines (floor)".into(),
            Box::new(|| Ok(finished(lines)?.len())),
        ),
        ("rows to text".into(), Box::new(|| rendered(rows, format))),
        (
            "write! of finished lines, gzip (floor)".into(),
            Box::new(|| gzip(&finished(lines)?, TextWriter::<Vec<u8>>::LEVEL)),
        ),
        (
            "rows to a text file".into(),
            Box::new(|| text_file(rows, format)),
        ),
        (
            "finished columns to Parquet (floor)".into(),
            Box::new(|| columns.write()),
        ),
        (
            "rows to a Parquet file".into(),
            Box::new(|| Ok(parquet(rows, format)?.len())),
        ),
    ];
    for level in LEVELS {
        works.push((
            format!("gzip level {level} alone"),
            Box::new(move || gzip(text, level)),
        ));
    }
    let mut times = vec![Vec::new(); works.len()];
    let mut sizes = vec![0; works.len()];
    // A round is one of each, so that what slows the machine down slows all of them.
    for _ in 0..rounds {
        for (index, (_, work)) in works.iter().enumerate() {
            let start = Instant::now();
            sizes[index] = black_box(work()?);
            times[index].push(start.elapsed());
        }
    }
    let medians: Vec<_> = times.iter_mut().map(|times| median(times)).collect();
    let figure = |(index, (what, _)): (usize, &Work<'_>)| Figure {
        fields: format.fields().len(),
        what: what.clone(),
        rows_per_second: rows.len() as f64 / medians[index].as_secs_f64(),
        spread: spread(&times[index], medians[index]),
        bytes_per_row: sizes[index] as f64 / rows.len() as f64,
        // Of the first works, each floor stands before what it is the floor of.
        of_floor: matches!(index, 1 | 3 | 5)
            .then(|| medians[index].as_secs_f64() / medians[index - 1].as_secs_f64()),
    };
    Ok(works.iter().enumerate().map(figure).collect())
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

fn rendered(rows: &[Row<'_>], format: &Format) -> Result<usize> {
    let (mut line, mut text) = (Vec::new(), Vec::new());
    for row in rows {
        write_line(row, format, &mut line, &mut text)?;
    }
    Ok(text.len())
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

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn spread(sorted: &[Duration], median: Duration) -> (f64, f64) {
    let part = |time: Option<&Duration>| {
        time.map_or(1.0, |time| time.as_secs_f64() / median.as_secs_f64())
    };
    (part(sorted.first()), part(sorted.last()))
}

fn print(figures: &[Figure]) {
    println!("{ROWS} rows, one thread; time as a multiple of the floor in the line above\n");
    println!(
        "{:>6} {:<40} {:>10} {:>11} {:>6} {:>11}",
        "fields", "what", "rows/s", "spread", "B/row", "of floor"
    );
    for figure in figures {
        let (low, high) = figure.spread;
        let of_floor = figure
            .of_floor
            .map_or_else(String::new, |times| format!("{times:.2}x"));
        let line = format!(
            "{:>6} {:<40} {:>10.0} {:>5.2}-{:<5.2} {:>6.1} {of_floor:>11}",
            figure.fields, figure.what, figure.rows_per_second, low, high, figure.bytes_per_row
        );
        println!("{}", line.trim_end());
    }
}
