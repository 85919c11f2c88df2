//! This host's own services as tasks see them: metadata, names, files; and what they are kept from.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    str::FromStr,
    thread,
};

use branchline::{api::TaskDescription, netns::Netns};
use branchline_tests::{
    host::Host,
    settings::{Settings, VPC},
    talk::{PATIENCE, SHORT, is_silence},
    task::{Task, spec},
};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use serde_json::{Value, json};

const SUBNET: &[&str] = &["subnet-a"];
const GROUP: &[&str] = &["sg-client"];
const RESOLVERS: [&str; 3] = ["10.0.0.2", "169.254.169.253", "fd00:ec2::253"];
/// Where the forwarder of these tests is, on the host's loopback.
const FORWARDER: &str = "127.0.0.1:5353";
const NAMED: &str = "enable_dns_hostnames = true\n";

fn settings(vpc: &str) -> Settings {
    Settings {
        top_level: format!("[local.dns]\nforwarders = [\"{FORWARDER}\"]\n"),
        vpc: format!("{vpc}{VPC}"),
        ..Settings::default()
    }
}

fn running(name: &str, settings: Settings) -> Host {
    let host = Host::new(name, settings).unwrap();
    host.start_agent().unwrap();
    host
}

pub(crate) fn shown(host: &Host, id: &str) -> TaskDescription {
    let text = host.branchline_ok(&["task", "show", id, "--json"]).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The path of a task's or container's metadata: what its environment says, without the host.
pub(crate) fn path(environment: &[branchline::api::KeyValuePair]) -> String {
    let [variable] = environment else {
        panic!("{environment:?}");
    };
    assert_eq!(variable.name, "ECS_CONTAINER_METADATA_URI_V4");
    variable
        .value
        .strip_prefix("http://169.254.170.2")
        .unwrap()
        .to_owned()
}

fn connect(netns: &Netns, at: &str) -> io::Result<TcpStream> {
    let at: SocketAddr = at.parse().unwrap();
    netns
        .run(|| TcpStream::connect_timeout(&at, PATIENCE))
        .unwrap()
}

/// What a GET of a path is answered, from inside a task.
pub(crate) fn get(netns: &Netns, path: &str) -> (u16, Value) {
    let mut stream = connect(netns, "169.254.170.2:80").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: metadata\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x4242, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    message
}

pub(crate) fn over_udp(
    netns: &Netns,
    server: &str,
    asked: &Message,
    wait: std::time::Duration,
) -> io::Result<Message> {
    let server = SocketAddr::new(server.parse().unwrap(), 53);
    let any = branchline_tests::talk::unspecified(server.ip());
    let socket = netns.run(|| UdpSocket::bind(any)).unwrap()?;
    socket.set_read_timeout(Some(wait))?;
    socket.connect(server)?;
    socket.send(&asked.to_vec().unwrap())?;
    let mut buffer = [0; 4096];
    let len = socket.recv(&mut buffer)?;
    Ok(Message::from_vec(&buffer[..len]).unwrap())
}

pub(crate) fn over_tcp(netns: &Netns, server: &str, asked: &Message) -> Message {
    let at = SocketAddr::new(server.parse().unwrap(), 53);
    let mut stream = connect(netns, &at.to_string()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let bytes = asked.to_vec().unwrap();
    stream
        .write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(&bytes).unwrap();
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer).unwrap();
    Message::from_vec(&answer).unwrap()
}

fn answers(message: &Message) -> Vec<String> {
    let answers = message.answers.iter();
    answers.map(|record| record.data.to_string()).collect()
}

fn name_of(task: &Task) -> String {
    let [a, b, c, d] = task.ipv4.octets();
    format!("ip-{a}-{b}-{c}-{d}.ec2.internal.")
}

/// A resolver of the host's own: one address for every name, but over UDP only that it does not fit
/// if the name begins with `big`. It ends with this process.
fn forwarder(host: &Host) {
    let (udp, tcp) = host.run(|| {
        (
            UdpSocket::bind(FORWARDER).unwrap(),
            TcpListener::bind(FORWARDER).unwrap(),
        )
    });
    let answer = |question: &[u8], is_udp: bool| {
        let mut message = Message::from_vec(question).unwrap();
        message.metadata.message_type = MessageType::Response;
        let name = message.queries[0].name().clone();
        if is_udp && name.to_string().starts_with("big") {
            message.metadata.truncation = true;
        } else {
            let address = RData::A(A(Ipv4Addr::new(192, 0, 2, 7)));
            message.add_answer(Record::from_rdata(name, 60, address));
        }
        message.to_vec().unwrap()
    };
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, peer)) = udp.recv_from(&mut buffer) {
            udp.send_to(&answer(&buffer[..len], true), peer).unwrap();
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
            stream.read_exact(&mut bytes).unwrap();
            let bytes = answer(&bytes, false);
            let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            stream.write_all(&[&len[..], &bytes].concat()).unwrap();
        }
    });
}

#[test]
fn a_task_is_told_of_itself_and_of_nobody_else() {
    let host = running("metadata", settings(""));
    let mut wish = spec("web", SUBNET, GROUP);
    wish["ecs"] = json!({
        "taskArn": "arn:aws:ecs:us-east-1:123456789012:task/prod/0123",
        "containers": [{"runtimeId": "c0ffee", "name": "app"}],
    });
    assert!(host.add_spec(&wish).unwrap().status.success());
    let web = host.task("web").unwrap();
    let other = host.add_task("other", SUBNET, GROUP).unwrap();
    let (of_web, of_other) = (shown(&host, "web"), shown(&host, "other"));
    let (own, others) = (path(&of_web.environment), path(&of_other.environment));
    let app = path(&of_web.containers[0].environment);

    let (status, task) = get(&web.netns, &format!("{own}/task"));
    assert_eq!(status, 200, "{task}");
    assert_eq!(
        task["TaskARN"],
        "arn:aws:ecs:us-east-1:123456789012:task/prod/0123"
    );
    assert_eq!(task["KnownStatus"], "RUNNING");
    let network = &task["Containers"][1]["Networks"][0];
    assert_eq!(network["IPv4Addresses"], json!([web.ipv4]));
    assert_eq!(network["IPv6Addresses"], json!([web.ipv6]));
    let (_, container) = get(&web.netns, &app);
    assert_eq!(
        (&container["DockerId"], &container["Type"]),
        (&json!("c0ffee"), &json!("NORMAL"))
    );
    let (_, statistics) = get(&web.netns, &format!("{app}/stats"));
    assert!(
        statistics["networks"]["eth0"]["tx_bytes"].as_u64().unwrap() > 0,
        "{statistics}"
    );
    let (_, statistics) = get(&web.netns, &format!("{own}/task/stats"));
    assert!(
        statistics["c0ffee"]["networks"]["eth0"].is_object(),
        "{statistics}"
    );
    let (status, _) = get(&other.netns, &others);
    assert_eq!(status, 200);

    for strange in [&others, &format!("{others}/task"), "/v4/web", "/", "/v3/"] {
        assert_eq!(get(&web.netns, strange).0, 404, "{strange}");
    }
    assert_eq!(get(&other.netns, &app).0, 404);
    // Instance metadata stays out of reach.
    let imds = "169.254.169.254:80".parse().unwrap();
    let blocked = web.run(|| TcpStream::connect_timeout(&imds, SHORT));
    assert!(is_silence(&blocked), "{blocked:?}");
}

#[test]
fn a_task_that_asks_too_often_is_told_so_and_another_is_not() {
    let limited = Settings {
        top_level: "[task_metadata]\nrequests_per_second = 1\nburst = 5\n".to_owned(),
        ..Settings::default()
    };
    let host = running("rate", limited);
    let web = host.add_task("web", SUBNET, GROUP).unwrap();
    let other = host.add_task("other", SUBNET, GROUP).unwrap();
    let of = |id: &str| path(&shown(&host, id).environment);
    let (own, others) = (of("web"), of("other"));
    let statuses: Vec<_> = (0..30).map(|_| get(&web.netns, &own).0).collect();
    assert_eq!(statuses[..5], [200; 5]);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(get(&other.netns, &others).0, 200);
}

#[test]
fn ports_of_a_task_are_its_own() {
    let host = running("ports", settings(NAMED));
    let web = host.add_task("web", SUBNET, GROUP).unwrap();
    let own = path(&shown(&host, "web").environment);
    let (http, dns, dns_tcp) = web.run(|| {
        let any = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        (
            TcpListener::bind(any(80)).unwrap(),
            UdpSocket::bind(any(53)).unwrap(),
            TcpListener::bind(any(53)).unwrap(),
        )
    });
    assert_eq!(get(&web.netns, &own).0, 200);
    let asked = question(&name_of(&web), RecordType::A);
    assert_eq!(
        answers(&over_tcp(&web.netns, RESOLVERS[0], &asked)),
        [web.ipv4.to_string()]
    );
    for listener in [http, dns_tcp] {
        let at = SocketAddr::new(web.ipv4.into(), listener.local_addr().unwrap().port());
        let client = web.run(|| TcpStream::connect(at)).unwrap();
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }
    dns.set_nonblocking(true).unwrap();
    assert_eq!(
        dns.recv(&mut [0; 1]).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

#[test]
fn names_of_tasks_are_answered_and_others_handed_on() {
    let host = running("names", settings(NAMED));
    forwarder(&host);
    let web = host.add_task("web", SUBNET, GROUP).unwrap();
    let db = host.add_task("db", &["subnet-b"], GROUP).unwrap();
    let [a, b, c, d] = db.ipv4.octets();
    let reverse = format!("{d}.{c}.{b}.{a}.in-addr.arpa.");
    let rows = [
        (name_of(&db), RecordType::A, db.ipv4.to_string()),
        (name_of(&db), RecordType::AAAA, db.ipv6.to_string()),
        (reverse, RecordType::PTR, name_of(&db)),
        (
            "www.example.".to_owned(),
            RecordType::A,
            "192.0.2.7".to_owned(),
        ),
    ];
    for server in RESOLVERS {
        for (name, kind, expected) in &rows {
            let asked = question(name, *kind);
            let answer = over_udp(&web.netns, server, &asked, PATIENCE).unwrap();
            assert_eq!(
                answers(&answer),
                [expected.as_str()],
                "{name} {kind} of {server}"
            );
            assert_eq!(answer.metadata.id, 0x4242);
            let answer = over_tcp(&web.netns, server, &asked);
            assert_eq!(
                answers(&answer),
                [expected.as_str()],
                "{name} {kind} of {server}, TCP"
            );
        }
    }
    let unknown = question("ip-10-0-1-77.ec2.internal.", RecordType::A);
    let answer = over_udp(&web.netns, RESOLVERS[0], &unknown, PATIENCE).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    let big = question("big.example.", RecordType::A);
    let cut = over_udp(&web.netns, RESOLVERS[0], &big, PATIENCE).unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty(), "{cut}");
    assert_eq!(
        answers(&over_tcp(&web.netns, RESOLVERS[0], &big)),
        ["192.0.2.7"]
    );

    // The C library's way: resolv.conf, and the search list with the short name.
    let short = name_of(&db);
    let short = short.split('.').next().unwrap();
    let found = host.branchline_ok(&["task", "exec", "web", "--", "getent", "ahostsv4", short]);
    let found = found.unwrap();
    assert!(found.starts_with(&db.ipv4.to_string()), "{found}");

    host.remove_task("db").unwrap();
    let gone = question(&name_of(&db), RecordType::A);
    let answer = over_udp(&web.netns, RESOLVERS[0], &gone, PATIENCE).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn without_a_forwarder_others_names_fail() {
    let alone = Settings {
        top_level: "[local.dns]\nforwarders = []\n".to_owned(),
        ..settings("")
    };
    let host = running("alone", alone);
    let web = host.add_task("web", SUBNET, GROUP).unwrap();
    let asked = question("www.example.", RecordType::A);
    let answer = over_udp(&web.netns, RESOLVERS[0], &asked, PATIENCE).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn services_come_back_with_the_agent() {
    let host = running("again", settings(NAMED));
    let web = host.add_task("web", SUBNET, GROUP).unwrap();
    let own = path(&shown(&host, "web").environment);
    let asked = question(&name_of(&web), RecordType::A);
    let check = || {
        assert_eq!(get(&web.netns, &own).0, 200);
        let answer = over_udp(&web.netns, RESOLVERS[2], &asked, PATIENCE).unwrap();
        assert_eq!(answers(&answer), [web.ipv4.to_string()]);
    };
    check();
    host.kill_agent().unwrap();
    // Nobody listens, and nobody else answers.
    assert!(connect(&web.netns, "169.254.170.2:80").is_err());
    host.start_agent().unwrap();
    check();
    host.stop_agent().unwrap();
    host.start_agent().unwrap();
    check();
}

fn file(host: &Host, path: &std::path::Path) -> Option<String> {
    host.run(|| std::fs::read_to_string(path)).ok()
}

#[test]
fn a_tasks_files_are_there_before_it_runs_and_gone_with_it() {
    let host = running("files", settings(NAMED));
    let web = host.add_task("web", SUBNET, GROUP).unwrap();
    let files = shown(&host, "web").files;
    let name = name_of(&web);
    let name = name.trim_end_matches('.');
    let netns = std::path::Path::new("/run/etc-netns/branchline-web");
    let rows = [
        (
            files.resolv_conf.clone(),
            "search ec2.internal\nnameserver 10.0.0.2\n".to_owned(),
        ),
        (files.hostname.clone().unwrap(), format!("{name}\n")),
    ];
    for (path, expected) in rows {
        assert_eq!(file(&host, &path), Some(expected.clone()));
        assert_eq!(
            file(&host, &netns.join(path.file_name().unwrap())),
            Some(expected)
        );
    }
    let hosts = file(&host, &files.hosts).unwrap();
    assert!(
        hosts.contains(&format!("\n{} {name} ", web.ipv4)),
        "{hosts}"
    );
    // A file that somebody has removed is there again when the agent comes back.
    host.kill_agent().unwrap();
    host.run(|| std::fs::remove_file(&files.hosts)).unwrap();
    host.start_agent().unwrap();
    assert_eq!(file(&host, &files.hosts), Some(hosts));
    host.remove_task("web").unwrap();
    assert!(!host.run(|| netns.exists() || files.hosts.parent().unwrap().exists()));
}

#[test]
fn what_the_vpc_says_of_names_holds_for_tasks_that_start_then() {
    let mut host = running("matrix", settings(""));
    let asks = |task: &Task, wait| {
        let asked = question("ec2.internal.", RecordType::A);
        over_udp(&task.netns, RESOLVERS[1], &asked, wait)
    };
    let first = host.add_task("first", SUBNET, GROUP).unwrap();
    let before = shown(&host, "first");
    assert_eq!(before.dns.host_name, None);
    let resolv_conf = file(&host, &before.files.resolv_conf).unwrap();

    let steps = [
        ("both", "enable_dns_hostnames = true\n", true, true),
        (
            "names",
            "enable_dns_support = false\nenable_dns_hostnames = true\n",
            false,
            false,
        ),
        ("none", "enable_dns_support = false\n", false, false),
        (
            "options",
            "enable_dns_hostnames = true\ndhcp_options = { domain_name_servers = ['192.0.2.1', 'AmazonProvidedDNS'], domain_name = 'corp.example' }\n",
            true,
            true,
        ),
    ];
    for (id, vpc, is_served, is_named) in steps {
        host.stop_agent().unwrap();
        host.set(settings(vpc)).unwrap();
        host.start_agent().unwrap();
        let task = host.add_task(id, SUBNET, GROUP).unwrap();
        let dns = shown(&host, id).dns;
        assert_eq!(dns.host_name.is_some(), is_named, "{id}");
        if is_served {
            asks(&task, PATIENCE).unwrap();
        } else {
            let answer = asks(&task, SHORT);
            assert!(is_silence(&answer), "{id}: {answer:?}");
        }
        let asked = question(&name_of(&task), RecordType::A);
        let answer = over_udp(&first.netns, RESOLVERS[0], &asked, PATIENCE).unwrap();
        assert_eq!(!answer.answers.is_empty(), is_named, "{id}");
        // The first task keeps what it was told.
        assert_eq!(shown(&host, "first").dns, before.dns, "{id}");
        assert_eq!(
            file(&host, &before.files.resolv_conf).as_ref(),
            Some(&resolv_conf)
        );
    }
    let options = file(&host, &shown(&host, "options").files.resolv_conf);
    let expected = "search corp.example\nnameserver 192.0.2.1\nnameserver 10.0.0.2\n";
    assert_eq!(options.as_deref(), Some(expected));
}

#[test]
fn a_task_of_ipv6_only_has_names_and_its_metadata() {
    let subnet =
        "\n[[subnets]]\nsubnet_id = \"subnet-six\"\nipv6_cidr_block = \"2001:db8:1:6::/64\"\n";
    let vpc = Settings {
        vpc: format!("{NAMED}{VPC}{subnet}"),
        ..settings("")
    };
    let host = running("six", vpc);
    let four = host.add_task("four", SUBNET, GROUP).unwrap();
    for id in ["six", "seven"] {
        let added = host.add_spec(&spec(id, &["subnet-six"], GROUP)).unwrap();
        assert!(added.status.success(), "{added:?}");
        let task = shown(&host, id);
        let netns = host.run(|| Netns::open(&task.network_namespace)).unwrap();
        assert_eq!(task.detail("privateIPv4Address"), None);
        let resolv_conf = file(&host, &task.files.resolv_conf).unwrap();
        assert!(
            resolv_conf.ends_with("nameserver fd00:ec2::253\n"),
            "{resolv_conf}"
        );
        let (status, shown) = get(&netns, &path(&task.environment));
        assert_eq!(status, 200, "{shown}");
        let network = &shown["Networks"][0];
        assert_eq!(network["SubnetGatewayIpv6Address"], "2001:db8:1:6::1/64");
        assert_eq!(network.get("IPv4Addresses"), None);
        let asked = question(&name_of(&four), RecordType::AAAA);
        let answer = over_udp(&netns, RESOLVERS[2], &asked, PATIENCE).unwrap();
        assert_eq!(answers(&answer), [four.ipv6.to_string()]);
        // Its address for metadata is good for nothing else.
        let elsewhere = over_udp(&netns, RESOLVERS[1], &asked, SHORT);
        assert!(elsewhere.is_err(), "{elsewhere:?}");
        let from: IpAddr = netns
            .run(|| TcpStream::connect("169.254.170.2:80"))
            .unwrap()
            .unwrap()
            .local_addr()
            .unwrap()
            .ip();
        assert!(from.to_string().starts_with("169.254.176."), "{from}");
    }
}
