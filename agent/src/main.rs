//! branchline: the agent and its command line.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use branchline::cli::{self, Arguments, Host, HostError};
use branchline::config::Config;
use clap::Parser;

/// This machine, or the network namespace the process runs in.
struct ThisHost;

impl Host for ThisHost {
    async fn run_agent(&self, _config: Config) -> Result<(), HostError> {
        Err("this build has no data plane".into())
    }

    async fn purge(&self, _config: Config) -> Result<Vec<String>, HostError> {
        Err("this build has no data plane".into())
    }
}

fn main() -> ExitCode {
    cli::run(Arguments::parse(), &ThisHost)
}
