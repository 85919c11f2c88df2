//! DescribeSecurityGroups and DescribeSecurityGroupRules.

use super::{Describe, Operation, Request, Run, one, permission, tags};
use crate::answer::Xml;
use crate::error::Result;
use crate::filter::{FILTERS, Field};
use crate::id::Kind;
use crate::paging::{self, PAGES};
use crate::protocol::text;
use crate::state::{SecurityGroup, SecurityGroupRule, State, Target};

pub(super) const DESCRIBE_SECURITY_GROUPS: Operation = Operation {
    name: "DescribeSecurityGroups",
    parameters: &[&[text("GroupId.N")], FILTERS, PAGES],
    run: Run::Read(describe_groups),
};

pub(super) const DESCRIBE_SECURITY_GROUP_RULES: Operation = Operation {
    name: "DescribeSecurityGroupRules",
    parameters: &[&[text("SecurityGroupRuleId.N")], FILTERS, PAGES],
    run: Run::Read(describe_rules),
};

const GROUP_FIELDS: &[Field<SecurityGroup>] = &[
    ("description", |_, group| one(&group.description)),
    ("group-id", |_, group| one(&group.group_id)),
    ("group-name", |_, group| one(&group.group_name)),
    ("owner-id", |state, _| one(&state.account_id)),
    ("vpc-id", |_, group| one(&group.vpc_id)),
];

fn describe_groups(state: &State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let describe = Describe {
        all: &state.security_groups,
        kind: Kind::SecurityGroup,
        ids: "GroupId",
        fields: GROUP_FIELDS,
        limits: 5..=1000,
    };
    let found = describe.select(state, request)?;
    paging::write(xml, "securityGroupInfo", found, |xml, group| {
        let rules = |is_egress: bool| {
            let all = state.security_group_rules.values();
            let of_it =
                all.filter(|rule| rule.group_id == group.group_id && rule.is_egress == is_egress);
            of_it.collect::<Vec<_>>()
        };
        xml.text("ownerId", &state.account_id)
            .text("groupId", &group.group_id)
            .text("groupName", &group.group_name)
            .text("groupDescription", &group.description)
            .text("vpcId", &group.vpc_id);
        permission::write(xml, state, "ipPermissions", &rules(false));
        permission::write(xml, state, "ipPermissionsEgress", &rules(true));
        tags::write(xml, &group.tags);
    });
    Ok(())
}

const RULE_FIELDS: &[Field<SecurityGroupRule>] = &[
    ("group-id", |_, rule| one(&rule.group_id)),
    ("security-group-rule-id", |_, rule| {
        one(&rule.security_group_rule_id)
    }),
];

fn describe_rules(state: &State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let describe = Describe {
        all: &state.security_group_rules,
        kind: Kind::SecurityGroupRule,
        ids: "SecurityGroupRuleId",
        fields: RULE_FIELDS,
        limits: 5..=1000,
    };
    let found = describe.select(state, request)?;
    paging::write(xml, "securityGroupRuleSet", found, |xml, rule| {
        write_rule(xml, state, rule)
    });
    Ok(())
}

/// Writes the elements of a rule.
pub(super) fn write_rule(xml: &mut Xml, state: &State, rule: &SecurityGroupRule) {
    xml.text("securityGroupRuleId", &rule.security_group_rule_id)
        .text("groupId", &rule.group_id)
        .text("groupOwnerId", &state.account_id)
        .text("isEgress", rule.is_egress)
        .text("ipProtocol", &rule.ip_protocol)
        .text("fromPort", rule.from_port.unwrap_or(-1))
        .text("toPort", rule.to_port.unwrap_or(-1));
    match &rule.target {
        Target::CidrIpv4(net) => xml.text("cidrIpv4", net),
        Target::CidrIpv6(net) => xml.text("cidrIpv6", net),
        Target::PrefixList(id) => xml.text("prefixListId", id),
        Target::Group(id) => xml.within("referencedGroupInfo", |xml| {
            let vpc = state.security_groups.get(id).map(|group| &group.vpc_id);
            xml.text("groupId", id)
                .text("userId", &state.account_id)
                .optional("vpcId", vpc);
        }),
    };
    xml.optional("description", rule.description.as_ref());
    tags::write(xml, &rule.tags);
}
