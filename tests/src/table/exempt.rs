//! What no group filters, service by service, and the near misses that groups do filter.

use branchline_common::{
    headers::protocol,
    maps::eni::{BLOCK_IMDS, SOURCE_DEST_CHECK},
    verdict::{
        Service,
        Verdict::{self, Deny, Exempt},
    },
};

use super::{DropReason, EGRESS, INGRESS, NO_RULE, SYN, SYN_ACK};
use crate::{
    case::{Case, case},
    packet::{icmp, raw, tcp, udp},
    world::{exempt, rejected},
};

const OPEN: &[&str] = &["egress all 0.0.0.0/0", "egress all ::/0"];
const IMDS: Verdict = Deny(DropReason::Imds);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = services();
    cases.extend(imds());
    cases.extend(dhcp());
    cases.extend(included());
    cases.extend(metadata_source());
    cases
}

/// Services that a flow log includes are counted, and exempt as before.
fn included() -> Vec<Case> {
    const TASK: &str = "10.0.1.10:40000";
    let every = |name: &str| {
        case(name, &[])
            .egress(udp(TASK, "10.0.0.2:53"), Exempt)
            .egress(udp(TASK, "10.0.0.2:53"), Exempt)
            .ingress(udp("10.0.0.2:53", TASK), Exempt)
            .egress(tcp(TASK, "169.254.169.253:53", SYN), Exempt)
            .egress(tcp(TASK, "169.254.169.254:80", SYN), Exempt)
            .egress(icmp("10.0.1.10", "169.254.169.254", 8, 0, 7), Exempt)
            .ingress(udp("[fd00:ec2::123]:123", "[2001:db8:1:1::10]:123"), Exempt)
            // Never counted.
            .egress(udp(TASK, "169.254.170.2:80"), Exempt)
            .egress(udp(TASK, "169.254.169.250:1688"), Exempt)
            .egress(udp(TASK, "10.0.1.1:53"), Exempt)
            .egress(udp("0.0.0.0:68", "255.255.255.255:67"), Exempt)
            .ingress(udp("10.0.0.2:67", "10.0.1.10:68"), Exempt)
            .egress(udp(TASK, "10.0.0.2:54"), NO_RULE)
    };
    let query = exempt(Service::Dns, EGRESS, (40000, 53), (2, 56, 0));
    let answer = exempt(Service::Dns, INGRESS, (40000, 53), (1, 28, 0));
    let stream = exempt(Service::Dns, EGRESS, (40000, 53), (1, 40, 2));
    let request = exempt(Service::Metadata, EGRESS, (40000, 80), (1, 40, 2));
    let ping = exempt(Service::Metadata, EGRESS, (0, 0), (1, 28, 0));
    let time = exempt(Service::TimeSync, INGRESS, (123, 123), (1, 48, 0));
    let refused = rejected(EGRESS, (40000, 54), (1, 28, 0));
    let large = udp("10.0.0.2:53", TASK).data(1472).fragment(81, 0, true);
    let rest = raw("10.0.0.2", "10.0.1.10", protocol::UDP, 100).fragment(81, 1480, false);
    let clock = raw("10.0.1.10", "169.254.169.123", protocol::UDP, 8).fragment(1, 64, false);
    vec![
        every("no service is counted that no flow log includes").leaves([refused.clone()]),
        every("each service that a flow log includes is counted in rows of its own")
            .includes(&Service::ALL)
            .leaves([
                query.clone(),
                answer.clone(),
                stream.clone(),
                request.clone(),
                ping.clone(),
                time.clone(),
                refused.clone(),
            ]),
        every("the resolver is counted alone")
            .includes(&[Service::Dns])
            .leaves([query, answer, stream, refused.clone()]),
        every("instance metadata is counted alone")
            .includes(&[Service::Metadata])
            .leaves([request, ping, refused.clone()]),
        every("time sync is counted alone")
            .includes(&[Service::TimeSync])
            .leaves([time, refused]),
        case("fragments of a service are counted too", &[])
            .includes(&Service::ALL)
            .ingress(large, Exempt)
            .ingress(rest, Exempt)
            .egress(clock, Exempt)
            .leaves([
                exempt(Service::Dns, INGRESS, (40000, 53), (2, 1620, 0)),
                exempt(Service::TimeSync, EGRESS, (0, 0), (1, 28, 0)),
            ]),
        case("blocked instance metadata is not counted", &[])
            .includes(&Service::ALL)
            .flags(SOURCE_DEST_CHECK | BLOCK_IMDS)
            .egress(tcp(TASK, "169.254.169.254:80", SYN), IMDS)
            .leaves([]),
    ]
}

/// Nothing of these is counted or leaves an entry.
fn services() -> Vec<Case> {
    let mut cases = Vec::new();
    for (service, peer) in [
        ("time sync", "169.254.169.123"),
        ("task metadata", "169.254.170.2"),
        ("licence activation", "169.254.169.250"),
        ("the second licence activation", "169.254.169.251"),
        ("instance metadata", "169.254.169.254"),
        ("the subnet's router", "10.0.1.1"),
    ] {
        let end = format!("{peer}:123");
        cases.push(
            case(&format!("traffic with {service} is exempt"), &[])
                .egress(udp("10.0.1.10:123", &end), Exempt)
                .ingress(udp(&end, "10.0.1.10:123"), Exempt)
                .egress(tcp("10.0.1.10:40000", &end, SYN), Exempt)
                .ingress(tcp(&end, "10.0.1.10:40000", SYN_ACK), Exempt)
                .ingress(icmp(peer, "10.0.1.10", 0, 0, 1), Exempt)
                .egress(
                    raw("10.0.1.10", peer, protocol::UDP, 8).fragment(1, 64, false),
                    Exempt,
                )
                .leaves([]),
        );
    }
    for (service, peer) in [
        ("time sync", "fd00:ec2::123"),
        ("licence activation", "fd00:ec2::250"),
        ("instance metadata", "fd00:ec2::254"),
        ("the subnet's router", "2001:db8:1:1::1"),
    ] {
        let end = format!("[{peer}]:123");
        cases.push(
            case(&format!("traffic with {service} over IPv6 is exempt"), &[])
                .egress(udp("[2001:db8:1:1::10]:123", &end), Exempt)
                .ingress(tcp(&end, "[2001:db8:1:1::10]:123", SYN_ACK), Exempt)
                .leaves([]),
        );
    }
    for (resolver, task) in [
        ("10.0.0.2", "10.0.1.10:40000"),
        ("169.254.169.253", "10.0.1.10:40000"),
        ("[fd00:ec2::253]", "[2001:db8:1:1::10]:40000"),
    ] {
        let at = |port: u16| format!("{resolver}:{port}");
        cases.push(
            case(
                &format!("the resolver {resolver} is exempt on port 53 only"),
                &[],
            )
            .egress(udp(task, &at(53)), Exempt)
            .ingress(udp(&at(53), task), Exempt)
            .egress(tcp(task, &at(53), SYN), Exempt)
            .ingress(tcp(&at(53), task, SYN_ACK), Exempt)
            .egress(udp(task, &at(54)), NO_RULE)
            .egress(tcp(task, &at(443), SYN), NO_RULE)
            .ingress(udp(&at(40000), &task.replace(":40000", ":53")), NO_RULE),
        );
    }
    cases.push(
        case("near misses of the services are filtered", &[])
            .egress(udp("10.0.1.10:1", "1.1.1.1:53"), NO_RULE)
            .egress(udp("10.0.1.10:1", "10.0.0.3:53"), NO_RULE)
            .egress(udp("10.0.1.10:1", "169.254.169.252:53"), NO_RULE)
            .egress(udp("10.0.1.10:1", "169.254.169.122:123"), NO_RULE)
            .egress(tcp("10.0.1.10:1", "169.254.170.3:80", SYN), NO_RULE)
            .egress(tcp("10.0.1.10:1", "10.0.1.2:80", SYN), NO_RULE)
            .egress(udp("[2001:db8:1:1::10]:1", "[fd00:ec2::124]:123"), NO_RULE)
            .egress(udp("[2001:db8:1:1::10]:1", "[fd00:ec3::123]:123"), NO_RULE)
            .egress(udp("[2001:db8:1:1::10]:1", "[2001:db8:1:1::2]:1"), NO_RULE)
            .egress(raw("10.0.1.10", "10.0.0.2", 53, 8), NO_RULE),
    );
    cases.push(
        case(
            "an exempt service does not make a forged source good",
            &["egress all 0.0.0.0/0"],
        )
        .egress(
            udp("10.0.1.99:1", "169.254.169.123:123"),
            Deny(DropReason::ForeignSource),
        )
        .egress(
            udp("10.0.1.99:1", "10.0.0.2:53"),
            Deny(DropReason::ForeignSource),
        )
        .leaves([]),
    );
    cases
}

fn imds() -> Vec<Case> {
    vec![
        case(
            "blocked instance metadata gets and gives nothing, and is not logged",
            &["egress all 0.0.0.0/0", "ingress all 0.0.0.0/0"],
        )
        .flags(SOURCE_DEST_CHECK | BLOCK_IMDS)
        .egress(tcp("10.0.1.10:1", "169.254.169.254:80", SYN), IMDS)
        .ingress(tcp("169.254.169.254:80", "10.0.1.10:1", SYN_ACK), IMDS)
        .egress(icmp("10.0.1.10", "169.254.169.254", 8, 0, 1), IMDS)
        .egress(
            raw("10.0.1.10", "169.254.169.254", protocol::TCP, 40).fragment(1, 64, false),
            IMDS,
        )
        .leaves([]),
        case(
            "blocked instance metadata is blocked over IPv6 too",
            &["egress all ::/0"],
        )
        .flags(SOURCE_DEST_CHECK | BLOCK_IMDS)
        .egress(tcp("[2001:db8:1:1::10]:1", "[fd00:ec2::254]:80", SYN), IMDS)
        .leaves([]),
        case("the block is of instance metadata alone", &[])
            .flags(SOURCE_DEST_CHECK | BLOCK_IMDS)
            .egress(tcp("10.0.1.10:1", "169.254.170.2:80", SYN), Exempt)
            .egress(udp("10.0.1.10:1", "169.254.169.253:53"), Exempt),
    ]
}

/// A task without an IPv4 address has one to ask for its metadata, and for that alone.
fn metadata_source() -> Vec<Case> {
    const FOREIGN: Verdict = Deny(DropReason::ForeignSource);
    let open: &[&str] = &["egress all 0.0.0.0/0", "ingress all 0.0.0.0/0"];
    let mut own = case("a task of IPv6 only reaches its metadata", open)
        .address("")
        .egress(tcp("169.254.176.7:1", "169.254.170.2:80", SYN), Exempt)
        .ingress(tcp("169.254.170.2:80", "169.254.176.7:1", SYN_ACK), Exempt)
        .egress(tcp("169.254.176.8:1", "169.254.170.2:80", SYN), FOREIGN)
        .egress(udp("169.254.176.7:1", "169.254.169.253:53"), FOREIGN)
        .egress(tcp("169.254.176.7:1", "10.0.1.20:80", SYN), FOREIGN)
        .ingress(
            tcp("10.0.1.20:80", "169.254.176.7:1", SYN),
            Deny(DropReason::ForeignDestination),
        );
    own.enis[0].metadata_source = "169.254.176.7".to_owned();
    let none = case("another task has no such address", open)
        .egress(tcp("169.254.176.7:1", "169.254.170.2:80", SYN), FOREIGN);
    vec![own, none]
}

fn dhcp() -> Vec<Case> {
    vec![
        case("DHCP between the task's client and a server is exempt", &[])
            .egress(udp("0.0.0.0:68", "255.255.255.255:67"), Exempt)
            .ingress(udp("10.0.1.1:67", "255.255.255.255:68"), Exempt)
            .ingress(udp("198.51.100.7:67", "10.0.1.10:68"), Exempt)
            .leaves([]),
        case(
            "DHCPv6 between the task's client and a server is exempt",
            &[],
        )
        .egress(udp("[fe80::ff:fe00:1]:546", "[ff02::1:2]:547"), Exempt)
        .ingress(udp("[fe80::1]:547", "[fe80::ff:fe00:1]:546"), Exempt)
        .leaves([]),
        case("a task that plays DHCP server or relay is filtered", &[])
            .egress(udp("10.0.1.10:67", "198.51.100.7:68"), NO_RULE)
            .egress(udp("10.0.1.10:67", "198.51.100.7:67"), NO_RULE)
            .ingress(udp("198.51.100.7:68", "10.0.1.10:67"), NO_RULE)
            .egress(
                udp("[2001:db8:1:1::10]:547", "[2001:db8:ffff::7]:546"),
                NO_RULE,
            )
            .leaves([
                rejected(EGRESS, (67, 68), (1, 28, 0)),
                rejected(EGRESS, (67, 67), (1, 28, 0)),
                rejected(INGRESS, (67, 68), (1, 28, 0)),
                rejected(EGRESS, (547, 546), (1, 48, 0)),
            ]),
        case("DHCP gets no forged source out", OPEN)
            .egress(
                udp("10.0.1.20:68", "10.0.1.30:67"),
                Deny(DropReason::ForeignSource),
            )
            .egress(
                udp("[2001:db8:1:1::20]:546", "[ff02::1:2]:547"),
                Deny(DropReason::ForeignSource),
            )
            .egress(udp("10.0.1.10:68", "10.0.1.1:67"), Exempt)
            .egress(udp("[2001:db8:1:1::10]:546", "[ff02::1:2]:547"), Exempt)
            .leaves([]),
        case("ports of DHCP in TCP are filtered", &[])
            .egress(tcp("10.0.1.10:68", "198.51.100.7:67", SYN), NO_RULE),
    ]
}
