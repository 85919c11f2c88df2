//! EC2's settings of connection tracking: three idle timers, their ranges, and which value wins.
//!
//! Pure values; never knows a task, a configuration file or the data plane.

use std::fmt;

use branchline_common::conntrack::State;
use serde::{Deserialize, Serialize};

/// A time in seconds, from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "u32", into = "u32")]
pub struct Seconds<const MIN: u32, const MAX: u32>(u32);

/// A time outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{seconds} is out of range; write a number of seconds from {min} to {max}")]
pub struct OutOfRange {
    /// What was given.
    pub seconds: u32,
    /// The least that is allowed.
    pub min: u32,
    /// The most that is allowed.
    pub max: u32,
}

/// EC2's range of `TcpEstablishedTimeout`.
pub type TcpEstablishedTimeout = Seconds<60, 432_000>;
/// EC2's range of `UdpTimeout`: one direction, or a single request and answer.
pub type UdpTimeout = Seconds<30, 60>;
/// EC2's range of `UdpStreamTimeout`: more than one request and answer.
pub type UdpStreamTimeout = Seconds<60, 180>;

/// EC2's `ConnectionTrackingSpecification`: the timers that are set; the others come from elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionTrackingSpecification {
    /// An established TCP connection without a packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_established_timeout: Option<TcpEstablishedTimeout>,
    /// A UDP flow of one direction, or of a single request and answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_timeout: Option<UdpTimeout>,
    /// A UDP flow of more than one request and answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_stream_timeout: Option<UdpStreamTimeout>,
}

/// EC2's `ConnectionTrackingConfiguration`: the timers in force, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionTrackingConfiguration {
    /// An established TCP connection without a packet.
    pub tcp_established_timeout: u32,
    /// A UDP flow of one direction, or of a single request and answer.
    pub udp_timeout: u32,
    /// A UDP flow of more than one request and answer.
    pub udp_stream_timeout: u32,
}

/// Which of EC2's instance types the timers that nobody sets follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// TCP 432,000 s, as most types.
    #[default]
    Default,
    /// TCP 350 s, as the types of Nitro version 6 (AWS, "Amazon EC2 security group connection tracking").
    NitroV6,
}

impl<const MIN: u32, const MAX: u32> Seconds<MIN, MAX> {
    /// The number of seconds.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> TryFrom<u32> for Seconds<MIN, MAX> {
    type Error = OutOfRange;

    fn try_from(seconds: u32) -> Result<Self, OutOfRange> {
        if (MIN..=MAX).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(OutOfRange {
                seconds,
                min: MIN,
                max: MAX,
            })
        }
    }
}

impl<const MIN: u32, const MAX: u32> From<Seconds<MIN, MAX>> for u32 {
    fn from(seconds: Seconds<MIN, MAX>) -> Self {
        seconds.0
    }
}

impl<const MIN: u32, const MAX: u32> fmt::Display for Seconds<MIN, MAX> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl ConnectionTrackingSpecification {
    /// These timers, and those of `others` where one is not set.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            tcp_established_timeout: self
                .tcp_established_timeout
                .or(others.tcp_established_timeout),
            udp_timeout: self.udp_timeout.or(others.udp_timeout),
            udp_stream_timeout: self.udp_stream_timeout.or(others.udp_stream_timeout),
        }
    }

    /// These timers, and those of `profile` where one is not set.
    #[must_use]
    pub fn or_profile(self, profile: Profile) -> ConnectionTrackingConfiguration {
        let of_profile = profile.timers();
        ConnectionTrackingConfiguration {
            tcp_established_timeout: self
                .tcp_established_timeout
                .map_or(of_profile.tcp_established_timeout, Seconds::get),
            udp_timeout: self
                .udp_timeout
                .map_or(of_profile.udp_timeout, Seconds::get),
            udp_stream_timeout: self
                .udp_stream_timeout
                .map_or(of_profile.udp_stream_timeout, Seconds::get),
        }
    }
}

impl Profile {
    fn timers(self) -> ConnectionTrackingConfiguration {
        ConnectionTrackingConfiguration {
            tcp_established_timeout: match self {
                Self::Default => State::Established.idle_seconds(),
                Self::NitroV6 => 350,
            },
            udp_timeout: State::Udp.idle_seconds(),
            udp_stream_timeout: State::UdpStream.idle_seconds(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::field_error::from_json;

    fn read(json: &str) -> ConnectionTrackingSpecification {
        from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn the_ranges_are_ec2s() {
        for (field, min, max) in [
            ("tcpEstablishedTimeout", 60, 432_000),
            ("udpTimeout", 30, 60),
            ("udpStreamTimeout", 60, 180),
        ] {
            for seconds in [min, max] {
                let text = format!(r#"{{"{field}":{seconds}}}"#);
                assert_eq!(serde_json::to_string(&read(&text)).unwrap(), text);
            }
            for seconds in [0, min - 1, max + 1] {
                let text = format!(r#"{{"{field}": {seconds}}}"#);
                let error =
                    from_json::<ConnectionTrackingSpecification>(text.as_bytes()).unwrap_err();
                let expected = format!(
                    "{field}: {seconds} is out of range; write a number of seconds from {min} to {max}"
                );
                assert_eq!(error.to_string(), expected);
            }
        }
    }

    #[test]
    fn each_timer_comes_from_the_first_that_sets_it() {
        let first = read(r#"{"tcpEstablishedTimeout": 100}"#);
        let second = read(r#"{"tcpEstablishedTimeout": 200, "udpTimeout": 40}"#);
        let rows = [
            (Default::default(), Profile::Default, (432_000, 30, 180)),
            (Default::default(), Profile::NitroV6, (350, 30, 180)),
            (second, Profile::NitroV6, (200, 40, 180)),
            (first.or(second), Profile::NitroV6, (100, 40, 180)),
            (second.or(first), Profile::Default, (200, 40, 180)),
            (
                first.or(read(r#"{"udpStreamTimeout": 60}"#)),
                Profile::Default,
                (100, 30, 60),
            ),
        ];
        for (specification, profile, (tcp_established_timeout, udp_timeout, udp_stream_timeout)) in
            rows
        {
            let expected = ConnectionTrackingConfiguration {
                tcp_established_timeout,
                udp_timeout,
                udp_stream_timeout,
            };
            let found = specification.or_profile(profile);
            assert_eq!(found, expected, "{specification:?} {profile:?}");
        }
    }
}
