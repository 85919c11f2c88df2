//! Tests of `task_metadata`.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::ecs_task::{EcsContainer, EcsTask, Tag};
use crate::services::Rate;
use crate::task_record::tests::{attached, record};
use crate::test_dir::TestDir;

const ID: &str = "00000000000040008000000000000001";

fn task() -> TaskRecord {
    let mut task = attached("web");
    let arn = |rest: &str| Some(format!("arn:aws:ecs:us-east-1:123456789012:{rest}"));
    task.spec.ecs = EcsTask {
        cluster_arn: arn("cluster/prod"),
        task_arn: arn("task/prod/0123"),
        task_definition_arn: arn("task-definition/shop:7"),
        group: Some("service:shop".to_owned()),
        containers: vec![EcsContainer {
            runtime_id: "c0ffee".to_owned(),
            name: Some("app".to_owned()),
            image: Some("registry.example/app:1".to_owned()),
        }],
        ..EcsTask::default()
    };
    task.spec.tags = vec![Tag {
        key: "team".to_owned(),
        value: "a b".to_owned(),
    }];
    task
}

#[test]
fn a_task_is_shown_as_ecs_shows_it() {
    let task = task();
    let metadata = Metadata::of(&task, Some("use1-az1"));
    let network = serde_json::json!([{
        "NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.1.10"], "IPv6Addresses": ["2001:db8::1"],
        "AttachmentIndex": 0, "MACAddress": "0a:00:00:00:00:01",
        "IPv4SubnetCIDRBlock": "10.0.1.0/24", "IPv6SubnetCIDRBlock": "2001:db8::/64",
        "DomainNameServers": ["10.0.0.2"], "DomainNameSearchList": ["ec2.internal"],
        "SubnetGatewayIpv4Address": "10.0.1.1/24",
    }]);
    let app = serde_json::json!({
        "DockerId": "c0ffee", "Name": "app", "DockerName": "app", "Image": "registry.example/app:1",
        "Labels": {
            "com.amazonaws.ecs.cluster": "prod",
            "com.amazonaws.ecs.container-name": "app",
            "com.amazonaws.ecs.task-arn": "arn:aws:ecs:us-east-1:123456789012:task/prod/0123",
            "com.amazonaws.ecs.task-definition-family": "shop",
            "com.amazonaws.ecs.task-definition-version": "7",
        },
        "DesiredStatus": "RUNNING", "KnownStatus": "RUNNING", "CreatedAt": "2023-11-14T22:13:20.123Z",
        "StartedAt": "2023-11-14T22:13:20.13Z", "Type": "NORMAL", "Networks": network,
    });
    let pause = serde_json::json!({
        "DockerId": ID, "Name": "~internal~ecs~pause", "DockerName": "~internal~ecs~pause",
        "DesiredStatus": "RESOURCES_PROVISIONED", "KnownStatus": "RESOURCES_PROVISIONED",
        "CreatedAt": "2023-11-14T22:13:20.123Z", "StartedAt": "2023-11-14T22:13:20.13Z",
        "Type": "CNI_PAUSE", "Networks": network,
    });
    let mut expected = serde_json::json!({
        "Cluster": "arn:aws:ecs:us-east-1:123456789012:cluster/prod",
        "TaskARN": "arn:aws:ecs:us-east-1:123456789012:task/prod/0123",
        "Family": "shop", "Revision": "7", "ServiceName": "shop",
        "DesiredStatus": "RUNNING", "KnownStatus": "RUNNING", "VPCID": "vpc-1",
        "AvailabilityZone": "us-east-1a", "AvailabilityZoneID": "use1-az1", "LaunchType": "EC2",
        "FaultInjectionEnabled": false, "Containers": [pause, app],
    });
    let shown = |value| serde_json::to_value(value).unwrap();
    assert_eq!(shown(metadata.task()), expected);
    expected["TaskTags"] = serde_json::json!({"team": "a b"});
    assert_eq!(shown(metadata.task_with_tags()), expected);
    let container = |subject| serde_json::to_value(metadata.container(subject)).unwrap();
    assert_eq!(container(Subject::Container(0)), app);
    assert_eq!(container(Subject::Task), pause);
}

#[test]
fn ids_are_the_tasks_and_its_containers_own() {
    let task = task();
    let subject = |id: &str| Subject::of(&task, id);
    assert_eq!(subject(ID), Some(Subject::Task));
    assert_eq!(
        subject(&format!("{ID}-0000000001")),
        Some(Subject::Container(0))
    );
    for unknown in ["", "c0ffee", "web", &format!("{ID}-0000000002"), &ID[1..]] {
        assert_eq!(subject(unknown), None, "{unknown}");
    }
    assert_eq!(
        uri(&task, Subject::Container(0)),
        format!("http://169.254.170.2/v4/{ID}-0000000001")
    );
}

#[test]
fn a_task_is_told_of_itself_alone_and_not_too_often() {
    let dir = TestDir::new();
    let tasks = Arc::new(TaskStore::open(dir.path()).unwrap());
    let (first, mut second) = (record("first"), record("second"));
    second.eni.attachment_id = "00000000-0000-4000-8000-000000000002".to_owned();
    second.eni.ipv4 = Some("10.0.1.11/24".parse().unwrap());
    second.eni.ipv6 = None;
    let [first, second] = [first, second].map(|task| tasks.insert(task).unwrap());
    let (tenants, now) = (Tenants::default(), Instant::now());
    let rate = Rate {
        per_second: 1,
        burst: 4,
    };
    for task in [&first, &second] {
        tenants.insert(task, rate, now);
    }
    let endpoint = Endpoint {
        tenants,
        tasks: Arc::clone(&tasks),
        availability_zone_id: None,
    };
    let ask = |peer: &str, id: &str| {
        let found = endpoint.find(peer.parse().unwrap(), id, now);
        found.map(|(task, _)| task.spec.task_id.to_string())
    };
    assert_eq!(ask("10.0.1.10", ID), Err(Refusal::NotReady));
    for task in [first, second.clone()] {
        let status = AttachmentStatus::Attached;
        let task = crate::task_record::tests::entered(task, status, 1_700_000_000_130);
        tasks.update(&task).unwrap();
    }
    assert_eq!(ask("10.0.1.10", ID), Ok("first".to_owned()));
    assert_eq!(ask("2001:db8::1", ID), Ok("first".to_owned()));
    assert_eq!(ask("10.0.1.10", &task_id(&second)), Err(Refusal::Unknown));
    assert_eq!(ask("10.0.1.10", ID), Err(Refusal::TooMany));
    assert_eq!(ask("10.0.1.11", ID), Err(Refusal::Unknown));
    assert_eq!(ask("10.0.1.11", &task_id(&second)), Ok("second".to_owned()));
    assert_eq!(ask("10.0.1.12", ID), Err(Refusal::Unknown));
}
