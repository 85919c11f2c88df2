//! A machine of its own, to try what needs a service manager: systemd as process 1 of new namespaces, over a
//! copy-on-write view of this system's files.
//!
//! Nothing that is done in there reaches this system: files change in memory, the network has only loopback, and
//! `/sys` and all of `/proc/sys` but `net` are read-only. When it is dropped, or we end in whatever way, the kernel
//! ends all of it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::setup::SERVICE_MANAGER;
use crate::workspace;

/// Where it finds the files that it is given: the folder they are in may be on another file system here, or below one of
/// those that are empty there.
pub(crate) const FILES: &str = "/run/files";
/// Becomes the service manager: makes a root in the folder `$1`, with the folder `$3` at `$4`, and boots `$2` in it to its
/// basic target. Units that are enabled on this system are not.
const BOOT: &str = r#"
set -e
mount -t tmpfs -o mode=755 machine "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work machine root
mount --bind upper root/mnt
cd root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf bpf sys/fs/bpf
mount -o remount,bind,ro sys
mount -t tmpfs -o mode=755 run run
mkdir ".$4"
mount --bind "$3" ".$4"
mount -o remount,bind,ro ".$4"
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=755 dev dev
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
for node in null zero full random urandom tty; do cp -a "/dev/$node" dev/; done
rm -rf etc/systemd/system/*.wants etc/systemd/system/*.requires
# Of images for containers: packages may start nothing.
rm -f usr/sbin/policy-rc.d
exec chroot . env -i container=branchline PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    "$2" --system --unit=basic.target --show-status=no --log-target=journal
"#;
/// Enters its control group `$1`, so that the machine's own begins there.
const ENTER: &str = r#"echo 0 > "$1/cgroup.procs"; shift; exec "$@""#;
/// Where cgroup v2 is mounted: alone, or beside v1.
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const GROUP: &str = "branchline-machine-";
/// How long it may take to boot, and any command.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// A booted machine.
pub(crate) struct Machine {
    /// `unshare`, whose end is the end of all.
    holder: Child,
    /// Process 1, as it is numbered here.
    first: String,
    cgroup: PathBuf,
}

impl Machine {
    /// Boots one that has `files`, a folder, at [`FILES`], and waits until it is up.
    ///
    /// # Errors
    /// This process lacks a privilege, or the kernel has no cgroup v2; or the service manager does not start.
    pub(crate) fn boot(files: &Path) -> Result<Self> {
        let folder = workspace::target("machine");
        fs::create_dir_all(&folder).context("make target/machine")?;
        let cgroup = control_group()?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "sh", "-ec", ENTER, "enter"]);
        command.arg(&cgroup);
        command.args(["unshare", "--mount", "--net", "--uts", "--ipc", "--cgroup"]);
        command.args(["--pid", "--fork", "--kill-child", "sh", "-c", BOOT, "boot"]);
        command.arg(&folder).arg(SERVICE_MANAGER);
        command.arg(files).arg(FILES);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let holder = command.spawn().context("start a machine")?;
        let mut machine = Self {
            holder,
            first: String::new(),
            cgroup,
        };
        machine.wait()?;
        Ok(machine)
    }

    fn wait(&mut self) -> Result<()> {
        let holder = self.holder.id();
        let children = format!("/proc/{holder}/task/{holder}/children");
        let started = Instant::now();
        loop {
            ensure!(
                self.holder.try_wait()?.is_none() && started.elapsed() < PATIENCE,
                "systemd does not start as process 1 of its own namespaces"
            );
            let first = fs::read_to_string(&children).unwrap_or_default();
            first.trim().clone_into(&mut self.first);
            // The script's process becomes the service manager.
            let is_up = || self.shell("systemctl is-system-running --wait || true");
            if self.is_service_manager() && is_up().is_ok_and(|state| state.trim() != "offline") {
                return Ok(());
            }
            sleep(PAUSE);
        }
    }

    fn is_service_manager(&self) -> bool {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.first));
        !self.first.is_empty() && name.is_ok_and(|name| name.trim() == "systemd")
    }

    /// Runs `script` by bash as root of the machine, each command told as it begins; returns what it writes to its
    /// standard output.
    ///
    /// # Errors
    /// A command of it failed, or it takes too long; with all that it wrote, and what the journal says.
    pub(crate) fn shell(&self, script: &str) -> Result<String> {
        let mut shell = Command::new("timeout");
        shell.args(["--kill-after=1", &PATIENCE.as_secs().to_string(), "nsenter"]);
        shell.args(["--target", &self.first, "--mount", "--uts", "--ipc"]);
        shell.args(["--net", "--pid", "--root", "--wd", "bash", "-exc", script]);
        shell.env_clear().env("HOME", "/root");
        shell.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        // So that what a killed script leaves running holds no pipe of ours: in a group of its own.
        let done = shell.stdin(Stdio::null()).process_group(0).output();
        let done = done.context("start nsenter")?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        let [said, steps] =
            [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        if script == JOURNAL {
            bail!("no journal");
        }
        let journal = self.shell(JOURNAL).unwrap_or_default();
        bail!("{}\n{said}{steps}{journal}", done.status)
    }
}

const JOURNAL: &str = "journalctl --no-pager --lines=30 --unit=branchline --unit=init.scope";

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
        let started = Instant::now();
        // Its processes end a moment after the first one.
        while remove_groups(&self.cgroup).is_err() && started.elapsed() < PATIENCE {
            sleep(PAUSE);
        }
    }
}

/// A new control group for a machine.
fn control_group() -> Result<PathBuf> {
    let is_v2 = |at: &&&str| Path::new(at).join("cgroup.procs").is_file();
    let at = CGROUPS.iter().find(is_v2);
    let at = at.context("a machine needs cgroup v2; mount it at /sys/fs/cgroup/unified")?;
    // Those of machines whose maker was killed.
    for left in fs::read_dir(at)?.filter_map(Result::ok) {
        if left
            .file_name()
            .as_encoded_bytes()
            .starts_with(GROUP.as_bytes())
        {
            remove_groups(&left.path()).unwrap_or_default();
        }
    }
    let group = Path::new(at).join(format!("{GROUP}{}", std::process::id()));
    fs::create_dir_all(&group).with_context(|| format!("make {}", group.display()))?;
    Ok(group)
}

fn remove_groups(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_groups(&path)?;
        }
    }
    fs::remove_dir(group)
}
