//! What `branch_egress` leads to this host's own services instead of the VPC.

use branchline_common::{
    account::Segments,
    headers::{arp, protocol},
    maps::{
        SERVICES_MAC,
        eni::{HOSTED_DNS, SOURCE_DEST_CHECK},
    },
    verdict::{
        Direction,
        Verdict::{self, Allow, Exempt},
    },
};
use branchline_tests::{
    case::{EniSpec, case},
    frame::Frame,
    loaded::{Loaded, with_shared},
    packet::{Packet, icmp, raw, tcp, udp},
    world::World,
};

const SYN: u8 = 2;
const OPEN: &[&str] = &["egress all 0.0.0.0/0", "egress all ::/0"];
const TASK: &str = "10.0.1.10:40000";
const TASK6: &str = "[2001:db8:1:1::10]:40000";

fn eni(flags: u32) -> EniSpec {
    EniSpec {
        flags,
        has_services: true,
        ..EniSpec::new(1, OPEN)
    }
}

/// What becomes of the packet of a task, and whether it goes to the services: to their MAC address.
fn sent(loaded: &mut Loaded, eni: &EniSpec, packet: &Packet) -> (Verdict, bool) {
    let frame = eni.frame(Direction::Egress, packet).bytes();
    let verdict = loaded.frame(eni, Direction::Egress, &frame, Segments::default());
    let mut to_services = frame.to_vec();
    to_services[..6].copy_from_slice(&SERVICES_MAC);
    if loaded.output == to_services {
        return (verdict, true);
    }
    // The kernel keeps the tag of the VLAN beside the frame, which is as it was.
    assert_eq!(
        loaded.output, frame,
        "neither to the services nor into the VPC"
    );
    (verdict, false)
}

#[track_caller]
fn check(eni: &EniSpec, rows: &[(&str, Packet, Verdict, bool)]) {
    with_shared(|loaded| {
        let mut of_eni = case("services", &[]);
        of_eni.enis = vec![eni.clone()];
        loaded.set_up(&of_eni);
        for (what, packet, verdict, is_served) in rows {
            assert_eq!(sent(loaded, eni, packet), (*verdict, *is_served), "{what}");
        }
    });
}

#[test]
fn metadata_and_dns_are_led_to_the_services() {
    check(
        &eni(SOURCE_DEST_CHECK | HOSTED_DNS),
        &[
            (
                "task metadata",
                tcp(TASK, "169.254.170.2:80", SYN),
                Exempt,
                true,
            ),
            (
                "another port of it",
                tcp(TASK, "169.254.170.2:81", SYN),
                Exempt,
                false,
            ),
            (
                "another protocol of it",
                udp(TASK, "169.254.170.2:80"),
                Exempt,
                false,
            ),
            (
                "a ping of it",
                icmp("10.0.1.10", "169.254.170.2", 8, 0, 1),
                Exempt,
                false,
            ),
            (
                "instance metadata",
                tcp(TASK, "169.254.169.254:80", SYN),
                Exempt,
                false,
            ),
            ("time", udp(TASK, "169.254.169.123:123"), Exempt, false),
            ("the VPC's resolver", udp(TASK, "10.0.0.2:53"), Exempt, true),
            (
                "the same over TCP",
                tcp(TASK, "10.0.0.2:53", SYN),
                Exempt,
                true,
            ),
            (
                "the local resolver",
                udp(TASK, "169.254.169.253:53"),
                Exempt,
                true,
            ),
            (
                "the resolver over IPv6",
                udp(TASK6, "[fd00:ec2::253]:53"),
                Exempt,
                true,
            ),
            (
                "another port of it",
                udp(TASK, "169.254.169.253:54"),
                Allow,
                false,
            ),
            (
                "a resolver outside",
                udp(TASK, "192.0.2.1:53"),
                Allow,
                false,
            ),
            ("the router", udp(TASK, "10.0.1.1:53"), Exempt, false),
        ],
    );
}

#[test]
fn dns_that_is_not_this_hosts_goes_into_the_vpc() {
    check(
        &eni(SOURCE_DEST_CHECK),
        &[
            (
                "task metadata",
                tcp(TASK, "169.254.170.2:80", SYN),
                Exempt,
                true,
            ),
            (
                "the VPC's resolver",
                udp(TASK, "10.0.0.2:53"),
                Exempt,
                false,
            ),
            (
                "the resolver over IPv6",
                udp(TASK6, "[fd00:ec2::253]:53"),
                Exempt,
                false,
            ),
        ],
    );
}

#[test]
fn a_foreign_source_is_never_led_there() {
    let foreign = "10.0.1.20:40000";
    check(
        &eni(HOSTED_DNS),
        &[
            (
                "task metadata",
                tcp(foreign, "169.254.170.2:80", SYN),
                Exempt,
                false,
            ),
            (
                "the VPC's resolver",
                udp(foreign, "10.0.0.2:53"),
                Exempt,
                false,
            ),
            ("its own", tcp(TASK, "169.254.170.2:80", SYN), Exempt, true),
            (
                "a fragment that hides its port",
                raw("10.0.1.10", "169.254.170.2", protocol::TCP, 40).fragment(1, 64, false),
                Exempt,
                false,
            ),
        ],
    );
}

#[test]
fn a_host_without_services_leads_nothing_there() {
    let eni = EniSpec {
        has_services: false,
        ..eni(HOSTED_DNS)
    };
    check(
        &eni,
        &[
            (
                "task metadata",
                tcp(TASK, "169.254.170.2:80", SYN),
                Exempt,
                false,
            ),
            (
                "the VPC's resolver",
                udp(TASK, "10.0.0.2:53"),
                Exempt,
                false,
            ),
        ],
    );
}

/// The packet before it on the same CPU was for the services.
#[test]
fn arp_stays_on_its_way() {
    let eni = eni(SOURCE_DEST_CHECK);
    with_shared(|loaded| {
        let mut of_eni = case("services", &[]);
        of_eni.enis = vec![eni.clone()];
        loaded.set_up(&of_eni);
        let metadata = tcp(TASK, "169.254.170.2:80", SYN);
        assert_eq!(sent(loaded, &eni, &metadata), (Exempt, true));
        let request = Frame::arp(arp::REQUEST, (eni.mac(), "10.0.1.10"), ([0; 6], "10.0.1.1"));
        let frame = request.bytes();
        let verdict = loaded.frame(&eni, Direction::Egress, &frame, Segments::default());
        assert_eq!(verdict, Exempt);
        assert_ne!(loaded.output[..6], SERVICES_MAC);
    });
}
