//! The command `branchline explain`: arguments to one request.

use clap::Args;

use super::client::Client;
use super::{CommandError, Output, print, text, wait};
use crate::explain::ExplainRequest;

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 the packet is allowed, 1 it is denied, 2 it cannot be said.")]
pub(super) struct ExplainArguments {
    /// Who opens the flow: a taskId or an address.
    #[arg(long, value_name = "TASK|ADDR")]
    from: String,
    /// Who is asked: a taskId or an address.
    #[arg(long, value_name = "TASK|ADDR")]
    to: String,
    /// Protocol: tcp, udp, icmp, icmpv6 or a number.
    #[arg(long, value_name = "PROTOCOL")]
    proto: String,
    /// Destination port, of tcp and udp.
    #[arg(long)]
    port: Option<u16>,
    /// Source port, of tcp and udp [default: 50000].
    #[arg(long, value_name = "PORT")]
    source_port: Option<u16>,
    /// ICMP type.
    #[arg(long = "type", value_name = "TYPE")]
    icmp_type: Option<u8>,
    /// ICMP code [default: 0].
    #[arg(long = "code", value_name = "CODE")]
    icmp_code: Option<u8>,
    /// Between two tasks: by IPv6 though both have IPv4.
    #[arg(long)]
    ipv6: bool,
    #[command(flatten)]
    output: Output,
}

/// Prints the explanation; whether the packet is allowed.
pub(super) fn run(arguments: ExplainArguments, client: &Client) -> Result<bool, CommandError> {
    let output = arguments.output;
    let request = ExplainRequest {
        from: arguments.from,
        to: arguments.to,
        protocol: arguments.proto,
        port: arguments.port,
        source_port: arguments.source_port,
        icmp_type: arguments.icmp_type,
        icmp_code: arguments.icmp_code,
        ipv6: arguments.ipv6,
    };
    let explanation = wait(client.explain(&request))??;
    print(&explanation, output, text::explain::explanation)?;
    Ok(explanation.allowed)
}
