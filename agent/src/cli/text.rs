//! Answers as tables for people. Pure: values in, text out.

pub(super) mod events;
pub(super) mod explain;
pub(super) mod flow_logs;
pub(super) mod flows;
pub(super) mod security_groups;
pub(super) mod vpc;

use comfy_table::{Table, presets::NOTHING};

use crate::api::{Status, TaskCheck, TaskCounters, TaskDescription, TaskList, TaskStatus};
use crate::doctor::Report;

/// What stands where there is nothing.
const NONE: &str = "-";

/// A row for each task.
pub(super) fn tasks(list: &TaskList) -> String {
    let header = [
        "TASK ID",
        "STATUS",
        "IPV4",
        "IPV6",
        "SUBNET",
        "ENI",
        "VLAN",
        "SECURITY GROUPS",
    ];
    let row = |task: &TaskDescription| {
        let detail = |name| task.detail(name).unwrap_or(NONE).to_owned();
        vec![
            task.task_id.clone(),
            status_name(task.last_status).to_owned(),
            detail("privateIPv4Address"),
            detail("ipv6Address"),
            detail("subnetId"),
            detail("networkInterfaceId"),
            task.vlan_id
                .map_or(NONE.to_owned(), |vlan| vlan.to_string()),
            task.security_groups.join(","),
        ]
    };
    table(Some(&header), list.tasks.iter().map(row))
}

/// A line for each thing known of a task.
pub(super) fn task(task: &TaskDescription) -> String {
    let mut rows = vec![
        ("taskId".to_owned(), task.task_id.clone()),
        (
            "lastStatus".to_owned(),
            status_name(task.last_status).to_owned(),
        ),
        (
            "desiredStatus".to_owned(),
            status_name(task.desired_status).to_owned(),
        ),
    ];
    for attachment in &task.attachments {
        rows.push(("attachmentId".to_owned(), attachment.id.clone()));
        rows.push((
            "attachmentStatus".to_owned(),
            attachment.status.name().to_owned(),
        ));
        rows.extend(
            attachment
                .details
                .iter()
                .map(|pair| (pair.name.clone(), pair.value.clone())),
        );
    }
    rows.extend(
        task.availability_zone
            .clone()
            .map(|zone| ("availabilityZone".to_owned(), zone)),
    );
    rows.extend(
        task.vlan_id
            .map(|vlan| ("vlanId".to_owned(), vlan.to_string())),
    );
    let device = [
        ("networkCardIndex", task.network_card_index),
        ("deviceIndex", task.device_index),
    ];
    rows.extend(
        device
            .into_iter()
            .filter_map(|(name, index)| Some((name.to_owned(), index?.to_string()))),
    );
    rows.push(("securityGroups".to_owned(), task.security_groups.join(",")));
    let settings = &task.network_interface_attributes;
    let timers = &settings.timeouts;
    let settings = [
        (
            "tcpEstablishedTimeout",
            format!("{} s", timers.tcp_established_timeout),
        ),
        ("udpTimeout", format!("{} s", timers.udp_timeout)),
        (
            "udpStreamTimeout",
            format!("{} s", timers.udp_stream_timeout),
        ),
        ("blockInstanceMetadata", settings.block_imds.to_string()),
        ("sourceDestCheck", settings.source_dest_check.to_string()),
        (
            "maxTrackedConnections",
            settings.max_connections.to_string(),
        ),
    ];
    rows.extend(settings.map(|(name, value)| (name.to_owned(), value)));
    if let Some(counters) = &task.counters {
        let counters = [
            (
                "conntrack_allowance_exceeded",
                counters.conntrack_allowance_exceeded,
            ),
            (
                "conntrack_allowance_available",
                counters.conntrack_allowance_available,
            ),
            ("would_be_denials", counters.would_be_denials),
        ];
        rows.extend(counters.map(|(name, count)| (name.to_owned(), count.to_string())));
    }
    rows.push((
        "networkNamespace".to_owned(),
        task.network_namespace.display().to_string(),
    ));
    let link = &task.network_interface;
    rows.push(("linkName".to_owned(), link.link_name.clone()));
    rows.push(("hostLink".to_owned(), task.host_link.clone()));
    pairs(rows)
}

/// A line for each difference.
pub(super) fn check(check: &TaskCheck) -> String {
    if check.differences.is_empty() {
        return format!("task {} is as it should be\n", check.task.task_id);
    }
    let lines = check.differences.iter();
    lines.map(|difference| format!("{difference}\n")).collect()
}

/// A line for each thing known of the agent.
pub(super) fn status(status: &Status) -> String {
    let tasks = &status.tasks;
    let mut rows = vec![
        (
            "agent",
            format!(
                "{}, process {}, up {} s",
                status.version, status.pid, status.uptime_seconds
            ),
        ),
        (
            "provider",
            format!("{} ({})", status.provider, status.vpc_id),
        ),
        (
            "tasks",
            format!(
                "{} running, {} creating, {} deleting",
                tasks.running, tasks.creating, tasks.deleting
            ),
        ),
        ("most ENIs", status.max_enis.to_string()),
        ("trunk program", status.trunk_attachment.clone()),
        (
            "connections",
            format!(
                "{} of {}",
                status.conntrack_entries, status.conntrack_max_entries
            ),
        ),
        (
            "refused, table full",
            status.conntrack_allowance_exceeded.to_string(),
        ),
    ];
    if status.repairs + status.tasks_given_up > 0 {
        let text = format!(
            "{} mended, {} tasks given up",
            status.repairs, status.tasks_given_up
        );
        rows.push(("changed by others", text));
    }
    rows.extend(
        status
            .problems
            .iter()
            .map(|problem| ("problem", problem.clone())),
    );
    rows.extend(
        status
            .flow_logs
            .iter()
            .map(|log| ("flow log", flow_logs::line(log))),
    );
    rows.extend(
        status
            .drops
            .iter()
            .map(|drop| ("dropped", format!("{} {}", drop.packets, drop.reason))),
    );
    rows.extend(status.host_changes.iter().map(|change| {
        let previous = change
            .previous
            .as_ref()
            .map_or(String::new(), |value| format!(" (was {value})"));
        (
            "changed on host",
            format!("{} = {}{previous}", change.what, change.current),
        )
    }));
    if status.host_changes.is_empty() {
        rows.push(("changed on host", "nothing".to_owned()));
    }
    let lines = pairs(
        rows.into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    );
    if status.network_interfaces.is_empty() {
        return lines;
    }
    let header = [
        "TASK ID",
        "ENI",
        "CONNTRACK EXCEEDED",
        "CONNTRACK AVAILABLE",
        "WOULD-BE DENIALS",
    ];
    let row = |each: &TaskCounters| {
        let counters = &each.counters;
        vec![
            each.task_id.clone(),
            each.network_interface_id.clone(),
            counters.conntrack_allowance_exceeded.to_string(),
            counters.conntrack_allowance_available.to_string(),
            counters.would_be_denials.to_string(),
        ]
    };
    let counted = status.network_interfaces.iter().map(row);
    format!("{lines}\n{}", table(Some(&header), counted))
}

/// A row for each check, and whether the agent can run.
pub(super) fn report(report: &Report) -> String {
    let rows = report.checks.iter().map(|check| {
        vec![
            check.name.clone(),
            check.outcome.to_string(),
            check.finding.clone(),
            check.fix.clone().unwrap_or_default(),
        ]
    });
    let verdict = if report.healthy {
        "this host can run branchline"
    } else {
        "something required is missing"
    };
    table(Some(&["CHECK", "RESULT", "FOUND", "WHAT TO DO"]), rows) + verdict + "\n"
}

fn status_name(status: TaskStatus) -> &'static str {
    match status {
        TaskStatus::Provisioning => "PROVISIONING",
        TaskStatus::Running => "RUNNING",
        TaskStatus::Deprovisioning => "DEPROVISIONING",
        TaskStatus::Stopped => "STOPPED",
    }
}

fn pairs(rows: Vec<(String, String)>) -> String {
    table(
        None,
        rows.into_iter().map(|(name, value)| vec![name, value]),
    )
}

/// Columns without lines around them, so that `awk` and people read the same; values are never wrapped.
#[must_use]
pub fn table(header: Option<&[&str]>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if let Some(header) = header {
        table.set_header(header.to_vec());
    }
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::describe;
    use crate::api::{DropCount, EniCounters, HostChange};
    use crate::task_record::tests::record;

    #[test]
    fn tasks_are_columns() {
        let mut other = record("db");
        (other.eni.ipv6, other.eni.groups) = (None, vec!["sg-a".into(), "sg-b".into()]);
        let tasks = vec![describe(&record("web")), describe(&other)];
        let expected = "\
TASK ID  STATUS        IPV4       IPV6         SUBNET    ENI                    VLAN  SECURITY GROUPS
web      PROVISIONING  10.0.1.10  2001:db8::1  subnet-a  eni-0123456789abcdef0  7     sg-web
db       PROVISIONING  10.0.1.10  -            subnet-a  eni-0123456789abcdef0  7     sg-a,sg-b
";
        assert_eq!(super::tasks(&TaskList { tasks }), expected);
    }

    #[test]
    fn a_task_is_lines() {
        let mut record = record("web");
        let attributes = &mut record
            .spec
            .network_configuration
            .network_interface_attributes;
        attributes.source_dest_check = false;
        let text = task(&describe(&record));
        for line in [
            "taskId                 web",
            "lastStatus             PROVISIONING",
            "privateIPv4Address     10.0.1.10",
            "networkNamespace       /run/netns/branchline-web",
            "tcpEstablishedTimeout  432000 s",
            "udpTimeout             30 s",
            "udpStreamTimeout       180 s",
            "blockInstanceMetadata  true",
            "sourceDestCheck        false",
            "maxTrackedConnections  32768",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn counters_are_a_tasks_lines_and_the_statuss_columns() {
        let counters = EniCounters::of(3, 4, 10, 100, 1_000);
        let described = TaskDescription {
            counters: Some(counters.clone()),
            ..describe(&record("web"))
        };
        let text = task(&described);
        for line in [
            "conntrack_allowance_exceeded   3",
            "conntrack_allowance_available  90",
            "would_be_denials               4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        let text = status(&Status {
            network_interfaces: vec![TaskCounters {
                task_id: "web".into(),
                network_interface_id: "eni-1".into(),
                counters,
            }],
            ..Status::default()
        });
        let expected = "
TASK ID  ENI    CONNTRACK EXCEEDED  CONNTRACK AVAILABLE  WOULD-BE DENIALS
web      eni-1  3                   90                   4
";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn status_says_what_changed_on_the_host() {
        let change = HostChange {
            what: "net.ipv4.ip_forward".into(),
            previous: Some("0".into()),
            current: "1".into(),
        };
        let drops = vec![DropCount {
            reason: "source address".into(),
            packets: 3,
        }];
        let changed = status(&Status {
            host_changes: vec![change],
            drops,
            ..Status::default()
        });
        assert!(
            changed.contains("changed on host      net.ipv4.ip_forward = 1 (was 0)\n"),
            "{changed}"
        );
        assert!(
            changed.contains("dropped              3 source address\n"),
            "{changed}"
        );
        assert!(status(&Status::default()).contains("changed on host      nothing\n"));
    }
}
