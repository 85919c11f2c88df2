//! `cargo xtask`: prepares the machine, builds, checks, tests and demonstrates branchline.
//!
//! Each command is one file with `Args` and `run`; this file only lists them. No command changes anything outside
//! `target/` except `setup` (system packages) and `check --record` (`xtask/bounds.toml`).
#![forbid(unsafe_code)]

mod bench;
mod bounds;
mod build;
mod cases;
mod check;
mod demo;
mod guest;
mod instructions;
mod licences;
mod machine;
mod package;
mod packages;
mod privilege;
mod process;
mod programs;
mod python;
mod sandbox;
mod setup;
mod test;
mod toolchain;
mod trial;
mod unit;
mod vm;
mod vrl;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Lists the commands: `Name: module` gives `cargo xtask name`, described by the doc comment of `module::Args`.
macro_rules! commands {
    ($($name:ident: $module:ident,)+) => {
        #[derive(clap::Subcommand)]
        enum Task {
            $($name($module::Args),)+
        }

        impl Task {
            fn run(self) -> Result<()> {
                match self {
                    $(Self::$name(args) => $module::run(&args),)+
                }
            }
        }
    };
}

commands! {
    Setup: setup,
    Build: build,
    Check: check,
    Demo: demo,
    Test: test,
    Vm: vm,
    Bench: bench,
    Cases: cases,
    Package: package,
}

/// Builds, checks, tests and demonstrates branchline.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

fn main() -> ExitCode {
    match Cli::parse().task.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
