//! Tier interop: the stand-in against botocore, whose model of EC2 others made.
//!
//! Needs the Python environment that `cargo xtask setup interop` makes, and no privilege.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use branchline_ec2_stand_in::{Ec2, Imds, Outcome, RouteTarget, World, parameter_names};

fn python(script: &str, arguments: &[String]) {
    let venv = std::env::var_os("BRANCHLINE_VENV").map(PathBuf::from);
    let venv = venv.expect("BRANCHLINE_VENV is not set: run `cargo xtask test interop`");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let status = Command::new(venv.join("bin/python"))
        .arg("-B")
        .arg(folder.join(script))
        .args(arguments)
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_DEFAULT_REGION", "eu-west-1")
        .status()
        .unwrap();
    assert!(status.success(), "{script} failed");
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn every_parameter_is_one_of_botocores_model() {
    let names: serde_json::Value = parameter_names()
        .into_iter()
        .map(|(operation, parameters)| {
            let parameters: serde_json::Map<_, _> = parameters
                .into_iter()
                .map(|(name, form)| (name.to_owned(), form.into()))
                .collect();
            (operation.to_owned(), parameters.into())
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    python("parameters.py", &[names.to_string()]);
}

#[test]
fn botocore_reads_every_answer_of_every_operation() {
    let mut world = World::new("eu-west-1");
    let vpc = world.vpc("10.0.0.0/16", Some("2001:db8::/56"));
    let subnet = world.subnet(
        &vpc,
        "eu-west-1a",
        Some("10.0.1.0/24"),
        Some("2001:db8:0:1::/64"),
    );
    let native = world.subnet(&vpc, "eu-west-1a", None, Some("2001:db8:0:2::/64"));
    world.instance(&subnet, "c5.large");
    let web = world.group(&vpc, "web");
    let list = world.prefix_list("offices", &["192.0.2.0/24", "198.51.100.0/24"]);
    let default_group = world.vpc_mut(&vpc).default_group_id.clone();
    world.ingress(&web, "tcp", Some((80, 443)), &default_group);
    world.ingress(&web, "icmpv6", Some((128, 0)), "2001:db8::/32");
    world.egress(&web, "udp", Some((53, 53)), &list);
    let table = world.route_table(&vpc, &[&native]);
    let (nat, out) = (world.nat_gateway(), world.egress_only_internet_gateway());
    world.route(&table, "0.0.0.0/0", nat);
    world.route(&table, "::/0", out);
    let eni = world.network_interface(&subnet);
    world.route(&table, "203.0.113.0/24", RouteTarget::NetworkInterface(eni));
    let (listener, address) = listen();
    let ec2 = Ec2::start(world, [listener]).unwrap();
    python("calls.py", &[format!("http://{address}")]);
    let done: BTreeSet<String> = ec2
        .calls()
        .into_iter()
        .filter(|call| call.outcome == Outcome::Done)
        .map(|call| call.operation)
        .collect();
    let all: BTreeSet<String> = parameter_names()
        .into_iter()
        .map(|(operation, _)| operation.to_owned())
        .collect();
    assert_eq!(done, all, "operations that succeeded");
}

#[test]
fn botocore_finds_region_and_credentials_in_the_metadata() {
    let mut world = World::new("eu-west-1");
    let vpc = world.vpc("10.0.0.0/16", None);
    let subnet = world.subnet(&vpc, "eu-west-1b", Some("10.0.1.0/24"), None);
    let instance = world.instance(&subnet, "m5.large");
    let ((listener, address), (of_metadata, metadata)) = (listen(), listen());
    let ec2 = Ec2::start(world, [listener]).unwrap();
    let imds = Imds::start(&ec2, &instance, [of_metadata]).unwrap();
    let arguments = [
        format!("http://{address}"),
        format!("http://{metadata}/"),
        instance,
    ];
    python("metadata.py", &arguments);
    let requests = imds.requests();
    let tokens = |(request, _): &&(String, u16)| request == "PUT /latest/api/token";
    assert!(requests.iter().any(|request| tokens(&request)));
    assert!(
        requests.iter().all(|(_, status)| *status == 200),
        "{requests:?}"
    );
    let last = ec2.calls().pop().unwrap();
    assert_eq!(
        (last.operation.as_str(), last.outcome),
        ("DescribeInstances", Outcome::Done)
    );
}
