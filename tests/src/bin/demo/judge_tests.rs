#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::attempts::{ATTEMPTS, Attempt};

const APP: &str = "10.77.1.4:40000";
const DB: &str = "10.77.2.5:5432";
const WEB: &str = "10.77.2.4:40001";

fn enis() -> HashMap<String, Place> {
    let enis = [
        ("eni-app", Place::App),
        ("eni-web", Place::Web),
        ("eni-db", Place::Db),
    ];
    enis.map(|(id, place)| (id.to_owned(), place)).into()
}

fn to_db_from(place: Place) -> &'static Attempt {
    let mut all = ATTEMPTS.iter();
    all.find(|attempt| attempt.from == place && attempt.to == Place::Db)
        .unwrap()
}

fn outcome(from: Place, source: &str, answer: Answer) -> Outcome {
    Outcome {
        attempt: to_db_from(from),
        source: source.parse().unwrap(),
        target: DB.parse().unwrap(),
        answer,
        has_repeats: false,
    }
}

/// app said 27 bytes to db and heard 14.
const PAYLOAD: Payload = Payload {
    sent: 27,
    received: 14,
};

fn allowed() -> Outcome {
    let seen_as = Some(APP.parse::<SocketAddr>().unwrap().ip());
    let text = "";
    outcome(
        Place::App,
        APP,
        Answer::Complete {
            text,
            seen_as,
            payload: PAYLOAD,
        },
    )
}

fn denied() -> Outcome {
    outcome(Place::Web, WEB, Answer::Silence)
}

fn row(eni: &str, src: &str, dst: &str, packets: u64, bytes: u64, accepted: bool) -> FlowRow {
    let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
    let flow = Flow {
        src: src.ip(),
        dst: dst.ip(),
        src_port: src.port(),
        dst_port: dst.port(),
        protocol: TCP,
        packets,
        bytes,
        accepted,
    };
    FlowRow {
        eni_id: eni.to_owned(),
        flow: Some(flow),
        start: 0,
        end: 0,
        log_status: "OK".to_owned(),
    }
}

fn allowed_rows() -> Vec<FlowRow> {
    vec![
        // One flow in two intervals.
        row("eni-app", APP, DB, 4, 4 * 52 + 8 + 17, true),
        row("eni-app", APP, DB, 2, 2 * 52 + 10, true),
        row("eni-db", APP, DB, 6, 6 * 52 + 8 + 27, true),
        row("eni-db", DB, APP, 5, 5 * 52 + 8 + 14, true),
        row("eni-app", DB, APP, 5, 5 * 52 + 8 + 14, true),
    ]
}

fn denied_rows() -> Vec<FlowRow> {
    vec![
        row("eni-web", WEB, DB, 1, 60, true),
        row("eni-db", WEB, DB, 1, 60, false),
    ]
}

fn faults(outcome: Outcome, rows: &[FlowRow]) -> Vec<String> {
    let verdicts = judge(vec![outcome], rows, &enis());
    let mut faults = verdicts.strays.clone();
    faults.extend(
        verdicts
            .judgements
            .iter()
            .flat_map(|judgement| judgement.faults.clone()),
    );
    assert_eq!(faults.len(), verdicts.faults());
    faults
}

#[test]
fn what_is_as_expected_has_no_fault() {
    assert_eq!(faults(allowed(), &allowed_rows()), [""; 0]);
    assert_eq!(faults(denied(), &denied_rows()), [""; 0]);
}

#[test]
fn another_verdict_is_a_fault() {
    let reached = Answer::Wrong("Connection refused".to_owned());
    for answer in [allowed().answer, reached] {
        let denied = Outcome { answer, ..denied() };
        assert!(
            faults(denied, &denied_rows())
                .iter()
                .any(|fault| fault.contains("verdict"))
        );
    }
    let silent = Outcome {
        answer: Answer::Silence,
        ..allowed()
    };
    assert!(
        faults(silent, &allowed_rows())
            .iter()
            .any(|fault| fault.contains("verdict"))
    );
}

#[test]
fn each_missing_row_is_a_fault() {
    for (outcome, rows) in [(allowed(), allowed_rows()), (denied(), denied_rows())] {
        for missing in 0..rows.len() {
            let mut rows = rows.clone();
            rows.remove(missing);
            assert_ne!(faults(outcome.clone(), &rows), [""; 0], "row {missing}");
        }
    }
}

#[test]
fn each_wrong_count_is_a_fault() {
    for (outcome, rows) in [(allowed(), allowed_rows()), (denied(), denied_rows())] {
        for wrong in 0..rows.len() {
            for (packets, bytes) in [(1, 0), (0, 1), (1, 52)] {
                let mut rows = rows.clone();
                let flow = rows[wrong].flow.as_mut().unwrap();
                flow.packets += packets;
                flow.bytes += bytes;
                assert_ne!(faults(outcome.clone(), &rows), [""; 0], "row {wrong}");
            }
        }
    }
}

#[test]
fn a_row_too_many_is_a_fault() {
    let both_actions = row("eni-db", WEB, DB, 1, 60, true);
    let other_port = row("eni-db", APP, DB, 1, 60, false);
    let unknown_eni = row("eni-x", WEB, DB, 1, 60, false);
    let mut skipped = row("eni-db", WEB, DB, 1, 60, false);
    (skipped.flow, skipped.log_status) = (None, "SKIPDATA".to_owned());
    for extra in [both_actions, other_port, unknown_eni, skipped.clone()] {
        let rows = [denied_rows(), vec![extra]].concat();
        assert_eq!(faults(denied(), &rows).len(), 1);
    }
    skipped.log_status = "NODATA".to_owned();
    let rows = [denied_rows(), vec![skipped]].concat();
    assert_eq!(faults(denied(), &rows), [""; 0]);
}

#[test]
fn another_origin_is_a_fault() {
    let answer = Answer::Complete {
        text: "",
        seen_as: Some(WEB.parse::<SocketAddr>().unwrap().ip()),
        payload: PAYLOAD,
    };
    let outcome = outcome(Place::App, APP, answer);
    assert_eq!(faults(outcome, &allowed_rows()).len(), 1);
}

#[test]
fn repeated_segments_change_headers_but_never_take_what_was_said() {
    let outcome = Outcome {
        has_repeats: true,
        ..allowed()
    };
    for (bytes, expected) in [(12, 0), (-12, 0), (-69, 2)] {
        let mut rows = allowed_rows();
        for row in &mut rows[3..] {
            let flow = row.flow.as_mut().unwrap();
            flow.bytes = flow.bytes.saturating_add_signed(bytes);
        }
        assert_eq!(faults(outcome.clone(), &rows).len(), expected);
    }
}
