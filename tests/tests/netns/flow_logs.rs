//! Several flow logs of one agent: formats of one's own, logs that come and go, one that cannot write.

use std::{
    fs::{self, File},
    io::Read,
    net::{IpAddr, SocketAddr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use branchline::api::FlowLogList;
use branchline_tests::{
    flow_row::{Flow, FlowRow},
    host::Host,
    settings::{OPEN_PORT, Settings, VPC},
    talk::{self, PATIENCE},
    task::{Task, spec},
};
use flate2::read::GzDecoder;
use serde_json::json;

use crate::restart::{UDP, sum};

pub(crate) const CLOSED_PORT: u16 = 8;
/// How long rows of a second may take to be in a file.
const LONG: Duration = Duration::from_secs(30);

/// Lines of every file below a folder of the host, without the first of each, sorted.
pub(crate) fn lines(host: &Host, dir: &str) -> Vec<String> {
    fn read(folder: &Path, lines: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, lines);
            } else if path.to_string_lossy().ends_with(".log.gz") {
                let mut text = String::new();
                let mut file = GzDecoder::new(File::open(path).unwrap());
                file.read_to_string(&mut text).unwrap();
                lines.extend(text.lines().skip(1).map(str::to_owned));
            }
        }
    }
    let mut found = host.run(|| {
        let mut found = Vec::new();
        read(Path::new(dir), &mut found);
        found
    });
    found.sort();
    found
}

/// Sends datagrams from port 4000 of one task to a port of another, for nobody.
pub(crate) fn send(from: &Task, to: IpAddr, port: u16, count: u64) {
    let local = SocketAddr::new(talk::unspecified(to).ip(), 4000);
    let socket = talk::udp_at(&from.netns, local).unwrap();
    for _ in 0..count {
        socket
            .send_to(&[0; 100], SocketAddr::new(to, port))
            .unwrap();
    }
}

pub(crate) fn until(what: &str, reached: impl Fn() -> bool) {
    let began = Instant::now();
    while !reached() {
        assert!(began.elapsed() < LONG, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn logs(host: &Host) -> FlowLogList {
    let listed = host.branchline_ok(&["flow-log", "ls", "--json"]).unwrap();
    serde_json::from_str(&listed).unwrap()
}

/// Packets of the rows of an ENI towards a port.
fn towards(rows: &[FlowRow], eni: &Task, port: u16, accepted: bool) -> u64 {
    let flows = rows.iter().filter(|row| row.eni_id == eni.eni_id);
    flows
        .filter_map(|row| row.flow.as_ref())
        .filter(|flow| flow.dst_port == port && flow.accepted == accepted)
        .map(|flow| flow.packets)
        .sum()
}

const FIELDS: &str = "interface-id flow-direction srcaddr dstaddr dstport protocol pkt-srcaddr \
     pkt-dstaddr tcp-flags action bl-rule-id bl-group-id bl-task-id ecs-cluster-arn \
     ecs-cluster-name ecs-container-instance-arn ecs-container-instance-id ecs-container-id \
     ecs-second-container-id ecs-service-name ecs-task-definition-arn ecs-task-arn ecs-task-id \
     interface-tag interface-tag-2 log-status";

#[test]
fn a_log_of_its_own_format_says_whose_flow_it_is_and_by_which_rule() {
    let group = "\n[[security_groups]]\n\
        group_id = \"sg-web\"\n\
        group_name = \"web\"\n\
        description = \"one rule in, one out, each with an id\"\n\
        [[security_groups.security_group_rules]]\n\
        security_group_rule_id = \"sgr-0000000a\"\n\
        is_egress = false\n\
        ip_protocol = \"tcp\"\n\
        from_port = 7\n\
        to_port = 7\n\
        cidr_ipv4 = \"10.0.0.0/16\"\n\
        [[security_groups.security_group_rules]]\n\
        security_group_rule_id = \"sgr-0000000e\"\n\
        is_egress = true\n\
        ip_protocol = \"tcp\"\n\
        from_port = 7\n\
        to_port = 7\n\
        cidr_ipv4 = \"10.0.0.0/16\"\n";
    let log = format!(
        "[[flow_logs]]\n\
         flow_log_id = \"fl-00000001\"\n\
         dir = \"/run/own\"\n\
         max_aggregation_interval = 600\n\
         rotation = 600\n\
         log_format = \"{FIELDS}\"\n\
         [[flow_logs.tag_field_specifications]]\n\
         resource_type = \"network-interface\"\n\
         tag_keys = [\"team\", \"absent\"]\n"
    );
    let settings = Settings {
        more_flow_logs: log,
        vpc: format!("{VPC}{group}"),
        ..Settings::default()
    };
    let host = Host::new("own-format", settings).unwrap();
    host.start_agent().unwrap();
    let arn = |rest: &str| format!("arn:aws:ecs:eu-west-1:123456789012:{rest}");
    let mut web = spec("web", &["subnet-a"], &["sg-web"]);
    web["ecs"] = json!({
        "clusterArn": arn("cluster/prod"),
        "taskArn": arn("task/prod/0123456789abcdef"),
        "taskDefinitionArn": arn("task-definition/web:7"),
        "containerInstanceArn": arn("container-instance/prod/fedcba98"),
        "group": "service:shop",
        "containers": [{"runtimeId": "c0ffee01"}, {"runtimeId": "c0ffee02"}],
    });
    web["tags"] = json!([{"key": "team", "value": "a & b"}]);
    let added = host.add_spec(&web).unwrap();
    assert!(added.status.success(), "{added:?}");
    let web = host.task("web").unwrap();
    let client = host.add_task("client", &["subnet-b"], &["sg-web"]).unwrap();
    let at = SocketAddr::new(web.ipv4.into(), OPEN_PORT);
    let (peer, end) = {
        let (one, other) = talk::connection(&client.netns, &web.netns, at).unwrap();
        (one.local_addr().unwrap(), other.local_addr().unwrap())
    };
    assert_eq!(peer.ip(), IpAddr::from(client.ipv4));
    // Both ends have sent their FIN.
    thread::sleep(Duration::from_millis(300));
    host.stop_agent().unwrap();
    let of_web = format!(
        "web {} prod {} fedcba98 c0ffee01 c0ffee02 shop {} {} 0123456789abcdef a%20%26%20b - OK",
        arn("cluster/prod"),
        arn("container-instance/prod/fedcba98"),
        arn("task-definition/web:7"),
        arn("task/prod/0123456789abcdef"),
    );
    let of_client = "client - - - - - - - - - - - - OK";
    let (c, w) = (client.ipv4, web.ipv4);
    let (cp, wp) = (peer.port(), end.port());
    // SYN and FIN one way, SYN with ACK and FIN the other.
    let mut expected = vec![
        format!(
            "{} egress {c} {w} {wp} 6 {c} {w} 3 ACCEPT sgr-0000000e sg-web {of_client}",
            client.eni_id
        ),
        format!(
            "{} ingress {w} {c} {cp} 6 {w} {c} 19 ACCEPT sgr-0000000e sg-web {of_client}",
            client.eni_id
        ),
        format!(
            "{} ingress {c} {w} {wp} 6 {c} {w} 3 ACCEPT sgr-0000000a sg-web {of_web}",
            web.eni_id
        ),
        format!(
            "{} egress {w} {c} {cp} 6 {w} {c} 19 ACCEPT sgr-0000000a sg-web {of_web}",
            web.eni_id
        ),
    ];
    expected.sort();
    let mut found = lines(&host, "/run/own");
    // What the tasks' kernels send on their own, to multicast groups and routers.
    found.retain(|line| line.split(' ').nth(5) == Some("6"));
    assert_eq!(found, expected);
}

#[test]
fn logs_are_applied_and_removed_while_others_go_on() {
    let host = Host::new("applied-logs", Settings::default()).unwrap();
    host.start_agent().unwrap();
    let pid = host.agent_pid().unwrap();
    let [server, client, other] = [
        ("server", "sg-server"),
        ("client", "sg-client"),
        ("other", "sg-server"),
    ]
    .map(|(id, group)| host.add_task(id, &["subnet-a"], &[group]).unwrap());
    let refused = |task: &Task| {
        let rows = host.flow_rows().unwrap();
        towards(&rows, task, CLOSED_PORT, false)
    };
    // Before the new log is there.
    send(&client, server.ipv4.into(), CLOSED_PORT, 3);
    until("the first log has it", || refused(&server) == 3);

    let first = "[[flow_logs]]\n\
        flow_log_id = \"fl-00000000000000000\"\n\
        dir = \"/run/flows\"\n\
        max_aggregation_interval = 1\n\
        rotation = 1\n";
    let second = "[[flow_logs]]\n\
        flow_log_id = \"fl-00000001\"\n\
        dir = \"/run/rejects\"\n\
        max_aggregation_interval = 1\n\
        rotation = 1\n\
        traffic_type = \"REJECT\"\n\
        log_format = \"${bl-task-id} ${action} ${dstaddr} ${dstport} ${packets} ${log-status}\"\n\
        task_ids = [\"server\"]\n";
    let apply = |text: &str| {
        host.run(|| fs::write("/run/logs.toml", text)).unwrap();
        host.branchline(&["flow-log", "apply", "/run/logs.toml"])
            .unwrap()
    };
    let wrong = apply(&format!(
        "{first}{}",
        second.replace("${action}", "${acton}")
    ));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        !wrong.status.success() && said.contains("flow_logs[1].log_format"),
        "{said}"
    );
    let applied = apply(&format!("{first}{second}"));
    assert!(applied.status.success(), "{applied:?}");
    assert_eq!(logs(&host).flow_logs.len(), 2);

    for (to, port, count) in [
        (&server, CLOSED_PORT, 5),
        (&server, OPEN_PORT, 7),
        (&other, CLOSED_PORT, 9),
    ] {
        send(&client, to.ipv4.into(), port, count);
    }
    let counted = || {
        let of_log = lines(&host, "/run/rejects").into_iter();
        let of_log = of_log.filter(|line| !line.ends_with("NODATA"));
        of_log.fold(0, |sum, line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [task, action, to, port, packets, status] = words[..] else {
                panic!("{line}")
            };
            let expected = ["server", "REJECT", &server.ipv4.to_string(), "8", "OK"];
            assert_eq!([task, action, to, port, status], expected, "{line}");
            sum + packets.parse::<u64>().unwrap()
        })
    };
    until("the new log has it", || counted() >= 5);
    until("the first log goes on", || {
        let rows = host.flow_rows().unwrap();
        towards(&rows, &server, OPEN_PORT, true) == 7
            && (refused(&server), refused(&other)) == (8, 9)
    });
    assert_eq!(counted(), 5);

    let applied = apply(first);
    assert!(applied.status.success(), "{applied:?}");
    let listed = logs(&host);
    assert_eq!(listed.flow_logs.len(), 1);
    let left = lines(&host, "/run/rejects");
    send(&client, server.ipv4.into(), CLOSED_PORT, 4);
    until("the first log goes on still", || refused(&server) == 12);
    assert_eq!(host.agent_pid().unwrap(), pid);
    // What was applied wins over the configuration at every later start.
    let renamed = apply(&first.replace("fl-00000000000000000", "fl-00000002"));
    assert!(renamed.status.success(), "{renamed:?}");
    host.stop_agent().unwrap();
    host.start_agent().unwrap();
    assert_eq!(logs(&host).flow_logs[0].log.flow_log_id, "fl-00000002");
    host.stop_agent().unwrap();
    assert_eq!(lines(&host, "/run/rejects"), left, "its files stay");
    assert_eq!(refused(&server), 12, "none is lost, none is twice");
}

#[test]
fn a_log_whose_folder_cannot_be_written_catches_up_when_it_can() {
    let blocked = "[[flow_logs]]\n\
        flow_log_id = \"fl-00000001\"\n\
        dir = \"/run/blocked\"\n\
        max_aggregation_interval = 1\n\
        rotation = 1\n";
    let settings = Settings {
        more_flow_logs: blocked.to_owned(),
        ..Settings::default()
    };
    let host = Host::new("blocked", settings).unwrap();
    host.run(|| fs::write("/run/blocked", "in the way"))
        .unwrap();
    host.start_agent().unwrap();
    let server = host
        .add_task("server", &["subnet-a"], &["sg-server"])
        .unwrap();
    let client = host
        .add_task("client", &["subnet-b"], &["sg-client"])
        .unwrap();
    let mut sent = 0;
    let mut send_some = || {
        for count in [3, 5, 7] {
            for address in server.addresses() {
                send(&client, address, OPEN_PORT, count);
            }
            sent += count;
            thread::sleep(Duration::from_millis(600));
        }
        sent
    };
    let to = |rows: &[FlowRow], eni: &Task, address: IpAddr| {
        sum(rows, &eni.eni_id, |flow: &Flow| {
            flow.protocol == UDP && flow.dst == address
        })
        .0
    };
    let has_all = |rows: &[FlowRow], sent: u64| {
        server
            .addresses()
            .into_iter()
            .all(|address| [&client, &server].map(|eni| to(rows, eni, address)) == [sent, sent])
    };
    let before = send_some();
    until("the other log goes on", || {
        has_all(&host.flow_rows().unwrap(), before)
    });
    let listed = host.branchline_ok(&["flow-log", "ls"]).unwrap();
    let line = listed.lines().find(|line| line.contains(" waits: "));
    assert!(
        line.is_some_and(|line| line.starts_with("fl-00000001 waits: ")
            && line.contains("/run/blocked")
            && line.contains("until then the counts wait in the spool")),
        "{listed}"
    );
    // They wait through a kill as well.
    host.kill_agent().unwrap();
    host.start_agent().unwrap();
    let all = send_some();
    host.run(|| fs::remove_file("/run/blocked")).unwrap();
    until("it catches up", || {
        let state = logs(&host).flow_logs.remove(1);
        state.error.is_none() && state.records > 0
    });
    host.stop_agent().unwrap();
    for rows in [
        host.flow_rows().unwrap(),
        host.run(|| FlowRow::read_dir(Path::new("/run/blocked")))
            .unwrap(),
    ] {
        assert!(has_all(&rows, all), "{all} of each: {rows:#?}");
        assert!(rows.iter().all(|row| row.log_status != "SKIPDATA"));
    }
    // Talks still: nothing of it was in the packets' way.
    let at = SocketAddr::new(server.ipv4.into(), OPEN_PORT);
    talk::udp(&client.netns, &server.netns, at, 100, PATIENCE).unwrap();
}
