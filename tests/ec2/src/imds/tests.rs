#![expect(clippy::unwrap_used, reason = "tests")]

use super::tree::{Tree, of, read};
use crate::credentials::Credentials;
use crate::testing::Site;

fn tree(site: &Site) -> Tree {
    of(
        &site.account.state,
        &site.instance,
        &Credentials::default(),
        site.now,
    )
}

#[test]
fn the_tree_has_what_is_attached_and_lists_its_folders() {
    let mut site = Site::new();
    let trunk = site.trunk();
    let branch = site.create(&site.subnet.clone(), "");
    site.associate(&branch, &trunk, 1);
    let mac = site.eni(&trunk).mac_address.clone();
    let primary = site.account.state.attached_to(&site.instance)[0].0;
    let (primary_mac, primary_id) = (
        primary.mac_address.clone(),
        primary.network_interface_id.clone(),
    );
    let tree = tree(&site);
    let both = format!("{primary_mac}/\n{mac}/");
    let base = format!("meta-data/network/interfaces/macs/{mac}");
    let of_primary = format!("meta-data/network/interfaces/macs/{primary_mac}/interface-id");
    for (path, value) in [
        ("", Some("dynamic/\nmeta-data/")),
        ("meta-data/instance-id", Some(site.instance.as_str())),
        ("meta-data/instance-type", Some("small")),
        (
            "meta-data/placement/",
            Some("availability-zone\navailability-zone-id\nregion"),
        ),
        (
            "meta-data/placement",
            Some("availability-zone\navailability-zone-id\nregion"),
        ),
        ("meta-data/placement/region", Some("eu-west-1")),
        ("meta-data/placement/availability-zone-id", Some("euw1-az1")),
        ("meta-data/mac", Some(&primary_mac)),
        ("meta-data/local-ipv4", Some("10.0.1.4")),
        ("meta-data/network/interfaces/macs/", Some(&both)),
        (&of_primary, Some(&primary_id)),
        (&format!("{base}/interface-id"), Some(&trunk)),
        (&format!("{base}/device-number"), Some("1")),
        (
            &format!("{base}/subnet-ipv4-cidr-block"),
            Some("10.0.1.0/28"),
        ),
        (&format!("{base}/vpc-ipv4-cidr-blocks"), Some("10.0.0.0/16")),
        (
            &format!("{base}/vpc-ipv6-cidr-blocks"),
            Some("2001:db8::/56"),
        ),
        (&format!("{base}/ipv6s"), None),
        (
            "meta-data/iam/security-credentials/",
            Some("branchline-host"),
        ),
        ("meta-data/public-ipv4", None),
    ] {
        assert_eq!(read(&tree, path).as_deref(), value, "{path}");
    }
    let document = read(&tree, "dynamic/instance-identity/document").unwrap();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["accountId"], "123456789012");
    assert_eq!(document["privateIp"], "10.0.1.4");
    let role = read(&tree, "meta-data/iam/security-credentials/branchline-host").unwrap();
    let role: serde_json::Value = serde_json::from_str(&role).unwrap();
    assert_eq!(
        (&role["Code"], &role["AccessKeyId"]),
        (&"Success".into(), &"ASIAIOSFODNN7EXAMPLE".into())
    );
}

#[test]
fn what_is_on_its_way_or_on_no_instance_is_not_there() {
    let mut site = Site::new();
    site.account.state.settings.attach_delay = std::time::Duration::from_secs(1);
    let eni = site.create(&site.subnet.clone(), "");
    site.attach(&eni, 1);
    let mac = site.eni(&eni).mac_address.clone();
    let path = format!("meta-data/network/interfaces/macs/{mac}/mac");
    assert_eq!(read(&tree(&site), &path), None);
    site.later(std::time::Duration::from_secs(1));
    assert_eq!(read(&tree(&site), &path), Some(mac));
    site.instance = "i-01234567".to_owned();
    assert!(tree(&site).is_empty());
}
