//! Tests of `protocol_ports`; what is refused and noted is in `ip_permission`'s.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn what_is_written_is_read_back(protocol: Option<u8>, a: u16, b: u16, any_code: bool, any_type: bool) {
        let protocol = protocol.map_or(Protocol::Any, Protocol::Number);
        let ports = match protocol {
            Protocol::Number(TCP | UDP) => PortRange { first: a.min(b), last: a.max(b) },
            Protocol::Number(ICMP | ICMPV6) if any_type => PortRange::ALL,
            Protocol::Number(ICMP | ICMPV6) if any_code => PortRange { first: a & 0xff00, last: a | 0xff },
            Protocol::Number(ICMP | ICMPV6) => PortRange { first: a, last: a },
            Protocol::Any | Protocol::Number(_) => PortRange::ALL,
        };
        let (ip_protocol, from_port, to_port) = write(protocol, ports);
        let written = Written { ip_protocol: &ip_protocol, from_port, to_port };
        let mut notes = Vec::new();
        prop_assert_eq!(read(written, "p", &mut notes).unwrap(), (protocol, ports));
        prop_assert_eq!(notes, Vec::new());
    }
}
