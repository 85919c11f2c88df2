//! Answers questions from the files of flow logs: `branchline flows query` becomes this program.
//!
//! Modules stand in the order of an answer's path: which files, what columns they have, how each
//! kind is read, the table over them, which of its rows, and how they are printed. Reads files and
//! never writes one; asks no agent.
#![forbid(unsafe_code)]

mod notes;

mod files;

mod survey;

mod columns;

mod text_file;

mod parquet_file;

mod table;

mod condition;

mod answer;

mod print;

use std::process::ExitCode;

use branchline::cli::QueryArguments;
use branchline::server::causes;
use clap::Parser;

use self::answer::QueryError;

/// Ask the flow-log files that were written: what was seen, by whom, when.
#[derive(Debug, Parser)]
#[command(
    name = "branchline-query",
    bin_name = "branchline flows query",
    version,
    about
)]
struct Arguments {
    #[command(flatten)]
    query: QueryArguments,
}

/// Exit codes: 0 answered, 1 failed (said in one line on standard error), 2 wrong usage.
fn main() -> ExitCode {
    match answer::run(&Arguments::parse().query) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has gone, as `head` does: nobody is left to tell.
        Err(QueryError::Print(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", causes(&error));
            ExitCode::FAILURE
        }
    }
}
