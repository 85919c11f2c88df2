//! The frames that the bench sends, and where in them the flow's number goes. Checksums stay 0: no
//! program reads them.

use branchline_common::{
    flow::{Address, is_ipv4},
    headers::{ethernet, ipv4, ipv6, protocol, tcp},
};

/// Bytes behind the transport header.
const PAYLOAD: usize = 32;

/// A frame, and the places that tell its flow from others.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// Offset of the last two bytes of the remote end's address.
    pub(crate) address_at: u32,
    /// Offset of the remote end's port.
    pub(crate) port_at: u32,
}

/// One end of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) mac: [u8; 6],
    pub(crate) address: Address,
    pub(crate) port: u16,
}

/// A frame from `source` to `destination`; the flow's number goes into the source if
/// `is_remote_source`. TCP with these control bits, or UDP if there are none.
pub(crate) fn frame(
    source: &End,
    destination: &End,
    is_remote_source: bool,
    tcp_flags: Option<u8>,
) -> Frame {
    let transport = match tcp_flags {
        Some(_) => protocol::TCP,
        None => protocol::UDP,
    };
    let mut segment = [source.port.to_be_bytes(), destination.port.to_be_bytes()].concat();
    match tcp_flags {
        Some(flags) => {
            segment.resize(tcp::MIN_LEN + PAYLOAD, 0);
            segment[tcp::DATA_OFFSET] = 5 << 4;
            segment[tcp::FLAGS] = flags;
        }
        None => {
            segment.extend((8 + PAYLOAD as u16).to_be_bytes());
            segment.resize(8 + PAYLOAD, 0);
        }
    }
    let is_ipv4 = is_ipv4(&source.address);
    let (ether_type, header, places) = if is_ipv4 {
        let header = ipv4_header(source, destination, transport, segment.len());
        (
            ethernet::IPV4,
            header,
            (ipv4::SOURCE + 2, ipv4::DESTINATION + 2),
        )
    } else {
        let header = ipv6_header(source, destination, transport, segment.len());
        (
            ethernet::IPV6,
            header,
            (ipv6::SOURCE + 14, ipv6::DESTINATION + 14),
        )
    };
    let mut bytes = [destination.mac, source.mac].concat();
    bytes.extend(ether_type.to_be_bytes());
    bytes.extend(&header);
    let ports = bytes.len();
    bytes.extend(segment);
    let (address, port) = if is_remote_source {
        (places.0, ports)
    } else {
        (places.1, ports + 2)
    };
    Frame {
        bytes,
        address_at: (ethernet::LEN + address) as u32,
        port_at: port as u32,
    }
}

fn ipv4_header(source: &End, destination: &End, protocol: u8, payload: usize) -> Vec<u8> {
    let mut header = vec![0; ipv4::MIN_LEN];
    header[ipv4::VERSION_IHL] = 0x45;
    let length = (ipv4::MIN_LEN + payload) as u16;
    header[ipv4::TOTAL_LENGTH..][..2].copy_from_slice(&length.to_be_bytes());
    header[ipv4::TTL] = 64;
    header[ipv4::PROTOCOL] = protocol;
    header[ipv4::SOURCE..][..4].copy_from_slice(&source.address[12..]);
    header[ipv4::DESTINATION..][..4].copy_from_slice(&destination.address[12..]);
    header
}

fn ipv6_header(source: &End, destination: &End, protocol: u8, payload: usize) -> Vec<u8> {
    let mut header = vec![0; ipv6::LEN];
    header[0] = 0x60;
    header[ipv6::PAYLOAD_LENGTH..][..2].copy_from_slice(&(payload as u16).to_be_bytes());
    header[ipv6::NEXT_HEADER] = protocol;
    header[ipv6::HOP_LIMIT] = 64;
    header[ipv6::SOURCE..][..16].copy_from_slice(&source.address);
    header[ipv6::DESTINATION..][..16].copy_from_slice(&destination.address);
    header
}
