//! Tests of `spec`.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn log(edit: impl FnOnce(&mut FlowLog)) -> FlowLog {
    let mut log = FlowLog::of_host();
    edit(&mut log);
    log
}

fn upload(url: &str) -> UploadConfig {
    UploadConfig {
        url: url.into(),
        endpoint: Some("https://127.0.0.1:9000".into()),
        region: None,
        allow_http: false,
        backlog_max_bytes: 1 << 30,
    }
}

#[test]
fn a_wrong_field_is_named_with_its_fix() {
    let rows = [
        (
            log(|log| log.flow_log_id = "fl-1".into()),
            "flow_log_id",
            "8 or 17",
        ),
        (
            log(|log| log.flow_log_id = "fl-ABCDEF01".into()),
            "flow_log_id",
            "lower-case",
        ),
        (
            log(|log| log.dir = "flows".into()),
            "dir",
            "start it with /",
        ),
        (
            log(|log| log.max_aggregation_interval = 0),
            "max_aggregation_interval",
            "from 1 to 600",
        ),
        (
            log(|log| log.max_aggregation_interval = 601),
            "max_aggregation_interval",
            "from 1 to 600",
        ),
        (log(|log| log.rotation = 0), "rotation", "from 1 to"),
        (
            log(|log| log.max_file_bytes = 1),
            "max_file_bytes",
            "from 4096",
        ),
        (
            log(|log| log.log_format = "${srcadr}".into()),
            "log_format",
            "did you mean srcaddr?",
        ),
        (
            log(|log| log.upload = Some(upload("ftp://logs"))),
            "upload.url",
            "write s3://",
        ),
        (
            log(|log| log.retention.max_age = Some(1)),
            "retention.max_age",
            "from 3600",
        ),
    ];
    for (log, field, fix) in rows {
        let error = check_all(&[
            FlowLog {
                flow_log_id: "fl-12345678".into(),
                ..FlowLog::of_host()
            },
            log,
        ]);
        let error = error.unwrap_err();
        assert_eq!(error.field, format!("flow_logs[1].{field}"));
        assert!(error.to_string().contains(fix), "{error}");
    }
    assert!(check_all(&[FlowLog::of_host()]).is_ok() && check_all(&[]).is_ok());
}

#[test]
fn two_logs_have_two_ids() {
    let error = check_all(&[FlowLog::of_host(), FlowLog::of_host()]).unwrap_err();
    assert_eq!(error.field, "flow_logs[1].flow_log_id");
}

#[test]
fn epochs_end_with_the_windows_of_every_log() {
    let of = |seconds: &[u64]| {
        let logs: Vec<FlowLog> = seconds
            .iter()
            .map(|seconds| log(|log| log.max_aggregation_interval = *seconds))
            .collect();
        epoch_seconds(&logs)
    };
    for (intervals, expected) in [
        (&[][..], 60),
        (&[600], 600),
        (&[60, 600], 60),
        (&[10, 15], 5),
        (&[1, 600], 1),
        (&[7, 60], 1),
    ] {
        assert_eq!(of(intervals), expected, "{intervals:?}");
    }
}

#[test]
fn a_log_covers_what_each_of_its_lists_names() {
    let mut interface = Interface {
        subnet_id: Some("subnet-a".into()),
        group_ids: vec!["sg-a".into(), "sg-b".into()],
        ..Interface::default()
    };
    interface.task.id = Some("web".into());
    let ids = |ids: &[&str]| {
        ids.iter()
            .map(|id| (*id).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let rows = [
        (log(|_| {}), true),
        (log(|log| log.task_ids = ids(&["db", "web"])), true),
        (log(|log| log.task_ids = ids(&["db"])), false),
        (log(|log| log.subnet_ids = ids(&["subnet-a"])), true),
        (log(|log| log.group_ids = ids(&["sg-b"])), true),
        (log(|log| log.group_ids = ids(&["sg-c"])), false),
        (
            log(|log| {
                log.task_ids = ids(&["web"]);
                log.subnet_ids = ids(&["subnet-b"]);
            }),
            false,
        ),
    ];
    for (log, expected) in rows {
        assert_eq!(log.covers(&interface), expected, "{log:?}");
    }
    assert!(!log(|log| log.task_ids = ids(&["web"])).covers(&Interface::default()));
}

#[test]
fn a_log_is_printed_as_it_is_read() {
    let spec = log(|log| {
        log.log_format = "${version} ${srcaddr}".into();
        log.traffic_type = TrafficType::Reject;
        log.file_format = FileFormat::Parquet;
        log.group_ids.insert("sg-a".into());
        log.tag_field_specifications = vec![TagFieldSpecification {
            resource_type: crate::flow_log::ResourceType::NetworkInterface,
            tag_keys: vec!["team".into()],
        }];
        log.upload = Some(upload("s3://logs"));
        log.retention.max_bytes = Some(1 << 30);
        log.include_services = [Service::Dns, Service::TimeSync].into();
    });
    let text = toml::to_string(&spec).unwrap();
    assert_eq!(toml::from_str::<FlowLog>(&text).unwrap(), spec, "{text}");
    let bare = toml::to_string(&FlowLog::of_host()).unwrap();
    assert!(
        !bare.contains("retention") && !bare.contains("upload"),
        "{bare}"
    );
}

#[test]
fn services_have_words_and_no_other_is_taken() {
    let parse = |words: &str| toml::from_str::<FlowLog>(&format!("include_services = {words}"));
    let every = parse(r#"["dns", "metadata", "time-sync"]"#).unwrap();
    assert_eq!(every.include_services, Service::ALL.into());
    let error = parse(r#"["ntp"]"#).unwrap_err().to_string();
    assert!(
        error.contains("include_services") && error.contains("`time-sync`"),
        "{error}"
    );
    assert!(FlowLog::of_host().include_services.is_empty());
}
