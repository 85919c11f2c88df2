//! AWS's published networks (`ip-ranges.json`): which service an address belongs to.
//!
//! Format: "AWS IP address ranges", VPC user guide. Read once, at the agent's start.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

use crate::field_error::{FieldError, from_json};
use crate::prefix_map::PrefixMap;

/// The service that every network of AWS belongs to, besides one of its own.
const ALL: &str = "AMAZON";

/// Services by network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpRanges(PrefixMap<String>);

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IpRangesError {
    /// It cannot be read.
    #[error(
        "flow_records.ip_ranges: read {}; put AWS's ip-ranges.json there, or leave the field out",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A field of it is wrong.
    #[error(
        "flow_records.ip_ranges: {}: {source}; get the file anew from https://ip-ranges.amazonaws.com/ip-ranges.json",
        path.display()
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which field.
        #[source]
        source: FieldError,
    },
}

/// What of the file is read.
#[derive(Deserialize)]
struct File {
    prefixes: Vec<Ipv4Prefix>,
    ipv6_prefixes: Vec<Ipv6Prefix>,
}

#[derive(Deserialize)]
struct Ipv4Prefix {
    ip_prefix: Ipv4Net,
    service: String,
}

#[derive(Deserialize)]
struct Ipv6Prefix {
    ipv6_prefix: Ipv6Net,
    service: String,
}

impl IpRanges {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Each variant.
    pub fn load(path: &Path) -> Result<Self, IpRangesError> {
        let text = std::fs::read(path).map_err(|source| IpRangesError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|source| IpRangesError::Invalid {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// The first field that is wrong, or the line where the text stops being JSON.
    pub fn parse(text: &[u8]) -> Result<Self, FieldError> {
        let File {
            prefixes,
            ipv6_prefixes,
        } = from_json(text)?;
        let ipv4 = prefixes.into_iter().zip(0..).map(|(prefix, index)| {
            check_service(&prefix.service, || format!("prefixes[{index}].service"))?;
            Ok((IpNet::V4(prefix.ip_prefix), prefix.service))
        });
        let ipv6 = ipv6_prefixes.into_iter().zip(0..).map(|(prefix, index)| {
            check_service(&prefix.service, || {
                format!("ipv6_prefixes[{index}].service")
            })?;
            Ok((IpNet::V6(prefix.ipv6_prefix), prefix.service))
        });
        let mut networks = ipv4.chain(ipv6).collect::<Result<Vec<_>, FieldError>>()?;
        // Of equal networks the first counts.
        networks.sort_by_key(|(_, service)| service == ALL);
        Ok(Self(networks.into_iter().collect()))
    }

    /// The service that `address` belongs to, as `S3`: that of the longest network that holds it,
    /// and `AMAZON` only where that has no other.
    #[must_use]
    pub fn service(&self, address: IpAddr) -> Option<&str> {
        self.0.get(address).map(String::as_str)
    }
}

/// A service stands in a row as it is.
fn check_service(service: &str, field: impl Fn() -> String) -> Result<(), FieldError> {
    let is_allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if !service.is_empty() && service.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(FieldError::new(
        field(),
        format!("{service:?} is no name of a service"),
        "write capitals, digits and underscores, as ROUTE53_HEALTHCHECKS",
    ))
}

#[cfg(test)]
#[path = "ip_ranges_tests.rs"]
mod tests;
