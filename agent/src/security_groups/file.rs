//! The `[[security_groups]]` of a VPC file: names, rules, defaults and quotas as EC2 has them. Pure.

use branchline_common::verdict::Direction;
use std::collections::HashSet;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

use super::directory::{DEFAULT_GROUP_NAME, SecurityGroup};
use super::ip_permission::{IpPermission, check_description, normalize};
use super::rule::{Peer, PortRange, Protocol, SecurityGroupRule};
use crate::field_error::{FieldError, check_id};

/// The id that the default group has when the file does not define it.
const DEFAULT_GROUP_ID: &str = "sg-default";
/// EC2's quota of rules per group, counted apart for each direction and family.
const RULES_PER_GROUP: usize = 60;
/// EC2's quota of groups per Region.
const GROUPS: usize = 2500;

/// One group, as DescribeSecurityGroups names its fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroupEntry {
    group_id: String,
    group_name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    ip_permissions: Vec<IpPermission>,
    ip_permissions_egress: Option<Vec<IpPermission>>,
}

/// The groups of a VPC, with its default group added where the file has none.
pub fn security_groups(
    entries: &[SecurityGroupEntry],
    vpc_has_ipv6: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<SecurityGroup>, FieldError> {
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    let mut groups = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let field = format!("security_groups[{index}]");
        check_identity(entry, &field, &mut ids, &mut names)?;
        let group = security_group(entry, &field, vpc_has_ipv6, warnings)?;
        warn_of_quotas(&group, &field, warnings);
        groups.push(group);
    }
    if groups.len() > GROUPS {
        warnings.push(format!(
            "security_groups: {} groups; EC2's quota is {GROUPS}",
            groups.len()
        ));
    }
    if !names.contains(DEFAULT_GROUP_NAME) {
        groups.push(default_group(vpc_has_ipv6));
    }
    Ok(groups)
}

/// The group of tasks that name none: nothing in, everything out.
///
/// EC2's lets its members reach each other; that needs references to groups, which rules cannot hold yet.
fn default_group(vpc_has_ipv6: bool) -> SecurityGroup {
    SecurityGroup {
        group_id: DEFAULT_GROUP_ID.to_owned(),
        group_name: DEFAULT_GROUP_NAME.to_owned(),
        description: "default VPC security group".to_owned(),
        rules: allow_all_egress(DEFAULT_GROUP_ID, vpc_has_ipv6),
        ..SecurityGroup::default()
    }
}

fn check_identity(
    entry: &SecurityGroupEntry,
    field: &str,
    ids: &mut HashSet<String>,
    names: &mut HashSet<String>,
) -> Result<(), FieldError> {
    let id_field = format!("{field}.group_id");
    check_id(&entry.group_id, "sg-", &id_field)?;
    if !ids.insert(entry.group_id.clone()) {
        let problem = format!("{} is the id of an earlier group", entry.group_id);
        return Err(FieldError::new(
            id_field,
            problem,
            "give each group its own id",
        ));
    }
    let name_field = format!("{field}.group_name");
    let name = entry.group_name.trim_end().to_ascii_lowercase();
    if name.is_empty() || name.starts_with("sg-") || name.chars().count() > 255 {
        let problem = format!("{:?} is no group name", entry.group_name);
        let fix = "write 1 to 255 characters that do not begin with sg-";
        return Err(FieldError::new(name_field, problem, fix));
    }
    check_description(Some(&entry.group_name), &name_field)?;
    check_description(Some(&entry.description), &format!("{field}.description"))?;
    if entry.group_id == DEFAULT_GROUP_ID && name != DEFAULT_GROUP_NAME {
        let problem = format!("{DEFAULT_GROUP_ID} is the id of the VPC's default group");
        return Err(FieldError::new(
            id_field,
            problem,
            "choose another id, or name the group default",
        ));
    }
    if !names.insert(name) {
        let problem = format!("{:?} is the name of an earlier group", entry.group_name);
        return Err(FieldError::new(
            name_field,
            problem,
            "give each group its own name; case does not count",
        ));
    }
    Ok(())
}

fn security_group(
    entry: &SecurityGroupEntry,
    field: &str,
    vpc_has_ipv6: bool,
    warnings: &mut Vec<String>,
) -> Result<SecurityGroup, FieldError> {
    let id = &entry.group_id;
    let ingress = format!("{field}.ip_permissions");
    let mut rules = direction_rules(
        &entry.ip_permissions,
        id,
        Direction::Ingress,
        &ingress,
        warnings,
    )?;
    let egress = format!("{field}.ip_permissions_egress");
    rules.extend(match &entry.ip_permissions_egress {
        Some(permissions) => {
            direction_rules(permissions, id, Direction::Egress, &egress, warnings)?
        }
        None => allow_all_egress(id, vpc_has_ipv6),
    });
    Ok(SecurityGroup {
        group_id: id.clone(),
        group_name: entry.group_name.trim_end().to_owned(),
        description: entry.description.clone(),
        rules,
        ..SecurityGroup::default()
    })
}

fn direction_rules(
    permissions: &[IpPermission],
    group_id: &str,
    direction: Direction,
    field: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<SecurityGroupRule>, FieldError> {
    let mut rules: Vec<SecurityGroupRule> = Vec::new();
    let mut seen = HashSet::new();
    for (index, permission) in permissions.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let normalized = normalize(permission, group_id, direction, &field)?;
        if normalized.len() < permission.ip_ranges.len() + permission.ipv6_ranges.len() {
            warnings.push(format!(
                "{field}: a network of the other family than the ICMP version matches nothing"
            ));
        }
        for rule in &normalized {
            if !seen.insert(rule.rule_id.clone()) {
                let problem = format!("the rule for {} is there already", rule.peer);
                return Err(FieldError::new(field, problem, "remove one of the two"));
            }
        }
        rules.extend(normalized);
    }
    Ok(rules)
}

/// What EC2 gives a new group: everything out, by IPv6 only in a VPC that has IPv6.
fn allow_all_egress(group_id: &str, vpc_has_ipv6: bool) -> Vec<SecurityGroupRule> {
    let peers = [
        Some(IpNet::V4(Ipv4Net::default())),
        vpc_has_ipv6.then(|| IpNet::V6(Ipv6Net::default())),
    ];
    let rule = |peer| {
        SecurityGroupRule::new(
            group_id,
            Direction::Egress,
            Protocol::Any,
            PortRange::ALL,
            peer,
            None,
        )
    };
    peers.into_iter().flatten().map(rule).collect()
}

fn warn_of_quotas(group: &SecurityGroup, field: &str, warnings: &mut Vec<String>) {
    for direction in [Direction::Ingress, Direction::Egress] {
        for (family, is_family) in [("IPv4", true), ("IPv6", false)] {
            let of_kind = |rule: &&SecurityGroupRule| {
                rule.direction == direction
                    && matches!(rule.peer, Peer::Cidr(IpNet::V4(_))) == is_family
            };
            let count = group.rules.iter().filter(of_kind).count();
            if count > RULES_PER_GROUP {
                warnings.push(format!(
                    "{field}: {count} {direction:?} rules for {family}; EC2's quota is {RULES_PER_GROUP}"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::provider::local::vpc_file::{CheckedVpc, parse};

    const VPC: &str = "vpc_id = 'vpc-1'\ncidr_block = '10.0.0.0/16'
        subnets = [{subnet_id = 'subnet-a', cidr_block = '10.0.1.0/24'}]\n";
    const WEB: &str = "[[security_groups]]\ngroup_id = 'sg-web'\ngroup_name = 'web'\n";
    const HTTP: &str =
        "[[security_groups.ip_permissions]]\nip_protocol = 'tcp'\nfrom_port = 80\nto_port = 80
        ip_ranges = [{cidr_ip = '10.0.0.0/16'}]\n";

    fn group(text: &str, id: &str) -> SecurityGroup {
        let CheckedVpc { vpc, .. } = parse(text).unwrap();
        vpc.security_group(id).unwrap().clone()
    }

    fn peers(group: &SecurityGroup, direction: Direction) -> Vec<String> {
        let rules = group
            .rules
            .iter()
            .filter(|rule| rule.direction == direction);
        rules.map(|rule| rule.peer.to_string()).collect()
    }

    #[test]
    fn egress_left_out_is_everything_and_empty_is_nothing() {
        let ipv6 = VPC.replace("subnets", "ipv6_cidr_block = 'fd00:10::/56'\nsubnets");
        assert_eq!(
            peers(&group(&format!("{VPC}{WEB}"), "sg-web"), Direction::Egress),
            ["0.0.0.0/0"]
        );
        assert_eq!(
            peers(&group(&format!("{ipv6}{WEB}"), "sg-web"), Direction::Egress),
            ["0.0.0.0/0", "::/0"]
        );
        let empty = group(&format!("{VPC}{WEB}ip_permissions_egress = []"), "sg-web");
        assert_eq!(empty.rules, []);
        let one = group(
            &format!(
                "{VPC}{WEB}{}",
                HTTP.replace("ip_permissions", "ip_permissions_egress")
            ),
            "sg-web",
        );
        assert_eq!(peers(&one, Direction::Egress), ["10.0.0.0/16"]);
        assert_eq!(one.rules.len(), 1);
    }

    #[test]
    fn the_default_group_is_added_only_when_missing() {
        let made = group(VPC, "sg-default");
        assert_eq!(
            (
                peers(&made, Direction::Ingress),
                peers(&made, Direction::Egress)
            ),
            (vec![], vec!["0.0.0.0/0".into()])
        );
        let own = format!("{VPC}{}{HTTP}", WEB.replace("'web'", "'Default'"));
        let CheckedVpc { vpc, .. } = parse(&own).unwrap();
        assert_eq!(vpc.security_groups.len(), 1);
        assert_eq!(vpc.default_group().unwrap().group_id, "sg-web");
    }

    #[test]
    fn bad_groups_name_field_and_fix() {
        let other = WEB.replace("sg-web", "sg-b");
        let rows = [
            (
                WEB.replace("sg-web", "web"),
                "security_groups[0].group_id",
                "write sg-",
            ),
            (
                format!("{WEB}{WEB}"),
                "security_groups[1].group_id",
                "its own id",
            ),
            (
                format!("{WEB}{}", other.replace("'web'", "'WEB '")),
                "security_groups[1].group_name",
                "its own name",
            ),
            (
                WEB.replace("'web'", "'sg-x'"),
                "security_groups[0].group_name",
                "not begin with sg-",
            ),
            (
                WEB.replace("'web'", "' '"),
                "security_groups[0].group_name",
                "1 to 255",
            ),
            (
                WEB.replace("sg-web", "sg-default"),
                "security_groups[0].group_id",
                "name the group default",
            ),
            (
                format!("{WEB}description = 'é'"),
                "security_groups[0].description",
                "'é'",
            ),
            (
                format!("{WEB}{HTTP}{HTTP}"),
                "security_groups[0].ip_permissions[1]",
                "remove one",
            ),
            (
                format!("{WEB}{HTTP}{}", HTTP.replace("10.0.0.0/16", "10.0.9.9/16")),
                "security_groups[0].ip_permissions[1]",
                "10.0.0.0/16 is there already",
            ),
            (
                format!("{WEB}{}", HTTP.replace("from_port = 80", "from_port = 90")),
                "security_groups[0].ip_permissions[0].from_port",
                "90 is above to_port 80",
            ),
            (
                format!(
                    "{WEB}{other}{}",
                    HTTP.replace("from_port = 80", "from_port = 'http'")
                ),
                "security_groups[1].ip_permissions[0].from_port",
                "expected i64",
            ),
            (
                format!("{WEB}{HTTP}user_id_group_pairs = [{{group_id = 'sg-web'}}]"),
                "security_groups[0].ip_permissions[0].user_id_group_pairs",
                "not supported yet",
            ),
            (
                format!("{WEB}tags = []"),
                "security_groups[0].tags",
                "unknown field",
            ),
        ];
        for (text, field, says) in rows {
            let error = parse(&format!("{VPC}{text}")).unwrap_err();
            assert_eq!(error.field, field, "{text}: {error}");
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn exceeded_quotas_and_rules_without_effect_warn() {
        let ranges: Vec<String> = (0..61)
            .map(|n| format!("{{cidr_ip = '10.9.{n}.0/24'}}"))
            .collect();
        let many = HTTP.replace("{cidr_ip = '10.0.0.0/16'}", &ranges.join(","));
        let warnings = parse(&format!("{VPC}{WEB}{many}")).unwrap().warnings;
        assert_eq!(
            warnings,
            ["security_groups[0]: 61 Ingress rules for IPv4; EC2's quota is 60"]
        );
        let icmp = "[[security_groups.ip_permissions]]\nip_protocol = 'icmpv6'\nip_ranges = [{cidr_ip = '0.0.0.0/0'}]";
        let warnings = parse(&format!("{VPC}{WEB}{icmp}")).unwrap().warnings;
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].starts_with("security_groups[0].ip_permissions[0]: "),
            "{warnings:?}"
        );
    }
}
