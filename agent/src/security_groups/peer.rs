//! The written forms of a rule's peer and description, to what a rule keeps. Pure.
//!
//! Never asks whether a prefix list or a group exists: that is `change`'s.

use std::fmt::Display;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::rule::{GroupReference, Peer};
use crate::field_error::{FieldError, FieldNote, check_id};

/// An IPv4 network, whose host bits are masked.
pub(super) fn ipv4(
    text: &str,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<Peer, FieldError> {
    let network: Ipv4Net = parse(text, field, "10.0.1.0/24")?;
    note_host_bits(text, network, network.trunc(), field, notes);
    Ok(Peer::from(IpNet::V4(network)))
}

/// An IPv6 network, whose host bits are masked.
pub(super) fn ipv6(
    text: &str,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<Peer, FieldError> {
    let network: Ipv6Net = parse(text, field, "2001:db8::/32")?;
    note_host_bits(text, network, network.trunc(), field, notes);
    Ok(Peer::from(IpNet::V6(network)))
}

/// A network of either family, whose host bits are masked.
pub(super) fn network(
    text: &str,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<IpNet, FieldError> {
    let network: IpNet = parse(text, field, "10.0.1.0/24 or 2001:db8::/32")?;
    note_host_bits(text, network, network.trunc(), field, notes);
    Ok(network.trunc())
}

/// The prefix list with this id.
pub(super) fn prefix_list(id: &str, field: &str) -> Result<Peer, FieldError> {
    check_id(id, "pl-", field)?;
    Ok(Peer::PrefixList(id.to_owned()))
}

/// A group, written as the table at `field`.
pub(super) fn group(reference: &GroupReference, field: &str) -> Result<Peer, FieldError> {
    check_id(&reference.group_id, "sg-", &format!("{field}.group_id"))?;
    if let Some(account) = &reference.user_id {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if account.is_empty() || !account.bytes().all(letters) {
            let problem = format!("{account:?} is no account");
            let fix = "write the 12 digits of the account that owns the group, or leave it out";
            return Err(FieldError::new(format!("{field}.user_id"), problem, fix));
        }
    }
    if let Some(id) = &reference.vpc_id {
        check_id(id, "vpc-", &format!("{field}.vpc_id"))?;
    }
    if let Some(id) = &reference.vpc_peering_connection_id {
        check_id(id, "pcx-", &format!("{field}.vpc_peering_connection_id"))?;
    }
    Ok(Peer::Group(reference.clone()))
}

/// Refuses a description EC2 would refuse: over 255 characters, or one outside its set.
pub(super) fn check_description(text: Option<&str>, field: &str) -> Result<(), FieldError> {
    let Some(text) = text else { return Ok(()) };
    if text.chars().count() > 255 {
        return Err(FieldError::new(
            field,
            "is longer than 255 characters",
            "shorten it",
        ));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
    match text.chars().find(|c| !allowed(*c)) {
        None => Ok(()),
        Some(c) => Err(FieldError::new(
            field,
            format!("{text:?} contains {c:?}"),
            "use letters, digits, blanks and ._-:/()#,@[]+=&;{}!$*",
        )),
    }
}

fn parse<T: FromStr>(text: &str, field: &str, example: &str) -> Result<T, FieldError> {
    text.parse().map_err(|_| {
        let fix = format!("write address and prefix length, as {example}");
        FieldError::new(field, format!("{text:?} is no network of this family"), fix)
    })
}

fn note_host_bits<N: PartialEq + Display>(
    text: &str,
    written: N,
    kept: N,
    field: &str,
    notes: &mut Vec<FieldNote>,
) {
    if written != kept {
        notes.push(FieldNote::new(field, format!("{text} is stored as {kept}")));
    }
}
