//! The commands `branchline flows`: what flows do now.

mod filter;
mod tail;
mod top;

use clap::Subcommand;

use super::CommandError;
use super::client::Client;

#[derive(Debug, Subcommand)]
pub(super) enum FlowsCommand {
    /// Follow flows as they start, end and are rejected.
    Tail(tail::TailArguments),
    /// Show which tasks and flows carry most, as a screen that keeps up.
    Top(top::TopArguments),
}

/// Runs the command, until it is ended.
pub(super) fn run(command: FlowsCommand, client: &Client) -> Result<(), CommandError> {
    match command {
        FlowsCommand::Tail(arguments) => tail::run(arguments, client),
        FlowsCommand::Top(arguments) => top::run(arguments, client),
    }
}
