//! Finished files to an object store: each once, with the right bytes, whatever stops in between.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use branchline::state::Store;
use branchline::upload::{
    DeliveredLog, Environment, RetentionConfig, UploadConfig, UploadStatus, Uploads,
};

use branchline_tests::s3_server::{S3Server, endpoint, free_port};

const BUCKET: &str = "flow-logs";
const DAY: &str = "AWSLogs/123456789012/vpcflowlogs/local/2026/11/28";
const LOGS: [&str; 3] = ["fl-a", "fl-b", "fl-c"];
const PART: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with files and an agent's store; removed at the test's end.
struct Site(PathBuf);

impl Site {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("branchline-{test}-{}", std::process::id()));
        fs::create_dir_all(path.join("flows")).unwrap();
        Self(path)
    }

    fn flows(&self) -> PathBuf {
        self.0.join("flows")
    }

    fn write(&self, relative: &str, content: &[u8]) {
        let path = self.flows().join(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn has(&self, relative: &str) -> bool {
        self.flows().join(relative).exists()
    }

    fn log(&self, id: &str, upload: &UploadConfig, retention: &RetentionConfig) -> DeliveredLog {
        DeliveredLog {
            flow_log_id: id.to_owned(),
            dir: self.flows(),
            upload: Some(upload.clone()),
            retention: retention.clone(),
        }
    }

    /// Starts uploads as a fresh agent does.
    async fn start(
        &self,
        logs: &[&str],
        upload: &UploadConfig,
        retention: &RetentionConfig,
    ) -> Uploads {
        self.start_as("testing", logs, upload, retention).await
    }

    async fn start_as(
        &self,
        user: &str,
        logs: &[&str],
        upload: &UploadConfig,
        retention: &RetentionConfig,
    ) -> Uploads {
        let store = Arc::new(open_store(&self.0.join("state")));
        let log = |id: &&str| self.log(id, upload, retention);
        let environment: Environment = [
            ("AWS_ACCESS_KEY_ID", user),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
        .collect();
        let uploads = Uploads::new(store, environment);
        uploads.apply(logs.iter().map(log).collect()).await.unwrap();
        uploads
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Opens the store once the last owner, which was dropped in the middle of its work, lets it go.
fn open_store(dir: &Path) -> Store {
    let began = Instant::now();
    loop {
        match Store::open(dir) {
            Ok(store) => return store,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn file(log: &str, minute: u32, hash: &str) -> String {
    format!("{DAY}/123456789012_vpcflowlogs_local_{log}_20261128T10{minute:02}Z_{hash}.log.gz")
}

/// Bytes that differ from file to file and from part to part.
fn content(seed: usize, len: usize) -> Vec<u8> {
    let byte = |at: usize| ((at * 31 + at / 251 + seed * 7) % 251) as u8;
    (0..len).map(byte).collect()
}

fn to_s3(endpoint: &str) -> UploadConfig {
    UploadConfig {
        url: format!("s3://{BUCKET}/team"),
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        allow_http: true,
        backlog_max_bytes: 1 << 30,
    }
}

fn forever() -> RetentionConfig {
    RetentionConfig::default()
}

/// Waits until `reached`; fails with the last statuses.
async fn until(uploads: &Uploads, what: &str, reached: impl Fn(&[UploadStatus]) -> bool) {
    let began = Instant::now();
    while !reached(&uploads.status()) {
        assert!(
            began.elapsed() < PATIENCE,
            "{what}: {:#?}",
            uploads.status()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn uploaded(statuses: &[UploadStatus]) -> u64 {
    statuses.iter().map(|status| status.files_uploaded).sum()
}

fn failed(statuses: &[UploadStatus]) -> bool {
    statuses.iter().all(|status| status.last_error.is_some())
}

/// Runs on a runtime whose end is an agent's kill: nothing that was on its way goes on.
fn life<T>(of: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(of)
}

#[test]
fn a_killed_agent_goes_on_and_every_file_arrives_once() {
    let server = S3Server::start(free_port());
    server.make_bucket(BUCKET);
    let site = Site::new("resume");
    let mut expected = std::collections::BTreeMap::new();
    for (seed, log) in LOGS.iter().enumerate() {
        for minute in 0..20 {
            let relative = file(log, minute, "fe123456");
            let bytes = content(seed * 20 + minute as usize, 3_000);
            site.write(&relative, &bytes);
            expected.insert(format!("team/{relative}"), bytes);
        }
    }
    let config = to_s3(&server.endpoint());
    let first = life(async {
        let uploads = site.start(&LOGS, &config, &forever()).await;
        until(&uploads, "some are uploaded", |all| uploaded(all) >= 12).await;
        uploaded(&uploads.status())
    });
    assert!(first < 60, "the kill came in the middle");
    let late = file("fl-b", 59, "00000001");
    life(async {
        let uploads = site.start(&LOGS, &config, &forever()).await;
        site.write(&late, b"late");
        uploads.enqueue("fl-b", &late, 4);
        // A file that is known, and one of nobody.
        uploads.enqueue("fl-b", &file("fl-b", 0, "fe123456"), 3_000);
        uploads.enqueue("fl-x", &file("fl-x", 0, "fe123456"), 3_000);
        // One file of each log may have been noted and not counted at the kill, or sent and not noted.
        let rest = 61 - first;
        let none_waits = |all: &[UploadStatus]| all.iter().all(|log| log.files_waiting == 0);
        let done = |all: &[UploadStatus]| none_waits(all) && uploaded(all) + 3 >= rest;
        until(&uploads, "the rest", done).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(
            uploaded(&uploads.status()) <= rest + 3,
            "{first} before: {:#?}",
            uploads.status()
        );
        assert!(uploads.status().iter().all(|log| log.last_error.is_none()));
        uploads.stop(Duration::ZERO).await.unwrap();
    });
    expected.insert(format!("team/{late}"), b"late".to_vec());
    assert!(server.objects(BUCKET) == expected, "objects differ");
    life(async {
        let uploads = site.start(&LOGS, &config, &forever()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(uploaded(&uploads.status()), 0, "known from before");
    });
}

#[test]
fn logs_change_while_others_go_on_and_the_end_waits_for_the_last_files() {
    let server = S3Server::start(free_port());
    server.make_bucket(BUCKET);
    let site = Site::new("change");
    let config = to_s3(&server.endpoint());
    let write = |uploads: &Uploads, log: &str, minute| {
        let relative = file(log, minute, "fe123456");
        site.write(&relative, b"content");
        uploads.enqueue(log, &relative, 7);
        format!("team/{relative}")
    };
    let mut expected = Vec::new();
    life(async {
        let uploads = site.start(&["fl-a", "fl-b"], &config, &forever()).await;
        expected.push(write(&uploads, "fl-a", 0));
        expected.push(write(&uploads, "fl-b", 0));
        until(&uploads, "both", |all| uploaded(all) == 2).await;
        let changed = RetentionConfig {
            max_age: Some(315_360_000),
            max_bytes: None,
        };
        // Found when its log starts, although it was told of before.
        expected.push(write(&uploads, "fl-c", 0));
        let logs = vec![
            site.log("fl-b", &config, &forever()),
            site.log("fl-c", &config, &changed),
        ];
        uploads.apply(logs).await.unwrap();
        let left = write(&uploads, "fl-a", 1);
        let of: Vec<_> = uploads.status().into_iter().collect();
        let ids: Vec<&str> = of.iter().map(|log| log.flow_log_id.as_str()).collect();
        assert_eq!(ids, ["fl-b", "fl-c"]);
        assert_eq!(of[0].files_uploaded, 1, "the one that stays goes on");
        for minute in 1..30 {
            expected.push(write(&uploads, "fl-b", minute));
        }
        uploads.stop(PATIENCE).await.unwrap();
        assert!(site.has(left.trim_start_matches("team/")), "a file stays");
    });
    expected.sort();
    let keys: Vec<String> = server.objects(BUCKET).into_keys().collect();
    assert_eq!(keys, expected);
}

#[test]
fn a_large_file_goes_on_with_the_part_that_is_missing() {
    let server = S3Server::start(free_port());
    server.make_bucket(BUCKET);
    let site = Site::new("multipart");
    let relative = file("fl-a", 5, "fe123456");
    let bytes = content(1, 20 << 20);
    site.write(&relative, &bytes);
    let key = format!("team/{relative}");
    let config = to_s3(&server.endpoint());
    life(async {
        let uploads = site.start(&["fl-a"], &config, &forever()).await;
        until(&uploads, "a part", |_| noted_parts(&server, &key) >= 1).await;
        drop(uploads);
    });
    let begun = server.open_uploads(BUCKET);
    assert_eq!(begun.len(), 1, "killed between parts");
    // The file's first part is changed: were it sent again, the object would show it.
    let mut changed = bytes.clone();
    changed[..PART].fill(0);
    site.write(&relative, &changed);
    life(async {
        let uploads = site.start(&["fl-a"], &config, &forever()).await;
        until(&uploads, "the rest", |all| uploaded(all) == 1).await;
        assert_eq!(uploads.status()[0].bytes_uploaded, 20 << 20);
    });
    let objects = server.objects(BUCKET);
    assert!(
        objects.get(&key) == Some(&bytes),
        "the first part was sent once"
    );
    assert_eq!(objects.len(), 1);
    assert!(server.open_uploads(BUCKET).is_empty());
}

/// Parts that the server has of the one multipart upload.
fn noted_parts(server: &S3Server, key: &str) -> usize {
    let uploads = server.open_uploads(BUCKET);
    uploads
        .first()
        .map_or(0, |id| server.parts(BUCKET, key, id).len())
}

#[test]
fn a_multipart_upload_of_a_file_that_is_gone_is_aborted() {
    let server = S3Server::start(free_port());
    server.make_bucket(BUCKET);
    let site = Site::new("abort");
    let relative = file("fl-a", 5, "fe123456");
    site.write(&relative, &content(1, 20 << 20));
    let config = to_s3(&server.endpoint());
    let key = format!("team/{relative}");
    life(async {
        let uploads = site.start(&["fl-a"], &config, &forever()).await;
        until(&uploads, "a part", |_| noted_parts(&server, &key) >= 1).await;
    });
    assert_eq!(server.open_uploads(BUCKET).len(), 1);
    fs::remove_file(site.flows().join(&relative)).unwrap();
    life(async {
        let uploads = site.start(&["fl-a"], &config, &forever()).await;
        until(&uploads, "aborted", |_| {
            server.open_uploads(BUCKET).is_empty()
        })
        .await;
    });
    assert!(server.objects(BUCKET).is_empty());
}

#[test]
fn a_server_that_is_down_holds_files_until_it_is_up() {
    let port = free_port();
    let site = Site::new("down");
    let relative = file("fl-a", 5, "fe123456");
    site.write(&relative, b"content");
    life(async {
        let uploads = site
            .start(&["fl-a"], &to_s3(&endpoint(port)), &forever())
            .await;
        until(&uploads, "fails", failed).await;
        let status = uploads.status().remove(0);
        assert_eq!((status.files_waiting, status.bytes_waiting), (1, 7));
        let error = status.last_error.unwrap();
        assert!(
            error.contains("Connection refused") && error.contains(&relative),
            "{error}"
        );
        let server = S3Server::start(port);
        server.make_bucket(BUCKET);
        until(&uploads, "comes up", |all| uploaded(all) == 1).await;
        until(&uploads, "is said", |all| all[0].last_error.is_none()).await;
        assert_eq!(server.objects(BUCKET).len(), 1);
    });
}

#[test]
fn a_missing_bucket_and_wrong_credentials_are_one_clear_line() {
    let server = S3Server::start(free_port());
    let site = Site::new("refused");
    site.write(&file("fl-a", 5, "fe123456"), b"content");
    let config = to_s3(&server.endpoint());
    let error = |user: &str, config: &UploadConfig| {
        life(async {
            let uploads = site.start_as(user, &["fl-a"], config, &forever()).await;
            until(&uploads, "fails", failed).await;
            uploads.status().remove(0).last_error.unwrap()
        })
    };
    assert_eq!(
        error("testing", &config),
        "s3://flow-logs/team has no bucket of that name (NoSuchBucket: The specified bucket does not exist); make it, or correct upload.url or upload.endpoint"
    );
    let strict = S3Server::start_with(free_port(), &[("INITIAL_NO_AUTH_ACTION_COUNT", "1")]);
    strict.make_bucket(BUCKET);
    let line = error("AKIAWRONG", &to_s3(&strict.endpoint()));
    assert!(
        line.starts_with("s3://flow-logs/team refuses the agent (InvalidAccessKeyId: ")
            && line.ends_with("s3:AbortMultipartUpload"),
        "{line}"
    );
    assert!(!line.contains("hunter2") && !line.contains('\n'), "{line}");
}

#[test]
fn a_folder_is_a_destination_too() {
    let site = Site::new("folder");
    let copy = site.0.join("copy");
    let (small, large) = (file("fl-a", 5, "fe123456"), file("fl-a", 10, "fe123456"));
    let bytes = content(3, 9 << 20);
    site.write(&small, b"content");
    site.write(&large, &bytes);
    let config = UploadConfig {
        url: format!("file://{}", copy.display()),
        ..to_s3("https://unused.invalid")
    };
    life(async {
        let uploads = site.start(&["fl-a"], &config, &forever()).await;
        until(&uploads, "copied", |all| uploaded(all) == 2).await;
    });
    assert_eq!(fs::read(copy.join(&small)).unwrap(), b"content");
    assert!(fs::read(copy.join(&large)).unwrap() == bytes);
}

#[test]
fn a_backlog_over_its_bound_loses_its_oldest_and_says_so() {
    let port = free_port();
    let site = Site::new("backlog");
    for minute in 0..10 {
        site.write(&file("fl-a", minute, "fe123456"), &content(1, 1_000));
    }
    let config = UploadConfig {
        backlog_max_bytes: 4_500,
        ..to_s3(&endpoint(port))
    };
    life(async {
        let uploads = site.start(&["fl-a"], &config, &forever()).await;
        until(&uploads, "given up", |all| all[0].files_given_up == 6).await;
        until(&uploads, "fails", failed).await;
        let newest = file("fl-a", 11, "fe123456");
        site.write(&newest, &content(1, 1_000));
        uploads.enqueue("fl-a", &newest, 1_000);
        until(&uploads, "one more", |all| all[0].files_given_up == 7).await;
        let status = uploads.status().remove(0);
        assert_eq!((status.files_waiting, status.bytes_waiting), (4, 4_000));
        assert_eq!(status.bytes_given_up, 7_000);
        let server = S3Server::start(port);
        server.make_bucket(BUCKET);
        until(&uploads, "comes up", |all| uploaded(all) == 4).await;
        let keys: Vec<String> = server.objects(BUCKET).into_keys().collect();
        let expected =
            [7, 8, 9, 11].map(|minute| format!("team/{}", file("fl-a", minute, "fe123456")));
        assert_eq!(keys, expected);
    });
    assert!(!site.has(&file("fl-a", 6, "fe123456")));
}

#[test]
fn another_object_of_the_same_name_is_left_and_named() {
    let server = S3Server::start(free_port());
    server.make_bucket(BUCKET);
    let site = Site::new("conflict");
    let names = [5, 10, 15, 20].map(|minute| file("fl-a", minute, "fe123456"));
    let [longer, other, same, large] = &names;
    for name in [longer, other, same] {
        site.write(name, b"content");
    }
    site.write(large, &content(2, 9 << 20));
    server.put(BUCKET, &format!("team/{longer}"), b"contents");
    server.put(BUCKET, &format!("team/{other}"), b"CONTENT");
    server.put(BUCKET, &format!("team/{same}"), b"content");
    server.put(BUCKET, &format!("team/{large}"), &content(3, 9 << 20));
    let retention = RetentionConfig {
        max_age: None,
        max_bytes: Some(0),
    };
    let before = server.objects(BUCKET);
    life(async {
        let uploads = site
            .start(&["fl-a"], &to_s3(&server.endpoint()), &retention)
            .await;
        until(&uploads, "all are tried", |all| all[0].files_refused == 3).await;
        until(&uploads, "the settled one expires", |all| {
            all[0].files_expired == 1
        })
        .await;
        let status = uploads.status().remove(0);
        assert_eq!((status.files_uploaded, status.files_waiting), (1, 3));
        let error = status.last_error.unwrap();
        assert_eq!(
            error,
            format!(
                "s3://{BUCKET}/team/{large} is there with other content (as many bytes, 9437184, but others); it is left as it is, and the file is not uploaded: move one of them away"
            )
        );
    });
    assert!(server.objects(BUCKET) == before, "objects are left");
    assert!(server.open_uploads(BUCKET).is_empty());
    assert_eq!(
        names.clone().map(|name| site.has(&name)),
        [true, true, false, true]
    );
}

#[test]
fn retention_takes_what_is_uploaded_and_nothing_of_others() {
    let server = S3Server::start(free_port());
    server.make_bucket(BUCKET);
    let site = Site::new("retention");
    let old = "AWSLogs/123456789012/vpcflowlogs/local/2020/01/01/123456789012_vpcflowlogs_local_fl-a_20200101T0000Z_fe123456.log.gz";
    let others = old.replace("fl-a", "fl-z");
    let new = file("fl-a", 5, "fe123456").replace("2026", "2126");
    for relative in [old, &others, &new, "AWSLogs/123456789012/notes.txt"] {
        site.write(relative, b"content");
    }
    let retention = RetentionConfig {
        max_age: Some(3_600),
        max_bytes: None,
    };
    life(async {
        let uploads = site
            .start(&["fl-a"], &to_s3(&server.endpoint()), &retention)
            .await;
        until(&uploads, "uploaded", |all| uploaded(all) == 2).await;
        until(&uploads, "expired", |all| all[0].files_expired == 1).await;
    });
    assert!(!site.has(old) && site.has(&new) && site.has(&others));
    assert!(site.has("AWSLogs/123456789012/notes.txt"));
    fs::remove_file(site.flows().join(&others)).unwrap();
    assert_eq!(server.objects(BUCKET).len(), 2);
}
