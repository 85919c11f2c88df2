#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::field_error::from_toml;

fn upload(text: &str) -> Result<UploadConfig, FieldError> {
    let config: UploadConfig = from_toml(text)?;
    config.check("upload").map(|()| config)
}

#[test]
fn a_destination_is_a_bucket_or_a_folder() {
    let s3 = |bucket: &str, prefix: &str| Url::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    };
    for (url, expected) in [
        ("s3://logs", s3("logs", "")),
        ("s3://my.logs-1/", s3("my.logs-1", "")),
        ("s3://logs/a/b=c/", s3("logs", "a/b=c")),
        ("file:///var/copy", Url::File("/var/copy".into())),
    ] {
        let config = upload(&format!("url = {url:?}")).unwrap();
        assert_eq!(config.parsed("upload").unwrap(), expected, "{url}");
        assert_eq!(config.backlog_max_bytes, 1 << 30);
    }
}

#[test]
fn a_wrong_field_is_named() {
    let url = "url = \"s3://logs\"\n";
    for (text, field, problem) in [
        ("", "url", "is missing"),
        (
            "url = \"gs://logs\"",
            "upload.url",
            "\"gs://logs\" is no destination",
        ),
        (
            "url = \"s3:///x\"",
            "upload.url",
            "\"s3:///x\" names no bucket",
        ),
        (
            "url = \"s3://Logs\"",
            "upload.url",
            "\"s3://Logs\" names no bucket",
        ),
        (
            "url = \"s3://logs/a//b\"",
            "upload.url",
            "\"s3://logs/a//b\" has a folder without a name",
        ),
        (
            "url = \"s3://logs/..\"",
            "upload.url",
            "\"s3://logs/..\" has a folder without a name",
        ),
        (
            "url = \"s3://logs/AWSLogs/x\"",
            "upload.url",
            "\"s3://logs/AWSLogs/x\" has the folder AWSLogs, which each file's own path has",
        ),
        (
            "url = \"file://x\"",
            "upload.url",
            "\"file://x\" is no absolute folder",
        ),
        (
            &format!("{url}backlog_max_bytes = 1"),
            "upload.backlog_max_bytes",
            "1 is out of range",
        ),
        (
            &format!("{url}secret_access_key = \"x\""),
            "secret_access_key",
            "unknown field `secret_access_key`, expected one of `url`, `endpoint`, `region`, `allow_http`, `backlog_max_bytes`",
        ),
        (
            &format!("{url}endpoint = \"http://127.0.0.1:1\""),
            "upload.endpoint",
            "\"http://127.0.0.1:1\" is http",
        ),
        (
            &format!("{url}allow_http = true\nendpoint = \"http://10.0.0.1:1\""),
            "upload.endpoint",
            "\"http://10.0.0.1:1\" is http to another host",
        ),
        (
            &format!("{url}endpoint = \"https://key:secret@host\""),
            "upload.endpoint",
            "has a user name",
        ),
        (
            &format!("{url}endpoint = \"host:1\""),
            "upload.endpoint",
            "\"host:1\" is no URL",
        ),
        (
            &format!("{url}endpoint = \"https://\""),
            "upload.endpoint",
            "\"https://\" names no host",
        ),
    ] {
        let error = upload(text).unwrap_err();
        assert_eq!(
            (error.field.as_str(), error.problem.as_str()),
            (field, problem),
            "{text}"
        );
    }
}

#[test]
fn loopback_may_be_http() {
    for host in ["127.0.0.1:9000", "localhost:1", "[::1]:9000", "127.8.9.1"] {
        check_endpoint("endpoint", &format!("http://{host}/"), true).unwrap();
    }
    for host in [
        "localhost.example.org",
        "[::2]:1",
        "127.0.0.1.example.org:80",
    ] {
        check_endpoint("endpoint", &format!("http://{host}"), true).unwrap_err();
    }
}

#[test]
fn retention_has_bounds() {
    let check = |text| {
        let config: RetentionConfig = from_toml(text).unwrap();
        config.check("retention").map_err(|error| error.field)
    };
    assert_eq!(check(""), Ok(()));
    assert_eq!(check("max_age = 2592000\nmax_bytes = 1073741824"), Ok(()));
    assert_eq!(check("max_age = 59"), Err("retention.max_age".to_owned()));
    assert_eq!(
        check("max_bytes = 10"),
        Err("retention.max_bytes".to_owned())
    );
}
