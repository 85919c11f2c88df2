//! Tests of `task_check`'s comparison.

use std::net::IpAddr;

use super::*;
use crate::link_name::LinkName;
use crate::task_record::tests::record;

const HOST_INDEX: u32 = 7;
const INDEX: u32 = 2;

fn wanted(task: &TaskRecord) -> TaskNetwork {
    TaskNetwork::of(&LinkName::default(), &task.eni, 9001)
}

fn link(name: &str, index: u32, peer: u32, mac: Mac) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: Some("veth".to_owned()),
        mac: Some(mac),
        mtu: 9001,
        up: true,
        noarp: false,
        peer_index: Some(peer),
        peer_netns: None,
    }
}

/// All that a sound task has, and an address and a route of its own.
fn sound(task: &TaskRecord) -> Found {
    let wanted = wanted(task);
    let there = wanted.on_link(INDEX);
    let mut inside = Inside {
        is_loopback_up: true,
        link: Some(link("eth0", INDEX, HOST_INDEX, wanted.mac)),
        addresses: there.addresses,
        routes: there.routes,
        neighbours: there.neighbours,
    };
    if let (Some(address), Some(route)) = (
        inside.addresses.first().copied(),
        inside.routes.first().copied(),
    ) {
        inside.addresses.push(Address { link: 9, ..address });
        inside.routes.push(Route { link: 9, ..route });
    }
    Found {
        host_link: Some(link(&task.host_link, HOST_INDEX, INDEX, Mac([6; 6]))),
        block: Some(BRANCH_BLOCK),
        program: Some(program::BRANCH_EGRESS.to_owned()),
        eni_link: None,
        is_plugged: true,
        inside: Some(inside),
        services_lack: Vec::new(),
    }
}

/// What is said when `change` has befallen a sound task.
fn said(change: impl FnOnce(&mut Found)) -> Vec<String> {
    let task = record("web");
    let mut found = sound(&task);
    change(&mut found);
    let differences = differences(&task, &wanted(&task), &found);
    differences.iter().map(ToString::to_string).collect()
}

fn inside(change: impl FnOnce(&mut Inside)) -> impl FnOnce(&mut Found) {
    |found| change(found.inside.as_mut().expect("the namespace is there"))
}

fn inner_link(change: impl FnOnce(&mut Link)) -> impl FnOnce(&mut Found) {
    inside(|inside| change(inside.link.as_mut().expect("the link is there")))
}

fn host_link(change: impl FnOnce(&mut Link)) -> impl FnOnce(&mut Found) {
    |found| change(found.host_link.as_mut().expect("the link is there"))
}

#[test]
fn a_sound_task_differs_in_nothing() {
    assert_eq!(said(|_| ()), [""; 0]);
}

#[test]
fn what_is_wrong_on_the_host_is_named() {
    let name = "bl456789abcdef0";
    let rows: [(Vec<String>, String); 7] = [
        (
            said(|found| found.host_link = None),
            format!("host link {name}: expected to be there, found none"),
        ),
        (
            said(host_link(|link| link.up = false)),
            format!("host link {name}: expected up, found down"),
        ),
        (
            said(host_link(|link| link.kind = Some("dummy".to_owned()))),
            format!("host link {name} kind: expected veth, found dummy"),
        ),
        (
            said(|found| found.block = None),
            format!("TC block of host link {name}: expected {BRANCH_BLOCK}, found none"),
        ),
        (
            said(|found| found.program = Some("other".to_owned())),
            "program of the branches: expected branch_egress, found other".to_owned(),
        ),
        (
            said(|found| found.services_lack = vec!["route 0.0.0.0/0 over services".to_owned()]),
            "route 0.0.0.0/0 over services of the host's services: expected to be there, found none"
                .to_owned(),
        ),
        (
            said(|found| found.is_plugged = false),
            "eni-0123456789abcdef0 in the data plane: expected its entries, found others, or none"
                .to_owned(),
        ),
    ];
    for (said, expected) in rows {
        assert_eq!(said, [expected]);
    }
}

#[test]
fn what_is_wrong_inside_is_named() {
    let rows = [
        (
            said(|found| found.inside = None),
            "network namespace /run/netns/branchline-web: expected to be there, found none",
        ),
        (
            said(inside(|inside| inside.is_loopback_up = false)),
            "lo: expected up, found down",
        ),
        (
            said(inside(|inside| inside.link = None)),
            "link eth0: expected to be there, found none",
        ),
        (
            said(inner_link(|link| link.up = false)),
            "link eth0: expected up, found down",
        ),
        (
            said(inner_link(|link| link.peer_index = Some(8))),
            "link eth0: expected the other end of bl456789abcdef0, found another link",
        ),
        (
            said(inner_link(|link| link.mac = Some(Mac([2; 6])))),
            "MAC address of eth0: expected 0a:00:00:00:00:01, found 02:02:02:02:02:02",
        ),
        (
            said(inner_link(|link| link.mtu = 1500)),
            "MTU of eth0: expected 9001, found 1500",
        ),
        (
            said(inside(|inside| {
                inside
                    .addresses
                    .retain(|each| each.address.addr().is_ipv6() || each.link == 9)
            })),
            "address 10.0.1.10/24 of eth0: expected to be there, found none",
        ),
        (
            said(inside(|inside| {
                inside
                    .routes
                    .retain(|each| each.destination.addr().is_ipv4())
            })),
            "route ::/0 via 2001:db8::1 over eth0: expected to be there, found none",
        ),
        (
            said(inside(|inside| {
                let router: IpAddr = [10, 0, 1, 1].into();
                for each in &mut inside.neighbours {
                    if each.address == router {
                        each.mac = Mac([2; 6]);
                    }
                }
            })),
            "permanent neighbour 10.0.1.1 at 0e:62:6c:00:00:01 on eth0: expected to be there, found none",
        ),
    ];
    for (said, expected) in rows {
        assert_eq!(said, [expected]);
    }
}

#[test]
fn a_task_without_ipv4_has_its_way_to_the_metadata() {
    let mut task = record("web");
    task.eni.ipv4 = None;
    task.eni.router_ipv4 = None;
    let wanted = wanted(&task);
    let mut found = sound(&task);
    assert_eq!(differences(&task, &wanted, &found), []);
    let there = found.inside.as_mut().expect("the namespace is there");
    there.addresses.retain(|each| each.address.addr().is_ipv6());
    there.routes.retain(|each| each.gateway.is_some());
    there.neighbours.retain(|each| each.address.is_ipv6());
    let said = differences(&task, &wanted, &found);
    let said = said.iter().map(|each| each.what.as_str());
    let source = task.eni.metadata_source().expect("it has a VLAN id");
    assert_eq!(
        said.collect::<Vec<_>>(),
        [
            format!("address {source}/32 of eth0"),
            "route 169.254.170.2/32 over eth0".to_owned(),
            "permanent neighbour 169.254.170.2 at 0e:62:6c:00:00:01 on eth0".to_owned(),
        ]
    );
}

#[test]
fn the_link_of_an_eni_that_has_one_of_its_own_is_looked_at() {
    let mut task = record("web");
    task.eni.device = Some("0/1".parse().expect("a device"));
    let wanted = wanted(&task);
    let said = |eni_link: Option<eni_link::Found>| {
        let found = Found {
            eni_link,
            ..sound(&task)
        };
        let all = differences(&task, &wanted, &found).into_iter();
        all.map(|one| format!("{}: {}, {}", one.what, one.expected, one.found))
            .collect::<Vec<_>>()
    };
    let there = eni_link::Found {
        link: Link {
            kind: None,
            noarp: true,
            ..link("ens6", 9, 0, wanted.mac)
        },
        is_attached: true,
        addresses: Vec::new(),
    };
    assert_eq!(said(Some(there.clone())), [""; 0]);
    let [missing] = &said(None)[..] else {
        panic!("one difference");
    };
    assert!(missing.contains(&task.eni.eni_id), "{missing}");
    let mut spoilt = there;
    spoilt.link.up = false;
    spoilt.link.noarp = false;
    spoilt.link.mtu = 68;
    spoilt.is_attached = false;
    spoilt.addresses = vec![Address {
        link: 9,
        address: "192.0.2.1/24".parse().expect("a network"),
        prefix_route: true,
    }];
    let said = said(Some(spoilt));
    assert_eq!(said.len(), 5, "{said:?}");
}
