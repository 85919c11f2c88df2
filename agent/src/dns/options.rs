//! A DHCP option set, as the VPC file has it, checked as EC2's CreateDhcpOptions does. Pure.

use std::net::IpAddr;

use serde::Deserialize;

use crate::field_error::FieldError;

/// Servers that one option may list (CreateDhcpOptions).
const MOST_SERVERS: usize = 4;
/// What stands for the VPC's own resolver.
const AMAZON_PROVIDED: &str = "AmazonProvidedDNS";
/// Characters of a domain name (RFC 1035 section 2.3.4), without its last dot.
const MOST_NAME: usize = 253;

/// A DHCP option set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpOptions {
    /// In order; 1 to 4.
    pub domain_name_servers: Vec<NameServer>,
    /// The search list.
    pub domain_name: Vec<String>,
    /// At most 4.
    pub ntp_servers: Vec<IpAddr>,
}

/// A name server of a DHCP option set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameServer {
    /// The VPC's own resolver.
    AmazonProvided,
    /// Any other.
    Address(IpAddr),
}

/// `dhcp_options`, as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DhcpOptionsTable {
    /// `AmazonProvidedDNS` or addresses; left out, `AmazonProvidedDNS`.
    domain_name_servers: Option<Vec<String>>,
    /// One domain, or several with blanks between.
    domain_name: Option<String>,
    /// Addresses.
    #[serde(default)]
    ntp_servers: Vec<String>,
}

impl DhcpOptions {
    /// The servers' addresses, where `amazons` is the VPC's own.
    #[must_use]
    pub fn addresses(&self, amazons: IpAddr) -> Vec<IpAddr> {
        let address = |server: &NameServer| match server {
            NameServer::AmazonProvided => amazons,
            NameServer::Address(address) => *address,
        };
        self.domain_name_servers.iter().map(address).collect()
    }

    /// Checks the table `dhcp_options`.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(table: &DhcpOptionsTable) -> Result<Self, FieldError> {
        let field = "dhcp_options.domain_name_servers";
        let domain_name_servers = match &table.domain_name_servers {
            None => vec![NameServer::AmazonProvided],
            Some(texts) if texts.is_empty() => {
                let fix = "name 1 to 4 servers, or leave it out for AmazonProvidedDNS";
                return Err(FieldError::new(field, "is empty", fix));
            }
            Some(texts) => list(field, texts, |text| match text {
                AMAZON_PROVIDED => Some(NameServer::AmazonProvided),
                text => text.parse().ok().map(NameServer::Address),
            })?,
        };
        let ntp_servers = list("dhcp_options.ntp_servers", &table.ntp_servers, |text| {
            text.parse().ok()
        })?;
        let names = table.domain_name.as_deref().unwrap_or_default();
        let domain_name: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
        if let Some(wrong) = domain_name.iter().find(|name| !is_domain(name)) {
            return Err(FieldError::new(
                "dhcp_options.domain_name",
                format!("{wrong:?} is no domain name"),
                "write labels of letters, digits and dashes with dots between, as corp.example",
            ));
        }
        Ok(Self {
            domain_name_servers,
            domain_name,
            ntp_servers,
        })
    }
}

fn list<T>(
    field: &str,
    texts: &[String],
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, FieldError> {
    if texts.len() > MOST_SERVERS {
        let problem = format!("lists {} servers", texts.len());
        return Err(FieldError::new(
            field,
            problem,
            format!("list {MOST_SERVERS} at most"),
        ));
    }
    let read = |(index, text): (usize, &String)| {
        read(text).ok_or_else(|| {
            let field = format!("{field}[{index}]");
            let fix = "write an IP address, or AmazonProvidedDNS among the domain_name_servers";
            FieldError::new(field, format!("{text:?} is no server"), fix)
        })
    };
    texts.iter().enumerate().map(read).collect()
}

/// Whether a name may stand in resolv.conf and hosts.
pub(crate) fn is_domain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= MOST_NAME && name.split('.').all(is_label)
}
