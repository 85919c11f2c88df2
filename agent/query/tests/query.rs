//! The program against files that the agent's writers and AWS's example made.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use branchline::api::{FlowLogDescription, FlowLogList};
use branchline::delivery::FlowLog;
use branchline::flow_log::{FileFormat, Format, Layout, Value, row_writer};
use branchline_tests::flow_log::random_rows::{self, OwnedRow};
use branchline_tests::random::Random;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, json};

/// A file in AWS's default format ("Flow log record examples"), and of a version with foreign fields.
const OF_AWS: &str = "\
version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status
2 012345678901 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK
2 012345678901 eni-1235b8ca123456789 172.31.9.69 172.31.9.12 49761 3389 6 20 4249 1418530010 1418530070 REJECT OK
2 012345678901 eni-1235b8ca123456789 - - - - - - - 1431280876 1431280934 - NODATA
";
const ID: &str = "fl-0123456789abcdef0";
/// When the random rows end, and the time in their files' names.
const END: u64 = 1_700_000_100;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("branchline-query-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Asks, with the arguments in words.
    fn ask(&self, arguments: &[&str]) -> Output {
        let mut query = Command::new(env!("CARGO_BIN_EXE_branchline-query"));
        query.arg("--dir").arg(&self.0).args(arguments);
        query.output().unwrap()
    }

    /// The answer's lines of JSON; nothing else may be said but notes.
    fn rows(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let output = self.ask(&[arguments, &["--json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(
            said.lines().all(|line| line.starts_with("note: ")),
            "{said}"
        );
        let lines = output.stdout.split(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    /// What is said in one line why there is no answer.
    fn error(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        said.trim_end().strip_prefix("error: ").unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("remove {}: {error}", self.0.display());
        }
    }
}

fn layout(file_format: FileFormat, id: &str) -> Layout {
    Layout {
        account_id: "012345678901".to_owned(),
        region: "eu-west-1".to_owned(),
        flow_log_id: id.to_owned(),
        file_format,
        ..Layout::default()
    }
}

fn write(path: &Path, file_format: FileFormat, format: &Arc<Format>, rows: &[OwnedRow]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create_new(path).unwrap();
    let mut writer = row_writer(file, file_format, Arc::clone(format)).unwrap();
    for row in rows {
        writer.write(&row.row()).unwrap();
    }
    drop(writer.finish().unwrap());
}

fn write_gzip(path: &Path, text: &str) {
    let mut file = GzEncoder::new(File::create_new(path).unwrap(), Compression::default());
    file.write_all(text.as_bytes()).unwrap();
    drop(file.finish().unwrap());
}

fn cut_in_half(from: &Path, to: &Path) {
    let bytes = fs::read(from).unwrap();
    fs::write(to, &bytes[..bytes.len() / 2]).unwrap();
}

/// A row as a line of JSON has it: what has a value.
fn expected(row: &OwnedRow, format: &Format) -> serde_json::Value {
    let mut object = Map::new();
    for field in format.fields() {
        let value = match row.row().value(*field, format) {
            Value::Absent => continue,
            Value::Int(number) => number.into(),
            value @ (Value::Text(_) | Value::Address(_) | Value::Tag(_)) => {
                let mut text = Vec::new();
                value.append_to(&mut text);
                String::from_utf8(text).unwrap().into()
            }
        };
        object.insert(field.column_name(), value);
    }
    object.insert("flow_log_id".to_owned(), ID.into());
    object.into()
}

fn sorted(rows: Vec<serde_json::Value>) -> Vec<String> {
    let mut lines: Vec<_> = rows.iter().map(ToString::to_string).collect();
    lines.sort();
    lines
}

#[test]
fn every_value_of_every_format_comes_back_from_one_tree_of_text_and_columns() {
    let folder = Folder::new("all");
    let mut all = Vec::new();
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let format = Arc::new(random_rows::format(&mut random));
        let rows = random_rows::rows(&mut random, 300);
        let file_format = if seed % 2 == 0 {
            FileFormat::PlainText
        } else {
            FileFormat::Parquet
        };
        let layout = Layout {
            hive_compatible_partitions: seed % 3 == 0,
            per_hour_partition: seed % 4 == 0,
            ..layout(file_format, ID)
        };
        let path = folder.0.join(layout.path(layout.slot(END), seed as u32));
        write(&path, file_format, &format, &rows);
        all.extend(rows.iter().map(|row| expected(row, &format)));
    }
    // Not ours, and one that is being written.
    fs::write(folder.0.join("journal.redb"), "x").unwrap();
    fs::write(
        folder
            .0
            .join(format!("a_{ID}_20231114T2215Z_0.log.gz.tmp-1")),
        "x",
    )
    .unwrap();
    assert_eq!(sorted(folder.rows(&[])), sorted(all));
}

/// Rows and sums by task and action, for packets that a sum can hold.
type Sums = BTreeMap<(String, String), (i64, i64)>;

fn sums_written(rows: &[OwnedRow], format: &Format) -> Sums {
    let mut sums = Sums::new();
    for row in rows {
        let row = expected(row, format);
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let sum = sums
            .entry((text("bl_task_id"), text("action")))
            .or_default();
        sum.0 += 1;
        sum.1 += row["bytes"].as_i64().unwrap_or_default() % 1_000_000;
    }
    sums
}

fn sums_asked(folder: &Folder, options: &[&str]) -> Sums {
    let sql = "SELECT coalesce(bl_task_id, '') AS task, coalesce(action, '') AS action, \
               count(*) AS rows, coalesce(sum(bytes % 1000000), 0) AS bytes FROM flows GROUP BY 1, 2";
    let sum = |row: serde_json::Value| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let number = |name: &str| row[name].as_i64().unwrap();
        (
            (text("task"), text("action")),
            (number("rows"), number("bytes")),
        )
    };
    let rows = folder.rows(&[&["--sql", sql], options].concat());
    rows.into_iter().map(sum).collect()
}

#[test]
fn sums_by_task_and_action_are_those_of_the_rows_that_were_written() {
    let folder = Folder::new("sums");
    let fields = "bl-task-id action bytes end start srcport dstport protocol flow-direction";
    let format = Arc::new(Format::parse(fields, &[]).unwrap());
    let is_some = |rows: &Vec<OwnedRow>| {
        rows.iter()
            .any(|row| expected(row, &format)["bl_task_id"] == "007")
    };
    let mut tries = (0..).map(|seed| random_rows::rows(&mut Random::new(seed), 20_000));
    let rows = tries.find(is_some).unwrap();
    let (text, columns) = rows.split_at(9_000);
    for (file_format, rows) in [
        (FileFormat::PlainText, text),
        (FileFormat::Parquet, columns),
    ] {
        let layout = layout(file_format, ID);
        let path = folder.0.join(layout.path(layout.slot(END), 1));
        write(&path, file_format, &format, rows);
    }
    assert_eq!(sums_asked(&folder, &[]), sums_written(&rows, &format));
    let is = |row: &&OwnedRow, name: &str, value: &serde_json::Value| {
        expected(row, &format)[name] == *value
    };
    let some: Vec<_> = rows
        .iter()
        .filter(|row| {
            is(row, "bl_task_id", &json!("007"))
                && is(row, "action", &json!("REJECT"))
                && is(row, "flow_direction", &json!("ingress"))
                && (is(row, "protocol", &json!(1)) || is(row, "protocol", &json!(6)))
        })
        .cloned()
        .collect();
    assert!(some.len() > 3, "{}", some.len());
    let options = [
        "--task",
        "007",
        "--action",
        "reject",
        "--direction",
        "ingress",
        "--protocol",
        "icmp",
        "--protocol",
        "tcp",
    ];
    assert_eq!(sums_asked(&folder, &options), sums_written(&some, &format));
}

#[test]
fn a_file_cut_in_half_is_named_and_the_rest_is_answered() {
    let folder = Folder::new("half");
    let format = Arc::new(Format::parse("bl-task-id action bytes", &[]).unwrap());
    let rows = random_rows::rows(&mut Random::new(3), 5_000);
    for file_format in [FileFormat::PlainText, FileFormat::Parquet] {
        let layout = layout(file_format, ID);
        let [whole, half] = [1, 2].map(|hash| folder.0.join(layout.path(layout.slot(END), hash)));
        write(&whole, file_format, &format, &rows);
        cut_in_half(&whole, &half);
    }
    let output = folder.ask(&[
        "--csv",
        "--sql",
        "SELECT count(*) AS n, count(bytes) FROM flows",
    ]);
    assert!(output.status.success());
    let counted = rows
        .iter()
        .filter(|row| expected(row, &format).get("bytes").is_some());
    let counted = counted.count() * 2;
    let answer = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        answer.lines().nth(1),
        Some(format!("10000,{counted}").as_str())
    );
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 2, "{said}");
    for suffix in ["_00000002.log.gz", "_00000002.log.parquet"] {
        let is_named = |line: &str| {
            line.starts_with("warning: ")
                && line.contains(&format!("{suffix}: left out: damaged or cut short"))
        };
        assert!(said.lines().any(is_named), "{said}");
    }
}

#[test]
fn files_of_aws_are_asked_by_each_option() {
    let folder = Folder::new("aws");
    write_gzip(
        &folder
            .0
            .join("012345678901_vpcflowlogs_us-east-1_fl-1234abcd_20141214T0405Z_fe123456.log.gz"),
        OF_AWS,
    );
    // With fields and lines that we do not know.
    write_gzip(
        &folder.0.join("other.log.gz"),
        "srcaddr tgw-id bytes\n10.0.0.1 tgw-1 7\n10.0.0.2 tgw-2\n10.0.0.3 tgw-3 many\n10.0.0.4 - -\n",
    );
    // Ruled out by its name, so nobody sees that it is none.
    fs::write(
        folder
            .0
            .join("012345678901_vpcflowlogs_us-east-1_fl-5678abcd_20130101T0000Z_0.log.gz"),
        "x",
    )
    .unwrap();
    let since = ["--since", "2014-12-01T00:00:00Z"];
    let interface = |options: &[&str]| {
        let rows = folder.rows(&[&since[..], &["--flow-log", "fl-1234abcd"], options].concat());
        assert!(rows.iter().all(|row| row["account_id"] == "012345678901"));
        let ports = rows.iter().map(|row| row["dstport"].as_i64());
        // Of one second, rows are in no order.
        let mut ports: Vec<_> = ports.map(Option::unwrap_or_default).collect();
        ports.sort_unstable();
        ports
    };
    assert_eq!(interface(&[]), [0, 22, 3389]);
    assert_eq!(interface(&["--port", "3389"]), [3389]);
    assert_eq!(
        interface(&["--port", "20641", "--port", "3389"]),
        [22, 3389]
    );
    assert_eq!(interface(&["--address", "172.31.16.0/24"]), [22]);
    assert_eq!(interface(&["--action", "reject"]), [3389]);
    assert_eq!(interface(&["--protocol", "udp"]), [] as [i64; 0]);
    assert_eq!(
        interface(&["--until", "2014-12-14T04:06:50Z"]),
        [] as [i64; 0]
    );
    assert_eq!(interface(&["--until", "2014-12-14T04:06:51Z"]), [22, 3389]);
    assert_eq!(interface(&["--limit", "2"]), [22, 3389]);
    let late = folder.rows(&[
        "--since",
        "2014-12-14T04:07:51Z",
        "--flow-log",
        "fl-1234abcd",
    ]);
    assert_eq!(late.len(), 1, "{late:?}");
    let error = folder.error(&[&since[..], &["--task", "web"]].concat());
    assert!(
        error.starts_with("no file has bl_task_id or ecs_task_id"),
        "{error}"
    );
    let sql = "SELECT srcaddr, tgw_id, bytes FROM flows WHERE account_id IS NULL ORDER BY 1";
    let output = folder.ask(&["--csv", "--sql", sql]);
    let answer = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        answer,
        "srcaddr,tgw_id,bytes\n10.0.0.1,tgw-1,7\n10.0.0.4,,\n"
    );
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("_20130101T0000Z_0.log.gz: left out"),
        "{said}"
    );
    let lines = "other.log.gz: 2 lines that are no rows of it are left out, first line 3\n";
    assert!(said.ends_with(lines), "{said}");
}

#[test]
fn people_get_a_table_and_are_told_when_there_is_more() {
    let folder = Folder::new("table");
    let path = folder
        .0
        .join("012345678901_vpcflowlogs_us-east-1_fl-1234abcd_20141214T0405Z_fe123456.log.gz");
    write_gzip(&path, OF_AWS);
    let output = folder.ask(&["--action", "reject"]);
    let table = String::from_utf8(output.stdout).unwrap();
    let words: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        words,
        [
            "start_utc interface_id protocol srcaddr srcport dstaddr dstport action packets bytes log_status",
            "2014-12-14T04:06:50 eni-1235b8ca123456789 6 172.31.9.69 49761 172.31.9.12 3389 REJECT 20 4249 OK",
        ]
        .map(|line| line.split(' ').collect::<Vec<_>>())
    );
    let many = "SELECT value FROM generate_series(1, 5000)";
    let output = folder.ask(&["--sql", many]);
    assert_eq!(output.stdout.split(|byte| *byte == b'\n').count(), 1_002);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        said,
        "note: the first 1000 rows; write --limit, --json or --csv for more\n"
    );
    let output = folder.ask(&["--sql", many, "--limit", "1500"]);
    assert_eq!(output.stdout.split(|byte| *byte == b'\n').count(), 1_502);
    assert!(output.stderr.is_empty());
    // No file of that time, but the names.
    let output = folder.ask(&["--csv", "--until", "1990-01-01T00:00:00Z"]);
    assert!(
        output.stdout.starts_with(b"version,account_id,"),
        "{output:?}"
    );
}

#[test]
fn rows_of_two_logs_are_pointed_out_and_told_apart() {
    let folder = Folder::new("two");
    for id in ["fl-0000000a", "fl-0000000b"] {
        write_gzip(
            &folder
                .0
                .join(format!("1_vpcflowlogs_x_{id}_20141214T0405Z_0.log.gz")),
            OF_AWS,
        );
    }
    let output = folder.ask(&["--json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.starts_with("note: these are rows of 2 flow logs"),
        "{said}"
    );
    assert_eq!(folder.rows(&["--flow-log", "fl-0000000a"]).len(), 3);
    let sql = "SELECT count(*) AS n FROM flows WHERE flow_log_id = 'fl-0000000b'";
    assert_eq!(folder.rows(&["--sql", sql]), [json!({"n": 3})]);
}

#[test]
fn what_cannot_be_answered_is_said_in_one_line() {
    let folder = Folder::new("errors");
    let error = folder.error(&[]);
    assert!(
        error.starts_with("no flow-log files (*.log.gz, *.log.parquet) below /"),
        "{error}"
    );
    fs::write(folder.0.join("a.log.gz"), "not gzip").unwrap();
    let output = folder.ask(&[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.ends_with("error: none of the 1 flow-log files can be read\n"),
        "{said}"
    );
    write_gzip(&folder.0.join("b.log.gz"), OF_AWS);
    fs::remove_file(folder.0.join("a.log.gz")).unwrap();
    for (sql, expected) in [
        ("SELEC 1", "SELEC"),
        ("SELECT nothing FROM flows", "SHOW COLUMNS FROM flows"),
        ("SELECT * FROM elsewhere", "elsewhere"),
        ("CREATE TABLE t (a int)", "DDL not supported"),
        (
            "COPY flows TO '/tmp/branchline-query-never.csv'",
            "DML not supported",
        ),
        (
            "SELECT in_network(srcaddr, '10.0.0') FROM flows",
            "is no network",
        ),
    ] {
        let error = folder.error(&["--json", "--sql", sql]);
        assert!(error.contains(expected), "{sql}: {error}");
    }
    let columns = folder.rows(&["--sql", "SHOW COLUMNS FROM flows"]);
    assert!(columns.len() > 60, "{}", columns.len());
    let error = folder.error(&["--action", "audit"]);
    assert!(error.contains("write --action accept"), "{error}");
    let output = folder.ask(&["--since", "yesterday"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_examples_of_the_help_are_answered() {
    let folder = Folder::new("help");
    let format =
        Arc::new(Format::parse("bl-task-id action start dstaddr bytes packets", &[]).unwrap());
    let rows = random_rows::rows(&mut Random::new(5), 100);
    write(
        &folder.0.join("a.log.gz"),
        FileFormat::PlainText,
        &format,
        &rows,
    );
    let help = folder.ask(&["--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    let mut asked = 0;
    for example in help.split("--sql \"").skip(1) {
        let sql = example.split('"').next().unwrap().replace('\\', "");
        assert!(!folder.rows(&["--sql", &sql]).is_empty(), "{sql}");
        asked += 1;
    }
    assert_eq!(asked, 2, "{help}");
}

/// The agent's command line asks the agent for the folders, then becomes the program beside it.
#[test]
fn the_command_line_hands_over_with_the_folders_of_the_logs_in_force() {
    let branchline = std::env::var_os("BRANCHLINE_BIN");
    let branchline = branchline.expect("BRANCHLINE_BIN is not set: run `cargo xtask test query`");
    let folder = Folder::new("agent");
    write_gzip(&folder.0.join("a.log.gz"), OF_AWS);
    let socket = folder.0.join("agent.sock");
    let list = FlowLogList {
        flow_logs: vec![FlowLogDescription {
            log: FlowLog {
                dir: folder.0.clone(),
                ..FlowLog::of_host()
            },
            files: 0,
            bytes: 0,
            records: 0,
            lost_epochs: 0,
            skipped_packets: 0,
            waiting_epochs: 0,
            error: None,
            upload: None,
        }],
    };
    let agent = answering(&socket, serde_json::to_string(&list).unwrap());
    let mut command = Command::new(branchline);
    command.arg("--socket").arg(&socket);
    let output = command.args([
        "flows",
        "query",
        "--port=22",
        "--csv",
        "--sql=SELECT bytes FROM flows",
    ]);
    let output = output.output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "bytes\n4249\n",
        "{output:?}"
    );
    assert!(agent.join().unwrap().starts_with("GET /v1/flow-logs "));
}

/// Answers one request with `body`, and returns the request.
fn answering(socket: &Path, body: String) -> std::thread::JoinHandle<String> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = vec![0; 4_096];
        let len = client.read(&mut request).unwrap();
        write!(
            client,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        String::from_utf8_lossy(&request[..len]).into_owned()
    })
}
