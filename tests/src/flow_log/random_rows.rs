//! Random formats, ENIs and rows, with all that text and columns may trip over: what is not known,
//! blanks, quotes, other scripts, the largest numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use branchline::flow_log::{Content, Field, Format, ResourceType, Row, TagFieldSpecification};
use branchline::flows::{
    Action, FlowCounts, FlowTuple, Interface, Rule, Sublocation, Tags, TaskIdentity, Window,
};
use branchline_common::verdict::{Direction, DropReason};

use crate::random::Random;

/// Names and texts; none is `-`, which means that there is none.
const TEXTS: [&str; 8] = [
    "eni-0123456789abcdef0",
    "arn:aws:ecs:eu-west-1:123456789012:task/prod/0f",
    "007",
    "two words",
    "a,b;c|d\t\"quoted\" 'q' \\ #",
    "Zoë ÅÄÖ 網路",
    "line\nbreak\r\n",
    "--",
];
const TAG_KEYS: [&str; 2] = ["owner", "cost/centre"];
const ADDRESSES: [&str; 6] = [
    "10.0.1.4",
    "255.255.255.255",
    "198.51.100.7",
    "2001:db8::1",
    "fe80::200:5eff:fe00:53ff",
    "::",
];

/// The interval of every row.
const WINDOW: Window = Window {
    start: 1_700_000_040,
    end: 1_700_000_100,
};

/// Rows as values of their own, for [`Row`] borrows.
#[derive(Clone, Debug)]
pub struct OwnedRow {
    interface: Interface,
    content: OwnedContent,
    peer: Option<Interface>,
    service: Option<&'static str>,
    sequence: u64,
}

#[derive(Clone, Debug)]
enum OwnedContent {
    Ok(Box<(FlowTuple, FlowCounts)>),
    NoData,
    SkipData(u64),
}

impl OwnedRow {
    /// The row.
    #[must_use]
    pub fn row(&self) -> Row<'_> {
        let content = match &self.content {
            OwnedContent::Ok(flow) => Content::Ok(&flow.0, &flow.1),
            OwnedContent::NoData => Content::NoData,
            OwnedContent::SkipData(packets) => Content::SkipData { packets: *packets },
        };
        Row {
            sequence: self.sequence,
            peer: self.peer.as_ref(),
            aws_services: (self.service, None),
            ..Row::new(&self.interface, content, WINDOW)
        }
    }
}

/// A format of some fields or of all, in any order.
#[must_use]
pub fn format(random: &mut Random) -> Format {
    format_of(random, Field::ALL)
}

/// As [`format`], of the fields `all`.
#[must_use]
pub fn format_of(random: &mut Random, all: &[Field]) -> Format {
    let mut fields = all.to_vec();
    for last in (1..fields.len()).rev() {
        fields.swap(last, random.below(last + 1));
    }
    if !random.one_in(3) {
        fields.truncate(1 + random.below(fields.len()));
    }
    let names: Vec<_> = fields.iter().map(|field| field.name()).collect();
    let tags = [
        ResourceType::Instance,
        ResourceType::NetworkInterface,
        ResourceType::AutoScalingGroup,
    ]
    .map(|resource_type| TagFieldSpecification {
        resource_type,
        tag_keys: TAG_KEYS.map(str::to_owned).to_vec(),
    });
    Format::parse(&names.join(" "), &tags).expect("fields of the table, each once")
}

/// So many rows of a few ENIs.
#[must_use]
pub fn rows(random: &mut Random, count: usize) -> Vec<OwnedRow> {
    let interfaces: Vec<_> = (0..5).map(|_| interface(random)).collect();
    let row = |sequence: usize| {
        let own = interfaces[random.below(interfaces.len())].clone();
        let peer = random.one_in(3).then(|| Interface {
            account_id: own.account_id.clone(),
            region: own.region.clone(),
            ..interface(random)
        });
        OwnedRow {
            interface: own,
            content: match random.below(12) {
                0 => OwnedContent::NoData,
                1 => OwnedContent::SkipData(number(random)),
                _ => OwnedContent::Ok(Box::new((tuple(random), counts(random)))),
            },
            peer,
            service: random.one_in(4).then_some("AMAZON"),
            sequence: sequence as u64,
        }
    };
    (0..count).map(row).collect()
}

fn interface(random: &mut Random) -> Interface {
    let mut text = || {
        let text = random.of(&TEXTS);
        (!random.one_in(4)).then(|| text.to_owned())
    };
    let (kind, id) = (text(), text());
    let task = TaskIdentity {
        id: text(),
        cluster_arn: text(),
        cluster_name: text(),
        container_instance_arn: text(),
        container_instance_id: text(),
        container_id: text(),
        second_container_id: text(),
        service_name: text(),
        task_definition_arn: text(),
        task_arn: text(),
        task_id: text(),
    };
    let mut tags = || {
        let tags = TAG_KEYS
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), text()?)));
        tags.collect()
    };
    let tags = Tags {
        instance: tags(),
        network_interface: tags(),
        auto_scaling_group: tags(),
    };
    Interface {
        account_id: "012345678901".to_owned(),
        interface_id: "eni-0a".to_owned(),
        ipv6: None,
        vpc_id: text(),
        subnet_id: text(),
        instance_id: text(),
        region: text(),
        az_id: text(),
        sublocation: kind.zip(id).map(|(kind, id)| Sublocation { kind, id }),
        host_id: text(),
        group_ids: Vec::new(),
        task,
        tags,
        primary_ipv4: random.one_in(2).then_some(Ipv4Addr::new(10, 0, 1, 10)),
    }
}

fn tuple(random: &mut Random) -> FlowTuple {
    let (src, dst) = (address(random), address(random));
    FlowTuple {
        direction: random.of(&[Direction::Ingress, Direction::Egress]),
        src,
        dst,
        src_port: number(random) as u16,
        dst_port: number(random) as u16,
        protocol: number(random) as u8,
        action: random.of(&[Action::Accept, Action::Reject, Action::Audit]),
        traffic_path: random.one_in(2).then_some(8),
        rule: random
            .one_in(2)
            .then(|| Rule::new("sg-web", random.of(&TEXTS))),
        drop_reason: random.one_in(3).then_some(DropReason::NoRule),
        service: None,
    }
}

fn counts(random: &mut Random) -> FlowCounts {
    let first_ms = WINDOW.start * 1_000 + random.below(60_000) as u64;
    FlowCounts {
        packets: number(random),
        bytes: number(random),
        tcp_flags: random.of(&[0, 2, 3, 18, 19]),
        first_ms,
        last_ms: first_ms + random.below(9_000) as u64,
    }
}

fn address(random: &mut Random) -> IpAddr {
    match random.below(3) {
        0 => Ipv4Addr::from(random.next() as u32).into(),
        1 => Ipv6Addr::from(u128::from(random.next()) << random.below(64)).into(),
        _ => random.of(&ADDRESSES).parse().expect("an address"),
    }
}

/// Small ones and the largest that a signed column holds.
fn number(random: &mut Random) -> u64 {
    let bits = 1 + random.below(63);
    random.next() >> (64 - bits)
}
