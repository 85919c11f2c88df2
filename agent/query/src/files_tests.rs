#![expect(clippy::unwrap_used, reason = "tests")]

use branchline::flow_log::Layout;

use super::*;

fn layout(id: &str, file_format: FileFormat) -> Layout {
    Layout {
        account_id: "012345678901".to_owned(),
        region: "eu-west-1".to_owned(),
        flow_log_id: id.to_owned(),
        file_format,
        ..Layout::default()
    }
}

fn file(id: &str, time: i64) -> LogFile {
    let path = layout(id, FileFormat::PlainText).path(time.unsigned_abs(), 7);
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    LogFile {
        path: path.clone(),
        named: named(&name),
        is_parquet: false,
    }
}

#[test]
fn names_say_log_and_time() {
    // 2026-11-28T10:15:00Z.
    let time = 1_795_860_900;
    for format in [FileFormat::PlainText, FileFormat::Parquet] {
        let path = layout("fl-0a", format).path(1_795_860_900, 0xfe12_3456);
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected = Named {
            flow_log_id: "fl-0a".to_owned(),
            time,
        };
        assert_eq!(named(name), Some(expected), "{name}");
        assert_eq!(kind(name), Some(format == FileFormat::Parquet));
        assert_eq!(kind(&format!("{name}.tmp-1")), None);
    }
    for name in [
        "rows.log.gz",
        "a_fl-0a_yesterday_0.log.gz",
        "x_20261128T1015Z_0.log.gz",
    ] {
        assert_eq!(named(name), None, "{name}");
        assert_eq!(kind(name), Some(false), "{name}");
    }
    for name in ["agent.log", "rows.parquet", "x.tmp-1.log.gz", "gz"] {
        assert_eq!(kind(name), None, "{name}");
    }
}

#[test]
fn files_are_ruled_out_by_time_and_log() {
    const HOUR: i64 = 3_600;
    let start = 1_795_860_000;
    // One log with a file each hour, and one with a single old file.
    let mut files: Vec<_> = (0..10)
        .map(|hour| file("fl-0a", start + hour * HOUR))
        .collect();
    files.push(file("fl-0b", start - 30 * HOUR));
    files.push(LogFile {
        named: None,
        ..file("fl-0a", 0)
    });
    let hours = |since: Option<i64>, until: Option<i64>, ids: &[&str]| -> Vec<i64> {
        let ids: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
        let times = Times { since, until };
        let chosen = choose(files.clone(), times, &ids);
        let time = |file: &LogFile| {
            let named = file.named.as_ref();
            named.map_or(99, |named| (named.time - start) / HOUR)
        };
        chosen.iter().map(time).collect()
    };
    assert_eq!(hours(None, None, &[]).len(), 12);
    // The file of hour 6 has what ends before 7, and with the margin before 7:30.
    assert_eq!(
        hours(Some(start + 7 * HOUR + 1_800), None, &[]),
        [7, 8, 9, 99]
    );
    assert_eq!(
        hours(Some(start + 7 * HOUR + 1_799), None, &[]),
        [6, 7, 8, 9, 99]
    );
    // The last file of a log may be a day long.
    assert_eq!(hours(Some(start + 33 * HOUR), None, &[]), [9, 99]);
    assert_eq!(hours(Some(start + 34 * HOUR), None, &[]), [99]);
    assert_eq!(hours(None, Some(start), &[]), [0, -30, 99]);
    assert_eq!(hours(None, Some(start - 2_400), &[]), [-30, 99]);
    assert_eq!(hours(None, None, &["fl-0b"]), [-30]);
    assert_eq!(hours(None, None, &["fl-0c"]), [] as [i64; 0]);
}

#[test]
fn parts_of_seconds_widen_what_is_asked() {
    let time = |text: &str| Some(text.parse().unwrap());
    let times = Times::new(
        time("1970-01-01T00:00:05.5Z"),
        time("1970-01-01T00:00:07.5Z"),
    );
    assert_eq!((times.since, times.until), (Some(5), Some(8)));
    let whole = Times::new(None, time("1970-01-01T00:00:07Z"));
    assert_eq!((whole.since, whole.until), (None, Some(7)));
}
