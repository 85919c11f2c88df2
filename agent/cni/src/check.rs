//! CHECK: what the agent found, and whether the container was told at ADD what it has now.

use serde_json::Value;

use crate::api::TaskCheck;
use crate::environment::Attachment;

/// Everything that is missing or different, a line each; empty if nothing is.
///
/// Plugins that came later in the chain may have added to `previous`, the result of the ADD; what is ours must be in it.
#[must_use]
pub fn problems(check: &TaskCheck, previous: &Value, attachment: &Attachment) -> Vec<String> {
    let found = check.differences.iter();
    let mut problems: Vec<String> = found
        .map(|each| {
            format!(
                "{}: expected {}, found {}",
                each.what, each.expected, each.found
            )
        })
        .collect();
    let link = &check.task.network_interface;
    let list = |key: &str| {
        previous
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let ours = list("interfaces").find(|interface| {
        text(interface, "name").as_ref() == Some(&attachment.link_name)
            && text(interface, "sandbox").as_ref() == Some(&attachment.netns)
    });
    match ours {
        None => problems.push(format!(
            "prevResult.interfaces: has no {} in {}",
            attachment.link_name, attachment.netns
        )),
        Some(interface) => {
            let mac = text(interface, "mac").unwrap_or_default();
            if !mac.eq_ignore_ascii_case(&link.mac_address) {
                problems.push(format!(
                    "prevResult.interfaces: {} has the MAC address {mac:?}, the task has {}",
                    attachment.link_name, link.mac_address
                ));
            }
        }
    }
    for address in &link.addresses {
        let is_it = |ip: &Value| text(ip, "address").as_ref() == Some(&address.address);
        if !list("ips").any(is_it) {
            problems.push(format!(
                "prevResult.ips: has no {}, which the task has",
                address.address
            ));
        }
    }
    problems
}
