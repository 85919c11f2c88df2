//! Tests of `answer`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::str::FromStr;
use std::time::Instant;

use super::*;
use crate::services::{Rate, Tenants};
use crate::task_record::tests::record;

const OWN: &str = "ip-10-0-1-10.ec2.internal.";

fn zone() -> Zone {
    let tenants = Tenants::default();
    let mut task = record("web");
    task.dns.host_name = Some("ip-10-0-1-10.ec2.internal".to_owned());
    let rate = Rate {
        per_second: 1,
        burst: 1,
    };
    tenants.insert(&task, rate, Instant::now());
    let networks = ["10.0.0.0/16", "2001:db8::/56"];
    let other = (
        "db.ec2.internal".to_owned(),
        vec!["10.0.9.9".parse().unwrap()],
    );
    Zone::new(
        &["ec2.internal".to_owned()],
        networks.iter().map(|text| text.parse().unwrap()).collect(),
        tenants,
        [other],
    )
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    message
}

fn answered(query: &Message) -> Message {
    match reply(&zone(), &query.to_vec().unwrap(), Transport::Udp) {
        Reply::Answer(bytes) => Message::from_vec(&bytes).unwrap(),
        other @ (Reply::Silence | Reply::Forward(_)) => panic!("{other:?}"),
    }
}

fn data(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

#[test]
fn names_of_the_vpc_have_the_addresses_of_their_enis() {
    let rows = [
        (OWN, RecordType::A, vec!["10.0.1.10"]),
        (
            "IP-10-0-1-10.EC2.Internal.",
            RecordType::A,
            vec!["10.0.1.10"],
        ),
        (OWN, RecordType::AAAA, vec!["2001:db8::1"]),
        (OWN, RecordType::ANY, vec!["10.0.1.10", "2001:db8::1"]),
        ("db.ec2.internal.", RecordType::A, vec!["10.0.9.9"]),
        ("10.1.0.10.in-addr.arpa.", RecordType::PTR, vec![OWN]),
        (
            "9.9.0.10.in-addr.arpa.",
            RecordType::PTR,
            vec!["db.ec2.internal."],
        ),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.",
            RecordType::PTR,
            vec![OWN],
        ),
    ];
    for (name, kind, expected) in rows {
        let asked = query(name, kind);
        let answer = answered(&asked);
        assert_eq!(data(&answer), expected, "{name} {kind}");
        let said = answer.metadata;
        assert_eq!(said.response_code, ResponseCode::NoError, "{name}");
        assert!(said.authoritative && said.recursion_available && said.recursion_desired);
        assert_eq!((said.id, &answer.queries), (7, &asked.queries), "{name}");
    }
}

#[test]
fn what_the_vpc_does_not_have_is_told_from_what_has_other_records() {
    let rows = [
        (OWN, RecordType::MX, ResponseCode::NoError, "ec2.internal."),
        (
            "db.ec2.internal.",
            RecordType::AAAA,
            ResponseCode::NoError,
            "ec2.internal.",
        ),
        (
            "ec2.internal.",
            RecordType::A,
            ResponseCode::NoError,
            "ec2.internal.",
        ),
        (
            "ip-10-0-1-99.ec2.internal.",
            RecordType::A,
            ResponseCode::NXDomain,
            "ec2.internal.",
        ),
        (
            "a.b.ec2.internal.",
            RecordType::A,
            ResponseCode::NXDomain,
            "ec2.internal.",
        ),
        (
            "99.1.0.10.in-addr.arpa.",
            RecordType::PTR,
            ResponseCode::NXDomain,
            "1.0.10.in-addr.arpa.",
        ),
        (
            "1.0.10.in-addr.arpa.",
            RecordType::PTR,
            ResponseCode::NoError,
            "0.10.in-addr.arpa.",
        ),
        (
            "10.1.0.10.in-addr.arpa.",
            RecordType::A,
            ResponseCode::NoError,
            "1.0.10.in-addr.arpa.",
        ),
    ];
    for (name, kind, code, apex) in rows {
        let answer = answered(&query(name, kind));
        assert_eq!(answer.metadata.response_code, code, "{name} {kind}");
        assert_eq!(data(&answer), [""; 0], "{name} {kind}");
        let [soa] = answer.authorities.as_slice() else {
            panic!("{name}: {answer:?}");
        };
        assert_eq!(
            (soa.name.to_string().as_str(), soa.record_type()),
            (apex, RecordType::SOA)
        );
    }
}

#[test]
fn what_is_not_the_vpcs_is_handed_on() {
    for (name, kind) in [
        ("example.com.", RecordType::A),
        ("notec2.internal.", RecordType::A),
        ("internal.", RecordType::NS),
        (".", RecordType::NS),
        ("1.2.0.192.in-addr.arpa.", RecordType::PTR),
        ("10.in-addr.arpa.", RecordType::PTR),
    ] {
        let asked = query(name, kind);
        let found = reply(&zone(), &asked.to_vec().unwrap(), Transport::Udp);
        assert!(matches!(found, Reply::Forward(_)), "{name}: {found:?}");
    }
}

#[test]
fn what_is_no_question_is_refused_and_an_answer_is_never_answered() {
    let code = |change: fn(&mut Message)| {
        let mut message = query(OWN, RecordType::A);
        change(&mut message);
        answered(&message).metadata.response_code
    };
    assert_eq!(
        code(|one| one.metadata.op_code = OpCode::Update),
        ResponseCode::NotImp
    );
    assert_eq!(code(|one| one.queries.clear()), ResponseCode::FormErr);
    assert_eq!(
        code(|one| one.queries.push(one.queries[0].clone())),
        ResponseCode::FormErr
    );
    assert_eq!(
        code(|one| one.queries[0].query_class = DNSClass::CH),
        ResponseCode::Refused
    );
    let newer = |one: &mut Message| {
        let mut edns = Edns::new();
        edns.set_version(1);
        one.set_edns(edns);
    };
    // The same number as of BADSIG, by which it is read.
    assert_eq!(u16::from(code(newer)), u16::from(ResponseCode::BADVERS));
    let bytes = query(OWN, RecordType::A).to_vec().unwrap();
    match reply(&zone(), &bytes[..bytes.len() - 3], Transport::Udp) {
        Reply::Answer(answer) => {
            assert_eq!((answer[..2].to_vec(), answer[3] & 15), (vec![0, 7], 1))
        }
        other @ (Reply::Silence | Reply::Forward(_)) => panic!("{other:?}"),
    }
    let mut answer = bytes.clone();
    answer[2] |= 0x80;
    for silent in [&answer[..], &bytes[..11], &[]] {
        assert_eq!(reply(&zone(), silent, Transport::Udp), Reply::Silence);
    }
}

#[test]
fn an_answer_that_does_not_fit_says_so_over_udp_only() {
    let mut asked = query("example.com.", RecordType::TXT);
    let long = vec![0; 600];
    let cut = Message::from_vec(&fitting(&asked, long.clone(), Transport::Udp)).unwrap();
    assert!(cut.metadata.truncation && cut.edns.is_none());
    assert_eq!(fitting(&asked, long.clone(), Transport::Tcp), long);
    let mut edns = Edns::new();
    edns.set_max_payload(600);
    asked.set_edns(edns);
    assert_eq!(fitting(&asked, long.clone(), Transport::Udp), long);
    let longer = fitting(&asked, vec![0; 601], Transport::Udp);
    assert!(Message::from_vec(&longer).unwrap().edns.is_some());
}
