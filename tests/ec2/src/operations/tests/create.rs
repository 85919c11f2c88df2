use super::refused;
use crate::testing::{Site, between};

#[test]
fn what_cannot_be_created_is_refused_and_leaves_nothing() {
    let mut site = Site::new();
    let before = site.account.state.network_interfaces.len();
    let create =
        |subnet: &str, more: &str| format!("CreateNetworkInterface&SubnetId={subnet}{more}");
    let here = |more: &str| create(&site.subnet, more);
    let tag = |key: &str| {
        format!(
            "&TagSpecification.1.ResourceType=network-interface&TagSpecification.1.Tag.1.Key={key}"
        )
    };
    let groups = |ids: &[&str]| {
        let numbered = ids.iter().enumerate();
        let each = numbered.map(|(at, id)| format!("&SecurityGroupId.{}={id}", at + 1));
        each.collect::<String>()
    };
    let nobody = "sg-0000000000000ffff";
    let rows = [
        (
            "no subnet",
            "CreateNetworkInterface".to_owned(),
            "MissingParameter",
        ),
        (
            "a subnet of nobody",
            create("subnet-0000000000000ffff", ""),
            "InvalidSubnetID.NotFound",
        ),
        (
            "no subnet's id",
            create("subnet-a", ""),
            "InvalidSubnetID.Malformed",
        ),
        ("an unknown parameter", here("&Foo=1"), "UnknownParameter"),
        (
            "a group of nobody",
            here(&groups(&[nobody])),
            "InvalidGroup.NotFound",
        ),
        (
            "no group's id",
            here(&groups(&["sg-web"])),
            "InvalidGroupId.Malformed",
        ),
        (
            "a group of another VPC",
            here(&groups(&[&site.foreign_group])),
            "InvalidGroup.NotFound",
        ),
        (
            "a group twice",
            here(&groups(&[&site.group, &site.group])),
            "InvalidParameterValue",
        ),
        (
            "an address elsewhere",
            here("&PrivateIpAddress=10.0.2.9"),
            "InvalidParameterValue",
        ),
        (
            "a reserved address",
            here("&PrivateIpAddress=10.0.1.3"),
            "InvalidParameterValue",
        ),
        (
            "the last address",
            here("&PrivateIpAddress=10.0.1.15"),
            "InvalidParameterValue",
        ),
        (
            "the instance's address",
            here("&PrivateIpAddress=10.0.1.4"),
            "InvalidIPAddress.InUse",
        ),
        (
            "no address",
            here("&PrivateIpAddress=x"),
            "InvalidParameterValue",
        ),
        (
            "two ways to say it",
            here("&PrivateIpAddress=10.0.1.9&PrivateIpAddresses.1.PrivateIpAddress=10.0.1.9"),
            "InvalidParameterCombination",
        ),
        (
            "more than are free",
            here("&SecondaryPrivateIpAddressCount=11"),
            "InsufficientFreeAddressesInSubnet",
        ),
        (
            "IPv6 where there is none",
            create(&site.far_subnet, "&Ipv6AddressCount=1"),
            "InvalidParameterValue",
        ),
        (
            "IPv6 in two ways",
            here("&Ipv6AddressCount=1&Ipv6Addresses.1.Ipv6Address=2001:db8:0:1::9"),
            "InvalidParameterCombination",
        ),
        (
            "IPv6 elsewhere",
            here("&Ipv6Addresses.1.Ipv6Address=2001:db8:0:2::9"),
            "InvalidParameterValue",
        ),
        (
            "a negative count",
            here("&Ipv6AddressCount=-1"),
            "InvalidParameterValue",
        ),
        (
            "a primary IPv6 of none",
            here("&EnablePrimaryIpv6=true"),
            "InvalidParameterCombination",
        ),
        (
            "a type of nothing",
            here("&InterfaceType=bus"),
            "InvalidParameterValue",
        ),
        (
            "a type that is not made here",
            here("&InterfaceType=branch"),
            "UnsupportedOperation",
        ),
        (
            "a long description",
            here(&format!("&Description={}", "x".repeat(256))),
            "InvalidParameterValue",
        ),
        ("a tag of AWS", here(&tag("aws:x")), "InvalidParameterValue"),
        ("a tag without key", here(&tag("")), "MissingParameter"),
        (
            "a tag of something else",
            here("&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a"),
            "InvalidParameterValue",
        ),
        (
            "a timeout out of range",
            here("&ConnectionTrackingSpecification.UdpTimeout=61"),
            "InvalidParameterValue",
        ),
        (
            "a token too long",
            here(&format!("&ClientToken={}", "x".repeat(65))),
            "InvalidParameterValue",
        ),
    ];
    refused(&mut site, &rows);
    assert_eq!(site.account.state.network_interfaces.len(), before);
}

#[test]
fn quotas_hold() {
    let mut site = Site::new();
    let subnet = site.subnet.clone();
    let query = format!(
        "CreateNetworkInterface&SubnetId={subnet}&SecurityGroupId.1={}",
        site.group
    );
    site.account.state.settings.groups_per_interface = 0;
    assert_eq!(site.code(&query), "SecurityGroupsPerInterfaceLimitExceeded");
    site.account.state.settings.groups_per_interface = 1;
    site.account.state.settings.network_interface_quota = 2;
    assert_eq!(site.code(&query), "fine");
    assert_eq!(site.code(&query), "NetworkInterfaceLimitExceeded");
}

#[test]
fn addresses_are_the_lowest_free_ones_and_come_back() {
    let mut site = Site::new();
    let subnet = site.subnet.clone();
    let named = site.create(
        &subnet,
        "&PrivateIpAddresses.1.PrivateIpAddress=10.0.1.6&SecondaryPrivateIpAddressCount=1",
    );
    let shown = |site: &Site, id: &str| {
        site.eni(id)
            .private_ip_addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&site, &named),
        ["10.0.1.5", "10.0.1.6", "10.0.1.7"],
        "the named one is not primary"
    );
    let second = site.create(
        &subnet,
        "&PrivateIpAddresses.1.PrivateIpAddress=10.0.1.13&PrivateIpAddresses.2.PrivateIpAddress=10.0.1.14\
         &PrivateIpAddresses.2.Primary=true",
    );
    assert_eq!(
        shown(&site, &second),
        ["10.0.1.14", "10.0.1.13"],
        "the primary one is first"
    );
    site.must(&format!(
        "DeleteNetworkInterface&NetworkInterfaceId={second}"
    ));
    let mut count = 0;
    while site.code(&format!("CreateNetworkInterface&SubnetId={subnet}")) == "fine" {
        count += 1;
    }
    assert_eq!(count, 16 - 5 - 1 - 3);
    site.must(&format!(
        "DeleteNetworkInterface&NetworkInterfaceId={named}"
    ));
    let again = site.create(&subnet, "");
    assert_eq!(shown(&site, &again), ["10.0.1.5"]);
    assert_ne!(again, named, "an id is never given twice");
}

#[test]
fn a_token_makes_one_eni_of_two_requests() {
    let mut site = Site::new();
    let query = format!(
        "CreateNetworkInterface&SubnetId={}&ClientToken=t1",
        site.subnet
    );
    let first = site.must(&query);
    let second = site.must(&query);
    assert_eq!(
        between(&first, "networkInterfaceId"),
        between(&second, "networkInterfaceId")
    );
    assert_eq!(site.account.state.network_interfaces.len(), 2);
    assert_eq!(
        site.code(&format!("{query}&Description=x")),
        "IdempotentParameterMismatch"
    );
    assert_eq!(
        site.code(&format!("{query}&DryRun=true")),
        "DryRunOperation"
    );
    site.create(&site.subnet.clone(), "&ClientToken=t2");
    assert_eq!(site.account.state.network_interfaces.len(), 3);
}

#[test]
fn one_attribute_is_modified_at_a_time() {
    let mut site = Site::new();
    let eni = site.create(&site.subnet.clone(), "");
    let modify =
        |more: &str| format!("ModifyNetworkInterfaceAttribute&NetworkInterfaceId={eni}{more}");
    let rows = [
        ("nothing", modify(""), "InvalidParameterCombination"),
        (
            "two",
            modify("&Description.Value=x&SourceDestCheck.Value=false"),
            "InvalidParameterCombination",
        ),
        (
            "two others",
            modify(&format!(
                "&SourceDestCheck.Value=false&SecurityGroupId.1={}",
                site.group
            )),
            "InvalidParameterCombination",
        ),
        (
            "a group of another VPC",
            modify(&format!("&SecurityGroupId.1={}", site.foreign_group)),
            "InvalidGroup.NotFound",
        ),
        (
            "no attachment",
            modify(
                "&Attachment.AttachmentId=eni-attach-01234567&Attachment.DeleteOnTermination=true",
            ),
            "InvalidAttachmentID.NotFound",
        ),
        (
            "half an attachment",
            modify("&Attachment.AttachmentId=eni-attach-01234567"),
            "MissingParameter",
        ),
        (
            "an ENI of nobody",
            "ModifyNetworkInterfaceAttribute&NetworkInterfaceId=eni-01234567&Description.Value=x"
                .to_owned(),
            "InvalidNetworkInterfaceID.NotFound",
        ),
    ];
    refused(&mut site, &rows);
    assert_eq!(
        (
            &*site.eni(&eni).description,
            site.eni(&eni).source_dest_check
        ),
        ("", true)
    );
    site.must(&modify(&format!("&SecurityGroupId.1={}", site.group)));
    assert_eq!(site.eni(&eni).group_ids, [site.group.clone()]);
    site.must(&modify("&SourceDestCheck.Value=false"));
    assert!(!site.eni(&eni).source_dest_check);
}

#[test]
fn tags_are_of_what_there_is() {
    let mut site = Site::new();
    let eni = site.create(&site.subnet.clone(), "");
    let tag =
        |id: &str, more: &str| format!("CreateTags&ResourceId.1={eni}&ResourceId.2={id}{more}");
    let group = site.group.clone();
    let rows = [
        ("no tag", tag(&group, ""), "MissingParameter"),
        (
            "no resource",
            "CreateTags&Tag.1.Key=a".to_owned(),
            "MissingParameter",
        ),
        (
            "nobody's id",
            tag("subnet-01234567", "&Tag.1.Key=a"),
            "InvalidSubnetID.NotFound",
        ),
        ("no id", tag("x", "&Tag.1.Key=a"), "InvalidID"),
        (
            "a key twice",
            tag(&group, "&Tag.1.Key=a&Tag.2.Key=a"),
            "InvalidParameterValue",
        ),
    ];
    refused(&mut site, &rows);
    assert!(site.eni(&eni).tags.is_empty(), "all or none");
    site.must(&tag(&group, "&Tag.1.Key=a&Tag.1.Value=1"));
    site.must(&tag(&group, "&Tag.1.Key=a&Tag.1.Value=2&Tag.2.Key=b"));
    let tags: Vec<_> = site
        .eni(&eni)
        .tags
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(tags, ["a=2", "b="]);
    let many: String = (1..=49)
        .map(|number| format!("&Tag.{number}.Key=k{number}"))
        .collect();
    assert_eq!(site.code(&tag(&group, &many)), "TagLimitExceeded");
}
