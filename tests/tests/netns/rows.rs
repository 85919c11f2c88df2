//! What fills the rows besides the counts: the rule, whichever agent knew it; the next hop; the way
//! out; the AWS service.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use branchline_tests::{
    host::Host,
    settings::{OPEN_PORT, Settings, VPC},
    talk,
    task::Task,
};

use crate::flow_logs::lines;

/// Epochs of a second that a policy is old after which an agent believes what an earlier one says
/// of it, and one more.
const OLD: Duration = Duration::from_millis(4_500);
/// UDP, which nobody listens to.
const FREE_PORT: u16 = 9;
const OUTSIDE: &str = "198.51.100.7:9";

fn rule(id: &str, is_egress: bool, protocol: &str, port: u16, cidr: &str) -> String {
    let ports = if protocol == "-1" {
        String::new()
    } else {
        format!("from_port = {port}\nto_port = {port}\n")
    };
    format!(
        "[[security_groups.security_group_rules]]\n\
         security_group_rule_id = \"sgr-{id}\"\n\
         is_egress = {is_egress}\n\
         ip_protocol = \"{protocol}\"\n\
         {ports}\
         cidr_ipv4 = \"{cidr}\"\n"
    )
}

fn group(name: &str, rules: &[String]) -> String {
    format!(
        "\n[[security_groups]]\ngroup_id = \"sg-{name}\"\ngroup_name = \"{name}\"\n\
         description = \"of this test\"\n{}",
        rules.concat()
    )
}

/// A log of rows of a second.
fn log(fields: &str) -> String {
    format!(
        "[[flow_logs]]\n\
         flow_log_id = \"fl-00000001\"\n\
         dir = \"/run/own\"\n\
         max_aggregation_interval = 1\n\
         rotation = 1\n\
         log_format = \"{fields}\"\n"
    )
}

/// A byte there and back.
fn exchange((one, other): &mut (TcpStream, TcpStream)) {
    let mut byte = [0];
    one.write_all(&[7]).unwrap();
    other.read_exact(&mut byte).unwrap();
    other.write_all(&byte).unwrap();
    one.read_exact(&mut byte).unwrap();
}

/// From a port that the last one of the task was sent from too.
fn send(from: &Task, to: SocketAddr) {
    let local = SocketAddr::new(talk::unspecified(to.ip()).ip(), 4_000);
    let socket = talk::udp_at(&from.netns, local).unwrap();
    socket.send_to(&[0; 100], to).unwrap();
}

/// Of every row with these first words, the rest.
fn rests<'a>(lines: &'a [String], first: &str) -> Vec<&'a str> {
    let rests = lines.iter().filter_map(|line| line.strip_prefix(first));
    rests.map(str::trim_start).collect()
}

#[test]
fn rows_name_the_rule_of_an_earlier_agent() {
    let inside = "10.0.0.0/16";
    let out = || rule("0000000e", true, "tcp", OPEN_PORT, inside);
    let kept = [rule("0000000a", false, "tcp", OPEN_PORT, inside), out()];
    let free = [
        rule("000000f1", false, "-1", 0, "0.0.0.0/0"),
        rule("000000f2", true, "-1", 0, "0.0.0.0/0"),
    ];
    let settings = Settings {
        more_flow_logs: log("interface-id flow-direction protocol bl-rule-id bl-group-id"),
        vpc: format!("{VPC}{}{}", group("kept", &kept), group("free", &free)),
        ..Settings::default()
    };
    let host = Host::new("rule-book", settings).unwrap();
    host.start_agent().unwrap();
    let add = |id, group| host.add_task(id, &["subnet-a"], &[group]).unwrap();
    let (server, client) = (add("server", "sg-kept"), add("client", "sg-kept"));
    let (one, other) = (add("one", "sg-free"), add("other", "sg-free"));
    let at = SocketAddr::new(server.ipv4.into(), OPEN_PORT);
    let free_at = SocketAddr::new(other.ipv4.into(), FREE_PORT);
    let connect = || talk::connection(&client.netns, &server.netns, at).unwrap();
    let mut old = connect();
    exchange(&mut old);

    // Other rules have the numbers from here on. The connection's own is gone.
    let changed = [
        rule("0000000b", false, "tcp", 8, "0.0.0.0/0"),
        rule("0000000c", false, "tcp", OPEN_PORT, inside),
        out(),
    ];
    host.run(|| fs::write("/run/groups.toml", group("kept", &changed)))
        .unwrap();
    host.branchline_ok(&["sg", "apply", "/run/groups.toml"])
        .unwrap();
    let mut young = connect();
    // In each round a second of packets before the agent goes, and one while it is away.
    for round in 0..2 {
        thread::sleep(OLD);
        let mut speak = || {
            exchange(&mut old);
            exchange(&mut young);
            send(&one, free_at);
        };
        speak();
        if round == 0 {
            host.kill_agent().unwrap();
        } else {
            host.stop_agent().unwrap();
        }
        speak();
        host.start_agent().unwrap();
        speak();
        thread::sleep(Duration::from_millis(1_100));
        speak();
    }
    host.stop_agent().unwrap();

    let lines = lines(&host, "/run/own");
    let said = |eni: &Task, first: &str| -> Vec<String> {
        let mut said: Vec<String> = rests(&lines, &format!("{} {first}", eni.eni_id))
            .into_iter()
            .map(str::to_owned)
            .collect();
        said.sort();
        said
    };
    // Two connections and two rules at the server, one rule at the client.
    let mut of_server = said(&server, "ingress 6");
    let rows = of_server.len();
    of_server.dedup();
    assert_eq!(of_server, ["sgr-0000000a sg-kept", "sgr-0000000c sg-kept"]);
    assert!(rows >= 10, "{rows} rows: {lines:#?}");
    let mut of_client = said(&client, "egress 6");
    of_client.dedup();
    assert_eq!(of_client, ["sgr-0000000e sg-kept"]);
    for (eni, direction, expected) in [
        (&one, "egress", "sgr-000000f2 sg-free"),
        (&other, "ingress", "sgr-000000f1 sg-free"),
    ] {
        let mut rules = said(eni, &format!("{direction} 17"));
        assert!(rules.len() >= 4, "{direction}: {rules:?}");
        rules.dedup();
        assert_eq!(rules, [expected], "{direction}");
    }
}

#[test]
fn rows_name_the_next_hop_the_way_out_and_the_service() {
    const FIELDS: &str = "interface-id flow-direction pkt-dstaddr traffic-path \
                          next-hop-interface-id next-hop-subnet-id pkt-dst-aws-service";
    for nat_gateway in [true, false] {
        let settings = Settings {
            more_flow_logs: log(FIELDS),
            top_level: "flow_records.ip_ranges = \"ip-ranges.json\"".to_owned(),
            nat_gateway,
            ..Settings::default()
        };
        let host = Host::new("hops", settings).unwrap();
        let damaged = "{\"prefixes\": [{\"ip_prefix\": \"198.51.100.0\", \"service\": \"S3\"}]}";
        host.run(|| fs::write("/run/ip-ranges.json", damaged))
            .unwrap();
        let refused = format!("{:#}", host.start_agent().unwrap_err());
        let said = "flow_records.ip_ranges: /run/ip-ranges.json: prefixes[0].ip_prefix";
        assert!(refused.contains(said), "{refused}");
        let ranges = "{\"prefixes\": [{\"ip_prefix\": \"198.51.100.0/24\", \"service\": \"S3\"}], \
                       \"ipv6_prefixes\": []}";
        host.run(|| fs::write("/run/ip-ranges.json", ranges))
            .unwrap();
        host.start_agent().unwrap();
        let server = host
            .add_task("server", &["subnet-b"], &["sg-server"])
            .unwrap();
        let client = host
            .add_task("client", &["subnet-a"], &["sg-client"])
            .unwrap();
        for address in server.addresses() {
            send(&client, SocketAddr::new(address, OPEN_PORT));
        }
        for outside in [OUTSIDE, "[2001:db8:ffff::7]:9"] {
            send(&client, outside.parse().unwrap());
        }
        thread::sleep(Duration::from_millis(300));
        host.stop_agent().unwrap();
        let lines = lines(&host, "/run/own");
        let (nat, eigw) = if nat_gateway { ("1", "8") } else { ("-", "-") };
        let to_server = format!("1 {} subnet-b -", server.eni_id);
        for (address, expected) in [
            (server.ipv4.into(), to_server.clone()),
            (server.ipv6.into(), to_server),
            (
                "198.51.100.7".parse::<IpAddr>().unwrap(),
                format!("{nat} - - S3"),
            ),
            ("2001:db8:ffff::7".parse().unwrap(), format!("{eigw} - - -")),
        ] {
            let rows = rests(&lines, &format!("{} egress {address} ", client.eni_id));
            assert_eq!(rows, [expected], "{address}: {lines:#?}");
        }
        for address in server.addresses() {
            let rows = rests(&lines, &format!("{} ingress {address} ", server.eni_id));
            assert_eq!(rows, [format!("- {} subnet-a -", client.eni_id)]);
        }
    }
}
