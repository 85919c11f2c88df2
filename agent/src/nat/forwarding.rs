//! The host's forwarding, switched on for the NAT gateway and back.
//!
//! Records every setting it changes or makes the kernel change; stores nothing itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::nat::NatError;
use crate::netns::Netns;
use crate::sysctl::{SysctlError, Sysctls};

/// Settings that [`enable_forwarding`] changed, by key below `/proc/sys`, with
/// the values they had. To be stored until [`restore_forwarding`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PreviousForwarding(pub BTreeMap<String, String>);

/// Lets the host forward both families. Returns what was changed, which is
/// nothing the second time: the caller keeps what the first call returned.
///
/// Links that follow router advertisements go on doing so, which the kernel
/// would otherwise end with forwarding.
///
/// # Errors
/// `Sysctl`; what was changed by then has been set back.
pub fn enable_forwarding(netns: &Netns) -> Result<PreviousForwarding, NatError> {
    let sysctls = Sysctls::of(netns);
    let mut previous = PreviousForwarding::default();
    let changed =
        forward_ipv4(sysctls, &mut previous).and_then(|()| forward_ipv6(sysctls, &mut previous));
    if let Err(error) = changed {
        if let Err(also) = set_back(sysctls, &previous) {
            tracing::warn!(error = %also, "forwarding could not be set back");
        }
        return Err(error.into());
    }
    Ok(previous)
}

/// Sets back what [`enable_forwarding`] changed; settings of links that have
/// gone since are passed over.
///
/// # Errors
/// `Sysctl` of the first setting that was refused.
pub fn restore_forwarding(netns: &Netns, previous: &PreviousForwarding) -> Result<(), NatError> {
    Ok(set_back(Sysctls::of(netns), previous)?)
}

const IPV4_FORWARDING: &str = "net/ipv4/ip_forward";
const IPV6_FORWARDING: &str = "net/ipv6/conf/all/forwarding";

/// The switch resets every link's forwarding and the acceptance of redirects
/// (`inet_forward_change` of net/ipv4/devinet.c), so those are recorded too.
fn forward_ipv4(s: Sysctls<'_>, previous: &mut PreviousForwarding) -> Result<(), SysctlError> {
    if s.get(IPV4_FORWARDING)?.as_deref() == Some("1") {
        return Ok(());
    }
    previous.record(s, "net/ipv4/conf/all/accept_redirects")?;
    for link in s.names("net/ipv4/conf")? {
        if link != "all" {
            previous.record(s, &format!("net/ipv4/conf/{link}/forwarding"))?;
        }
    }
    previous.record(s, IPV4_FORWARDING)?;
    s.set(IPV4_FORWARDING, "1")
}

fn forward_ipv6(s: Sysctls<'_>, previous: &mut PreviousForwarding) -> Result<(), SysctlError> {
    if !s.has_ipv6()? || s.get(IPV6_FORWARDING)?.as_deref() == Some("1") {
        return Ok(());
    }
    for link in s.names("net/ipv6/conf")? {
        if link == "all" {
            continue;
        }
        previous.record(s, &format!("net/ipv6/conf/{link}/forwarding"))?;
        let accept_ra = format!("net/ipv6/conf/{link}/accept_ra");
        if link != "default" && s.get(&accept_ra)?.as_deref() == Some("1") {
            previous.record(s, &accept_ra)?;
            s.set(&accept_ra, "2")?;
        }
    }
    previous.record(s, IPV6_FORWARDING)?;
    s.set(IPV6_FORWARDING, "1")
}

/// The switches first, since they overwrite what belongs to the links.
fn set_back(s: Sysctls<'_>, previous: &PreviousForwarding) -> Result<(), SysctlError> {
    let is_switch = |key: &str| key == IPV4_FORWARDING || key == IPV6_FORWARDING;
    let (switches, rest): (Vec<_>, Vec<_>) = previous.0.iter().partition(|(key, _)| is_switch(key));
    for (key, value) in switches.into_iter().chain(rest) {
        if s.get(key)?.is_some() {
            s.set(key, value)?;
        }
    }
    Ok(())
}

impl PreviousForwarding {
    fn record(&mut self, sysctls: Sysctls<'_>, key: &str) -> Result<(), SysctlError> {
        if let Some(value) = sysctls.get(key)? {
            self.0.entry(key.to_owned()).or_insert(value);
        }
        Ok(())
    }
}
