//! Tests of how a task is shown.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::config::ConntrackConfig;
use crate::task_record::tests::{attached, entered, record};

/// A task on a host that sets nothing.
pub(crate) fn describe(record: &TaskRecord) -> TaskDescription {
    let attributes = record.spec.network_interface_attributes();
    let settings = EniSettings::resolve(&ConntrackConfig::default(), attributes);
    TaskDescription::of(record, settings, 9001)
}

#[test]
fn a_task_has_the_shape_of_describe_tasks() {
    let mut record = attached("web");
    record.spec.ecs.containers = vec![crate::ecs_task::EcsContainer {
        runtime_id: "c0ffee".to_owned(),
        ..crate::ecs_task::EcsContainer::default()
    }];
    let expected = serde_json::json!({
        "taskId": "web",
        "lastStatus": "RUNNING",
        "desiredStatus": "RUNNING",
        "availabilityZone": "us-east-1a",
        "createdAt": "2023-11-14T22:13:20.123Z",
        "startedAt": "2023-11-14T22:13:20.13Z",
        "attachments": [{
            "id": "00000000-0000-4000-8000-000000000001",
            "type": "ElasticNetworkInterface",
            "status": "ATTACHED",
            "details": [
                {"name": "subnetId", "value": "subnet-a"},
                {"name": "networkInterfaceId", "value": "eni-0123456789abcdef0"},
                {"name": "macAddress", "value": "0a:00:00:00:00:01"},
                {"name": "privateDnsName", "value": "ip-10-0-1-10.ec2.internal"},
                {"name": "privateIPv4Address", "value": "10.0.1.10"},
                {"name": "ipv6Address", "value": "2001:db8::1"},
            ],
            "statusTimes": [
                {"status": "PRECREATED", "at": "2023-11-14T22:13:20.123Z"},
                {"status": "CREATED", "at": "2023-11-14T22:13:20.124Z"},
                {"status": "ATTACHING", "at": "2023-11-14T22:13:20.124Z"},
                {"status": "ATTACHED", "at": "2023-11-14T22:13:20.13Z"},
            ],
        }],
        "containers": [{
            "runtimeId": "c0ffee",
            "environment": [{
                "name": "ECS_CONTAINER_METADATA_URI_V4",
                "value": "http://169.254.170.2/v4/00000000000040008000000000000001-0000000001",
            }],
            "networkInterfaces": [{
                "attachmentId": "00000000-0000-4000-8000-000000000001",
                "privateIpv4Address": "10.0.1.10",
                "ipv6Address": "2001:db8::1",
            }],
        }],
        "securityGroups": ["sg-web"],
        "networkInterfaceAttributes": {
            "connectionTrackingConfiguration": {
                "tcpEstablishedTimeout": 432_000,
                "udpTimeout": 30,
                "udpStreamTimeout": 180,
            },
            "blockInstanceMetadata": true,
            "sourceDestCheck": true,
            "maxTrackedConnections": 32_768,
        },
        "networkNamespace": "/run/netns/branchline-web",
        "networkInterface": {
            "linkName": "eth0",
            "macAddress": "0a:00:00:00:00:01",
            "mtu": 9001,
            "addresses": [
                {"address": "10.0.1.10/24", "router": "10.0.1.1"},
                {"address": "2001:db8::1/64", "router": "2001:db8::1"},
            ],
            "subnetId": "subnet-a",
            "vpcId": "vpc-1",
        },
        "dns": {"nameServers": ["10.0.0.2"], "searchDomains": ["ec2.internal"]},
        "files": {
            "hosts": "/run/branchline/tasks/web/hosts",
            "resolvConf": "/run/branchline/tasks/web/resolv.conf",
        },
        "environment": [{
            "name": "ECS_CONTAINER_METADATA_URI_V4",
            "value": "http://169.254.170.2/v4/00000000000040008000000000000001",
        }],
        "hostLink": "bl456789abcdef0",
        "vlanId": 7,
    });
    assert_eq!(serde_json::to_value(describe(&record)).unwrap(), expected);
}

#[test]
fn phases_and_missing_addresses_show() {
    let mut record = record("web");
    (record.eni.ipv6, record.eni.vlan) = (None, None);
    let task = describe(&record);
    assert_eq!(
        (task.last_status, task.attachments[0].status),
        (TaskStatus::Provisioning, AttachmentStatus::Attaching)
    );
    assert_eq!((task.detail("ipv6Address"), task.vlan_id), (None, None));
    assert_eq!(task.detail("privateIPv4Address"), Some("10.0.1.10"));
    let record = entered(record, AttachmentStatus::Failed, 1_700_000_001_000);
    let task = describe(&record);
    assert_eq!(
        (task.last_status, task.desired_status),
        (TaskStatus::Deprovisioning, TaskStatus::Stopped)
    );
    assert_eq!(task.stopping_at.as_deref(), Some("2023-11-14T22:13:21Z"));
    let record = entered(record, AttachmentStatus::Deleted, 1_700_000_002_000);
    let task = describe(&record);
    assert_eq!(task.last_status, TaskStatus::Stopped);
    assert_eq!(task.stopped_at.as_deref(), Some("2023-11-14T22:13:22Z"));
}
