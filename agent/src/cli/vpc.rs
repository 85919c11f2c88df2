//! `branchline eni`, `subnet`, `capacity`, `attributes`: what the VPC has and what fits.

use clap::Subcommand;

use super::client::Client;
use super::{CommandError, Output, print, text, wait};

/// `branchline eni` and `branchline subnet`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum ListCommand {
    /// List them.
    Ls(Output),
}

pub(super) fn enis(command: ListCommand, client: &Client) -> Result<(), CommandError> {
    let ListCommand::Ls(output) = command;
    print(
        &wait(client.network_interfaces())??,
        output,
        text::vpc::enis,
    )
}

pub(super) fn subnets(command: ListCommand, client: &Client) -> Result<(), CommandError> {
    let ListCommand::Ls(output) = command;
    print(&wait(client.subnets())??, output, |list| {
        text::vpc::subnets(&list.subnets)
    })
}

pub(super) fn capacity(output: Output, client: &Client) -> Result<(), CommandError> {
    print(&wait(client.capacity())??, output, text::vpc::capacity)
}

pub(super) fn attributes(output: Output, client: &Client) -> Result<(), CommandError> {
    print(&wait(client.attributes())??, output, text::vpc::attributes)
}
