//! The task specification that stands for an attachment: what the agent is asked for.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::configuration::Wish;
use crate::environment::Attachment;

/// The pod's identity, of what runtimes pass in `CNI_ARGS`.
const POD: [&str; 3] = ["K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID"];
/// Characters of the longest key and value of a tag.
const MAX_TAG: [usize; 2] = [128, 256];
/// Characters of a container's id that a task's id begins with: what people and tools show of it.
const READABLE: usize = 12;
/// Bytes of the digest in a task's id.
const DIGEST: usize = 16;

/// The id of the task that stands for an attachment.
///
/// It begins with what people know the container by; the digest of all three makes it unique, whatever characters
/// they have. At most 61 characters.
#[must_use]
pub fn id(network: &str, container_id: &str, link_name: &str) -> String {
    let mut digest = Sha256::new();
    for part in [network, container_id, link_name] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let mut id = format!("{}-{}-", readable(container_id), readable(link_name));
    for byte in digest.finalize().iter().take(DIGEST) {
        // Writing to a String does not fail.
        write!(id, "{byte:02x}").ok();
    }
    id
}

/// The task specification of an attachment, as JSON.
#[must_use]
pub fn specification(network: &str, attachment: &Attachment, wish: &Wish) -> Value {
    let Attachment {
        container_id,
        netns,
        link_name,
        ..
    } = attachment;
    let mut task = wanted(&id(network, container_id, link_name), wish);
    task["networkNamespace"] = json!(netns);
    task["linkName"] = json!(link_name);
    task["cniAttachment"] = json!({"network": network, "containerId": container_id});
    let tags = tags(attachment, wish);
    if !tags.is_empty() {
        task["tags"] = tags.into();
    }
    task
}

/// A specification of what any container of the network gets.
#[must_use]
pub fn wanted(id: &str, wish: &Wish) -> Value {
    let mut network = json!({
        "awsvpcConfiguration": {
            "subnets": wish.subnets.ids,
            "securityGroups": wish.security_groups.ids,
        },
    });
    if let Some(attributes) = &wish.attributes {
        network["networkInterfaceAttributes"] = attributes.clone();
    }
    json!({"taskId": id, "networkConfiguration": network})
}

/// What the runtime says of the container besides; nobody must rely on it, so that what is no tag is left out.
fn tags(attachment: &Attachment, wish: &Wish) -> Vec<Value> {
    let pod = POD.into_iter().filter_map(|key| {
        let value = attachment.args.get(key)?;
        Some((key.to_owned(), value.clone()))
    });
    let mut seen = BTreeSet::new();
    let [longest_key, longest_value] = MAX_TAG;
    pod.chain(wish.labels.iter().cloned())
        .filter(|(key, value)| {
            (1..=longest_key).contains(&key.chars().count())
                && value.chars().count() <= longest_value
                && seen.insert(key.clone())
        })
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect()
}

fn readable(text: &str) -> String {
    let characters = text.chars().take(READABLE);
    characters
        .map(|each| {
            if each.is_ascii_alphanumeric() {
                each
            } else {
                '_'
            }
        })
        .collect()
}
