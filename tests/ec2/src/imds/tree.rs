//! The tree of metadata: paths below `/latest/` and their values. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::credentials::Credentials;
use crate::operations::private_dns_name;
use crate::state::{
    Attachment, AttachmentStatus, Instance, NetworkInterface, Now, State, Vpc, zone_id,
};

/// Values by path.
pub(super) type Tree = BTreeMap<String, String>;

/// How long credentials are good from the moment of the question on.
const LIFETIME: Duration = Duration::from_secs(6 * 3600);

/// Everything that an instance is told; nothing if there is no such instance.
pub(super) fn of(state: &State, instance_id: &str, credentials: &Credentials, now: Now) -> Tree {
    let mut tree = Tree::new();
    if let Some(instance) = state.instances.get(instance_id) {
        place(&mut tree, state, instance);
        let attached = state.attached_to(instance_id);
        let attached = attached
            .iter()
            .filter(|(_, at)| at.status == AttachmentStatus::Attached);
        for (eni, attachment) in attached {
            interface(&mut tree, state, eni, attachment);
        }
        identity(&mut tree, state, instance);
        role(&mut tree, state, credentials, now);
    }
    tree
}

/// What is at `path`: a value, or the names below it, with a `/` behind those that have more below them.
pub(super) fn read(tree: &Tree, path: &str) -> Option<String> {
    if let Some(value) = tree.get(path.trim_end_matches('/')) {
        return Some(value.clone());
    }
    let folder = if path.is_empty() || path.ends_with('/') {
        path.to_owned()
    } else {
        format!("{path}/")
    };
    let below = tree.keys().filter_map(|path| path.strip_prefix(&folder));
    let name = |rest: &str| match rest.split_once('/') {
        Some((name, _)) => format!("{name}/"),
        None => rest.to_owned(),
    };
    let names: BTreeSet<String> = below.map(name).collect();
    (!names.is_empty()).then(|| names.into_iter().collect::<Vec<_>>().join("\n"))
}

fn put(tree: &mut Tree, path: &str, value: impl Display) {
    tree.insert(format!("meta-data/{path}"), value.to_string());
}

fn place(tree: &mut Tree, state: &State, instance: &Instance) {
    put(tree, "ami-id", "ami-00000000000000001");
    put(tree, "instance-id", &instance.instance_id);
    put(tree, "instance-type", &instance.instance_type);
    put(
        tree,
        "placement/availability-zone",
        &instance.availability_zone,
    );
    put(
        tree,
        "placement/availability-zone-id",
        zone_id(&instance.availability_zone),
    );
    put(tree, "placement/region", &state.region);
    put(tree, "services/domain", "amazonaws.com");
    put(tree, "services/partition", "aws");
}

/// An attached ENI; branches have no place in here.
fn interface(tree: &mut Tree, state: &State, eni: &NetworkInterface, attachment: &Attachment) {
    let base = format!("network/interfaces/macs/{}", eni.mac_address);
    let mut of_it = |name: &str, value: String| {
        if !value.is_empty() {
            put(tree, &format!("{base}/{name}"), value);
        }
    };
    let subnet = state.subnets.get(&eni.subnet_id);
    let vpc = state.vpcs.get(&eni.vpc_id);
    let groups = eni
        .group_ids
        .iter()
        .filter_map(|id| state.security_groups.get(id));
    of_it("device-number", attachment.device_index.to_string());
    of_it("interface-id", eni.network_interface_id.clone());
    of_it("ipv6s", lines(&eni.ipv6_addresses));
    of_it(
        "local-hostname",
        private_dns_name(state, eni).unwrap_or_default(),
    );
    of_it("local-ipv4s", lines(&eni.private_ip_addresses));
    of_it("mac", eni.mac_address.clone());
    of_it("network-card", attachment.network_card_index.to_string());
    of_it("owner-id", state.account_id.clone());
    of_it("security-group-ids", lines(&eni.group_ids));
    of_it(
        "security-groups",
        lines(groups.map(|group| &group.group_name)),
    );
    of_it("subnet-id", eni.subnet_id.clone());
    of_it(
        "subnet-ipv4-cidr-block",
        lines(subnet.and_then(|subnet| subnet.cidr_block)),
    );
    of_it(
        "subnet-ipv6-cidr-blocks",
        lines(subnet.and_then(|subnet| subnet.ipv6_cidr_block)),
    );
    of_it("vpc-id", eni.vpc_id.clone());
    of_it("vpc-ipv4-cidr-block", lines(vpc.map(|vpc| vpc.cidr_block)));
    of_it(
        "vpc-ipv4-cidr-blocks",
        lines(vpc.into_iter().flat_map(Vpc::cidr_blocks)),
    );
    of_it(
        "vpc-ipv6-cidr-blocks",
        lines(vpc.and_then(|vpc| vpc.ipv6_cidr_block)),
    );
    if attachment.device_index == 0 && attachment.network_card_index == 0 {
        put(tree, "mac", &eni.mac_address);
        let address = eni.private_ip_addresses.first();
        if let Some(address) = address {
            put(tree, "local-ipv4", address);
        }
        if let Some(name) = private_dns_name(state, eni) {
            put(tree, "hostname", &name);
            put(tree, "local-hostname", name);
        }
    }
}

fn lines<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let lines: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    lines.join("\n")
}

fn identity(tree: &mut Tree, state: &State, instance: &Instance) {
    let attached = state.attached_to(&instance.instance_id);
    let primary = attached
        .first()
        .and_then(|(eni, _)| eni.private_ip_addresses.first());
    let of = state.instance_types.get(&instance.instance_type);
    let document = json!({
        "accountId": state.account_id,
        "architecture": of.map(|of| &of.architecture),
        "availabilityZone": instance.availability_zone,
        "imageId": "ami-00000000000000001",
        "instanceId": instance.instance_id,
        "instanceType": instance.instance_type,
        "pendingTime": seconds(instance.launch_time),
        "privateIp": primary.map(ToString::to_string),
        "region": state.region,
        "version": "2017-09-30",
    });
    tree.insert(
        "dynamic/instance-identity/document".to_owned(),
        format!("{document:#}"),
    );
}

/// As `2026-11-28T10:15:00Z`.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn role(tree: &mut Tree, state: &State, credentials: &Credentials, now: Now) {
    let expiration = now.timestamp.checked_add(LIFETIME).unwrap_or(now.timestamp);
    let role = &credentials.role;
    let profile = format!("arn:aws:iam::{}:instance-profile/{role}", state.account_id);
    let updated = seconds(now.timestamp);
    let info = json!({"Code": "Success", "LastUpdated": updated, "InstanceProfileArn": profile});
    put(tree, "iam/info", format!("{info:#}"));
    let document = json!({
        "Code": "Success",
        "LastUpdated": updated,
        "Type": "AWS-HMAC",
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Expiration": seconds(expiration),
    });
    put(
        tree,
        &format!("iam/security-credentials/{role}"),
        format!("{document:#}"),
    );
}
