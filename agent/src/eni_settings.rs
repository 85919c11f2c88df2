//! What an ENI has in the data plane besides addresses and groups, resolved from configuration and
//! task specification.
//!
//! Pure. A task's record holds its specification, so a restart resolves the same. Never knows a map.

use branchline_common::conntrack::{State, Timeouts, default_timeouts};
use serde::{Deserialize, Serialize};

use crate::config::ConntrackConfig;
use crate::connection_tracking::ConnectionTrackingConfiguration;
use crate::field_error::FieldError;
use crate::spec::NetworkInterfaceAttributes;

/// The settings of one ENI that are in force. In JSON they have the specification's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EniSettings {
    /// Idle timers, in seconds.
    #[serde(rename = "connectionTrackingConfiguration")]
    pub timeouts: ConnectionTrackingConfiguration,
    /// Whether instance metadata is dropped.
    #[serde(rename = "blockInstanceMetadata")]
    pub block_imds: bool,
    /// Whether packets of foreign addresses are dropped.
    pub source_dest_check: bool,
    /// Connections the ENI tracks at most; past it new ones are refused and counted.
    #[serde(rename = "maxTrackedConnections")]
    pub max_connections: u32,
}

impl EniSettings {
    /// What an ENI with `attributes` gets on a host with `config`. A timer is the ENI's, else the
    /// configuration's, else the profile's. A share larger than the table, which [`check`] refuses
    /// in a new task, is the whole table: the table may have been larger when the task came.
    #[must_use]
    pub fn resolve(config: &ConntrackConfig, attributes: &NetworkInterfaceAttributes) -> Self {
        let timers = attributes.connection_tracking_specification;
        let share = attributes
            .max_tracked_connections
            .unwrap_or_else(|| config.share());
        Self {
            timeouts: timers.or(config.timers()).or_profile(config.profile),
            block_imds: attributes.block_instance_metadata,
            source_dest_check: attributes.source_dest_check,
            max_connections: share.min(config.max_entries),
        }
    }
}

/// Whether a new task's `attributes` can be met on a host with `config`.
///
/// # Errors
/// `maxTrackedConnections` if the table holds fewer.
pub fn check(
    config: &ConntrackConfig,
    attributes: &NetworkInterfaceAttributes,
) -> Result<(), FieldError> {
    let most = config.max_entries;
    match attributes.max_tracked_connections {
        Some(share) if share > most => Err(FieldError::new(
            NetworkInterfaceAttributes::field("maxTrackedConnections"),
            format!("{share} is more than the host's table holds"),
            format!("write {most} at most, or raise conntrack.max_entries"),
        )),
        _ => Ok(()),
    }
}

/// The data plane's timers of an ENI, by [`State`]: its own three, and the defaults of the others.
#[must_use]
pub fn timeouts(settings: &EniSettings, ticks_per_second: u32) -> Timeouts {
    let own = settings.timeouts;
    let mut timeouts = default_timeouts(ticks_per_second);
    for (state, seconds) in [
        (State::Established, own.tcp_established_timeout),
        (State::Udp, own.udp_timeout),
        (State::UdpStream, own.udp_stream_timeout),
    ] {
        timeouts[state as usize] = seconds * ticks_per_second;
    }
    timeouts
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::config::Config;
    use crate::field_error::from_json;

    fn attributes(json: &str) -> NetworkInterfaceAttributes {
        from_json(json.as_bytes()).unwrap()
    }

    fn config(toml: &str) -> ConntrackConfig {
        Config::parse(&format!("[conntrack]\n{toml}"))
            .unwrap()
            .conntrack
    }

    /// Established, UDP, UDP stream; metadata blocked, source checked; share.
    type Row = (u32, u32, u32, bool, bool, u32);

    #[test]
    fn an_eni_has_what_the_first_of_task_configuration_and_profile_sets() {
        let rows: [(&str, &str, Row); 7] = [
            ("", "{}", (432_000, 30, 180, true, true, 32_768)),
            (
                "profile = 'nitro-v6'",
                "{}",
                (350, 30, 180, true, true, 32_768),
            ),
            (
                "profile = 'nitro-v6'\ntcp_established_timeout = 900\nudp_timeout = 60",
                r#"{"connectionTrackingSpecification": {"udpTimeout": 45}}"#,
                (900, 45, 180, true, true, 32_768),
            ),
            (
                "udp_stream_timeout = 120",
                r#"{"connectionTrackingSpecification":
                    {"tcpEstablishedTimeout": 60, "udpTimeout": 31, "udpStreamTimeout": 61}}"#,
                (60, 31, 61, true, true, 32_768),
            ),
            (
                "max_entries_per_eni = 5000",
                r#"{"blockInstanceMetadata": false}"#,
                (432_000, 30, 180, false, true, 5_000),
            ),
            (
                "max_entries_per_eni = 5000",
                r#"{"sourceDestCheck": false, "maxTrackedConnections": 6000}"#,
                (432_000, 30, 180, true, false, 6_000),
            ),
            (
                "max_entries = 2048",
                r#"{"maxTrackedConnections": 6000}"#,
                (432_000, 30, 180, true, true, 2_048),
            ),
        ];
        for (toml, json, expected) in rows {
            let found = EniSettings::resolve(&config(toml), &attributes(json));
            let found = (
                found.timeouts.tcp_established_timeout,
                found.timeouts.udp_timeout,
                found.timeouts.udp_stream_timeout,
                found.block_imds,
                found.source_dest_check,
                found.max_connections,
            );
            assert_eq!(found, expected, "{toml} {json}");
        }
    }

    #[test]
    fn a_new_tasks_share_fits_into_the_table() {
        let config = config("max_entries = 2048");
        let wish = |share: u32| attributes(&format!(r#"{{"maxTrackedConnections": {share}}}"#));
        assert_eq!(check(&config, &attributes("{}")), Ok(()));
        assert_eq!(check(&config, &wish(2048)), Ok(()));
        assert_eq!(
            check(&config, &wish(2049)).unwrap_err().to_string(),
            "networkConfiguration.networkInterfaceAttributes.maxTrackedConnections: \
             2049 is more than the host's table holds; \
             write 2048 at most, or raise conntrack.max_entries"
        );
    }

    #[test]
    fn only_an_enis_own_timers_differ_from_the_defaults() {
        let defaults = EniSettings::resolve(&config(""), &attributes("{}"));
        assert_eq!(timeouts(&defaults, 250), default_timeouts(250));
        let own = EniSettings {
            timeouts: ConnectionTrackingConfiguration {
                tcp_established_timeout: 350,
                udp_timeout: 40,
                udp_stream_timeout: 100,
            },
            ..defaults
        };
        let found = timeouts(&own, 1000);
        for state in State::ALL {
            let seconds = match state {
                State::Established => 350,
                State::Udp => 40,
                State::UdpStream => 100,
                State::SynSent
                | State::SynReceived
                | State::Fin
                | State::TimeWait
                | State::Close
                | State::Pickup
                | State::Icmp
                | State::Other => state.idle_seconds(),
            };
            assert_eq!(found[state as usize], seconds * 1000, "{state:?}");
        }
        assert_eq!(found[State::ALL.len()..], [0; 5]);
    }
}
