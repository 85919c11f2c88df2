//! `[conntrack]`: the table of connections, its timers, and what is tracked.
//!
//! Says what holds where an ENI sets nothing of its own; which value wins is `eni_settings`'s to say.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::TABLE_ENTRIES;
use crate::connection_tracking::{
    ConnectionTrackingSpecification, Profile, TcpEstablishedTimeout, UdpStreamTimeout, UdpTimeout,
};
use crate::field_error::{FieldError, within};

/// An ENI's share where nothing is set: one part in this many of the table.
const SHARES: u32 = 8;
/// The least such share.
const LEAST_SHARE: u32 = 1024;

/// `[conntrack]`: how connections are tracked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConntrackConfig {
    /// Connections the host tracks at most; past it new ones are refused and counted.
    pub max_entries: u32,
    /// Connections one ENI may track at most; see [`ConntrackConfig::share`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_entries_per_eni: Option<u32>,
    /// Where timers come from that are set nowhere.
    pub profile: Profile,
    /// Seconds after which an established TCP connection without a packet is forgotten, 60 to 432,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_established_timeout: Option<TcpEstablishedTimeout>,
    /// The same for a UDP flow of one direction, or of a single request and answer, 30 to 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_timeout: Option<UdpTimeout>,
    /// The same for a UDP flow of more than one request and answer, 60 to 180.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_stream_timeout: Option<UdpStreamTimeout>,
    /// Whether a tracked TCP connection must begin with a SYN; without it one is taken up in the middle.
    pub tcp_strict: bool,
    /// Whether a rule that is removed ends the connections that it allowed; a group may say otherwise.
    pub cut_on_revoke: bool,
    /// Peers whose flows are tracked even where rules leave both directions open, as AWS does behind
    /// NAT gateways and interface endpoints.
    pub auto_track: Vec<PeerPrefix>,
}

impl Default for ConntrackConfig {
    fn default() -> Self {
        Self {
            max_entries: 262_144,
            max_entries_per_eni: None,
            profile: Profile::Default,
            tcp_established_timeout: None,
            udp_timeout: None,
            udp_stream_timeout: None,
            tcp_strict: false,
            cut_on_revoke: false,
            auto_track: Vec::new(),
        }
    }
}

impl ConntrackConfig {
    /// Connections that an ENI may track which sets no share of its own: `max_entries_per_eni`, or
    /// an eighth of the table and at least 1,024. A task that floods then takes an eighth, and it
    /// takes eight at once to fill the table.
    #[must_use]
    pub fn share(&self) -> u32 {
        let eighth = (self.max_entries / SHARES).max(LEAST_SHARE);
        self.max_entries_per_eni.unwrap_or(eighth)
    }

    /// The timers that are set here.
    #[must_use]
    pub fn timers(&self) -> ConnectionTrackingSpecification {
        ConnectionTrackingSpecification {
            tcp_established_timeout: self.tcp_established_timeout,
            udp_timeout: self.udp_timeout,
            udp_stream_timeout: self.udp_stream_timeout,
        }
    }

    pub(super) fn check(&self) -> Result<(), FieldError> {
        within("conntrack.max_entries", self.max_entries, &TABLE_ENTRIES)?;
        match self.max_entries_per_eni {
            Some(share) => within(
                "conntrack.max_entries_per_eni",
                share,
                &(1..=self.max_entries),
            ),
            None => Ok(()),
        }
    }
}

/// A network of peers without host bits, as `10.0.5.5/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerPrefix(IpNet);

/// Text that is no network of peers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPeerPrefix {
    /// It is no network.
    #[error("{0:?} is no network; write an address and a prefix length, as 10.0.5.5/32")]
    Text(String),
    /// It has bits set behind its prefix.
    #[error("{0} has host bits; write {network}", network = .0.trunc())]
    HostBits(IpNet),
}

impl PeerPrefix {
    /// The network.
    pub fn get(self) -> IpNet {
        self.0
    }
}

impl TryFrom<String> for PeerPrefix {
    type Error = NoPeerPrefix;

    fn try_from(text: String) -> Result<Self, NoPeerPrefix> {
        match text.parse::<IpNet>() {
            Ok(network) if network == network.trunc() => Ok(Self(network)),
            Ok(network) => Err(NoPeerPrefix::HostBits(network)),
            Err(_) => Err(NoPeerPrefix::Text(text)),
        }
    }
}

impl From<PeerPrefix> for String {
    fn from(prefix: PeerPrefix) -> Self {
        prefix.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eni_gets_an_eighth_unless_told_otherwise() {
        for (max_entries, max_entries_per_eni, share) in [
            (262_144, None, 32_768),
            (8_192, None, 1_024),
            (8_191, None, 1_024),
            (1_024, None, 1_024),
            (16_777_216, None, 2_097_152),
            (262_144, Some(1), 1),
            (262_144, Some(262_144), 262_144),
        ] {
            let config = ConntrackConfig {
                max_entries,
                max_entries_per_eni,
                ..ConntrackConfig::default()
            };
            assert_eq!(config.share(), share, "{max_entries}");
        }
    }
}
