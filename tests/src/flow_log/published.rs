//! Lines that AWS has published: read by a parser that knows nothing of the agent, compared with what
//! is known of them, and made again by the agent's writer.
//!
//! The parser's table of fields is the specification's own, so a fault of the agent's cannot hide in it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use branchline::flow_log::{Content, Format, Row, write_line};
use branchline::flows::{
    Action, FlowCounts, FlowTuple, Interface, Sublocation, TaskIdentity, Window,
};
use branchline_common::verdict::Direction;
use serde::Deserialize;
use serde_json::Value;

use super::{Mismatch, Outcome, entries};

/// The specification's table of fields.
const FIELDS: &str = include_str!("../../fixtures/flowlog_fields.csv");

/// Fields of other kinds of ENI, or that only AWS can know: a line with a value in one of them cannot
/// be ours.
const FOREIGN: [&str; 5] = [
    "resource-id",
    "encryption-status",
    "reject-reason",
    "interface-type",
    "next-hop-interface-type",
];

/// A published line.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Its name in messages.
    pub id: String,
    /// Names of its fields.
    pub format: String,
    /// The line.
    pub line: String,
    /// What it says.
    #[serde(default)]
    pub meaning: String,
    /// Where it was published.
    #[serde(default)]
    pub source: String,
    /// What some of its fields are.
    #[serde(default)]
    pub parsed: BTreeMap<String, Value>,
}

/// A line's words by field; `None` for `-`.
pub type Words<'a> = BTreeMap<&'a str, Option<&'a str>>;

/// Runs a file's samples.
///
/// # Errors
/// A sample is not as the format says.
pub fn run(file: &Value) -> Result<Outcome> {
    let samples: Vec<Sample> = entries(file, "samples")?;
    let mut mismatches = Vec::new();
    for sample in &samples {
        mismatches.extend(mismatches_of(sample));
    }
    Ok(Outcome {
        cases: samples.len(),
        mismatches,
    })
}

fn mismatches_of(sample: &Sample) -> Vec<Mismatch> {
    let mismatch = |text: String| Mismatch::new(&sample.id, text);
    let words = match read(&sample.format, &sample.line) {
        Ok(words) => words,
        Err(error) => return vec![mismatch(format!("{error:#}"))],
    };
    let mut mismatches = Vec::new();
    for (field, expected) in &sample.parsed {
        let found = words.get(field.as_str()).copied().flatten().unwrap_or("-");
        let expected = expected
            .as_str()
            .map_or_else(|| expected.to_string(), str::to_owned);
        if found != expected {
            mismatches.push(mismatch(format!("{field} is {found}, not {expected}")));
        }
    }
    match again(&sample.format, &words) {
        Ok(Some(line)) if line != sample.line => {
            mismatches.push(mismatch(format!("written as {line}, not {}", sample.line)));
        }
        Ok(_) => {}
        Err(error) => mismatches.push(mismatch(format!("{error:#}"))),
    }
    mismatches
}

/// Reads a line of the format `format`.
///
/// # Errors
/// The field that is not as the specification has it.
pub fn read<'a>(format: &'a str, line: &'a str) -> Result<Words<'a>> {
    let (names, tokens): (Vec<_>, Vec<_>) =
        (format.split(' ').collect(), line.split(' ').collect());
    ensure!(
        names.len() == tokens.len(),
        "{} words for {} fields",
        tokens.len(),
        names.len()
    );
    let mut words = Words::new();
    let mut version = 2;
    for (name, token) in names.into_iter().zip(tokens) {
        let field = field(name)?;
        version = version.max(field.version);
        let word = (token != "-").then_some(token);
        check(name, field.is_number, word)?;
        ensure!(words.insert(name, word).is_none(), "{name} is there twice");
    }
    if let Some(Some(said)) = words.get("version") {
        ensure!(said.parse() == Ok(version), "version {said}, not {version}");
    }
    let status = words.get("log-status").copied().flatten();
    if status.is_some_and(|status| status != "OK") {
        for (name, word) in &words {
            let has_value = field(name)?.is_in_every_row;
            ensure!(
                word.is_none() || has_value,
                "{name} on a line without counts"
            );
        }
    }
    Ok(words)
}

/// What the specification says of a field.
struct Field {
    version: u8,
    is_number: bool,
    is_in_every_row: bool,
}

fn field(name: &str) -> Result<Field> {
    let mut lines = FIELDS
        .lines()
        .map(|line| line.split(',').collect::<Vec<_>>());
    let cells = lines.find(|cells| cells.first() == Some(&name));
    let cells = cells.with_context(|| format!("{name} is no field"))?;
    let [_, version, column_type, .., on_nodata] = cells[..] else {
        bail!("{name} has too few columns");
    };
    Ok(Field {
        version: version.parse()?,
        is_number: column_type.starts_with("INT"),
        is_in_every_row: on_nodata == "value",
    })
}

fn check(name: &str, is_number: bool, word: Option<&str>) -> Result<()> {
    let Some(word) = word else { return Ok(()) };
    let one_of = |words: &[&str]| words.contains(&word);
    let is_right = match name {
        "srcaddr" | "dstaddr" | "pkt-srcaddr" | "pkt-dstaddr" => {
            let address: IpAddr = word.parse().with_context(|| format!("{name} {word}"))?;
            address.to_string() == word
        }
        "action" => one_of(&["ACCEPT", "REJECT"]),
        "log-status" => one_of(&["OK", "NODATA", "SKIPDATA"]),
        "type" => one_of(&["IPv4", "IPv6", "EFA"]),
        "flow-direction" => one_of(&["ingress", "egress"]),
        _ if is_number => word.parse::<u64>().is_ok(),
        _ => !word.is_empty(),
    };
    ensure!(is_right, "{name} {word}");
    Ok(())
}

/// The line that the agent writes of what was read; `None` for a line that cannot be its own.
fn again(format: &str, words: &Words<'_>) -> Result<Option<String>> {
    let get = |name: &str| words.get(name).copied().flatten();
    let has_no_eni = words.get("interface-id") == Some(&None);
    if has_no_eni || FOREIGN.iter().any(|name| get(name).is_some()) {
        return Ok(None);
    }
    let number = |name: &str| get(name).map_or(Ok(0), str::parse::<u64>);
    let (start, end) = (number("start")?, number("end")?);
    let (tuple, primary_ipv4) = match get("srcaddr").or(get("pkt-srcaddr")) {
        Some(_) => tuple(words)?,
        None => (None, None),
    };
    let counts = FlowCounts {
        packets: number("packets")?,
        bytes: number("bytes")?,
        tcp_flags: u8::try_from(number("tcp-flags")?)?,
        first_ms: start * 1_000,
        last_ms: end * 1_000 + 999,
    };
    let content = match (get("log-status").unwrap_or("OK"), &tuple) {
        ("NODATA", _) => Content::NoData,
        ("SKIPDATA", _) => Content::SkipData { packets: 1 },
        (_, Some(tuple)) => Content::Ok(tuple, &counts),
        (_, None) => return Ok(None),
    };
    let window = Window {
        start,
        end: end + 1,
    };
    let mut interface = interface(words);
    interface.primary_ipv4 = primary_ipv4;
    let row = Row {
        aws_services: (get("pkt-src-aws-service"), get("pkt-dst-aws-service")),
        ..Row::new(&interface, content, window)
    };
    let mut line = Vec::new();
    let mut text = Vec::new();
    write_line(&row, &Format::parse(format, &[])?, &mut line, &mut text)?;
    Ok(Some(
        String::from_utf8(text)?.trim_end_matches('\n').to_owned(),
    ))
}

fn interface(words: &Words<'_>) -> Interface {
    let get = |name: &str| words.get(name).copied().flatten().map(str::to_owned);
    let sublocation = get("sublocation-type").zip(get("sublocation-id"));
    Interface {
        account_id: get("account-id").unwrap_or_default(),
        interface_id: get("interface-id").unwrap_or_default(),
        vpc_id: get("vpc-id"),
        subnet_id: get("subnet-id"),
        instance_id: get("instance-id"),
        region: get("region"),
        az_id: get("az-id"),
        sublocation: sublocation.map(|(kind, id)| Sublocation { kind, id }),
        task: TaskIdentity {
            cluster_arn: get("ecs-cluster-arn"),
            cluster_name: get("ecs-cluster-name"),
            container_instance_arn: get("ecs-container-instance-arn"),
            container_instance_id: get("ecs-container-instance-id"),
            container_id: get("ecs-container-id"),
            second_container_id: get("ecs-second-container-id"),
            service_name: get("ecs-service-name"),
            task_definition_arn: get("ecs-task-definition-arn"),
            task_arn: get("ecs-task-arn"),
            task_id: get("ecs-task-id"),
            ..TaskIdentity::default()
        },
        ..Interface::default()
    }
}

/// The packet's tuple, and the ENI's primary address as far as the line gives it away.
fn tuple(words: &Words<'_>) -> Result<(Option<FlowTuple>, Option<std::net::Ipv4Addr>)> {
    let get = |name: &str| words.get(name).copied().flatten();
    let address = |name: &str| get(name).map(str::parse::<IpAddr>).transpose();
    let number = |name: &str| get(name).map_or(Ok(0), str::parse::<u16>);
    let (shown_src, shown_dst) = (address("srcaddr")?, address("dstaddr")?);
    let (src, dst) = (
        address("pkt-srcaddr")?.or(shown_src),
        address("pkt-dstaddr")?.or(shown_dst),
    );
    let (Some(src), Some(dst)) = (src, dst) else {
        return Ok((None, None));
    };
    let is_egress = match get("flow-direction") {
        Some(direction) => direction == "egress",
        None => shown_src.is_some_and(|shown| shown != src),
    };
    let (direction, own) = if is_egress {
        (Direction::Egress, shown_src)
    } else {
        (Direction::Ingress, shown_dst)
    };
    let primary = match own {
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(_)) | None => None,
    };
    let tuple = FlowTuple {
        direction,
        src,
        dst,
        src_port: number("srcport")?,
        dst_port: number("dstport")?,
        protocol: u8::try_from(number("protocol")?)?,
        action: match get("action") {
            Some("REJECT") => Action::Reject,
            _ => Action::Accept,
        },
        traffic_path: get("traffic-path").map(str::parse).transpose()?,
        rule: None,
        drop_reason: None,
        service: None,
    };
    Ok((Some(tuple), primary))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const FORMAT: &str = "version srcaddr dstaddr packets action log-status";

    #[test]
    fn a_line_that_is_not_of_its_format_is_refused() {
        let right = "2 10.0.0.1 10.0.0.2 5 ACCEPT OK";
        assert!(read(FORMAT, right).is_ok());
        for (wrong, reason) in [
            ("2 10.0.0.1 10.0.0.2 5 ACCEPT", "5 words for 6 fields"),
            ("3 10.0.0.1 10.0.0.2 5 ACCEPT OK", "version 3, not 2"),
            ("2 10.0.0.01 10.0.0.2 5 ACCEPT OK", "srcaddr 10.0.0.01"),
            ("2 10.0.0.1 10.0.0.2 five ACCEPT OK", "packets five"),
            ("2 10.0.0.1 10.0.0.2 5 ALLOW OK", "action ALLOW"),
            ("2 - - 5 - NODATA", "packets on a line without counts"),
        ] {
            let error = format!("{:#}", read(FORMAT, wrong).unwrap_err());
            assert!(error.contains(reason), "{wrong}: {error}");
        }
        assert!(read("srcaddr source", "10.0.0.1 -").is_err());
    }

    #[test]
    fn most_published_lines_could_be_our_own() {
        let file = include_str!("../../fixtures/flowlog_samples.json");
        let file: Value = serde_json::from_str(file).unwrap();
        let samples: Vec<Sample> = entries(&file, "samples").unwrap();
        let ours = samples.iter().filter(|sample| {
            let words = read(&sample.format, &sample.line).unwrap();
            again(&sample.format, &words).unwrap().is_some()
        });
        // All but those of a regional NAT gateway and of encrypted traffic.
        assert_eq!((ours.count(), samples.len()), (19, 23));
        let mut wrong = samples[0].clone();
        wrong.parsed.insert("srcport".to_owned(), 23.into());
        assert_eq!(mismatches_of(&samples[0]), []);
        assert_eq!(mismatches_of(&wrong).len(), 1);
    }
}
