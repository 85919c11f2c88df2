//! Authorize- and RevokeSecurityGroupIngress and -Egress.

use super::describe_groups::write_rule;
use super::permission::{self, IP_PERMISSIONS};
use super::tags::{TAG_SPECIFICATION, read_specification};
use super::{Operation, Request, Run};
use crate::answer::Xml;
use crate::error::{Ec2Error, Result};
use crate::id::Kind;
use crate::protocol::{Parameter, text};
use crate::state::{SecurityGroup, SecurityGroupRule, State, Target, find};

const GROUP: &[Parameter] = &[text("GroupId").required()];
const RULE_IDS: &[Parameter] = &[text("SecurityGroupRuleId.N")];

pub(super) const AUTHORIZE_SECURITY_GROUP_INGRESS: Operation = Operation {
    name: "AuthorizeSecurityGroupIngress",
    parameters: &[GROUP, IP_PERMISSIONS, TAG_SPECIFICATION],
    run: Run::Write(|state, request, xml| authorize(state, request, xml, false)),
};

pub(super) const AUTHORIZE_SECURITY_GROUP_EGRESS: Operation = Operation {
    name: "AuthorizeSecurityGroupEgress",
    parameters: &[GROUP, IP_PERMISSIONS, TAG_SPECIFICATION],
    run: Run::Write(|state, request, xml| authorize(state, request, xml, true)),
};

pub(super) const REVOKE_SECURITY_GROUP_INGRESS: Operation = Operation {
    name: "RevokeSecurityGroupIngress",
    parameters: &[GROUP, IP_PERMISSIONS, RULE_IDS],
    run: Run::Write(|state, request, xml| revoke(state, request, xml, false)),
};

pub(super) const REVOKE_SECURITY_GROUP_EGRESS: Operation = Operation {
    name: "RevokeSecurityGroupEgress",
    parameters: &[GROUP, IP_PERMISSIONS, RULE_IDS],
    run: Run::Write(|state, request, xml| revoke(state, request, xml, true)),
};

fn group<'a>(state: &'a State, request: &Request<'_>) -> Result<&'a SecurityGroup> {
    find(
        &state.security_groups,
        Kind::SecurityGroup,
        request.parameters.require("GroupId")?,
    )
}

fn authorize(
    state: &mut State,
    request: &Request<'_>,
    xml: &mut Xml,
    is_egress: bool,
) -> Result<()> {
    let group = group(state, request)?;
    let mut rules = permission::read(state, &request.parameters, group, is_egress)?;
    if rules.is_empty() {
        return Err(Ec2Error::missing("IpPermissions"));
    }
    let tags = read_specification(&request.parameters, "security-group-rule")?;
    let known = state.security_group_rules.values();
    let known: Vec<_> = known
        .filter(|rule| rule.group_id == group.group_id && rule.is_egress == is_egress)
        .collect();
    for (at, rule) in rules.iter().enumerate() {
        if known.iter().any(|other| other.is_same(rule))
            || rules[..at].iter().any(|other| other.is_same(rule))
        {
            let message = "the specified rule already exists";
            return Err(Ec2Error::new("InvalidPermission.Duplicate", message));
        }
    }
    let weight = |rule: &SecurityGroupRule| match &rule.target {
        Target::PrefixList(id) => state
            .prefix_lists
            .get(id)
            .map_or(1, |list| list.max_entries),
        Target::CidrIpv4(_) | Target::CidrIpv6(_) | Target::Group(_) => 1,
    };
    let count = known.into_iter().chain(&rules).map(weight).sum::<usize>();
    if count > state.settings.rules_per_group {
        let message = "The maximum number of rules per security group has been reached.";
        return Err(Ec2Error::new("RulesPerSecurityGroupLimitExceeded", message));
    }
    for rule in &mut rules {
        rule.security_group_rule_id = state.ids.next(Kind::SecurityGroupRule);
        rule.tags.clone_from(&tags);
    }
    xml.text("return", true);
    xml.list("securityGroupRuleSet", &rules, |xml, rule| {
        write_rule(xml, state, rule)
    });
    let by_id = rules
        .into_iter()
        .map(|rule| (rule.security_group_rule_id.clone(), rule));
    state.security_group_rules.extend(by_id);
    Ok(())
}

fn revoke(state: &mut State, request: &Request<'_>, xml: &mut Xml, is_egress: bool) -> Result<()> {
    let group = group(state, request)?;
    let ids = request.parameters.list("SecurityGroupRuleId");
    let named = permission::read(state, &request.parameters, group, is_egress)?;
    if ids.is_empty() == named.is_empty() {
        let message = "Either IpPermissions or SecurityGroupRuleIds must be specified";
        return Err(Ec2Error::combination(message));
    }
    let mut gone = Vec::new();
    for id in ids {
        let kind = Kind::SecurityGroupRule;
        let rule = find(&state.security_group_rules, kind, id)?;
        if rule.group_id != group.group_id || rule.is_egress != is_egress {
            return Err(Ec2Error::not_found(kind, id));
        }
        gone.push(rule.clone());
    }
    for rule in &named {
        let known = state
            .security_group_rules
            .values()
            .find(|known| known.is_same(rule));
        let Some(known) = known else {
            let message = "The specified rule does not exist in this security group.";
            return Err(Ec2Error::new("InvalidPermission.NotFound", message));
        };
        gone.push(known.clone());
    }
    state
        .security_group_rules
        .retain(|id, _| gone.iter().all(|rule| rule.security_group_rule_id != *id));
    xml.text("return", true);
    xml.list("unknownIpPermissionSet", [(); 0], |_, ()| {});
    xml.list("revokedSecurityGroupRuleSet", &gone, write_revoked);
    Ok(())
}

fn write_revoked(xml: &mut Xml, rule: &SecurityGroupRule) {
    xml.text("securityGroupRuleId", &rule.security_group_rule_id)
        .text("groupId", &rule.group_id)
        .text("isEgress", rule.is_egress)
        .text("ipProtocol", &rule.ip_protocol)
        .text("fromPort", rule.from_port.unwrap_or(-1))
        .text("toPort", rule.to_port.unwrap_or(-1));
    match &rule.target {
        Target::CidrIpv4(net) => xml.text("cidrIpv4", net),
        Target::CidrIpv6(net) => xml.text("cidrIpv6", net),
        Target::PrefixList(id) => xml.text("prefixListId", id),
        Target::Group(id) => xml.text("referencedGroupId", id),
    };
    xml.optional("description", rule.description.as_ref());
}
