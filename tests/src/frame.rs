//! Ethernet frames: any addresses, any tags, any payload; and ARP. Judges nothing.

use std::net::IpAddr;

use branchline_common::headers::{arp, ethernet};
use bytes::{BufMut, Bytes, BytesMut};

use crate::packet::{self, Packet};

/// A MAC address.
pub type Mac = [u8; ethernet::MAC_LEN];

/// An Ethernet frame under construction.
#[derive(Clone, Debug)]
pub struct Frame {
    destination: Mac,
    source: Mac,
    /// Protocol and control information of each tag, outermost first.
    tags: Vec<(u16, u16)>,
    ether_type: u16,
    payload: Bytes,
}

impl Frame {
    /// The frame of an IP packet.
    #[must_use]
    pub fn of(source: Mac, destination: Mac, packet: &Packet) -> Self {
        let ether_type = if packet.is_ipv4() {
            ethernet::IPV4
        } else {
            ethernet::IPV6
        };
        Self::new(source, destination, ether_type, packet.bytes())
    }

    /// A frame of any payload.
    #[must_use]
    pub fn new(source: Mac, destination: Mac, ether_type: u16, payload: Bytes) -> Self {
        Self {
            destination,
            source,
            tags: Vec::new(),
            ether_type,
            payload,
        }
    }

    /// The broadcast of an ARP message. A request's target has no MAC address yet.
    #[must_use]
    pub fn arp(operation: [u8; 2], sender: (Mac, &str), target: (Mac, &str)) -> Self {
        let mut message = BytesMut::with_capacity(arp::LEN);
        message.put_slice(&arp::ETHERNET_IPV4);
        message.put_slice(&operation);
        for (mac, address) in [sender, target] {
            message.put_slice(&mac);
            message.put_slice(&ipv4(address));
        }
        Self::new(
            sender.0,
            ethernet::BROADCAST,
            ethernet::ARP,
            message.freeze(),
        )
    }

    /// Adds a VLAN tag inside those that are there.
    #[must_use]
    pub fn tag(mut self, protocol: u16, control: u16) -> Self {
        self.tags.push((protocol, control));
        self
    }

    /// Sets the destination.
    #[must_use]
    pub fn to(mut self, destination: Mac) -> Self {
        self.destination = destination;
        self
    }

    /// The finished frame.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let mut frame = BytesMut::with_capacity(ethernet::LEN + 8 + self.payload.len());
        frame.put_slice(&self.destination);
        frame.put_slice(&self.source);
        for (protocol, control) in &self.tags {
            frame.put_u16(*protocol);
            frame.put_u16(*control);
        }
        frame.put_u16(self.ether_type);
        frame.put_slice(&self.payload);
        frame.freeze()
    }
}

fn ipv4(text: &str) -> [u8; 4] {
    match packet::address(text) {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => panic!("{text} is not an IPv4 address"),
    }
}
