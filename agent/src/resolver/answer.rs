//! What the VPC's resolver says to a question, without asking anybody. Pure.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::net::IpAddr;

use super::Transport;
use super::zone::{Owner, Zone};

/// Seconds for which an answer of the VPC holds, also that there is none: a task's address may be another's soon.
const TTL: u32 = 10;
/// Bytes of a header.
const HEADER: usize = 12;
/// Bytes of an answer over UDP that whoever does not say so can take (RFC 1035 section 4.2.1).
const SMALLEST: u16 = 512;

/// What becomes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is none, and gets no answer: two servers could go on for ever.
    Silence,
    /// The answer.
    Answer(Vec<u8>),
    /// It is not the VPC's to answer.
    Forward(Message),
}

/// What is said to `question`.
#[must_use]
pub fn reply(zone: &Zone, question: &[u8], transport: Transport) -> Reply {
    let is_answer = question.get(2).is_none_or(|flags| flags & 0x80 != 0);
    if question.len() < HEADER || is_answer {
        return Reply::Silence;
    }
    let Ok(query) = Message::from_vec(question) else {
        let id = u16::from_be_bytes([question[0], question[1]]);
        let error = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
        return Reply::Answer(encoded(&error, &error));
    };
    if query.metadata.op_code != OpCode::Query {
        return Reply::Answer(failed(&query, ResponseCode::NotImp));
    }
    let [asked] = query.queries.as_slice() else {
        return Reply::Answer(failed(&query, ResponseCode::FormErr));
    };
    if query.version() > 0 {
        return Reply::Answer(failed(&query, ResponseCode::BADVERS));
    }
    if asked.query_class() != DNSClass::IN {
        return Reply::Answer(failed(&query, ResponseCode::Refused));
    }
    match own_answer(zone, &query, asked) {
        Some(answer) => Reply::Answer(fitting(&query, encoded(&query, &answer), transport)),
        None => Reply::Forward(query),
    }
}

/// That there is no answer, and why.
#[must_use]
pub fn failed(query: &Message, code: ResponseCode) -> Vec<u8> {
    let mut message = response(query);
    message.metadata.response_code = code;
    encoded(query, &message)
}

/// `answer`, or that it does not fit, so that the client asks again over TCP.
#[must_use]
pub(super) fn fitting(query: &Message, answer: Vec<u8>, transport: Transport) -> Vec<u8> {
    let most = usize::from(query.max_payload().max(SMALLEST));
    if transport == Transport::Tcp || answer.len() <= most {
        return answer;
    }
    let mut message = response(query);
    message.metadata.truncation = true;
    encoded(query, &message)
}

/// The VPC's own answer; `None` where the name is not the VPC's.
fn own_answer(zone: &Zone, query: &Message, asked: &Query) -> Option<Message> {
    let (name, kind) = (asked.name(), asked.query_type());
    let mut message = response(query);
    message.metadata.authoritative = true;
    let data: Vec<RData> = match zone.owner(name) {
        Owner::Elsewhere => return None,
        Owner::Domain => Vec::new(),
        Owner::Nobody => {
            message.metadata.response_code = ResponseCode::NXDomain;
            Vec::new()
        }
        Owner::Eni(addresses) => addresses.into_iter().map(address).collect(),
        Owner::Address(name) => vec![RData::PTR(PTR(name))],
    };
    let is_asked = |data: &RData| kind == RecordType::ANY || data.record_type() == kind;
    let records = data.into_iter().filter(is_asked);
    message.add_answers(records.map(|data| Record::from_rdata(name.clone(), TTL, data)));
    if message.answers.is_empty() {
        message.add_authority(negative(zone.apex(name)));
    }
    Some(message)
}

fn address(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

/// How long it holds that there is nothing (RFC 2308 section 5).
fn negative(apex: Name) -> Record {
    let at = |label: &str| apex.prepend_label(label).unwrap_or_else(|_| apex.clone());
    let ttl = TTL.cast_signed();
    let soa = SOA::new(at("ns"), at("hostmaster"), 1, ttl, ttl, ttl, TTL);
    Record::from_rdata(apex, TTL, RData::SOA(soa))
}

fn response(query: &Message) -> Message {
    let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata = Metadata::response_from_request(&query.metadata);
    message.metadata.recursion_available = true;
    message.add_queries(query.queries.iter().cloned());
    message
}

/// The bytes of an answer, with EDNS if the question has it (RFC 6891 section 6.1.1).
fn encoded(query: &Message, answer: &Message) -> Vec<u8> {
    let mut answer = answer.clone();
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_rcode_high(answer.metadata.response_code.high());
        answer.set_edns(edns);
    }
    // What was read from bytes, or made of names that were, has bytes.
    answer.to_vec().unwrap_or_default()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
