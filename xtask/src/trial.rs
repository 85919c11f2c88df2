//! The package tried: installed by dpkg on a machine of its own, run by the service manager under all that its unit
//! says, upgraded under a connection, removed and purged.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::machine::{self, Machine};
use crate::process::say;

/// What each script has: the package's files there, and where it is asked whether an agent answers.
const PRELUDE: &str = r#"
ready() { timeout 20 sh -c 'until branchline status >/dev/null 2>&1; do sleep 0.05; done'; }
# The answer to a GET of $2 from inside task $1.
get() { branchline task exec "$1" -- curl -sS --max-time 5 "$2"; }
reach() { branchline task exec "$1" -- busybox ping -c 1 -W 2 "$2" >/dev/null; }
address() { branchline task show "$1" --json | jq_ privateIPv4Address; }
jq_() { tr -d '\n ' | sed "s/.*\"name\":\"$1\",\"value\":\"\([^\"]*\)\".*/\1/"; }
"#;

const INSTALLED: &str = r#"
printf 'path-include=/usr/share/*\n' > /etc/dpkg/dpkg.cfg.d/zz-all
dpkg -i $DEB >/dev/null
! systemctl is-active --quiet branchline
! systemctl is-enabled --quiet branchline
id branchline
test "$(stat -c '%a %U %G' /run/netns /etc/netns | uniq)" = '1775 root branchline'
dpkg --verify branchline
test "$(dpkg-query -W -f '${Conffiles}' branchline | grep -c /etc/branchline/)" = 2
systemd-analyze verify branchline.service
for page in branchline branchline-task-add branchline-query; do
    gzip -dc /usr/share/man/man1/$page.1.gz | grep -q '^.TH'
done
bash -nc '. /usr/share/bash-completion/completions/branchline'
"#;

const WORKS: &str = r#"
cat >> /etc/branchline/vpc.toml <<END
[[security_groups]]
group_id = "sg-open"
group_name = "open"
description = "anything in and out"
[[security_groups.ip_permissions]]
ip_protocol = "-1"
ip_ranges = [{ cidr_ip = "0.0.0.0/0" }]
[[security_groups.ip_permissions_egress]]
ip_protocol = "-1"
ip_ranges = [{ cidr_ip = "0.0.0.0/0" }]
END
sed -i '1i enable_dns_hostnames = true' /etc/branchline/vpc.toml
sed -i 's/^nat_gateway = .*/nat_gateway = true/' /etc/branchline/agent.toml
cat >> /etc/branchline/agent.toml <<END
[[flow_logs]]
flow_log_id = "fl-0123456789abcdef0"
dir = "/var/log/branchline/flows"
max_aggregation_interval = 1
rotation = 1
[metrics]
listen = "127.0.0.1:9273"
END
systemctl enable --now branchline
systemctl is-active branchline run-branchline.bpf.mount
test "$(systemctl show -P StatusText branchline)" = '0 tasks of at most 4095'
test "$(ps -o user= -C branchline)" = branchline
# What systemd cannot filter it only warns of: seccomp filters are in force.
grep -qx 'Seccomp:	2' /proc/$(systemctl show -P MainPID branchline)/status
spec() { printf '{"taskId":"%s","networkConfiguration":{"awsvpcConfiguration":{"subnets":["subnet-local"],"securityGroups":["sg-open"]}}%s}' "$1" "$2" > /tmp/$1.json; }
spec web; spec named ',"networkNamespace":"/run/netns/mine"'
ip netns add mine
unshare --net sleep infinity & sleeper=$!
until [ "$(readlink /proc/$sleeper/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
spec process ",\"networkNamespace\":\"/proc/$sleeper/ns/net\""
for task in web named process; do branchline task add /tmp/$task.json >/dev/null; done
kill $sleeper
branchline task exec web -- ip -6 route show default | grep -q fd00:77
# What somebody changes is told, not found in the minute's round.
! journalctl --unit=branchline | grep 'changes are not told'
branchline task exec web -- ip link set eth0 mtu 1400
timeout 5 sh -c 'until branchline status --json | grep -q "\"repairs\": *1"; do sleep 0.1; done'
reach web $(address named)
get web "$(branchline task show web --json | jq_ ECS_CONTAINER_METADATA_URI_V4)/task" | grep -q '"awsvpc"'
branchline task exec web -- getent hosts "$(branchline task show named --json | jq_ privateDnsName)" | grep -q "$(address named)"
# Past the NAT gateway, to who knows no way back but to the host.
ip netns add world; ip link add outside type veth peer name eth0 netns world
ip address add 198.51.100.1/24 dev outside; ip link set outside up
ip -n world address add 198.51.100.7/24 dev eth0; ip -n world link set eth0 up
reach web 198.51.100.7
nft list table inet branchline | grep -q masquerade
curl -sS http://127.0.0.1:9273/metrics | grep -q '^branchline_tasks{state="running"} [23]'
curl -sS --unix-socket /run/branchline/agent.sock http://branchline/v1/health > /tmp/health
grep -q '"status":"ok"' /tmp/health || { cat /tmp/health; false; }
timeout 20 sh -c "until zcat -f \$(find /var/log/branchline/flows -name '*.gz') | grep -q \" $(address web) $(address named) \"; do sleep 0.2; done"
"#;

const UPGRADED: &str = r#"
named=$(address named)
before=$(systemctl show -P MainPID branchline)
# Every one of these is answered: they have no second try.
(branchline task exec web -- busybox ping -c 60 -i 0.05 -W 2 $named > /tmp/pings) &
sleep 0.3
dpkg -i $NEXT >/dev/null
dpkg-query -W -f '${Version}' branchline | grep -q '+next$'
systemctl is-active branchline; systemctl is-enabled branchline
test "$(systemctl show -P MainPID branchline)" != $before
grep -q 'nat_gateway = true' /etc/branchline/agent.toml
wait
grep -q ' 0% packet loss' /tmp/pings || { cat /tmp/pings; false; }
# Killed, it is started again.
systemctl kill -s KILL --kill-who=main branchline
timeout 20 sh -c 'until [ "$(systemctl show -P NRestarts branchline)" = 1 ] && systemctl is-active -q branchline; do sleep 0.05; done'
ready
reach web $named
"#;

const REMOVED: &str = r#"
named=$(address named)
branchline task rm web; branchline task add /tmp/web.json >/dev/null; branchline task rm process || true
systemctl stop branchline
test "$(systemctl show -P Result branchline)" = success
test -e /run/branchline.bpf/branchline
ip netns exec branchline-web busybox ping -c 1 -W 2 $named >/dev/null
dpkg --remove branchline >/dev/null 2>/tmp/said
grep -q 'branchline purge' /tmp/said
mountpoint -q /run/branchline.bpf
ip netns exec branchline-web busybox ping -c 1 -W 2 $named >/dev/null
dpkg -i $NEXT >/dev/null
grep -q 'nat_gateway = true' /etc/branchline/agent.toml
branchline purge --config /etc/branchline/agent.toml
! ip netns list | grep branchline; ! ip link | grep ' bl'; ! nft list tables | grep branchline
dpkg --purge branchline >/dev/null 2>/tmp/said
! grep 'branchline purge' /tmp/said
! mountpoint -q /run/branchline.bpf
! systemctl cat branchline
"#;

/// What is left with its name.
const LEFT: &str = r#"
cd /mnt
find . -path './var/log/branchline/*' -prune -o \( -name '*branchline*' -o -path '*branchline/*' \) -print
"#;
/// Flow logs, which only `branchline purge --flow-logs` removes, and what man keeps of a page that was shown.
const MAY_BE_LEFT: [&str; 2] = [
    "./var/log/branchline",
    "./var/cache/man/cat1/branchline.1.gz",
];

/// What the unit allows, each without which it cannot start or work: words of its `SystemCallFilter=`.
const NEEDED: [&str; 3] = ["@system-service", "@mount", "bpf"];
/// A start and a task, as in [`WORKS`].
const STARTS: &str = r#"
systemctl daemon-reload
systemctl stop branchline
systemctl reset-failed branchline || true
timeout 15 systemctl start branchline
branchline task add /tmp/web.json >/dev/null
branchline task rm web
systemctl stop branchline
"#;

/// Tries `package`, and `next`, the same as a later version in the same folder.
///
/// # Errors
/// The first thing that is not as it should be; with the commands that led there and the journal.
pub(crate) fn run(package: &Path, next: &Path) -> Result<()> {
    let started = Instant::now();
    let folder = package.parent().context("a package is in a folder")?;
    let machine = Machine::boot(folder)?;
    let at = |package: &Path| {
        let name = package.strip_prefix(folder);
        name.map(|name| Path::new(machine::FILES).join(name))
    };
    let (package, next) = (at(package)?, at(next)?);
    let variables = format!(
        "DEB={} NEXT={}\n{PRELUDE}",
        package.display(),
        next.display(),
    );
    let shell = |script: &str| machine.shell(&(variables.clone() + script));
    say("trial", "a machine with systemd as process 1 is up");
    for (what, script) in [
        (
            "installed: nothing is started, every file is there",
            INSTALLED,
        ),
        (
            "run by its unit: tasks, NAT, metadata, names, flow logs, metrics",
            WORKS,
        ),
        (
            "upgraded and killed: no packet is lost, the configuration stays",
            UPGRADED,
        ),
    ] {
        shell(script).with_context(|| format!("not {what}"))?;
        say("trial", what);
    }
    shell("branchline task rm web; systemctl stop branchline")?;
    shell(STARTS).context("the unit as it is")?;
    for word in NEEDED {
        let broken = format!(
            "sed -i '/^SystemCallFilter=[^~]/s/ *{word}\\b//' /usr/lib/systemd/system/branchline.service\n{STARTS}"
        );
        if shell(&broken).is_ok() {
            bail!("the unit's SystemCallFilter= allows {word}, which is not needed");
        }
        shell("systemctl stop branchline; dpkg -i $NEXT >/dev/null")?;
    }
    say(
        "trial",
        "no word of the unit's SystemCallFilter= can be left out",
    );
    shell("systemctl start branchline; branchline task add /tmp/web.json >/dev/null")?;
    shell(REMOVED).context("not removed as it should be")?;
    let left = shell(LEFT)?;
    let left: Vec<&str> = left
        .lines()
        .filter(|path| !MAY_BE_LEFT.contains(path))
        .collect();
    ensure!(
        left.is_empty(),
        "left after dpkg --purge: {}",
        left.join(", ")
    );
    say(
        "trial",
        &format!(
            "removed and purged: nothing is left but its flow logs; all in {:.1} s",
            started.elapsed().as_secs_f64()
        ),
    );
    Ok(())
}
