//! The packet that is asked about. Pure.

use std::net::IpAddr;

use branchline_common::flow::{icmp_query, is_icmp};
use branchline_common::headers::protocol::{ICMP, ICMPV6, TCP, UDP};
use branchline_common::verdict::Direction;
use serde::{Deserialize, Serialize};

use crate::field_error::FieldError;

/// The body of `POST /v1/explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Who sends: a task's id or an address.
    pub from: String,
    /// Who receives: a task's id or an address. One of the two is a task.
    pub to: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or a number from 0 to 255.
    pub protocol: String,
    /// Destination port, of TCP and UDP.
    pub port: Option<u16>,
    /// Source port, of TCP and UDP; 50000 if left out. No rule asks for it, but exemptions do.
    pub source_port: Option<u16>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// ICMP code; 0 if left out.
    pub icmp_code: Option<u8>,
    /// Between two tasks: by IPv6 though both have IPv4.
    #[serde(default)]
    pub ipv6: bool,
}

/// A packet that opens a flow: of TCP a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Opening {
    /// Source address.
    #[schema(value_type = String)]
    pub source: IpAddr,
    /// Destination address, of the same family.
    #[schema(value_type = String)]
    pub destination: IpAddr,
    /// IANA number.
    pub protocol: u8,
    /// 0 where the protocol has no ports.
    pub source_port: u16,
    /// 0 where the protocol has no ports.
    pub destination_port: u16,
    /// 0 where the protocol is not ICMP.
    pub icmp_type: u8,
    /// 0 where the protocol is not ICMP.
    pub icmp_code: u8,
}

/// A source port as clients have it.
const SOURCE_PORT: u16 = 50_000;

impl ExplainRequest {
    /// The packet from `source` to `destination` that is asked about.
    ///
    /// # Errors
    /// The field that does not fit the protocol, or the protocol that does not exist in the addresses' family.
    pub fn opening(&self, source: IpAddr, destination: IpAddr) -> Result<Opening, FieldError> {
        if source.is_ipv4() != destination.is_ipv4() {
            let problem = format!("{source} and {destination} are of two families");
            return Err(FieldError::new("to", problem, "give ends of one family"));
        }
        let protocol = self.protocol_number()?;
        let other_familys = if source.is_ipv4() { ICMPV6 } else { ICMP };
        if protocol == other_familys {
            let problem = format!("{:?} does not exist between these ends", self.protocol);
            let fix = "icmp is of IPv4, icmpv6 of IPv6";
            return Err(FieldError::new("protocol", problem, fix));
        }
        let has_ports = matches!(protocol, TCP | UDP);
        let fields = [
            ("port", self.port.is_some(), has_ports, has_ports),
            ("source_port", self.source_port.is_some(), has_ports, false),
            (
                "icmp_type",
                self.icmp_type.is_some(),
                is_icmp(protocol),
                is_icmp(protocol),
            ),
            (
                "icmp_code",
                self.icmp_code.is_some(),
                is_icmp(protocol),
                false,
            ),
        ];
        for (field, is_there, may_be, must_be) in fields {
            if must_be && !is_there {
                let problem = format!("is missing, and {} packets have one", self.protocol);
                return Err(FieldError::new(field, problem, "write it"));
            }
            if is_there && !may_be {
                let problem = format!("{} packets have none", self.protocol);
                return Err(FieldError::new(field, problem, "leave it out"));
            }
        }
        let source_port = self.source_port.unwrap_or(SOURCE_PORT);
        Ok(Opening {
            source,
            destination,
            protocol,
            source_port: if has_ports { source_port } else { 0 },
            destination_port: self.port.unwrap_or(0),
            icmp_type: self.icmp_type.unwrap_or(0),
            icmp_code: self.icmp_code.unwrap_or(0),
        })
    }

    fn protocol_number(&self) -> Result<u8, FieldError> {
        match self.protocol.to_ascii_lowercase().as_str() {
            "tcp" => Ok(TCP),
            "udp" => Ok(UDP),
            "icmp" => Ok(ICMP),
            "icmpv6" => Ok(ICMPV6),
            number => number.parse().map_err(|_| {
                let problem = format!("{:?} is no protocol", self.protocol);
                let fix = "write tcp, udp, icmp, icmpv6 or a number from 0 to 255";
                FieldError::new("protocol", problem, fix)
            }),
        }
    }
}

impl Opening {
    /// The end that is not the ENI's.
    #[must_use]
    pub fn remote(&self, direction: Direction) -> IpAddr {
        match direction {
            Direction::Ingress => self.source,
            Direction::Egress => self.destination,
        }
    }

    /// What rules compare with their ports: the destination port, of ICMP type and code.
    pub(super) fn rule_port(&self) -> u16 {
        if is_icmp(self.protocol) {
            u16::from_be_bytes([self.icmp_type, self.icmp_code])
        } else {
            self.destination_port
        }
    }

    /// Whether its flow is tracked when rules allow it and do not leave it untracked: all but one-way ICMP.
    pub(super) fn opens_connection(&self) -> bool {
        !is_icmp(self.protocol)
            || matches!(icmp_query(self.protocol, self.icmp_type), Some((_, true)))
    }
}
