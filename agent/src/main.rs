//! branchline: the agent and its command line.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use branchline::agent;
use branchline::cli::{self, Arguments, Host, HostError, Purged};
use branchline::config::Config;
use clap::Parser;

/// glibc's allocator keeps what each thread freed in an arena of that thread, for many threads as the agent has: it grew
/// with every task that came and went. So did this one, slower, with an arena or more for each processor; with one
/// (`.cargo/config.toml`) it keeps its size.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// This machine, or the network namespace the process runs in.
struct ThisHost;

impl Host for ThisHost {
    async fn run_agent(&self, config: Config) -> Result<(), HostError> {
        agent::run(config).await
    }

    async fn purge(&self, config: Config, flow_logs: bool) -> Result<Purged, HostError> {
        agent::purge(config, flow_logs).await
    }
}

fn main() -> ExitCode {
    cli::run(Arguments::parse(), &ThisHost)
}
