//! The command `branchline flows query`: its arguments, and the program that answers.
//!
//! The engine is large and none of the agent's, so it is a program of its own that takes the same
//! arguments. Never reads a flow-log file.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

use clap::Args;
use jiff::{SpanRelativeTo, Timestamp};

use super::filter::FilterArguments;
use crate::cli::client::Client;
use crate::cli::{CommandError, wait};
use crate::live::Filter;

/// The program that answers.
const PROGRAM: &str = "branchline-query";

/// What to ask of which files.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = EXAMPLES)]
pub struct QueryArguments {
    /// Read the flow-log files below this folder; of the flow logs in force if not given. May come
    /// several times.
    #[arg(long, value_name = "DIR")]
    pub dir: Vec<PathBuf>,
    /// Read the files of this flow log only, as fl-0123456789abcdef0. May come several times.
    #[arg(long, value_name = "ID")]
    pub flow_log: Vec<String>,
    /// Seen at or after this time: 90s, 1h, 7d ago, or as 2026-11-28T10:15:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,
    /// Seen before this time, written as for --since.
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,
    /// Answer this SQL query over the table `flows`, which has the rows that the other options choose.
    #[arg(long, value_name = "QUERY")]
    pub sql: Option<String>,
    /// Print so many rows at most; 1000 in a table and all in JSON or CSV if not given.
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<usize>,
    /// Print a line of JSON for each row, without the fields that have no value.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print comma-separated values below a line of names.
    #[arg(long)]
    pub csv: bool,
    #[command(flatten)]
    filter: FilterArguments,
}

const EXAMPLES: &str = "\
Columns are named as the fields of VPC Flow Logs with _ for -, as bl_task_id; `start` and `end` are
seconds since 1970, and `end` is written \"end\" in SQL. What a file does not say is NULL. There are
also flow_log_id, from the file's name, and the function in_network(address, '10.0.0.0/8').

Examples:
  branchline flows query --since 1h --action reject
  branchline flows query --task web --port 443 --since 2026-11-28T10:00:00Z --until 2026-11-28T11:00:00Z
  branchline flows query --since 1d --sql \"SELECT bl_task_id, action, sum(bytes) AS bytes FROM flows \\
      GROUP BY ALL ORDER BY bytes DESC LIMIT 10\"
  branchline flows query --sql \"SELECT date_trunc('hour', to_timestamp(start)) AS hour, sum(packets) \\
      FROM flows WHERE in_network(dstaddr, '10.0.0.0/8') GROUP BY 1 ORDER BY 1\"
  branchline flows query --dir /mnt/bucket --address 10.0.1.5 --csv > flows.csv";

impl QueryArguments {
    /// Which flows.
    #[must_use]
    pub fn filter(&self) -> Filter {
        self.filter.clone().into()
    }

    /// The command line that these are read from.
    fn to_words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut push = |flag: &str, value: OsString| {
            // In one word, so that a value may begin with a dash.
            let mut word = OsString::from(format!("--{flag}="));
            word.push(value);
            words.push(word);
        };
        let filter = self.filter();
        for dir in &self.dir {
            push("dir", dir.into());
        }
        let mut push_text = |flag: &str, value: String| push(flag, value.into());
        for id in &self.flow_log {
            push_text("flow-log", id.clone());
        }
        for (flag, moment) in [("since", &self.since), ("until", &self.until)] {
            if let Some(moment) = moment {
                push_text(flag, moment.0.to_string());
            }
        }
        let Filter {
            tasks,
            addresses,
            ports,
            protocols,
            actions,
            directions,
            events: _,
        } = &filter;
        tasks.iter().for_each(|v| push_text("task", v.to_string()));
        addresses
            .iter()
            .for_each(|v| push_text("address", v.to_string()));
        ports.iter().for_each(|v| push_text("port", v.to_string()));
        protocols
            .iter()
            .for_each(|v| push_text("protocol", v.to_string()));
        actions
            .iter()
            .for_each(|v| push_text("action", v.to_string()));
        directions
            .iter()
            .for_each(|v| push_text("direction", v.to_string()));
        if let Some(sql) = &self.sql {
            push_text("sql", sql.clone());
        }
        if let Some(limit) = self.limit {
            push_text("limit", limit.to_string());
        }
        let switches = [("--json", self.json), ("--csv", self.csv)];
        words.extend(
            switches
                .iter()
                .filter(|(_, is_set)| *is_set)
                .map(|(flag, _)| flag.into()),
        );
        words
    }
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub Timestamp);

/// Text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no time; write how long ago as 90s, 15m, 1h or 7d, or a time as 2026-11-28T10:15:00Z"
)]
pub struct WrongMoment(String);

impl Moment {
    /// Reads a time, or how long before `now` it is.
    ///
    /// # Errors
    /// It is neither, or before the first time there is.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, WrongMoment> {
        let wrong = || WrongMoment(text.to_owned());
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Self(time));
        }
        let ago: jiff::Span = text.parse().map_err(|_| wrong())?;
        let ago = ago
            .to_duration(SpanRelativeTo::days_are_24_hours())
            .map_err(|_| wrong())?;
        if ago.is_negative() {
            return Err(wrong());
        }
        now.checked_sub(ago).map(Self).map_err(|_| wrong())
    }
}

impl FromStr for Moment {
    type Err = WrongMoment;

    fn from_str(text: &str) -> Result<Self, WrongMoment> {
        Self::parse(text, Timestamp::now())
    }
}

/// Why nobody answers.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum QueryError {
    /// The program is in neither place.
    #[error(
        "{PROGRAM} is neither beside this program nor in PATH; build it by `cargo xtask build` and install it beside branchline"
    )]
    Missing,
    /// It is there and cannot be run.
    #[error("run {}", program.display())]
    Run { program: PathBuf, source: io::Error },
    /// No flow log is in force.
    #[error("the agent has no flow log in force; name a folder by --dir")]
    NoFlowLog,
}

/// Becomes the program that answers; returns only why that failed.
pub(super) fn run(
    mut arguments: QueryArguments,
    client: &Client,
) -> Result<Infallible, CommandError> {
    if arguments.dir.is_empty() {
        let list = wait(client.flow_logs())??;
        for described in list.flow_logs {
            if !arguments.dir.contains(&described.log.dir) {
                arguments.dir.push(described.log.dir);
            }
        }
        if arguments.dir.is_empty() {
            return Err(QueryError::NoFlowLog.into());
        }
    }
    // The runtime has ended by now, so this is the process's only thread.
    Err(exec(&arguments.to_words()).into())
}

fn exec(words: &[OsString]) -> QueryError {
    let beside = std::env::current_exe().ok();
    let beside = beside.map(|own| own.with_file_name(PROGRAM));
    for program in beside.into_iter().chain([PathBuf::from(PROGRAM)]) {
        let source = Command::new(&program).args(words).exec();
        if source.kind() != io::ErrorKind::NotFound {
            return QueryError::Run { program, source };
        }
    }
    QueryError::Missing
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        query: QueryArguments,
    }

    #[test]
    fn the_other_program_reads_what_this_one_was_given() {
        let line = [
            "flows",
            "--dir=/a b",
            "--dir=-c",
            "--flow-log=fl-0a",
            "--since=2026-11-28T10:15:00Z",
            "--until=2026-11-28T11:15:00.5Z",
            "--task=web",
            "--task=db",
            "--address=10.0.0.0/8",
            "--address=fd00::1/128",
            "--port=443",
            "--protocol=tcp",
            "--protocol=132",
            "--action=reject",
            "--action=audit",
            "--direction=ingress",
            "--sql=--no comment",
            "--limit=7",
            "--csv",
        ];
        let words = Line::try_parse_from(line).unwrap().query.to_words();
        assert_eq!(words, line[1..]);
        let none = Line::try_parse_from(["flows"]).unwrap();
        assert!(none.query.to_words().is_empty());
    }

    #[test]
    fn a_time_is_a_time_or_how_long_ago() {
        let now: Timestamp = "2026-11-28T10:15:00Z".parse().unwrap();
        for (text, expected) in [
            ("90s", "2026-11-28T10:13:30Z"),
            ("1h", "2026-11-28T09:15:00Z"),
            ("1h30m", "2026-11-28T08:45:00Z"),
            ("7d", "2026-11-21T10:15:00Z"),
            ("2026-11-28T11:15:00+02:00", "2026-11-28T09:15:00Z"),
        ] {
            assert_eq!(Moment::parse(text, now).unwrap().0.to_string(), expected);
        }
        for text in ["", "yesterday", "-1h", "1", "2026-11-28", "999999999999s"] {
            let error = Moment::parse(text, now).unwrap_err();
            assert!(error.to_string().contains("write how long ago"), "{text}");
        }
    }
}
