//! Tests of `ecs_request`.
#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::*;

/// As `aws ecs describe-task-definition` prints it, shortened.
fn definition() -> Value {
    json!({
        "taskDefinitionArn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7",
        "family": "web",
        "revision": 7,
        "networkMode": "awsvpc",
        "status": "ACTIVE",
        "requiresAttributes": [{"name": "ecs.capability.task-eni"}],
        "compatibilities": ["EC2", "FARGATE"],
        "cpu": "256",
        "memory": "512",
        "volumes": [],
        "containerDefinitions": [
            {
                "name": "nginx", "image": "nginx:1.27", "cpu": 0, "essential": true,
                "portMappings": [{"containerPort": 80, "hostPort": 80, "protocol": "tcp"}],
                "systemControls": [
                    {"namespace": "net.core.somaxconn", "value": "512"},
                    {"namespace": "kernel.shmmax", "value": "1"},
                ],
                "mountPoints": [], "environment": [{"name": "A", "value": "b"}],
            },
            {
                "name": "side", "image": "side:1", "portMappings": [{"containerPortRange": "9000-9010"}],
                "systemControls": [{"namespace": "net.core.somaxconn", "value": "1024"}],
            },
        ],
    })
}

fn request(definition: Value) -> Value {
    json!({
        "cluster": "prod",
        "taskDefinition": definition,
        "launchType": "EC2",
        "count": 1,
        "clientToken": "t-1",
        "startedBy": "somebody",
        "networkConfiguration": {"awsvpcConfiguration": {
            "subnets": ["subnet-a"], "securityGroups": ["sg-web"], "assignPublicIp": "DISABLED",
        }},
        "tags": [{"key": "team", "value": "shop"}],
    })
}

fn parse(request: &Value) -> Result<TaskSpec, FieldError> {
    RunTask::parse(request.to_string().as_bytes(), || {
        "made-up".parse().unwrap()
    })
}

#[test]
fn a_definition_may_be_registered_described_or_named() {
    let registered = parse(&request(definition())).unwrap();
    let described = parse(&request(json!({"taskDefinition": definition()}))).unwrap();
    assert_eq!(registered, described);
    assert_eq!(registered.task_id.as_str(), "made-up");
    assert_eq!(registered.ecs.group.as_deref(), Some("family:web"));
    assert_eq!(registered.ecs.cluster_name(), Some("prod"));
    let arn = "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7";
    assert_eq!(registered.ecs.task_definition_arn.as_deref(), Some(arn));
    let controls: Vec<_> = registered
        .system_controls
        .iter()
        .map(|one| (one.key(), &*one.value))
        .collect();
    assert_eq!(
        controls,
        [("net/core/somaxconn".to_owned(), "1024")],
        "the last container's"
    );
    for name in ["web:7", "web", arn] {
        let named = parse(&request(json!(name))).unwrap();
        assert_eq!(named.ecs.task_definition_arn.as_deref(), Some(name));
        assert_eq!(named.ecs.group.as_deref(), Some("family:web"), "{name}");
        assert_eq!(named.system_controls, []);
    }
    assert_eq!(registered.tags[0].value, "shop");
    assert_eq!(
        registered.client_token.map(String::from).as_deref(),
        Some("t-1")
    );
}

#[test]
fn what_awsvpc_mode_does_not_have_is_refused_by_its_field() {
    let base = || request(definition());
    let definition_field = "taskDefinition";
    let first = "taskDefinition.containerDefinitions[0]";
    let awsvpc = "networkConfiguration.awsvpcConfiguration";
    type Spoil = fn(&mut Value);
    let rows: [(&str, String, Spoil); 16] = [
        (
            "another mode",
            format!("{definition_field}.networkMode"),
            |r| {
                r["taskDefinition"]["networkMode"] = json!("host");
            },
        ),
        ("no mode", format!("{definition_field}.networkMode"), |r| {
            r["taskDefinition"]["networkMode"] = Value::Null;
        }),
        ("links", format!("{first}.links"), |r| {
            r["taskDefinition"]["containerDefinitions"][0]["links"] = json!(["db"]);
        }),
        ("hostname", format!("{first}.hostname"), |r| {
            r["taskDefinition"]["containerDefinitions"][0]["hostname"] = json!("web");
        }),
        ("dnsServers", format!("{first}.dnsServers"), |r| {
            r["taskDefinition"]["containerDefinitions"][0]["dnsServers"] = json!(["10.0.0.2"]);
        }),
        (
            "dnsSearchDomains",
            format!("{first}.dnsSearchDomains"),
            |r| {
                r["taskDefinition"]["containerDefinitions"][0]["dnsSearchDomains"] = json!(["a"]);
            },
        ),
        ("extraHosts", format!("{first}.extraHosts"), |r| {
            r["taskDefinition"]["containerDefinitions"][0]["extraHosts"] =
                json!([{"hostname": "a"}]);
        }),
        (
            "disableNetworking",
            format!("{first}.disableNetworking"),
            |r| {
                r["taskDefinition"]["containerDefinitions"][0]["disableNetworking"] = json!(true);
            },
        ),
        (
            "a mapped port",
            format!("{first}.portMappings[0].hostPort"),
            |r| {
                r["taskDefinition"]["containerDefinitions"][0]["portMappings"][0]["hostPort"] =
                    json!(8080);
            },
        ),
        (
            "a setting that leaves net",
            format!("{first}.systemControls[0].namespace"),
            |r| {
                r["taskDefinition"]["containerDefinitions"][0]["systemControls"][0]["namespace"] =
                    json!("net/../kernel/x");
            },
        ),
        ("Fargate", "launchType".to_owned(), |r| {
            r["launchType"] = json!("FARGATE")
        }),
        ("two tasks", "count".to_owned(), |r| r["count"] = json!(2)),
        ("no network", "networkConfiguration".to_owned(), |r| {
            r["networkConfiguration"] = Value::Null
        }),
        (
            "a public address",
            format!("{awsvpc}.assignPublicIp"),
            |r| {
                r["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] =
                    json!("ENABLED");
            },
        ),
        ("six groups", format!("{awsvpc}.securityGroups"), |r| {
            r["networkConfiguration"]["awsvpcConfiguration"]["securityGroups"] =
                json!(["sg-1", "sg-2", "sg-3", "sg-4", "sg-5", "sg-6"]);
        }),
        ("17 subnets", format!("{awsvpc}.subnets"), |r| {
            let subnets: Vec<_> = (0..17).map(|number| format!("subnet-{number}")).collect();
            r["networkConfiguration"]["awsvpcConfiguration"]["subnets"] = json!(subnets);
        }),
    ];
    assert!(parse(&base()).is_ok());
    for (name, field, spoil) in rows {
        let mut request = base();
        spoil(&mut request);
        let found = parse(&request).map_err(|error| error.field);
        assert_eq!(found, Err(field), "{name}");
    }
}

#[test]
fn a_blank_host_port_is_none() {
    for port in [json!(0), Value::Null, json!(80)] {
        let mut request = request(definition());
        request["taskDefinition"]["containerDefinitions"][0]["portMappings"][0]["hostPort"] = port;
        assert!(parse(&request).is_ok());
    }
}
