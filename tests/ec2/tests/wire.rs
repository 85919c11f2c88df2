//! The stand-in over real sockets: what is lost, late or gone there.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use branchline_ec2_stand_in::{Ec2, Ec2Error, Event, Fault, Imds, Outcome, Which, World};

const PATIENCE: Duration = Duration::from_secs(10);
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=AKIA1/20261128/eu-west-1/ec2/aws4_request, SignedHeaders=host, Signature=00";

struct Site {
    ec2: Ec2,
    imds: Imds,
    api: SocketAddr,
    metadata: SocketAddr,
    subnet: String,
    instance: String,
}

impl Site {
    fn start() -> Self {
        let mut world = World::new("eu-west-1");
        let vpc = world.vpc("10.0.0.0/16", None);
        let subnet = world.subnet(&vpc, "eu-west-1a", Some("10.0.0.0/24"), None);
        let instance = world.instance(&subnet, "c5.large");
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (api, metadata) = (listen(), listen());
        let addresses = (api.local_addr().unwrap(), metadata.local_addr().unwrap());
        let ec2 = Ec2::start(world, [api]).unwrap();
        let imds = Imds::start(&ec2, &instance, [metadata]).unwrap();
        Self {
            ec2,
            imds,
            api: addresses.0,
            metadata: addresses.1,
            subnet,
            instance,
        }
    }

    /// The whole answer to a call, or nothing if there was none.
    fn call(&self, query: &str) -> String {
        let body = format!("Version=2016-11-15&Action={query}");
        let head = format!(
            "POST / HTTP/1.1\r\nHost: ec2\r\nConnection: close\r\nAuthorization: {AUTHORIZATION}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        exchange(self.api, &format!("{head}{body}"))
    }

    fn create(&self) -> String {
        let answer = self.call(&format!("CreateNetworkInterface&SubnetId={}", self.subnet));
        between(&answer, "networkInterfaceId")
    }

    /// The status and the body.
    fn metadata(&self, method: &str, path: &str, header: &str) -> (u16, String) {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: imds\r\nConnection: close\r\n{header}\r\n");
        let answer = exchange(self.metadata, &request);
        let status = answer
            .get(9..12)
            .map_or(0, |status| status.parse().unwrap());
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned());
        (status, body.unwrap_or_default())
    }
}

fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Ok(_) => answer,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => answer,
        Err(error) => panic!("{error}"),
    }
}

fn between(body: &str, name: &str) -> String {
    let (_, rest) = body
        .split_once(&format!("<{name}>"))
        .unwrap_or_else(|| panic!("no {name} in {body}"));
    rest.split_once('<').unwrap().0.to_owned()
}

#[test]
fn a_lost_answer_is_a_closed_connection_after_the_effect() {
    let site = Site::start();
    let query = format!("CreateNetworkInterface&SubnetId={}", site.subnet);
    site.ec2.fault(Which::any().nth(1), Fault::LoseAnswer);
    site.ec2.fault(Which::any().nth(2), Fault::Refuse);
    site.ec2.fault(
        Which::any().nth(3),
        Fault::Error(Ec2Error::new("InternalError", "x")),
    );
    assert_eq!(site.call(&query), "");
    assert_eq!(site.ec2.state().network_interfaces.len(), 2);
    assert_eq!(site.call(&query), "");
    assert!(site.call(&query).starts_with("HTTP/1.1 500 "));
    assert_eq!(site.ec2.state().network_interfaces.len(), 2);
    assert_eq!(site.ec2.faults_left(), 0);
    assert!(site.call(&query).starts_with("HTTP/1.1 200 "));
    let outcomes: Vec<_> = site
        .ec2
        .take_calls()
        .into_iter()
        .map(|call| call.outcome)
        .collect();
    let failed = Outcome::Failed("InternalError".to_owned());
    assert_eq!(
        outcomes,
        [Outcome::Unanswered, Outcome::Refused, failed, Outcome::Done]
    );
    assert_eq!(site.ec2.calls(), []);
}

#[test]
fn an_attachment_is_told_of_when_it_is_due_without_another_call() {
    let site = Site::start();
    let delay = Duration::from_millis(100);
    site.ec2.settings(|settings| settings.attach_delay = delay);
    let events = site.ec2.events();
    let eni = site.create();
    let began = Instant::now();
    let instance = &site.instance;
    site.call(&format!(
        "AttachNetworkInterface&NetworkInterfaceId={eni}&InstanceId={instance}&DeviceIndex=1"
    ));
    let Event::Attached {
        network_interface_id,
        mac_address,
        device_index,
        ..
    } = events.recv_timeout(PATIENCE).unwrap()
    else {
        panic!("another event");
    };
    assert!(began.elapsed() >= delay);
    assert_eq!((network_interface_id, device_index), (eni.clone(), 1));
    assert_eq!(
        site.ec2.state().network_interfaces[&eni].mac_address,
        mac_address
    );
}

#[test]
fn latency_is_of_each_call_and_calls_overlap() {
    let site = Site::start();
    let latency = Duration::from_millis(200);
    site.ec2.latency(latency);
    let began = Instant::now();
    let ids: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..20).map(|_| scope.spawn(|| site.create())).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let took = began.elapsed();
    assert_eq!(ids.len(), 20);
    assert!(took >= latency && took < 10 * latency, "{took:?}");
}

#[test]
fn a_stand_in_that_is_dropped_is_gone() {
    let site = Site::start();
    let (api, metadata) = (site.api, site.metadata);
    let mut open = TcpStream::connect(api).unwrap();
    open.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(site);
    assert!(TcpStream::connect(api).is_err() && TcpStream::connect(metadata).is_err());
    assert!(matches!(open.read(&mut [0]), Ok(0) | Err(_)));
    TcpListener::bind(api).unwrap();
}

#[test]
fn what_is_not_the_query_protocol_is_refused() {
    let site = Site::start();
    for request in [
        "GET /?Action=DescribeVpcs&Version=2016-11-15 HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: e\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    ] {
        let answer = exchange(site.api, request);
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("<Code>InvalidRequest<"),
            "{answer}"
        );
    }
    let unsigned = "POST / HTTP/1.1\r\nHost: e\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                    Content-Length: 38\r\n\r\nAction=DescribeVpcs&Version=2016-11-15";
    let answer = exchange(site.api, unsigned);
    assert!(
        answer.starts_with("HTTP/1.1 401 ") && answer.contains("<Code>AuthFailure<"),
        "{answer}"
    );
}

#[test]
fn metadata_needs_a_token_and_fails_as_told() {
    let site = Site::start();
    let ask = "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n";
    let id = "/latest/meta-data/instance-id";
    assert_eq!(site.metadata("GET", id, "").0, 401);
    assert_eq!(site.metadata("PUT", "/latest/api/token", "").0, 400);
    assert_eq!(site.metadata("PUT", "/latest/meta-data/", ask).0, 405);
    let (status, token) = site.metadata("PUT", "/latest/api/token", ask);
    assert_eq!(status, 200);
    let token = format!("X-aws-ec2-metadata-token: {token}\r\n");
    assert_eq!(
        site.metadata("GET", id, &token),
        (200, site.instance.clone())
    );
    assert_eq!(
        site.metadata("GET", "/latest/meta-data/colour", &token).0,
        404
    );
    site.imds.set("meta-data/colour", Some("red"));
    site.imds.set("meta-data/instance-id", None);
    assert_eq!(
        site.metadata("GET", "/latest/meta-data/colour", &token),
        (200, "red".to_owned())
    );
    assert_eq!(site.metadata("GET", id, &token).0, 404);
    site.imds.set("meta-data/instance-id", Some("i-other"));
    assert_eq!(
        site.metadata("GET", id, &token),
        (200, "i-other".to_owned())
    );
    site.imds.fault(Which::of(id).nth(1), Fault::Error(503));
    site.imds.fault(Which::of(id).nth(2), Fault::LoseAnswer);
    let statuses: Vec<u16> = (0..3).map(|_| site.metadata("GET", id, &token).0).collect();
    assert_eq!(statuses, [503, 0, 200]);
    site.imds.forget_tokens();
    assert_eq!(site.metadata("GET", id, &token).0, 401);
    let last = site.imds.requests().pop().unwrap();
    assert_eq!(last, (format!("GET {id}"), 401));
}
