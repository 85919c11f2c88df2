//! The command `branchline flows tail`: events as lines.

use clap::Args;

use super::filter::FilterArguments;
use crate::cli::client::Client;
use crate::cli::{CommandError, Output, text, wait, write_out};
use crate::live::{EventKind, Filter, LiveEvent, Query};

#[derive(Debug, Args)]
pub(in crate::cli) struct TailArguments {
    /// Of this kind: start, end or reject.
    #[arg(long)]
    event: Vec<EventKind>,
    #[command(flatten)]
    filter: FilterArguments,
    #[command(flatten)]
    output: Output,
}

/// Prints events until the agent stops or nobody reads any more.
pub(super) fn run(arguments: TailArguments, client: &Client) -> Result<(), CommandError> {
    let query = Query {
        filter: Filter {
            events: arguments.event,
            ..Filter::from(arguments.filter)
        },
        ..Query::default()
    };
    wait(async {
        let mut events = client.flow_events(&query).await?;
        // What happens from here on is told; a script may wait for this line.
        eprintln!("following");
        if !arguments.output.json {
            write_out(&text::flows::event_header())?;
        }
        loop {
            let event: LiveEvent = events.next().await?;
            write_out(&if arguments.output.json {
                serde_json::to_string(&event).expect("events are JSON") + "\n"
            } else {
                text::flows::event(&event)
            })?;
        }
    })?
}
