//! The commands `branchline flow-log`: a file to one request.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::client::{Client, ClientError};
use super::text::flow_logs as text;
use super::{CommandError, Output, print, read_input, wait};
use crate::api::FlowLogFile;
use crate::delivery::check_all;
use crate::field_error::{FieldError, from_toml};

#[derive(Debug, Subcommand)]
pub(super) enum FlowLogCommand {
    /// Put the flow logs of a file in force instead of all others; tasks and traffic go on.
    Apply {
        /// `[[flow_logs]]` tables as TOML, or - for standard input.
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// List the flow logs, what each has written, and what waits.
    Ls(Output),
}

pub(super) fn run(command: FlowLogCommand, client: &Client) -> Result<(), CommandError> {
    match command {
        FlowLogCommand::Apply { file, output } => {
            let (name, request) = request(&file)?;
            let answer = match wait(client.apply_flow_logs(&request))? {
                Err(ClientError::Refused(error)) if error.field.is_some() => {
                    Err(wrong(&name, &error.message))
                }
                answer => Ok(answer?),
            };
            print(&answer?, output, text::logs)
        }
        FlowLogCommand::Ls(output) => print(&wait(client.flow_logs())??, output, text::logs),
    }
}

fn request(file: &Path) -> Result<(String, FlowLogFile), CommandError> {
    let (name, bytes) = read_input(file, WHAT)?;
    let file = std::str::from_utf8(&bytes)
        .map_err(|_| FieldError::new("file", "is no UTF-8 text", "write TOML"))
        .and_then(from_toml::<FlowLogFile>)
        .and_then(|file| check_all(&file.flow_logs).map(|()| file));
    Ok((name.clone(), file.map_err(|error| wrong(&name, &error))?))
}

const WHAT: &str = "flow logs";

fn wrong(name: &str, problem: &dyn std::fmt::Display) -> CommandError {
    CommandError::Input {
        what: WHAT,
        name: name.to_owned(),
        problem: problem.to_string(),
    }
}
