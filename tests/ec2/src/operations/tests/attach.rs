use std::sync::mpsc::channel;
use std::time::Duration;

use super::refused;
use crate::state::{Event, InstanceState};
use crate::testing::Site;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_cannot_be_attached_is_refused() {
    let mut site = Site::new();
    let eni = site.create(&site.subnet.clone(), "");
    let used = site.create(&site.subnet.clone(), "");
    let far = site.create(&site.far_subnet.clone(), "");
    let foreign = site.create(&site.foreign_subnet.clone(), "");
    let wide = site.create(&site.subnet.clone(), "&SecondaryPrivateIpAddressCount=2");
    site.attach(&used, 1);
    let attach = |eni: &str, more: &str| {
        format!(
            "AttachNetworkInterface&NetworkInterfaceId={eni}&InstanceId={}{more}",
            site.instance
        )
    };
    let elsewhere = format!(
        "AttachNetworkInterface&NetworkInterfaceId={eni}&InstanceId=i-01234567&DeviceIndex=2"
    );
    let rows = [
        ("no device", attach(&eni, ""), "MissingParameter"),
        (
            "an ENI of nobody",
            attach("eni-01234567", "&DeviceIndex=2"),
            "InvalidNetworkInterfaceID.NotFound",
        ),
        (
            "no ENI's id",
            attach("eni-x", "&DeviceIndex=2"),
            "InvalidNetworkInterfaceId.Malformed",
        ),
        (
            "an instance of nobody",
            elsewhere,
            "InvalidInstanceID.NotFound",
        ),
        (
            "one in use",
            attach(&used, "&DeviceIndex=2"),
            "InvalidNetworkInterface.InUse",
        ),
        (
            "another zone",
            attach(&far, "&DeviceIndex=2"),
            "InvalidParameterCombination",
        ),
        (
            "another VPC",
            attach(&foreign, "&DeviceIndex=2"),
            "InvalidParameterCombination",
        ),
        (
            "a device in use",
            attach(&eni, "&DeviceIndex=1"),
            "InvalidParameterValue",
        ),
        (
            "a negative device",
            attach(&eni, "&DeviceIndex=-1"),
            "InvalidParameterValue",
        ),
        (
            "a card that there is not",
            attach(&eni, "&DeviceIndex=2&NetworkCardIndex=1"),
            "InvalidParameterValue",
        ),
        (
            "more addresses than the type has",
            attach(&wide, "&DeviceIndex=2"),
            "PrivateIpAddressLimitExceeded",
        ),
    ];
    refused(&mut site, &rows);
    site.attach(&eni, 7);
    let one_more = site.create(&site.subnet.clone(), "");
    let query = format!(
        "AttachNetworkInterface&NetworkInterfaceId={one_more}&InstanceId={}&DeviceIndex=3",
        site.instance
    );
    assert_eq!(site.code(&query), "AttachmentLimitExceeded");
    let instance = site
        .account
        .state
        .instances
        .get_mut(&site.instance)
        .expect("the instance");
    instance.state = InstanceState::Terminated;
    assert_eq!(site.code(&query), "IncorrectState");
}

#[test]
fn a_trunk_needs_a_type_for_it_and_there_is_one() {
    let mut site = Site::new();
    site.trunk();
    let second = site.create(&site.subnet.clone(), "&InterfaceType=trunk");
    let query = format!(
        "AttachNetworkInterface&NetworkInterfaceId={second}&InstanceId={}&DeviceIndex=2",
        site.instance
    );
    assert_eq!(site.code(&query), "AttachmentLimitExceeded");
    let of = site
        .account
        .state
        .instance_types
        .get_mut("small")
        .expect("the type");
    of.branches = None;
    assert_eq!(site.code(&query), "InvalidParameterValue");
}

#[test]
fn an_attachment_takes_its_time_and_says_when() {
    let mut site = Site::new();
    let (sender, events) = channel();
    site.account.listeners.push(sender);
    site.account.state.settings.attach_delay = 2 * SECOND;
    site.account.state.settings.detach_delay = 3 * SECOND;
    let eni = site.create(&site.subnet.clone(), "");
    let attachment = site.attach(&eni, 1);
    let detach = format!("DetachNetworkInterface&AttachmentId={attachment}");
    let delete = format!("DeleteNetworkInterface&NetworkInterfaceId={eni}");
    assert_eq!(site.status(&eni), "attaching");
    assert_eq!(site.code(&detach), "IncorrectState");
    assert_eq!(site.code(&delete), "InvalidParameterValue");
    site.later(SECOND);
    assert_eq!(
        (site.status(&eni), events.try_recv().is_ok()),
        ("attaching", false)
    );
    site.later(SECOND);
    assert_eq!(site.status(&eni), "in-use");
    let attached = events.try_recv().expect("an event");
    assert!(
        matches!(&attached, Event::Attached { network_interface_id, device_index: 1, trunk: false, .. } if *network_interface_id == eni)
    );
    assert_eq!(site.code(&delete), "InvalidParameterValue");
    site.must(&detach);
    assert_eq!(site.status(&eni), "detaching");
    assert!(matches!(events.try_recv(), Ok(Event::Detaching { .. })));
    assert_eq!(site.code(&detach), "IncorrectState");
    assert_eq!(site.code(&delete), "InvalidParameterValue");
    site.later(3 * SECOND);
    assert_eq!(site.status(&eni), "available");
    assert!(matches!(events.try_recv(), Ok(Event::Detached { .. })));
    assert_eq!(site.code(&detach), "InvalidAttachmentID.NotFound");
    site.account.state.settings.delete_in_use_code = "InvalidNetworkInterface.InUse";
    assert_eq!(site.code(&delete), "fine");
    assert!(matches!(events.try_recv(), Ok(Event::Deleted { .. })));
    assert_eq!(site.code(&delete), "InvalidNetworkInterfaceID.NotFound");
}

#[test]
fn what_cannot_be_detached_is_refused() {
    let mut site = Site::new();
    let attached = site.account.state.attached_to(&site.instance);
    let primary = attached[0].1.attachment_id.clone();
    let trunk = site.trunk();
    let branch = site.create(&site.subnet.clone(), "");
    site.associate(&branch, &trunk, 1);
    let of_trunk = site
        .eni(&trunk)
        .attachment
        .as_ref()
        .expect("attached")
        .attachment_id
        .clone();
    let rows = [
        (
            "the primary ENI",
            format!("DetachNetworkInterface&AttachmentId={primary}"),
            "OperationNotPermitted",
        ),
        (
            "a trunk with branches",
            format!("DetachNetworkInterface&AttachmentId={of_trunk}"),
            "DependencyViolation",
        ),
        (
            "an ENI's id",
            format!("DetachNetworkInterface&AttachmentId={trunk}"),
            "InvalidNetworkInterfaceAttachmentId.Malformed",
        ),
    ];
    refused(&mut site, &rows);
    site.account.state.settings.attach_delay = SECOND;
    let eni = site.create(&site.subnet.clone(), "");
    let attachment = site.attach(&eni, 2);
    assert_eq!(
        site.code(&format!(
            "DetachNetworkInterface&AttachmentId={attachment}&Force=true"
        )),
        "fine"
    );
}

#[test]
fn a_terminated_instance_leaves_what_is_not_to_be_deleted() {
    let mut site = Site::new();
    let primary = site.account.state.attached_to(&site.instance)[0]
        .0
        .network_interface_id
        .clone();
    let trunk = site.trunk();
    let branch = site.create(&site.subnet.clone(), "");
    site.associate(&branch, &trunk, 1);
    let instance = site.instance.clone();
    site.account.state.terminate_instance(&instance);
    assert!(!site.account.state.network_interfaces.contains_key(&primary));
    assert_eq!(
        (site.status(&trunk), site.status(&branch)),
        ("available", "available")
    );
    assert!(site.account.state.trunk_associations.is_empty());
    assert!(site.must("DescribeInstances").contains("<name>terminated<"));
    for left in [trunk, branch] {
        assert_eq!(
            site.code(&format!("DeleteNetworkInterface&NetworkInterfaceId={left}")),
            "fine"
        );
    }
}
