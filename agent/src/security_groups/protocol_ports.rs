//! The written form of protocol and ports (`IpProtocol`, `FromPort`, `ToPort`), to and from what a rule keeps. Pure.
//!
//! Follows EC2's `IpPermission` API page: protocol names and numbers, ICMP type and code, discarded ports.

use branchline_common::headers::protocol::{ICMP, ICMPV6, TCP, UDP};

use super::rule::{PortRange, Protocol};
use crate::field_error::{FieldError, FieldNote};

/// What a rule of any form says of protocol and ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written<'a> {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number from 0 to 255, or `-1` for all.
    pub(super) ip_protocol: &'a str,
    /// First destination port, or ICMP type; `-1` is any.
    pub(super) from_port: Option<i64>,
    /// Last destination port, or ICMP code; `-1` is any.
    pub(super) to_port: Option<i64>,
}

/// Reads what the table at `field` says.
pub(super) fn read(
    written: Written<'_>,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<(Protocol, PortRange), FieldError> {
    let protocol = protocol(written.ip_protocol, field, notes)?;
    let (from, to) = (written.from_port, written.to_port);
    let ports = match protocol {
        Protocol::Number(TCP | UDP) => port_range(from, to, field, notes)?,
        Protocol::Number(ICMP) if from.is_none() && to.is_none() => {
            let what = "the ICMP type, -1 for any, and to_port, the code";
            return Err(missing(field, "from_port", what));
        }
        Protocol::Number(ICMP | ICMPV6) => icmp_range(from, to, field)?,
        Protocol::Any | Protocol::Number(_) => {
            if let Some(port) = [from, to].into_iter().flatten().find(|port| *port != -1) {
                let note = format!("{port} is discarded: protocol {protocol} has no ports");
                notes.push(FieldNote::new(format!("{field}.from_port"), note));
            }
            PortRange::ALL
        }
    };
    Ok((protocol, ports))
}

/// The form that reads back as `protocol` and `ports`: (`IpProtocol`, `FromPort`, `ToPort`).
pub(super) fn write(protocol: Protocol, ports: PortRange) -> (String, Option<i64>, Option<i64>) {
    let (from, to) = match protocol {
        Protocol::Number(TCP | UDP) => (Some(ports.first.into()), Some(ports.last.into())),
        Protocol::Number(ICMP | ICMPV6) if ports == PortRange::ALL => (Some(-1), Some(-1)),
        Protocol::Number(ICMP | ICMPV6) => {
            let code = i64::from(ports.first & 255);
            let any_code = ports.first != ports.last;
            let icmp_type = i64::from(ports.first >> 8);
            (Some(icmp_type), Some(if any_code { -1 } else { code }))
        }
        Protocol::Any | Protocol::Number(_) => (None, None),
    };
    (protocol.to_string(), from, to)
}

fn protocol(text: &str, field: &str, notes: &mut Vec<FieldNote>) -> Result<Protocol, FieldError> {
    let field = format!("{field}.ip_protocol");
    let name = text.to_ascii_lowercase();
    let protocol = match name.as_str() {
        "-1" => Protocol::Any,
        "tcp" => Protocol::Number(TCP),
        "udp" => Protocol::Number(UDP),
        "icmp" => Protocol::Number(ICMP),
        "icmpv6" => Protocol::Number(ICMPV6),
        number => {
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            let number = number.parse().ok().filter(|_| digits);
            Protocol::Number(number.ok_or_else(|| {
                let fix = "write tcp, udp, icmp, icmpv6, a number from 0 to 255, or -1 for all";
                FieldError::new(&field, format!("{text:?} is no protocol"), fix)
            })?)
        }
    };
    let kept = protocol.to_string();
    if kept != text {
        notes.push(FieldNote::new(field, format!("{text} is {kept}")));
    }
    Ok(protocol)
}

fn port_range(
    from: Option<i64>,
    to: Option<i64>,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<PortRange, FieldError> {
    let (from, to) = match (from, to) {
        (None | Some(-1), None | Some(-1)) => {
            let note = "no range is taken as every port, 0 to 65535";
            notes.push(FieldNote::new(format!("{field}.from_port"), note));
            return Ok(PortRange::ALL);
        }
        (None, Some(_)) => return Err(missing(field, "from_port", "the first port")),
        (Some(_), None) => return Err(missing(field, "to_port", "the last port")),
        (Some(from), Some(to)) => (from, to),
    };
    let first = number(from, u16::MAX, &format!("{field}.from_port"), "port")?;
    let last = number(to, u16::MAX, &format!("{field}.to_port"), "port")?;
    if first > last {
        let problem = format!("{first} is above to_port {last}");
        return Err(FieldError::new(
            format!("{field}.from_port"),
            problem,
            "write the smaller port first",
        ));
    }
    Ok(PortRange { first, last })
}

/// ICMP type and code, in the places of the ports.
fn icmp_range(from: Option<i64>, to: Option<i64>, field: &str) -> Result<PortRange, FieldError> {
    match (from, to) {
        (None | Some(-1), None | Some(-1)) => Ok(PortRange::ALL),
        (None, Some(_)) => Err(missing(field, "from_port", "the ICMP type")),
        (Some(-1), Some(code)) => Err(FieldError::new(
            format!("{field}.to_port"),
            format!("{code} is a code, while from_port is -1, any type"),
            "write -1 too",
        )),
        (Some(_), None) => Err(missing(field, "to_port", "the ICMP code, -1 for any")),
        (Some(icmp_type), Some(code)) => {
            let first = number(icmp_type, 255, &format!("{field}.from_port"), "ICMP type")? << 8;
            if code == -1 {
                return Ok(PortRange {
                    first,
                    last: first | 255,
                });
            }
            let code = number(code, 255, &format!("{field}.to_port"), "ICMP code")?;
            Ok(PortRange {
                first: first | code,
                last: first | code,
            })
        }
    }
}

fn missing(field: &str, name: &str, what: &str) -> FieldError {
    FieldError::new(
        format!("{field}.{name}"),
        "is missing",
        format!("add {what}"),
    )
}

fn number(value: i64, max: u16, field: &str, what: &str) -> Result<u16, FieldError> {
    u16::try_from(value)
        .ok()
        .filter(|number| *number <= max)
        .ok_or_else(|| {
            let fix = format!("write a number from 0 to {max}");
            FieldError::new(field, format!("{value} is no {what}"), fix)
        })
}

#[cfg(test)]
#[path = "protocol_ports_tests.rs"]
mod tests;
