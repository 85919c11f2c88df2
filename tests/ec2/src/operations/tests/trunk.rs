use std::time::Duration;

use super::refused;
use crate::testing::{Site, between};

#[test]
fn what_cannot_be_associated_is_refused() {
    let mut site = Site::new();
    let subnet = site.subnet.clone();
    let loose = site.create(&subnet, "&InterfaceType=trunk");
    let trunk = site.trunk();
    let branch = site.create(&subnet, "");
    let far = site.create(&site.far_subnet.clone(), "");
    let foreign = site.create(&site.foreign_subnet.clone(), "");
    let other = site.create(&subnet, "");
    let attached = site.create(&subnet, "");
    site.attach(&attached, 2);
    site.associate(&other, &trunk, 5);
    let associate = |branch: &str, trunk: &str, more: &str| {
        format!("AssociateTrunkInterface&BranchInterfaceId={branch}&TrunkInterfaceId={trunk}{more}")
    };
    let rows = [
        (
            "no VLAN",
            associate(&branch, &trunk, ""),
            "MissingParameter",
        ),
        (
            "VLAN 0",
            associate(&branch, &trunk, "&VlanId=0"),
            "InvalidParameterValue",
        ),
        (
            "VLAN 4095",
            associate(&branch, &trunk, "&VlanId=4095"),
            "InvalidParameterValue",
        ),
        (
            "VLAN and GRE",
            associate(&branch, &trunk, "&VlanId=1&GreKey=1"),
            "InvalidParameterCombination",
        ),
        (
            "a VLAN in use",
            associate(&branch, &trunk, "&VlanId=5"),
            "InvalidVlanId.Duplicate",
        ),
        (
            "a branch twice",
            associate(&other, &trunk, "&VlanId=1"),
            "InvalidNetworkInterface.InUse",
        ),
        (
            "an attached branch",
            associate(&attached, &trunk, "&VlanId=1"),
            "InvalidNetworkInterface.InUse",
        ),
        (
            "a trunk as a branch",
            associate(&loose, &trunk, "&VlanId=1"),
            "InvalidParameterValue",
        ),
        (
            "no trunk",
            associate(&branch, &attached, "&VlanId=1"),
            "InvalidParameterValue",
        ),
        (
            "a trunk of no instance",
            associate(&branch, &loose, "&VlanId=1"),
            "IncorrectState",
        ),
        (
            "a branch of another zone",
            associate(&far, &trunk, "&VlanId=1"),
            "InvalidParameterCombination",
        ),
        (
            "a branch of another VPC",
            associate(&foreign, &trunk, "&VlanId=1"),
            "InvalidParameterCombination",
        ),
        (
            "a branch of nobody",
            associate("eni-01234567", &trunk, "&VlanId=1"),
            "InvalidNetworkInterfaceID.NotFound",
        ),
    ];
    refused(&mut site, &rows);
    site.associate(&branch, &trunk, 4094);
    let third = site.create(&subnet, "");
    let query = format!(
        "AssociateTrunkInterface&BranchInterfaceId={third}&TrunkInterfaceId={trunk}&VlanId=1"
    );
    assert_eq!(site.code(&query), "AttachmentLimitExceeded");
}

#[test]
fn a_trunk_that_is_on_its_way_carries_nothing() {
    let mut site = Site::new();
    site.account.state.settings.attach_delay = Duration::from_secs(1);
    let subnet = site.subnet.clone();
    let trunk = site.create(&subnet, "&InterfaceType=trunk");
    let branch = site.create(&subnet, "");
    site.attach(&trunk, 1);
    let query = format!(
        "AssociateTrunkInterface&BranchInterfaceId={branch}&TrunkInterfaceId={trunk}&VlanId=1"
    );
    assert_eq!(site.code(&query), "IncorrectState");
    site.later(Duration::from_secs(1));
    assert_eq!(site.code(&query), "fine");
}

#[test]
fn a_branch_is_in_use_until_it_is_disassociated() {
    let mut site = Site::new();
    let trunk = site.trunk();
    let branch = site.create(&site.subnet.clone(), "");
    let association = site.associate(&branch, &trunk, 1);
    let delete = format!("DeleteNetworkInterface&NetworkInterfaceId={branch}");
    let disassociate = format!("DisassociateTrunkInterface&AssociationId={association}");
    assert_eq!(
        (
            site.status(&branch),
            site.account.state.shown_type(site.eni(&branch))
        ),
        ("in-use", "branch")
    );
    assert_eq!(site.code(&delete), "InvalidParameterValue");
    site.must(&format!("{disassociate}&ClientToken=d1"));
    site.must(&format!("{disassociate}&ClientToken=d1"));
    assert_eq!(site.status(&branch), "available");
    assert_eq!(site.code(&disassociate), "InvalidAssociationID.NotFound");
    assert_eq!(
        site.code("DisassociateTrunkInterface&AssociationId=x"),
        "InvalidAssociationID.Malformed"
    );
    let again = site.associate(&branch, &trunk, 1);
    assert_ne!(again, association);
    site.must(&format!("DisassociateTrunkInterface&AssociationId={again}"));
    assert_eq!(site.code(&delete), "fine");
}

#[test]
fn a_token_makes_one_association_of_two_requests() {
    let mut site = Site::new();
    let trunk = site.trunk();
    let branch = site.create(&site.subnet.clone(), "");
    let query = format!(
        "AssociateTrunkInterface&BranchInterfaceId={branch}&TrunkInterfaceId={trunk}&VlanId=1&ClientToken=a1"
    );
    let first = site.must(&query);
    site.later(Duration::from_secs(1));
    assert_eq!(
        between(&first, "associationId"),
        between(&site.must(&query), "associationId")
    );
    assert_eq!(site.account.state.trunk_associations.len(), 1);
    let other = query.replace("VlanId=1", "VlanId=2");
    assert_eq!(site.code(&other), "IdempotentParameterMismatch");
}
