//! The commands `branchline sg`: a file to one request, or AWS's output to a file.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::client::{Client, ClientError};
use super::text::security_groups as text;
use super::{CommandError, Output, print, read_input, wait, write_out};
use crate::api::ApplyRequest;
use crate::field_error::FieldError;
use crate::security_groups::aws::{self, Document};
use crate::security_groups::file::SecurityGroupFile;

#[derive(Debug, Subcommand)]
pub(super) enum SecurityGroupCommand {
    /// Put the groups and prefix lists of a file in force, all of them or none.
    Apply(FileArguments),
    /// List security groups and prefix lists.
    Ls(Output),
    /// Show one group: its rules, and what their peers stand for now.
    Show {
        /// The group's id.
        id: String,
        #[command(flatten)]
        output: Output,
    },
    /// Say what an apply of a file would change, and which live flows it would affect.
    Diff(FileArguments),
    /// Make a file of what `aws ec2 describe-security-groups`, describe-security-group-rules and the commands of prefix
    /// lists print; needs no agent.
    Import {
        /// Files of JSON, in any order.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Print the file as JSON instead of TOML.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct FileArguments {
    /// Groups and prefix lists as TOML or JSON, or - for standard input.
    file: PathBuf,
    /// Remove groups and prefix lists that the file does not name.
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(command: SecurityGroupCommand, client: &Client) -> Result<(), CommandError> {
    match command {
        SecurityGroupCommand::Apply(arguments) => {
            let (name, request) = request(&arguments)?;
            let answer = refused(&name, wait(client.apply_security_groups(&request))?)?;
            print(&answer, arguments.output, text::applied)
        }
        SecurityGroupCommand::Diff(arguments) => {
            let (name, request) = request(&arguments)?;
            let answer = refused(&name, wait(client.diff_security_groups(&request))?)?;
            print(&answer, arguments.output, text::diff)
        }
        SecurityGroupCommand::Ls(output) => {
            print(&wait(client.security_groups())??, output, text::groups)
        }
        SecurityGroupCommand::Show { id, output } => {
            // The id becomes part of a path.
            crate::field_error::check_id(&id, "sg-", "id").map_err(|error| wrong("id", &error))?;
            print(&wait(client.security_group(&id))??, output, text::group)
        }
        SecurityGroupCommand::Import { files, json } => import(&files, json),
    }
}

fn request(arguments: &FileArguments) -> Result<(String, ApplyRequest), CommandError> {
    let (name, bytes) = read_input(&arguments.file, "security groups")?;
    let file = std::str::from_utf8(&bytes)
        .map_err(|_| FieldError::new("file", "is no UTF-8 text", "write TOML or JSON"))
        .and_then(SecurityGroupFile::parse);
    let request = ApplyRequest {
        prune: arguments.prune,
        file: file.map_err(|error| wrong(&name, &error))?,
    };
    Ok((name, request))
}

fn wrong(name: &str, problem: &dyn std::fmt::Display) -> CommandError {
    CommandError::Input {
        what: "security groups",
        name: name.to_owned(),
        problem: problem.to_string(),
    }
}

/// An error of a field is the file's.
fn refused<T>(name: &str, answer: Result<T, ClientError>) -> Result<T, CommandError> {
    match answer {
        Err(ClientError::Refused(error)) if error.field.is_some() => {
            Err(wrong(name, &error.message))
        }
        answer => Ok(answer?),
    }
}

fn import(files: &[PathBuf], json: bool) -> Result<(), CommandError> {
    let read = |path: &PathBuf| read_input(path, "AWS's output");
    let documents = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let documents: Vec<Document<'_>> = documents
        .iter()
        .map(|(name, text)| Document { name, text })
        .collect();
    let (file, notes) = aws::import(&documents).map_err(CommandError::Import)?;
    for note in notes {
        eprintln!("note: {note}");
    }
    let text = if json {
        file.to_json()
            .map(|text| text + "\n")
            .map_err(FormError::from)
    } else {
        file.to_toml().map_err(FormError::from)
    };
    write_out(&text?)
}

/// Why a file cannot be printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormError {
    #[error("print the file as TOML")]
    Toml(#[from] toml::ser::Error),
    #[error("print the file as JSON")]
    Json(#[from] serde_json::Error),
}
