//! IPv6 settings of one link (`net/ipv6/conf/NAME` of Documentation/networking/ip-sysctl.rst).

use crate::netns::Netns;
use crate::sysctl::{SysctlError, Sysctls};

/// The host speaks no IPv6 on its `link`, and loses what addresses of it it had there.
///
/// # Errors
/// The setting is refused.
pub(crate) fn without_ipv6(host: &Netns, link: &str) -> Result<(), SysctlError> {
    let sysctls = Sysctls::of(host);
    if !sysctls.has_ipv6()? {
        return Ok(());
    }
    set(sysctls, link, "disable_ipv6", "1")
}

/// There is IPv6 on `link`, whatever its namespace has inherited.
///
/// # Errors
/// The setting is refused.
pub(crate) fn switch_on(sysctls: Sysctls<'_>, link: &str) -> Result<(), SysctlError> {
    set(sysctls, link, "disable_ipv6", "0")
}

/// Nothing on `link` comes from router advertisements, nothing waits for
/// duplicate address detection.
///
/// # Errors
/// A setting is refused.
pub(crate) fn ignore_routers(sysctls: Sysctls<'_>, link: &str) -> Result<(), SysctlError> {
    for name in ["accept_ra", "autoconf", "accept_dad", "accept_redirects"] {
        set(sysctls, link, name, "0")?;
    }
    Ok(())
}

/// There is IPv6 on `link`, with the addresses that it is given and no others: not even a link-local one.
///
/// # Errors
/// A setting is refused.
pub(crate) fn only_given(sysctls: Sysctls<'_>, link: &str) -> Result<(), SysctlError> {
    ignore_routers(sysctls, link)?;
    switch_on(sysctls, link)?;
    set(sysctls, link, "addr_gen_mode", "1")
}

fn set(sysctls: Sysctls<'_>, link: &str, name: &str, value: &str) -> Result<(), SysctlError> {
    sysctls.set(&format!("net/ipv6/conf/{link}/{name}"), value)
}
