//! Networks that a VPC gets or loses while tasks run: their resolvers are the tasks' from then on, or no more.

use std::time::Duration;

use branchline_tests::{
    host::Host,
    talk::{PATIENCE, SHORT, is_silence},
    task::Task,
};
use hickory_proto::{op::ResponseCode, rr::RecordType};

use super::{
    ec2::{eventually, instance_with},
    services::{over_tcp, over_udp, question, shown},
};

const FIRST: &str = "10.0.0.2";
const SECOND: &str = "10.1.0.2";
/// As long as a look and what follows may take.
const LOOKED: Duration = Duration::from_secs(20);

/// What the resolver at `server` says of an address of the second network, by UDP; `None` if nothing answers.
fn said(task: &Task, server: &str) -> Option<ResponseCode> {
    let asked = question("9.9.1.10.in-addr.arpa.", RecordType::PTR);
    match over_udp(&task.netns, server, &asked, SHORT) {
        Ok(answer) => Some(answer.metadata.response_code),
        Err(error) => {
            let silence = Err::<(), _>(error);
            assert!(is_silence(&silence), "{silence:?}");
            None
        }
    }
}

fn is_as_it_should_be(host: &Host, id: &str) -> bool {
    let mut api = host.api().unwrap();
    let check = api.json("GET", &format!("/v1/tasks/{id}/check"), "");
    check.unwrap()["differences"] == serde_json::json!([])
}

#[test]
fn the_resolver_of_a_network_is_there_while_the_vpc_has_the_network() {
    let lines = "poll = 5\ndeadline = 20\n[local.dns]\nforwarders = []";
    let (host, account) = instance_with("ec2-networks", lines);
    host.start_agent().unwrap();
    let before = account.add(&host, "before", &account.client);
    assert_eq!(said(&before, SECOND), None);
    // Of no network of the VPC, and there is nobody to ask.
    assert_eq!(said(&before, FIRST), Some(ResponseCode::ServFail));

    let vpc = account.ec2.state().vpcs.keys().next().unwrap().clone();
    let block = "10.1.0.0/16".parse().unwrap();
    account
        .ec2
        .change(|state| state.associate_cidr_block(&vpc, block));
    eventually("the new resolver", LOOKED, || {
        said(&before, SECOND) == Some(ResponseCode::NXDomain)
    });
    let after = account.add(&host, "after", &account.client);
    for (task, id) in [(&before, "before"), (&after, "after")] {
        for server in [FIRST, SECOND] {
            let row = format!("{id} asks {server}");
            assert_eq!(said(task, server), Some(ResponseCode::NXDomain), "{row}");
            let name = shown(&host, id).dns.host_name.unwrap();
            let answer = over_tcp(&task.netns, server, &question(&name, RecordType::A));
            assert_eq!(answer.answers.len(), 1, "{row}");
        }
        assert!(is_as_it_should_be(&host, id), "{id}");
    }
    // A start goes on with it.
    host.kill_agent().unwrap();
    host.start_agent().unwrap();
    eventually("after a start", PATIENCE, || {
        said(&before, SECOND) == Some(ResponseCode::NXDomain)
    });

    account
        .ec2
        .change(|state| state.disassociate_cidr_block(&vpc, block));
    eventually("it is no resolver any more", LOOKED, || {
        said(&before, SECOND).is_none() && said(&after, SECOND).is_none()
    });
    assert_eq!(said(&before, FIRST), Some(ResponseCode::ServFail));
    for id in ["before", "after"] {
        assert!(is_as_it_should_be(&host, id), "{id}");
    }
    let log = host.log();
    assert!(!log.contains("changed by somebody"), "nothing to mend");
}
