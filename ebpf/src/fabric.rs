//! `fabric` and `fabric_gateway`: the local VPC's router on the trunk's far end.
//!
//! It answers ARP and neighbour discovery for every address of the VPC, sends packets for an ENI
//! back by that ENI's trunk and VLAN, and leads the rest to the gateways: the stack of this
//! namespace. As a VPC does, it forwards without touching the time to live. It filters nothing but
//! DHCP between ENIs: security groups are the ENIs' business.

use aya_ebpf::programs::TcContext;
use branchline_common::{
    fabric::{ADVERTISEMENT_LEN, ROUTER, advertisement, arp_reply, is_dhcp, target},
    flow::{Address, NO_ADDRESS, is_neighbour_discovery, mapped},
    headers::{arp, ethernet, icmp, vlan},
    maps::Eni,
    parse::{self, Bytes, Ethernet, Packet},
    verdict::DropReason,
};

use crate::{
    hook::{Drop, PASS},
    maps,
    skb::{self, Frame},
};

/// One frame from a trunk.
#[inline(always)]
pub fn route(ctx: &TcContext) -> Result<i32, Drop> {
    let frame = Frame::new(ctx);
    let link = parse::ethernet(&frame, frame.tag())?;
    // Before any branch: else the compiler carries along what an empty option leaves undefined,
    // which the verifier refuses.
    let vlan = core::hint::black_box(u64::from(link.vlan.unwrap_or(0))) as u16;
    if link.ether_type == ethernet::ARP {
        return Ok(answer_arp(&frame, &link)?);
    }
    let packet = maps::packet().ok_or(DropReason::NoRoute)?;
    parse::packet(&frame, link.payload, link.ether_type, packet)?;
    let packet = core::hint::black_box(packet);
    if is_neighbour_discovery(packet.protocol, packet.icmp_type) {
        return Ok(answer_neighbour(&frame, &link, packet)?);
    }
    if is_dhcp(packet.protocol, packet.source_port, packet.destination_port) {
        return Err(DropReason::NoRoute.into());
    }
    match maps::address(&packet.destination) {
        Some(ROUTER) => Err(DropReason::NoRoute.into()),
        Some(slot) => {
            let eni = maps::eni(slot).ok_or(DropReason::NoRoute)?;
            Ok(forward(&frame, &link, vlan, eni)?)
        }
        None => Ok(leave(&frame, &link, &packet.destination)?),
    }
}

/// One frame from the gateways to an ENI: the stack, which resolves no address here, sends it to
/// the router's own MAC address. What [`route`] sends passes this hook too, addressed to its ENI.
#[inline(always)]
pub fn from_gateway(ctx: &TcContext) -> Result<i32, Drop> {
    let frame = Frame::new(ctx);
    let link = parse::ethernet(&frame, frame.tag())?;
    let router = maps::eni(ROUTER).ok_or(DropReason::NoRoute)?;
    let [first, ..] = link.destination;
    if first & 1 != 0 {
        // Multicast of the stack itself: a VPC has none.
        return Err(DropReason::NoRoute.into());
    }
    if link.destination != router.mac {
        return Ok(PASS);
    }
    let packet = maps::packet().ok_or(DropReason::NoRoute)?;
    parse::packet(&frame, link.payload, link.ether_type, packet)?;
    let packet = core::hint::black_box(packet);
    let slot = maps::address(&packet.destination).ok_or(DropReason::NoRoute)?;
    let eni = maps::eni(slot).ok_or(DropReason::NoRoute)?;
    if slot == ROUTER || link.vlan.is_some() {
        return Err(DropReason::NoRoute.into());
    }
    frame.set_macs(eni.mac, router.mac)?;
    if eni.vlan != 0 {
        frame.push_vlan(eni.vlan)?;
    }
    if eni.fabric_ifindex == frame.ifindex() {
        return Ok(PASS);
    }
    Ok(skb::send(eni.fabric_ifindex)?)
}

/// Sends the frame on to an ENI. Between subnets the router's address becomes the source; within
/// one the peer's own stays.
#[inline(always)]
fn forward(frame: &Frame, link: &Ethernet, vlan: u16, eni: &Eni) -> Result<i32, DropReason> {
    let router = maps::eni(ROUTER).ok_or(DropReason::NoRoute)?;
    let source = if link.destination == router.mac {
        router.mac
    } else {
        link.source
    };
    frame.set_macs(eni.mac, source)?;
    if vlan != eni.vlan {
        if link.vlan.is_some() {
            frame.pop_vlan()?;
        }
        if eni.vlan != 0 {
            frame.push_vlan(eni.vlan)?;
        }
    }
    skb::send(eni.fabric_ifindex)
}

/// Leads a packet for no ENI where the route table says.
#[inline(always)]
fn leave(frame: &Frame, link: &Ethernet, destination: &Address) -> Result<i32, DropReason> {
    match maps::route(destination) {
        Some(route) if route.target == target::GATEWAY => {
            if link.vlan.is_some() {
                frame.pop_vlan()?;
            }
            frame.set_host()?;
            Ok(PASS)
        }
        Some(_) | None => Err(DropReason::NoRoute),
    }
}

/// The MAC address behind an address of the VPC, unless it is the asker's own.
#[inline(always)]
fn mac_of(address: &Address, link: &Ethernet) -> Result<[u8; ethernet::MAC_LEN], DropReason> {
    let slot = maps::address(address).ok_or(DropReason::NoRoute)?;
    let eni = maps::eni(slot).ok_or(DropReason::NoRoute)?;
    if eni.mac == link.source {
        Err(DropReason::NoRoute)
    } else {
        Ok(eni.mac)
    }
}

#[inline(always)]
fn answer_arp(frame: &Frame, link: &Ethernet) -> Result<i32, DropReason> {
    let request: [u8; arp::LEN] = frame.read(link.payload).ok_or(DropReason::Truncated)?;
    let mut operation = [0; 2];
    operation.copy_from_slice(&request[arp::OPERATION..arp::SENDER_MAC]);
    if operation != arp::REQUEST {
        return Err(DropReason::NoRoute);
    }
    let mut target = [0; 4];
    target.copy_from_slice(&request[arp::TARGET_IP..arp::LEN]);
    let mac = mac_of(&mapped(target), link)?;
    frame.write(link.payload, &arp_reply(&request, mac))?;
    frame.set_macs(link.source, mac)?;
    skb::send(frame.ifindex())
}

#[inline(always)]
fn answer_neighbour(frame: &Frame, link: &Ethernet, packet: &Packet) -> Result<i32, DropReason> {
    if packet.icmp_type != icmp::NEIGHBOUR_SOLICITATION || packet.source == NO_ADDRESS {
        return Err(DropReason::NoRoute);
    }
    let target: Address = frame
        .read(packet.transport + icmp::NEIGHBOUR_TARGET)
        .ok_or(DropReason::Truncated)?;
    let mac = mac_of(&target, link)?;
    frame.set_len(link.payload + ADVERTISEMENT_LEN)?;
    let reply = advertisement(&target, &packet.source, mac);
    if link.payload == ethernet::LEN {
        frame.write(ethernet::LEN, &reply)?;
    } else {
        frame.write(ethernet::LEN + vlan::LEN, &reply)?;
    }
    frame.set_macs(link.source, mac)?;
    skb::send(frame.ifindex())
}
