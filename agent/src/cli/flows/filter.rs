//! The arguments that choose flows. A wrong value is refused by the name of its flag.

use clap::Args;

use crate::live::{ActionName, DirectionName, Filter, Network, Protocol};
use crate::spec::TaskId;

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which flows (a flag given twice means either)")]
pub struct FilterArguments {
    /// Of this task.
    #[arg(long, value_name = "TASK")]
    task: Vec<TaskId>,
    /// From or to this address, or an address of this network.
    #[arg(long, value_name = "ADDR|CIDR")]
    address: Vec<Network>,
    /// From or to this port.
    #[arg(long)]
    port: Vec<u16>,
    /// Of this protocol: tcp, udp, icmp, icmpv6 or a number.
    #[arg(long)]
    protocol: Vec<Protocol>,
    /// Whose packets pass (accept), do not (reject), or pass by audit mode only (audit).
    #[arg(long)]
    action: Vec<ActionName>,
    /// Opened towards the task (ingress) or by it (egress).
    #[arg(long)]
    direction: Vec<DirectionName>,
}

impl From<FilterArguments> for Filter {
    fn from(arguments: FilterArguments) -> Self {
        Self {
            tasks: arguments.task,
            addresses: arguments.address,
            ports: arguments.port,
            protocols: arguments.protocol,
            actions: arguments.action,
            directions: arguments.direction,
            events: Vec::new(),
        }
    }
}
