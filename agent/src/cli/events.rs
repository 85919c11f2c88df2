//! `branchline events`, and the steps of a task that is being added.

use clap::Args;

use super::client::{Client, ClientError};
use super::stream::EventStream;
use super::{CommandError, Output, text, wait, write_out};
use crate::api::{TaskDescription, TaskEvent};
use crate::spec::TaskId;

/// `branchline events`.
#[derive(Debug, Args)]
pub(super) struct EventsArguments {
    /// Only what happens to this task.
    #[arg(long, value_name = "TASK ID")]
    task: Option<TaskId>,
    #[command(flatten)]
    output: Output,
}

/// Prints what happens to tasks until it is interrupted or the agent stops.
pub(super) fn run(arguments: &EventsArguments, client: &Client) -> Result<(), CommandError> {
    wait(async {
        let mut events = client.task_events(arguments.task.as_ref()).await?;
        // What happens from here on is told; a script may wait for this line.
        eprintln!("following");
        loop {
            let event: TaskEvent = events.next().await?;
            write_out(&if arguments.output.json {
                serde_json::to_string(&event).expect("events are JSON") + "\n"
            } else {
                text::events::line(&event)
            })?;
        }
    })?
}

/// Adds a task, and says each step on standard error as it ends.
pub(super) async fn add_with_progress(
    client: &Client,
    id: &TaskId,
    spec: Vec<u8>,
) -> Result<(bool, TaskDescription), ClientError> {
    let mut events = client.task_events(Some(id)).await?;
    let added = tokio::select! {
        added = client.add_task(spec) => added,
        // Only the answer ends the wait: a stream that fails is silence.
        never = print_steps(&mut events) => match never {},
    };
    // What came together with the answer.
    while let Ok(event) = tokio::time::timeout(REST, events.next::<TaskEvent>()).await {
        match event {
            Ok(event) => eprint!("{}", text::events::line(&event)),
            Err(_) => break,
        }
    }
    added
}

/// How long the last events may be behind the answer.
const REST: std::time::Duration = std::time::Duration::from_millis(20);

async fn print_steps(events: &mut EventStream) -> std::convert::Infallible {
    while let Ok(event) = events.next::<TaskEvent>().await {
        eprint!("{}", text::events::line(&event));
    }
    std::future::pending().await
}
