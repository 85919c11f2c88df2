#![expect(clippy::unwrap_used, reason = "tests")]

use branchline_common::verdict::Direction;

use super::*;
use crate::flows::Action;
use crate::live::event::{Flow, FlowEvent};
use crate::live::{EventKind, LiveEvent};

fn flow() -> Flow {
    Flow {
        task_id: Some("web".into()),
        interface_id: Some("eni-1".into()),
        direction: Direction::Ingress,
        srcaddr: "10.0.2.7".parse().unwrap(),
        dstaddr: "10.0.1.5".parse().unwrap(),
        srcport: 4711,
        dstport: 443,
        protocol: 6,
        action: Action::Accept,
        drop_reason: None,
        icmp_id: None,
    }
}

fn event() -> FlowEvent {
    FlowEvent {
        time_ms: 0,
        flow: flow(),
        packets: 1,
        bytes: 60,
        reply_packets: 0,
        reply_bytes: 0,
        start: None,
        end: 0,
        reason: None,
        complete: true,
    }
}

#[test]
fn each_condition_admits_what_it_names() {
    let rows = [
        ("", true),
        ("task=web", true),
        ("task=db", false),
        ("task=db&task=web", true),
        ("address=10.0.2.7", true),
        ("address=10.0.1.0/24", true),
        ("address=10.0.3.0/24", false),
        ("address=fd00%3A%3A/64", false),
        ("port=443", true),
        ("port=4711", true),
        ("port=80", false),
        ("protocol=tcp", true),
        ("protocol=6", true),
        ("protocol=udp", false),
        ("action=accept", true),
        ("action=REJECT", false),
        ("action=audit", false),
        ("direction=ingress", true),
        ("direction=egress", false),
        ("event=start", true),
        ("event=end&event=reject", false),
        ("task=web&port=443&protocol=tcp&event=start", true),
        ("task=web&port=80", false),
    ];
    for (text, expected) in rows {
        let query = Query::parse(text).unwrap();
        let start = LiveEvent::Start(event());
        assert_eq!(query.filter.admits_event(&start), expected, "{text}");
        assert_eq!(Query::parse(&query.to_string()).unwrap(), query, "{text}");
        assert!(query.filter.admits_event(&LiveEvent::Lost { events: 1 }));
    }
    let only = |kind| Filter {
        events: vec![kind],
        ..Filter::default()
    };
    assert!(only(EventKind::End).admits_event(&LiveEvent::End(event())));
    assert!(only(EventKind::Reject).admits_event(&LiveEvent::Reject(event())));
}

#[test]
fn a_wrong_value_is_refused_by_its_name() {
    let rows = [
        ("task=a%2Fb", "task", "is no task id"),
        (
            "address=10.0.0",
            "address",
            "write an address as 10.0.1.5 or a network",
        ),
        ("port=65536", "port", "write a number from 0 to 65535"),
        (
            "protocol=tpc",
            "protocol",
            "write tcp, udp, icmp, icmpv6 or a number",
        ),
        ("action=deny", "action", "write accept, reject or audit"),
        ("direction=in", "direction", "write ingress or egress"),
        ("event=begin", "event", "write start, end or reject"),
        ("sort=name", "sort", "write bytes, packets or rejects"),
        ("limit=x", "limit", "write a number from 0 to 100000"),
        ("limit=100001", "limit", "write a number from 0 to 100000"),
        ("prot=tcp", "prot", "is no parameter"),
        ("task=%ff", "task", "is no UTF-8"),
    ];
    for (text, field, says) in rows {
        let error = Query::parse(text).unwrap_err();
        assert_eq!(error.field, field, "{text}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
}

#[test]
fn words_say_by_their_form_what_they_are() {
    let mut filter = Filter::default();
    for word in ["web", "10.0.0.0/8", "443", "udp", "reject", "egress"] {
        filter.add_word(word).unwrap();
    }
    let text = "task=web&address=10.0.0.0/8&port=443&protocol=udp&action=reject&direction=egress";
    assert_eq!(filter, Query::parse(text).unwrap().filter);
    let error = filter.add_word("a/b").unwrap_err();
    assert!(
        error.to_string().contains("write a task, address"),
        "{error}"
    );
}

#[test]
fn events_have_the_documented_names() {
    let end = FlowEvent {
        start: Some(7),
        reason: Some(crate::live::Ending::Closed),
        ..event()
    };
    let expected = serde_json::json!({
        "event": "end", "timeMs": 0, "taskId": "web", "interfaceId": "eni-1",
        "direction": "ingress", "srcaddr": "10.0.2.7", "dstaddr": "10.0.1.5",
        "srcport": 4711, "dstport": 443, "protocol": 6, "action": "ACCEPT",
        "packets": 1, "bytes": 60, "replyPackets": 0, "replyBytes": 0,
        "start": 7, "end": 0, "reason": "closed", "complete": true,
    });
    let event = LiveEvent::End(end);
    let json = serde_json::to_value(&event).unwrap();
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_value::<LiveEvent>(json).unwrap(), event);
    let lost = serde_json::to_value(LiveEvent::Lost { events: 9 }).unwrap();
    assert_eq!(lost, serde_json::json!({"event": "lost", "events": 9}));
}
