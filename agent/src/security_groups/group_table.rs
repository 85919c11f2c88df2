//! A `[[security_groups]]` table, checked and made a group, and back. Pure.
//!
//! Never looks at another table: names and references are `change`'s.

use branchline_common::verdict::Direction;

use super::default_group::{DEFAULT_GROUP_ID, allow_all_egress};
use super::directory::SecurityGroup;
use super::file::SecurityGroupTable;
use super::ip_permission::{self, IpPermission, RuleAt};
use super::peer::check_description;
use super::rule::Peer;
use super::rule_table::{self, SecurityGroupRuleTable};
use crate::field_error::{FieldError, FieldNote, check_id};

/// What the VPC in which a file is applied decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnVpc<'a> {
    /// Its id: what is of this VPC is kept without saying so.
    pub vpc_id: &'a str,
    /// Whether a new group lets IPv6 out.
    pub has_ipv6: bool,
}

/// A group, and where its table and its rules' peers are written.
#[derive(Debug)]
pub(super) struct CheckedGroup {
    pub(super) field: String,
    pub(super) group: SecurityGroup,
    /// In the order of the group's rules.
    pub(super) rule_fields: Vec<String>,
}

/// Checks the table at `field`. Errors begin with the group's id.
pub(super) fn check(
    table: &SecurityGroupTable,
    field: &str,
    vpc: OwnVpc<'_>,
    notes: &mut Vec<FieldNote>,
) -> Result<CheckedGroup, FieldError> {
    check_identity(table, field)?;
    let mut rules =
        rules(table, field, vpc, notes).map_err(|error| error.within(&table.group_id))?;
    let group_vpc = table.vpc_id.as_deref().unwrap_or(vpc.vpc_id);
    for at in &mut rules {
        if let Peer::Group(group) = &mut at.rule.peer {
            group.vpc_id = group.vpc_id.take().filter(|id| id != group_vpc);
        }
    }
    rules.sort_by(|a, b| a.rule.order(&b.rule));
    check_unique(&rules).map_err(|error| error.within(&table.group_id))?;
    let (rule_fields, rules) = rules.into_iter().map(|at| (at.field, at.rule)).unzip();
    let group = SecurityGroup {
        group_id: table.group_id.clone(),
        group_name: table.group_name.trim_end().to_owned(),
        description: table.description.clone(),
        vpc_id: table.vpc_id.clone().filter(|id| id != vpc.vpc_id),
        rules,
        audit: table.audit,
        cut_on_revoke: table.cut_on_revoke,
    };
    Ok(CheckedGroup {
        field: field.to_owned(),
        group,
        rule_fields,
    })
}

fn check_identity(table: &SecurityGroupTable, field: &str) -> Result<(), FieldError> {
    let id_field = format!("{field}.group_id");
    check_id(&table.group_id, "sg-", &id_field)?;
    let name_field = format!("{field}.group_name");
    let name = table.group_name.trim_end().to_ascii_lowercase();
    if name.is_empty() || name.starts_with("sg-") || name.chars().count() > 255 {
        let problem = format!("{:?} is no group name", table.group_name);
        let fix = "write 1 to 255 characters that do not begin with sg-";
        return Err(FieldError::new(name_field, problem, fix));
    }
    check_description(Some(&table.group_name), &name_field)?;
    check_description(Some(&table.description), &format!("{field}.description"))?;
    if let Some(id) = &table.vpc_id {
        check_id(id, "vpc-", &format!("{field}.vpc_id"))?;
    }
    if table.group_id == DEFAULT_GROUP_ID && name != super::DEFAULT_GROUP_NAME {
        let problem = format!("{DEFAULT_GROUP_ID} is the id of the VPC's default group");
        let fix = "choose another id, or name the group default";
        return Err(FieldError::new(id_field, problem, fix));
    }
    Ok(())
}

fn rules(
    table: &SecurityGroupTable,
    field: &str,
    vpc: OwnVpc<'_>,
    notes: &mut Vec<FieldNote>,
) -> Result<Vec<RuleAt>, FieldError> {
    let id = &table.group_id;
    let at = |name: &str| format!("{field}.{name}");
    if let Some(rules) = &table.security_group_rules {
        let field = at("security_group_rules");
        let egress = table.ip_permissions_egress.iter().flatten();
        if table.ip_permissions.iter().chain(egress).next().is_some() {
            let problem = "stands beside ip_permissions or ip_permissions_egress";
            let fix = "write all rules in one of the two forms";
            return Err(FieldError::new(field, problem, fix));
        }
        return rule_table::normalize(rules, id, &field, notes);
    }
    let field = at("ip_permissions");
    let mut rules = permissions(&table.ip_permissions, id, Direction::Ingress, &field, notes)?;
    let field = at("ip_permissions_egress");
    match &table.ip_permissions_egress {
        Some(egress) => rules.extend(permissions(egress, id, Direction::Egress, &field, notes)?),
        None => rules.extend(allow_all_egress(id, vpc.has_ipv6).map(|rule| RuleAt {
            field: field.clone(),
            rule,
        })),
    }
    Ok(rules)
}

fn permissions(
    permissions: &[IpPermission],
    group_id: &str,
    direction: Direction,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<Vec<RuleAt>, FieldError> {
    let mut rules = Vec::new();
    for (index, permission) in permissions.iter().enumerate() {
        let field = format!("{field}[{index}]");
        rules.extend(ip_permission::normalize(
            permission, group_id, direction, &field, notes,
        )?);
    }
    Ok(rules)
}

/// Refuses what EC2 refuses as a duplicate permission, in `rules` ordered by what they allow, and two rules of one id.
fn check_unique(rules: &[RuleAt]) -> Result<(), FieldError> {
    let mut ids = std::collections::HashSet::new();
    let mut before: Option<&RuleAt> = None;
    for at in rules {
        if let Some(before) = before.filter(|before| before.rule.allows_as(&at.rule)) {
            let problem = format!("{} allows the same for {}", before.field, at.rule.peer);
            return Err(FieldError::new(&at.field, problem, "remove one of the two"));
        }
        if !ids.insert(&at.rule.rule_id) {
            let problem = format!("another rule of the group has the id {}", at.rule.rule_id);
            return Err(FieldError::new(
                &at.field,
                problem,
                "give each rule its own id",
            ));
        }
        before = Some(at);
    }
    Ok(())
}

impl SecurityGroupTable {
    /// The table that reads back as `group`.
    pub(super) fn of(group: &SecurityGroup) -> Self {
        let rule = |rule| SecurityGroupRuleTable::of(rule, &group.group_id);
        Self {
            group_id: group.group_id.clone(),
            group_name: group.group_name.clone(),
            description: group.description.clone(),
            vpc_id: group.vpc_id.clone(),
            audit: group.audit,
            cut_on_revoke: group.cut_on_revoke,
            security_group_rules: Some(group.rules.iter().map(rule).collect()),
            ..Self::default()
        }
    }
}
