//! The command line: arguments in, one API request or one start of the agent, text or JSON out.
//!
//! Knows nothing of links, namespaces or maps; what starts and purges a host is handed in as `Host`.

pub mod client;
mod ecs;
mod events;
mod exec;
mod explain;
mod flow_logs;
mod flows;
mod manual;
mod security_groups;
pub mod stream;
mod text;
mod vpc;

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

pub use self::flows::{Moment, QueryArguments, WrongMoment};
pub use self::text::table;

use self::client::{Client, ClientError};
use self::ecs::EcsCommand;
use self::events::EventsArguments;
use self::exec::ExecError;
use self::explain::ExplainArguments;
use self::flow_logs::FlowLogCommand;
use self::flows::{FlowsCommand, QueryError};
use self::security_groups::{FormError, SecurityGroupCommand};
use self::vpc::ListCommand;
use crate::api::TaskGroups;
use crate::config::{Config, ConfigError};
use crate::doctor;
use crate::field_error::FieldError;
use crate::server::causes;
use crate::spec::{TaskId, TaskSpec};

/// Any error of what `Host` does; printed with its causes.
pub type HostError = Box<dyn std::error::Error + Send + Sync>;

/// What the command line starts but does not do itself.
pub trait Host {
    /// Runs the agent until it is told to stop.
    ///
    /// # Errors
    /// What kept it from starting, or from stopping cleanly.
    fn run_agent(&self, config: Config) -> impl Future<Output = Result<(), HostError>>;

    /// Removes everything of branchline from the host, the files of flow logs only if `flow_logs`.
    ///
    /// # Errors
    /// It could not begin; nothing was removed.
    fn purge(
        &self,
        config: Config,
        flow_logs: bool,
    ) -> impl Future<Output = Result<Purged, HostError>>;
}

/// What became of the traces of branchline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Purged {
    /// What is gone, one sentence each.
    pub removed: Vec<String>,
    /// What is still there, and why.
    pub left: Vec<String>,
}

/// Per-task network identity, security groups and flow logs for Linux hosts.
#[derive(Debug, Parser)]
#[command(name = "branchline", version, about, disable_help_subcommand = true)]
pub struct Arguments {
    /// Socket of the agent to talk to.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/run/branchline/agent.sock"
    )]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent in the foreground.
    Agent(ConfigFile),
    /// Add, remove, list, show tasks, or run a command in one's network.
    #[command(subcommand)]
    Task(TaskCommand),
    /// Apply, list, show, compare or import security groups.
    #[command(subcommand)]
    Sg(SecurityGroupCommand),
    /// Apply or list flow logs.
    #[command(subcommand)]
    FlowLog(FlowLogCommand),
    /// Say whether a packet that opens a flow is allowed, and which rule of which group decides.
    Explain(ExplainArguments),
    /// Follow flows, show which carry most, or ask the files of the flow logs.
    #[command(subcommand)]
    Flows(FlowsCommand),
    /// Show the agent as it runs, and what it changed on the host.
    Status(Output),
    /// Check whether this host can run the agent, and say what is missing.
    Doctor(DoctorArguments),
    /// Run, describe or stop tasks in ECS's own words.
    #[command(subcommand)]
    Ecs(EcsCommand),
    /// List the ENIs of tasks.
    #[command(subcommand)]
    Eni(ListCommand),
    /// List the VPC's subnets.
    #[command(subcommand)]
    Subnet(ListCommand),
    /// Say how many more tasks fit, and why not more.
    Capacity(Output),
    /// List what this host can do, as the attributes of an ECS container instance.
    Attributes(Output),
    /// Follow what happens to tasks: states they enter, steps that are taken.
    Events(EventsArguments),
    /// Remove every task and every trace of branchline from this host; the agent must be stopped.
    Purge(PurgeArguments),
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder.
    Man {
        /// The folder, which must exist.
        dir: PathBuf,
    },
    /// Print the description of the agent's API (OpenAPI 3.1).
    Openapi,
}

#[derive(Debug, Subcommand)]
enum TaskCommand {
    /// Give a task its network; adding the same specification again is success.
    Add {
        /// Task specification, or - for standard input.
        spec: PathBuf,
        /// Say each step on standard error.
        #[arg(long)]
        progress: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Remove a task's network.
    Rm {
        /// The task's taskId.
        id: TaskId,
    },
    /// List the tasks.
    Ls(Output),
    /// Show one task.
    Show {
        /// The task's taskId.
        id: TaskId,
        #[command(flatten)]
        output: Output,
    },
    /// Give a task's ENI other security groups in place of its own; connections stay.
    SetGroups {
        /// The task's taskId.
        id: TaskId,
        /// 1 to 16 group ids.
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Compare a task's network with what it should be; exit code 1 if something is missing or different.
    Check {
        /// The task's taskId.
        id: TaskId,
        #[command(flatten)]
        output: Output,
    },
    /// Run a command in a task's network namespace.
    Exec {
        /// The task's taskId.
        id: TaskId,
        /// The command and its arguments, after --.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The agent's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct PurgeArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Remove the files of the flow logs as well.
    #[arg(long)]
    flow_logs: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct DoctorArguments {
    /// Check this configuration file, its VPC file and its folders as well.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, Args)]
struct Output {
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Host(HostError),
    #[error("read {what} {name}")]
    Read {
        what: &'static str,
        name: String,
        source: std::io::Error,
    },
    #[error("{what} {name}: {problem}")]
    Input {
        what: &'static str,
        name: String,
        problem: String,
    },
    #[error("{0}")]
    Import(FieldError),
    #[error(transparent)]
    Form(#[from] FormError),
    #[error("left behind, and to be tried again: {0}")]
    Left(String),
    #[error("an agent answers at {}; stop it first", .0.display())]
    AgentRuns(PathBuf),
    #[error("`flows top` needs a terminal; write --once or --json for one or more samples as text")]
    NoTerminal,
    #[error("draw on the terminal")]
    Terminal(#[source] std::io::Error),
    #[error("start the async runtime")]
    Runtime(#[source] std::io::Error),
    #[error("write {}", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("print the answer")]
    Print(#[source] std::io::Error),
}

/// Runs the command; what `agent` and `purge` do is `host`'s.
///
/// Exit codes: 0 done, 1 failed (said in one line on standard error), 2 wrong usage (by clap, before this).
/// `explain` exits with 0 for allowed, 1 for denied and 2 for failed.
/// `task exec` replaces the process, whose exit code is then the command's.
pub fn run(arguments: Arguments, host: &impl Host) -> ExitCode {
    match command(arguments, host) {
        Ok(code) => code,
        // The reader has gone, as `head` does: nobody is left to tell.
        Err(CommandError::Print(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn command(arguments: Arguments, host: &impl Host) -> Result<ExitCode, CommandError> {
    let client = Client::new(&arguments.socket);
    match arguments.command {
        Command::Agent(file) => agent(&file.config, host)?,
        Command::Task(command) => return task(command, &client),
        Command::Explain(arguments) => return explained(explain::run(arguments, &client)),
        Command::Flows(command) => flows::run(command, &client)?,
        Command::Sg(command) => security_groups::run(command, &client)?,
        Command::FlowLog(command) => flow_logs::run(command, &client)?,
        Command::Status(output) => {
            let status = wait(client.status())??;
            print(&status, output, text::status)?;
        }
        Command::Doctor(arguments_of) => {
            let facts = wait(doctor::Facts::gather(
                arguments_of.config.as_deref(),
                &arguments.socket,
            ))?;
            let report = doctor::judge(&facts);
            print(&report, arguments_of.output, text::report)?;
            return Ok(if report.healthy {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Command::Ecs(command) => ecs::run(command, &client)?,
        Command::Eni(command) => vpc::enis(command, &client)?,
        Command::Subnet(command) => vpc::subnets(command, &client)?,
        Command::Capacity(output) => vpc::capacity(output, &client)?,
        Command::Attributes(output) => vpc::attributes(output, &client)?,
        Command::Events(arguments) => events::run(&arguments, &client)?,
        Command::Purge(arguments) => purge(&arguments, host)?,
        Command::Completions { shell } => manual::completions(shell)?,
        Command::Man { dir } => manual::man(&dir)?,
        Command::Openapi => manual::openapi()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a packet is allowed is the answer, so that what cannot be said has a code of its own.
fn explained(allowed: Result<bool, CommandError>) -> Result<ExitCode, CommandError> {
    match allowed {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(error @ CommandError::Print(_)) => Err(error),
        Err(error) => {
            eprintln!("error: {}", causes(&error));
            Ok(ExitCode::from(2))
        }
    }
}

fn agent(config: &Path, host: &impl Host) -> Result<(), CommandError> {
    let config = Config::load(config)?;
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CommandError::Runtime)?;
    runtime
        .block_on(host.run_agent(config))
        .map_err(CommandError::Host)
}

fn purge(arguments: &PurgeArguments, host: &impl Host) -> Result<(), CommandError> {
    let config = Config::load(&arguments.file.config)?;
    let socket = config.socket();
    if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        return Err(CommandError::AgentRuns(socket));
    }
    log_to_stderr();
    let purged = wait(host.purge(config, arguments.flow_logs))?.map_err(CommandError::Host)?;
    print(&purged, arguments.output, |purged| {
        let removed = purged.removed.iter();
        removed.map(|what| format!("removed {what}\n")).collect()
    })?;
    if purged.left.is_empty() {
        return Ok(());
    }
    Err(CommandError::Left(purged.left.join("; ")))
}

fn task(command: TaskCommand, client: &Client) -> Result<ExitCode, CommandError> {
    match command {
        TaskCommand::Check { id, output } => {
            let check = wait(client.check_task(&id))??;
            print(&check, output, text::check)?;
            if !check.differences.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        TaskCommand::Add {
            spec,
            progress,
            output,
        } => add(&spec, progress, output, client)?,
        TaskCommand::Rm { id } => wait(client.remove_task(&id))??,
        TaskCommand::Ls(output) => print(&wait(client.tasks())??, output, text::tasks)?,
        TaskCommand::Show { id, output } => print(&wait(client.task(&id))??, output, text::task)?,
        TaskCommand::SetGroups { id, groups, output } => {
            let groups = TaskGroups {
                security_groups: groups,
            };
            print(
                &wait(client.set_task_groups(&id, &groups))??,
                output,
                text::task,
            )?;
        }
        TaskCommand::Exec { id, command } => {
            // The runtime has ended by now, so this is the process's only thread.
            let task = wait(client.task(&id))??;
            return Err(exec::exec(&task.network_namespace, &task.files, &command).into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn add(spec: &Path, progress: bool, output: Output, client: &Client) -> Result<(), CommandError> {
    const WHAT: &str = "task specification";
    let (name, json) = read_input(spec, WHAT)?;
    let wrong = |problem: &dyn std::fmt::Display| CommandError::Input {
        what: WHAT,
        name: name.clone(),
        problem: problem.to_string(),
    };
    let checked = TaskSpec::parse(&json).map_err(|error: FieldError| wrong(&error))?;
    let added = if progress {
        wait(events::add_with_progress(client, &checked.task_id, json))?
    } else {
        wait(client.add_task(json))?
    };
    let (created, task) = match added {
        Err(ClientError::Refused(error)) if error.field.is_some() => {
            return Err(wrong(&error.message));
        }
        answer => answer?,
    };
    print(&task, output, |task| {
        let how = if created {
            "added"
        } else {
            "was there already"
        };
        format!("task {} {how}\n{}", task.task_id, text::task(task))
    })
}

/// The name and content of a file, or of standard input for `-`.
fn read_input(path: &Path, what: &'static str) -> Result<(String, Vec<u8>), CommandError> {
    let stdin = path == Path::new("-");
    let name = if stdin {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let mut bytes = Vec::new();
    let read = if stdin {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok((name, bytes)),
        Err(source) => Err(CommandError::Read { what, name, source }),
    }
}

/// Runs one request to its end; its threads are gone when this returns.
fn wait<T>(work: impl Future<Output = T>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::Runtime)?;
    Ok(runtime.block_on(work))
}

fn print<T: Serialize>(
    value: &T,
    output: Output,
    text: impl FnOnce(&T) -> String,
) -> Result<(), CommandError> {
    if output.json {
        let json = serde_json::to_string_pretty(value).expect("answers are JSON");
        return write_out(&(json + "\n"));
    }
    write_out(&text(value))
}

fn write_out(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(CommandError::Print)
}

/// Logs of level INFO and above, or as the variable RUST_LOG says. Each repetition of a request is
/// none of the agent's news: it says itself when uploads begin and end to fail.
fn log_to_stderr() {
    const DEFAULT: &str = "info,object_store=warn";
    let directives = std::env::var("RUST_LOG").unwrap_or_else(|_| DEFAULT.to_owned());
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .parse_lossy(directives);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

#[cfg(test)]
mod tests;
