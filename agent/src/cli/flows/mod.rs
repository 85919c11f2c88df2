//! The commands `branchline flows`: what flows do now, and what their files say.

mod filter;
mod query;
mod tail;
mod top;

use clap::Subcommand;

use super::CommandError;
use super::client::Client;

pub(super) use query::QueryError;
pub use query::{Moment, QueryArguments, WrongMoment};

#[derive(Debug, Subcommand)]
pub(super) enum FlowsCommand {
    /// Follow flows as they start, end and are rejected.
    Tail(tail::TailArguments),
    /// Show which tasks and flows carry most, as a screen that keeps up.
    Top(top::TopArguments),
    /// Ask the flow-log files that were written: what was seen, by whom, when.
    Query(QueryArguments),
}

/// Runs the command, until it is ended.
pub(super) fn run(command: FlowsCommand, client: &Client) -> Result<(), CommandError> {
    match command {
        FlowsCommand::Tail(arguments) => tail::run(arguments, client),
        FlowsCommand::Top(arguments) => top::run(arguments, client),
        FlowsCommand::Query(arguments) => query::run(arguments, client).map(|never| match never {}),
    }
}
