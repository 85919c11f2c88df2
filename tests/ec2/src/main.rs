//! The stand-in by hand: a small world on two ports, until it is interrupted.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use branchline_ec2_stand_in::{Ec2, Imds, World};
use clap::Parser;

/// Serves EC2's API and instance metadata for a small VPC with one instance.
#[derive(Parser)]
struct Arguments {
    /// Where EC2's API is served
    #[arg(long, default_value = "127.0.0.1:4566")]
    listen: SocketAddr,
    /// Where instance metadata is served
    #[arg(long, default_value = "127.0.0.1:1338")]
    imds: SocketAddr,
    /// The region that requests must be signed for
    #[arg(long, default_value = "eu-west-1")]
    region: String,
    /// The instance's type
    #[arg(long, default_value = "c5.large")]
    instance_type: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let bind = |address: SocketAddr| {
        TcpListener::bind(address).with_context(|| format!("listen on {address}"))
    };
    let mut world = World::new(&arguments.region);
    let known = world
        .state()
        .instance_types
        .contains_key(&arguments.instance_type);
    anyhow::ensure!(known, "no instance type {}", arguments.instance_type);
    let vpc = world.vpc("10.0.0.0/16", Some("2001:db8::/56"));
    let zone = format!("{}a", arguments.region);
    let subnet = world.subnet(&vpc, &zone, Some("10.0.1.0/24"), Some("2001:db8:0:1::/64"));
    let instance = world.instance(&subnet, &arguments.instance_type);
    let ec2 = Ec2::start(world, [bind(arguments.listen)?])?;
    let _imds = Imds::start(&ec2, &instance, [bind(arguments.imds)?])?;
    let mut out = std::io::stdout();
    writeln!(out, "AWS_ENDPOINT_URL_EC2=http://{}", arguments.listen)?;
    writeln!(
        out,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{}",
        arguments.imds
    )?;
    writeln!(out, "AWS_REGION={}", arguments.region)?;
    writeln!(out, "# {vpc} {subnet} {instance}")?;
    tokio::signal::ctrl_c().await?;
    Ok(())
}
