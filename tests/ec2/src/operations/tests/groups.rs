use super::refused;
use crate::testing::{Site, between};

#[test]
fn what_is_no_rule_is_refused() {
    let mut site = Site::new();
    let group = site.group.clone();
    let rule = |more: &str| {
        let rest = more.replace('~', "&IpPermissions.1.");
        format!("AuthorizeSecurityGroupIngress&GroupId={group}{rest}")
    };
    let tcp = "~IpProtocol=tcp~FromPort=80~ToPort=80";
    let to = |more: &str| rule(&format!("{tcp}{more}"));
    let rows = [
        ("no rule", rule(""), "MissingParameter"),
        ("no peer", to(""), "MissingParameter"),
        (
            "a protocol of nobody",
            rule("~IpProtocol=tcpp~IpRanges.1.CidrIp=10.0.0.0/8"),
            "InvalidParameterValue",
        ),
        (
            "no ports",
            rule("~IpProtocol=tcp~IpRanges.1.CidrIp=10.0.0.0/8"),
            "MissingParameter",
        ),
        (
            "ports the wrong way round",
            rule("~IpProtocol=tcp~FromPort=9~ToPort=8~IpRanges.1.CidrIp=10.0.0.0/8"),
            "InvalidParameterValue",
        ),
        (
            "a port too high",
            rule("~IpProtocol=udp~FromPort=9~ToPort=65536~IpRanges.1.CidrIp=10.0.0.0/8"),
            "InvalidParameterValue",
        ),
        (
            "host bits",
            to("~IpRanges.1.CidrIp=10.0.0.1/8"),
            "InvalidParameterValue",
        ),
        (
            "IPv6 as IPv4",
            to("~IpRanges.1.CidrIp=2001:db8::/32"),
            "InvalidParameterValue",
        ),
        (
            "a group of nobody",
            to("~Groups.1.GroupId=sg-01234567"),
            "InvalidGroup.NotFound",
        ),
        (
            "a group of another VPC",
            to(&format!("~Groups.1.GroupId={}", site.foreign_group)),
            "InvalidGroup.NotFound",
        ),
        (
            "a prefix list of nobody",
            to("~PrefixListIds.1.PrefixListId=pl-01234567"),
            "InvalidPrefixListID.NotFound",
        ),
        (
            "the same twice",
            to("~IpRanges.1.CidrIp=10.0.0.0/8~IpRanges.2.CidrIp=10.0.0.0/8"),
            "InvalidPermission.Duplicate",
        ),
    ];
    let before = site.account.state.security_group_rules.len();
    refused(&mut site, &rows);
    assert_eq!(site.account.state.security_group_rules.len(), before);
    let list = to(&format!(
        "~PrefixListIds.1.PrefixListId={}",
        site.prefix_list
    ));
    site.account.state.settings.rules_per_group = 19;
    assert_eq!(
        site.code(&list),
        "RulesPerSecurityGroupLimitExceeded",
        "a list counts with its room"
    );
    site.account.state.settings.rules_per_group = 20;
    assert_eq!(site.code(&list), "fine");
}

#[test]
fn rules_are_revoked_by_id_or_by_what_they_say() {
    let mut site = Site::new();
    let group = site.group.clone();
    let permission = "&IpPermissions.1.IpProtocol=6&IpPermissions.1.FromPort=80&IpPermissions.1.ToPort=80&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8";
    let answer = site.must(&format!(
        "AuthorizeSecurityGroupIngress&GroupId={group}{permission}"
    ));
    assert_eq!(between(&answer, "ipProtocol").as_deref(), Some("tcp"));
    let id = between(&answer, "securityGroupRuleId").expect("an id");
    let by_id = format!("&SecurityGroupRuleId.1={id}");
    let rows = [
        (
            "both ways",
            format!("RevokeSecurityGroupIngress&GroupId={group}{permission}{by_id}"),
            "InvalidParameterCombination",
        ),
        (
            "neither way",
            format!("RevokeSecurityGroupIngress&GroupId={group}"),
            "InvalidParameterCombination",
        ),
        (
            "the other direction",
            format!("RevokeSecurityGroupEgress&GroupId={group}{by_id}"),
            "InvalidSecurityGroupRuleId.NotFound",
        ),
        (
            "the other direction, by its words",
            format!("RevokeSecurityGroupEgress&GroupId={group}{permission}"),
            "InvalidPermission.NotFound",
        ),
        (
            "another group",
            format!(
                "RevokeSecurityGroupIngress&GroupId={}{by_id}",
                site.foreign_group
            ),
            "InvalidSecurityGroupRuleId.NotFound",
        ),
    ];
    refused(&mut site, &rows);
    site.must(&format!(
        "RevokeSecurityGroupIngress&GroupId={group}{permission}"
    ));
    assert_eq!(
        site.code(&format!(
            "RevokeSecurityGroupIngress&GroupId={group}{by_id}"
        )),
        "InvalidSecurityGroupRuleId.NotFound"
    );
}

#[test]
fn a_prefix_list_has_versions() {
    let mut site = Site::new();
    let list = site.prefix_list.clone();
    let modify = |more: &str| format!("ModifyManagedPrefixList&PrefixListId={list}{more}");
    let rows = [
        (
            "no version",
            modify("&AddEntry.1.Cidr=10.0.0.0/8"),
            "MissingParameter",
        ),
        (
            "an old version",
            modify("&CurrentVersion=0&AddEntry.1.Cidr=10.0.0.0/8"),
            "PrefixListVersionMismatch",
        ),
        (
            "the other family",
            modify("&CurrentVersion=1&AddEntry.1.Cidr=2001:db8::/32"),
            "InvalidParameterValue",
        ),
        (
            "an entry that is not there",
            modify("&CurrentVersion=1&RemoveEntry.1.Cidr=10.0.0.0/8"),
            "InvalidParameterValue",
        ),
        (
            "no room",
            modify("&CurrentVersion=1&MaxEntries=1&AddEntry.1.Cidr=10.0.0.0/8"),
            "PrefixListMaxEntriesExceeded",
        ),
        (
            "a version that never was",
            format!("GetManagedPrefixListEntries&PrefixListId={list}&TargetVersion=2"),
            "InvalidPrefixListVersion",
        ),
        (
            "a list of nobody",
            "GetManagedPrefixListEntries&PrefixListId=pl-01234567".to_owned(),
            "InvalidPrefixListID.NotFound",
        ),
    ];
    refused(&mut site, &rows);
    let answer = site.must(&modify("&CurrentVersion=1&AddEntry.1.Cidr=10.0.0.0/8"));
    assert_eq!(between(&answer, "version").as_deref(), Some("2"));
    for (version, entries) in [("1", 1), ("2", 2)] {
        let answer = site.must(&format!(
            "GetManagedPrefixListEntries&PrefixListId={list}&TargetVersion={version}"
        ));
        assert_eq!(answer.matches("<item>").count(), entries);
    }
}
