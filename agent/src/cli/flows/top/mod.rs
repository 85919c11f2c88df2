//! The command `branchline flows top`: rates as a screen, or as text for scripts.

mod screen;
mod state;
mod terminal;

use std::io::IsTerminal;

use clap::Args;

use self::state::{Answer, State};
use self::terminal::{Signals, Terminal};
use super::filter::FilterArguments;
use crate::cli::client::Client;
use crate::cli::{CommandError, Output, text, wait, write_out};
use crate::live::{FlowRates, Query, Sort};

/// Flows that the screen may be scrolled through.
const SCREEN_LIMIT: usize = 1_000;

#[derive(Debug, Args)]
#[command(
    after_help = "Keys: b, p, r sort by bytes, packets, rejects; / filter; space pause; \
                        arrows scroll; q quit."
)]
pub(in crate::cli) struct TopArguments {
    /// What comes first: bytes, packets or rejects.
    #[arg(long, default_value_t)]
    sort: Sort,
    /// Print one sample and end.
    #[arg(long)]
    once: bool,
    /// How many flows are shown at most [default: 100, of the screen 1000].
    #[arg(long, value_name = "FLOWS")]
    limit: Option<usize>,
    #[command(flatten)]
    filter: FilterArguments,
    #[command(flatten)]
    output: Output,
}

/// Shows samples until it is told to quit, the agent stops or nobody reads any more.
pub(super) fn run(arguments: TopArguments, client: &Client) -> Result<(), CommandError> {
    let is_text = arguments.once || arguments.output.json;
    let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if !is_text && !is_terminal {
        return Err(CommandError::NoTerminal);
    }
    let limit = if is_text {
        Query::default().limit
    } else {
        SCREEN_LIMIT
    };
    let query = Query {
        filter: arguments.filter.into(),
        sort: arguments.sort,
        limit: arguments.limit.unwrap_or(limit),
    };
    if is_text {
        return wait(print(client, &query, arguments.once, arguments.output))?;
    }
    wait(watch(client, query))?
}

async fn print(
    client: &Client,
    query: &Query,
    once: bool,
    output: Output,
) -> Result<(), CommandError> {
    let mut samples = client.flow_rates(query).await?;
    loop {
        let rates: FlowRates = samples.next().await?;
        write_out(&if output.json {
            serde_json::to_string(&rates).expect("rates are JSON") + "\n"
        } else {
            text::flows::rates(&rates)
        })?;
        if once {
            return Ok(());
        }
    }
}

async fn watch(client: &Client, query: Query) -> Result<(), CommandError> {
    // Before the screen is taken: what is wrong is said on the terminal as it was.
    let mut samples = client.flow_rates(&query).await?;
    let mut signals = Signals::new().map_err(CommandError::Terminal)?;
    let mut terminal = Terminal::take().map_err(CommandError::Terminal)?;
    let mut state = State::new(query);
    loop {
        terminal
            .draw(|frame| screen::draw(frame, &state))
            .map_err(CommandError::Terminal)?;
        let answer = tokio::select! {
            rates = samples.next() => {
                state.show(rates?);
                Answer::Stay
            }
            event = terminal.event() => event.map_or(Answer::Quit, |event| state.event(&event)),
            () = signals.any() => Answer::Quit,
        };
        match answer {
            Answer::Stay => {}
            // The new stream before the old one ends, so that the agent goes on walking.
            Answer::Ask => samples = client.flow_rates(state.query()).await?,
            Answer::Quit => return Ok(()),
        }
    }
}
