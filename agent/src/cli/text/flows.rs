//! Flows as lines and tables for people. Pure.

use std::net::{IpAddr, SocketAddr};

use super::{NONE, table};
use crate::live::{
    ActionName, DirectionName, Ending, Flow, FlowEvent, FlowRate, FlowRates, LiveEvent, Protocol,
    TaskRate,
};

/// The line above the events.
pub(in crate::cli) fn event_header() -> String {
    let [time, event, task, direction] = ["TIME (UTC)", "EVENT", "TASK", "DIRECTION"];
    format!("{time:12}  {event:6}  {task:12}  {direction:9}  FLOW\n")
}

/// One event.
pub(in crate::cli) fn event(event: &LiveEvent) -> String {
    let (name, about, says) = match event {
        LiveEvent::Start(about) => ("start", about, action(about)),
        LiveEvent::End(about) => ("end", about, totals(about)),
        LiveEvent::Reject(about) => {
            let counted = counted(about.packets, about.bytes);
            let reason = about.flow.drop_reason;
            let reason = reason.map_or(String::new(), |reason| format!(", {}", reason.name()));
            ("reject", about, format!("REJECTED {counted}{reason}"))
        }
        LiveEvent::Lost { events } => {
            return format!(
                "{:12}  lost    {events} events: they came faster than they were read\n",
                ""
            );
        }
    };
    let task = about.flow.task_id.as_deref().unwrap_or(NONE);
    format!(
        "{}  {name:6}  {task:12}  {:9}  {}  {says}\n",
        time_of_day(about.time_ms),
        DirectionName(about.flow.direction),
        flow(&about.flow),
    )
}

/// A flow as `tcp 10.0.1.5:4711 → 10.0.2.7:443`.
pub(in crate::cli) fn flow(flow: &Flow) -> String {
    format!(
        "{} {} → {}",
        Protocol(flow.protocol),
        end(flow.srcaddr, flow.srcport),
        end(flow.dstaddr, flow.dstport)
    )
}

/// One sample: tasks, then flows.
pub(in crate::cli) fn rates(rates: &FlowRates) -> String {
    let tasks = rates.tasks.iter().map(task_cells);
    let flows = rates.flows.iter().map(flow_cells);
    format!(
        "{}\n{}\n{} of {} flows, over {:.1} s\n",
        table(Some(&TASK_COLUMNS), tasks.map(Vec::from)),
        table(Some(&FLOW_COLUMNS), flows.map(Vec::from)),
        rates.flows.len(),
        rates.flow_count,
        rates.seconds
    )
}

/// Names of [`task_cells`].
pub(in crate::cli) const TASK_COLUMNS: [&str; 7] = [
    "TASK",
    "FLOWS",
    "IN B/s",
    "OUT B/s",
    "IN pkt/s",
    "OUT pkt/s",
    "REJECTED pkt/s",
];

/// Names of [`flow_cells`].
pub(in crate::cli) const FLOW_COLUMNS: [&str; 7] = [
    "TASK",
    "FLOW",
    "ACTION",
    "IN B/s",
    "OUT B/s",
    "IN pkt/s",
    "OUT pkt/s",
];

/// A task's row.
pub(in crate::cli) fn task_cells(task: &TaskRate) -> [String; 7] {
    let rate = &task.rate;
    [
        task.task_id.as_ref().unwrap_or(&task.interface_id).clone(),
        task.flows.to_string(),
        scaled(rate.ingress_bytes_per_second),
        scaled(rate.egress_bytes_per_second),
        scaled(rate.ingress_packets_per_second),
        scaled(rate.egress_packets_per_second),
        scaled(task.rejected_packets_per_second),
    ]
}

/// A flow's row.
pub(in crate::cli) fn flow_cells(line: &FlowRate) -> [String; 7] {
    let rate = &line.rate;
    [
        line.flow.task_id.as_deref().unwrap_or(NONE).to_owned(),
        flow(&line.flow),
        ActionName(line.flow.action).to_string().to_uppercase(),
        scaled(rate.ingress_bytes_per_second),
        scaled(rate.egress_bytes_per_second),
        scaled(rate.ingress_packets_per_second),
        scaled(rate.egress_packets_per_second),
    ]
}

fn action(about: &FlowEvent) -> String {
    ActionName(about.flow.action).to_string().to_uppercase()
}

fn totals(about: &FlowEvent) -> String {
    let reason = match about.reason {
        Some(Ending::Closed) => "closed",
        Some(Ending::Reset) => "reset",
        Some(Ending::Revoked) => "revoked",
        Some(Ending::Timeout) => "timed out",
        Some(Ending::Removed) => "task removed",
        None => NONE,
    };
    let there = counted(about.packets, about.bytes);
    let back = counted(about.reply_packets, about.reply_bytes);
    let since = if about.complete {
        ""
    } else {
        ", since it was followed"
    };
    format!("{} {there}, back {back}, {reason}{since}", action(about))
}

fn counted(packets: u64, bytes: u64) -> String {
    format!("{packets} pkt {bytes} B")
}

fn end(address: IpAddr, port: u16) -> String {
    match port {
        0 => address.to_string(),
        _ => SocketAddr::new(address, port).to_string(),
    }
}

/// Milliseconds since 1970 as hours, minutes and seconds of their day.
fn time_of_day(time_ms: u64) -> String {
    let (seconds, millis) = (time_ms / 1_000, time_ms % 1_000);
    let [hours, minutes] = [seconds / 3_600 % 24, seconds / 60 % 60];
    format!("{hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
}

/// A rate in four digits and a unit of 1,000s.
fn scaled(value: f64) -> String {
    let mut value = value;
    for unit in ["", "k", "M", "G"] {
        if value < 9_999.5 {
            let is_whole = value >= 100.0 || value == value.trunc();
            let digits = usize::from(!is_whole);
            return format!("{value:.digits$}{unit}");
        }
        value /= 1_000.0;
    }
    format!("{value:.0}T")
}

#[cfg(test)]
#[path = "flows_tests.rs"]
mod tests;
