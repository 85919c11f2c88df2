//! `branchline-cni`: reads what the runtime says, asks the agent, prints what the runtime wants to hear.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::process::ExitCode;

use branchline_cni::environment::Environment;
use branchline_cni::http::Socket;
use branchline_cni::run::{run, unread};

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let mut input = Vec::new();
    let outcome = match std::io::stdin().lock().read_to_end(&mut input) {
        Ok(_) => run(&environment, &input, &Socket),
        Err(error) => unread(&error),
    };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(outcome.output.as_bytes());
    if outcome.is_success && written.and_then(|()| stdout.flush()).is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
