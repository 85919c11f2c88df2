//! A host under test: a network and a mount namespace of its own, and the agent in them.
//!
//! Nothing of it lies in the machine's own namespaces, so nothing remains once this process and
//! those it started have ended. Work on the host runs on threads made for it.

use std::{
    fmt::Debug,
    fs::{self, File, OpenOptions},
    os::unix::{net::UnixStream, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use branchline::{fault, netlink::Netlink, netns::Netns};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{api_client::ApiClient, flow_row::FlowRow, settings::Settings};

/// Names the program under test; every command of `cargo xtask` that starts one sets it.
pub const PROGRAM: &str = "BRANCHLINE_BIN";

/// The agent's files, as the host sees them.
const AGENT_TOML: &str = "/run/agent.toml";
const VPC_TOML: &str = "/run/vpc.toml";
const AGENT_SOCKET: &str = "/run/branchline/agent.sock";
const AGENT_LOG: &str = "/run/agent.log";

/// How long the agent may take to be ready or to stop; emulated kernels are slow.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// A host under test. Dropped, it kills the agent; its namespaces end with their last process.
#[derive(Debug)]
pub struct Host {
    name: String,
    settings: Settings,
    mounts: File,
    netns: Netns,
    agent: Mutex<Option<Child>>,
}

impl Host {
    /// Makes a host with a private `/run`, `/sys` and bpffs, loopback up, and the agent's two files.
    ///
    /// # Errors
    /// This process lacks a privilege (root is needed), or a file cannot be written.
    pub fn new(name: &str, settings: Settings) -> Result<Self> {
        let (mounts, netns) = on_thread(|| namespaces().context("make namespaces; run as root"))?;
        let host = Self {
            name: name.to_owned(),
            settings,
            mounts,
            netns,
            agent: Mutex::new(None),
        };
        host.write_files()?;
        let netlink = Netlink::open(&host.netns)?;
        let lo = netlink.existing_link("lo")?;
        netlink.set_up(lo.index, true)?;
        Ok(host)
    }

    /// Writes the agent's two files anew; a running agent does not read them again.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn set(&mut self, settings: Settings) -> Result<()> {
        self.settings = settings;
        self.write_files()
    }

    /// Adds lines to the agent's configuration, behind the last table of its settings.
    ///
    /// # Errors
    /// As [`Host::set`].
    pub fn add_lines(&mut self, lines: &str) -> Result<()> {
        self.settings.more_flow_logs.push('\n');
        self.settings.more_flow_logs.push_str(lines);
        self.write_files()
    }

    /// Runs `work` on a thread of the host's and waits for it; a panic goes on here.
    ///
    /// # Panics
    /// If the thread cannot enter the host, or `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_thread(|| {
            self.enter()
                .unwrap_or_else(|error| panic!("enter host {}: {error}", self.name));
            work()
        })
    }

    /// The host's network namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The program under test: the environment variable [`PROGRAM`], or else what `cargo xtask
    /// build` has made.
    ///
    /// # Errors
    /// There is no such file.
    pub fn program() -> Result<PathBuf> {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/branchline");
        let program = std::env::var_os(PROGRAM).map_or(built, PathBuf::from);
        ensure!(
            program.is_file(),
            "{} is not there: set {PROGRAM} to the agent's program, or make it by `cargo xtask build`",
            program.display()
        );
        Ok(program)
    }

    /// Starts the agent and waits until it answers.
    ///
    /// # Errors
    /// It runs already, cannot be started, ends, or does not answer in time; with its log.
    pub fn start_agent(&self) -> Result<()> {
        self.start_agent_with(&[])
    }

    /// As [`Host::start_agent`], with more variables than the settings have.
    ///
    /// # Errors
    /// As [`Host::start_agent`].
    pub fn start_agent_with(&self, variables: &[(&str, &str)]) -> Result<()> {
        let mut agent = self.agent();
        ensure!(agent.is_none(), "{}: the agent runs already", self.name);
        let mut child = self.spawn_agent(variables)?;
        match self.wait_until_ready(&mut child) {
            Ok(()) => {
                *agent = Some(child);
                Ok(())
            }
            Err(error) => {
                end(&mut child);
                Err(error.context(self.log()))
            }
        }
    }

    /// Starts an agent that is killed at the fault point `point`; at none if that is empty.
    ///
    /// # Errors
    /// As [`Host::start_agent`].
    pub fn start_agent_until(&self, point: &str) -> Result<()> {
        self.start_agent_with(&[(fault::VARIABLE, point)])
    }

    /// Waits until the agent has ended; whether by SIGKILL, as at a fault point.
    ///
    /// # Errors
    /// As [`Host::agent_end`].
    pub fn agent_was_killed(&self) -> Result<bool> {
        Ok(self.agent_end()?.signal() == Some(Signal::SIGKILL as i32))
    }

    /// Starts an agent and kills it with SIGKILL `after` a while, ready or not.
    ///
    /// # Errors
    /// An agent runs, or it cannot be started.
    pub fn start_and_kill_agent(&self, after: Duration) -> Result<()> {
        let agent = self.agent();
        ensure!(agent.is_none(), "{}: the agent runs already", self.name);
        let mut child = self.spawn_agent(&[])?;
        thread::sleep(after);
        end(&mut child);
        Ok(())
    }

    /// Kills the agent with SIGKILL.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_agent(&self) -> Result<()> {
        let mut child = self.taken()?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Waits for the end of an agent that ends by itself.
    ///
    /// # Errors
    /// It does not run, or runs on.
    pub fn agent_end(&self) -> Result<ExitStatus> {
        let mut child = self.taken()?;
        wait(&mut child, PATIENCE).inspect_err(|_| end(&mut child))
    }

    /// Stops the agent with SIGTERM and waits for its end.
    ///
    /// # Errors
    /// It does not run, does not stop in time, or reports a failure; with its log.
    pub fn stop_agent(&self) -> Result<()> {
        let mut child = self.taken()?;
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)?;
        let status = wait(&mut child, PATIENCE).inspect_err(|_| end(&mut child))?;
        ensure!(
            status.success(),
            "the agent stopped with {status}: {}",
            self.log()
        );
        Ok(())
    }

    /// Runs a second agent to its end, which is meant to refuse to start.
    ///
    /// # Errors
    /// It cannot be started, or runs on.
    pub fn second_agent(&self) -> Result<Output> {
        let mut command = self.agent_command()?;
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.run(|| child.spawn()).context("start the agent")?;
        wait(&mut child, PATIENCE).inspect_err(|_| end(&mut child))?;
        Ok(child.wait_with_output()?)
    }

    /// The agent's process.
    ///
    /// # Errors
    /// It does not run.
    pub fn agent_pid(&self) -> Result<u32> {
        let agent = self.agent();
        let agent = agent.as_ref().context("the agent does not run")?;
        Ok(agent.id())
    }

    /// Runs `branchline` with `arguments` on the host.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn branchline(&self, arguments: &[&str]) -> Result<Output> {
        let program = Self::program()?;
        let mut command = Command::new(&program);
        let command = command.args(arguments).stdin(Stdio::null());
        let output = self.run(|| command.output());
        output.with_context(|| format!("start {}", program.display()))
    }

    /// As [`Host::branchline`], and returns what it prints.
    ///
    /// # Errors
    /// It fails, with what it says.
    pub fn branchline_ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.branchline(arguments)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "branchline {arguments:?}: {}: {stderr}",
            output.status
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Removes every trace of branchline from the host, whose agent must be stopped.
    ///
    /// # Errors
    /// What `branchline purge` says.
    pub fn purge(&self) -> Result<String> {
        self.branchline_ok(&["purge", "--config", AGENT_TOML])
    }

    /// What `branchline status` says.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn status(&self) -> Result<branchline::api::Status> {
        Ok(serde_json::from_str(
            &self.branchline_ok(&["status", "--json"])?,
        )?)
    }

    /// Every row of every flow-log file, in the files' order.
    ///
    /// # Errors
    /// A file cannot be read or is not what the default format says.
    pub fn flow_rows(&self) -> Result<Vec<FlowRow>> {
        self.run(|| FlowRow::read_dir(&self.settings.flow_log_dir))
    }

    /// A connection to the agent's API.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn api(&self) -> Result<ApiClient> {
        ApiClient::over(self.run(|| UnixStream::connect(AGENT_SOCKET))?)
    }

    /// What the agents of this host have logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.run(|| fs::read_to_string(AGENT_LOG))
            .unwrap_or_default()
    }

    fn enter(&self) -> nix::Result<()> {
        unshare(CloneFlags::CLONE_FS)?;
        setns(&self.mounts, CloneFlags::CLONE_NEWNS)?;
        setns(&self.netns, CloneFlags::CLONE_NEWNET)
    }

    fn write_files(&self) -> Result<()> {
        let (agent, vpc) = (self.settings.agent_toml(), &self.settings.vpc);
        self.run(|| {
            fs::write(AGENT_TOML, agent)?;
            fs::write(VPC_TOML, vpc)
        })
        .context("write the agent's files")
    }

    fn agent(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) -> Result<Child> {
        self.agent()
            .take()
            .with_context(|| format!("{}: the agent does not run", self.name))
    }

    fn agent_command(&self) -> Result<Command> {
        let program = Self::program()?;
        let mut command = match self.settings.launcher.split_first() {
            None => Command::new(program),
            Some((launcher, arguments)) => {
                let mut command = Command::new(launcher);
                command.args(arguments).arg(program);
                command
            }
        };
        command.args(["agent", "--config", AGENT_TOML]);
        command.stdin(Stdio::null());
        Ok(command)
    }

    fn spawn_agent(&self, variables: &[(&str, &str)]) -> Result<Child> {
        let mut command = self.agent_command()?;
        command.envs(self.settings.environment.iter().copied());
        command.envs(variables.iter().copied());
        let child = self.run(|| {
            let log = OpenOptions::new()
                .create(true)
                .append(true)
                .open(AGENT_LOG)?;
            command.stdout(log.try_clone()?).stderr(log).spawn()
        });
        child.with_context(|| format!("start {}", command.get_program().display()))
    }

    fn wait_until_ready(&self, child: &mut Child) -> Result<()> {
        let started = Instant::now();
        // The socket is there early: what connects waits for its answer.
        while !self.branchline(&["status"])?.status.success() {
            if let Some(status) = child.try_wait()? {
                bail!("the agent ended with {status}");
            }
            ensure!(started.elapsed() < PATIENCE, "the agent is not ready");
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- agent's log on {}\n{}", self.name, self.log());
        }
        if let Some(mut child) = self.agent().take() {
            end(&mut child);
        }
    }
}

/// Runs `work` to its end on the calling thread.
///
/// # Panics
/// If the thread is inside such a call already.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap_or_else(|error| panic!("start a runtime: {error}"))
        .block_on(work)
}

/// New namespaces of the calling thread, which must end afterwards.
fn namespaces() -> Result<(File, Netns)> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    for (kind, at) in [("tmpfs", "/run"), ("sysfs", "/sys"), ("bpf", "/sys/fs/bpf")] {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), NONE)
            .with_context(|| format!("mount {kind} on {at}"))?;
    }
    fs::create_dir("/run/netns")?;
    Ok((File::open("/proc/thread-self/ns/mnt")?, Netns::host()?))
}

fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        ensure!(
            started.elapsed() < limit,
            "the agent does not stop in {limit:?}"
        );
        thread::sleep(PAUSE);
    }
}

/// Best effort: it may have ended already.
fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
