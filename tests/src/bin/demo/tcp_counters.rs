//! What the kernel counts of TCP in a namespace (`/proc/net/snmp`, `/proc/net/netstat`).

use std::fs;

use anyhow::{Context, Result};
use branchline::netns::Netns;

/// Counters of what makes a connection send more than was said: segments sent again, and segments
/// out of order, which the receiver reports in longer acknowledgements.
const COUNTERS: [(&str, &str, &str); 2] = [
    ("snmp", "Tcp:", "RetransSegs"),
    ("netstat", "TcpExt:", "TCPOFOQueue"),
];

/// Whether TCP in `netns` ever sent a segment again or received one out of order.
///
/// # Errors
/// The kernel does not show its counters.
pub(crate) fn has_repeated(netns: &Netns) -> Result<bool> {
    for (file, group, name) in COUNTERS {
        let path = format!("/proc/thread-self/net/{file}");
        let text = netns.run(|| fs::read_to_string(&path))?;
        let text = text.with_context(|| format!("read {path}"))?;
        let value = counter(&text, group, name);
        if value.with_context(|| format!("{path} has no {group} {name}"))? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A counter of a group, which is a line of names and a line of values.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let index = names.split_whitespace().position(|word| word == name)?;
    values.split_whitespace().nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_counter_by_its_name() {
        let text = "Ip: A B\nIp: 1 2\nTcp: InSegs RetransSegs\nTcp: 17 3\n";
        assert_eq!(counter(text, "Tcp:", "RetransSegs"), Some(3));
        assert_eq!(counter(text, "Ip:", "RetransSegs"), None);
    }
}
