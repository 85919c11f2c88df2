//! What each field is in a row: the rules of VPC Flow Logs.
//!
//! Pure. The type [`Field`] lists the fields, in AWS's order; so does [`Row::value`].

use std::net::IpAddr;

use branchline_common::verdict::{Direction, DropReason};

use super::field::Field;
use super::format::{Format, ResourceType, tag_of};
use super::value::Value;
use crate::flows::{Action, FlowCounts, FlowTuple, Interface, Rule, Sublocation, Window};

/// One row of a flow log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The ENI.
    pub interface: &'a Interface,
    /// What is said of it.
    pub content: Content<'a>,
    /// The aggregation interval.
    pub window: Window,
    /// The row's number in its log.
    pub sequence: u64,
    /// The ENI at the other end of a flow, if it is known: it receives what this one sends and sent
    /// what this one receives.
    pub peer: Option<&'a Interface>,
    /// Names of the AWS services that the packet's source and destination belong to.
    pub aws_services: (Option<&'a str>, Option<&'a str>),
}

/// What a row says of its ENI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// Packets were counted.
    Ok(&'a FlowTuple, &'a FlowCounts),
    /// The ENI had no traffic to log in the whole interval.
    NoData,
    /// Some of the ENI's packets are in no row.
    SkipData {
        /// How many.
        packets: u64,
    },
}

impl<'a> Row<'a> {
    /// A row of which nothing is known but what the ENI and its counts say.
    #[must_use]
    pub fn new(interface: &'a Interface, content: Content<'a>, window: Window) -> Self {
        Self {
            interface,
            content,
            window,
            sequence: 0,
            peer: None,
            aws_services: (None, None),
        }
    }

    /// Unix second of the first packet, or the interval's first.
    #[must_use]
    pub fn start(&self) -> u64 {
        match self.content {
            Content::Ok(_, counts) => counts.start(),
            Content::NoData | Content::SkipData { .. } => self.window.start,
        }
    }

    /// Unix second of the last packet, or the interval's last.
    #[must_use]
    pub fn end(&self) -> u64 {
        match self.content {
            Content::Ok(_, counts) => counts.end(),
            Content::NoData | Content::SkipData { .. } => self.window.last(),
        }
    }

    /// What the row has in `field` of a log of `format`.
    #[must_use]
    pub fn value(&self, field: Field, format: &Format) -> Value<'a> {
        let is_counted = matches!(self.content, Content::Ok(..));
        if !is_counted && !field.is_in_every_row() {
            return Value::Absent;
        }
        let interface = self.interface;
        let task = &interface.task;
        let named = |name: &'a Option<String>| Value::text(name.as_deref());
        match field {
            Field::Version => Value::Int(format.version().into()),
            Field::AccountId => Value::text(Some(&interface.account_id)),
            Field::InterfaceId => Value::text(Some(&interface.interface_id)),
            Field::Srcaddr => self.of_tuple(|tuple| Value::Address(self.addresses(tuple).0)),
            Field::Dstaddr => self.of_tuple(|tuple| Value::Address(self.addresses(tuple).1)),
            Field::Srcport => self.of_tuple(|tuple| Value::Int(tuple.src_port.into())),
            Field::Dstport => self.of_tuple(|tuple| Value::Int(tuple.dst_port.into())),
            Field::Protocol => self.of_tuple(|tuple| Value::Int(tuple.protocol.into())),
            Field::Packets => self.of_counts(|counts| Value::count(counts.packets)),
            Field::Bytes => self.of_counts(|counts| Value::count(counts.bytes)),
            Field::Start => Value::count(self.start()),
            Field::End => Value::count(self.end()),
            Field::Action => self.of_tuple(|tuple| Value::Text(action(tuple.action))),
            Field::LogStatus => Value::Text(self.log_status()),
            Field::VpcId => named(&interface.vpc_id),
            Field::SubnetId => named(&interface.subnet_id),
            Field::InstanceId => named(&interface.instance_id),
            Field::TcpFlags => self.of_counts(|counts| Value::Int(counts.tcp_flags.into())),
            Field::Type => self.of_tuple(|tuple| Value::Text(ip_version(tuple))),
            Field::PktSrcaddr => self.of_tuple(|tuple| Value::Address(tuple.src)),
            Field::PktDstaddr => self.of_tuple(|tuple| Value::Address(tuple.dst)),
            Field::Region => named(&interface.region),
            Field::AzId => named(&interface.az_id),
            Field::SublocationType => self.sublocation(|sublocation| &sublocation.kind),
            Field::SublocationId => self.sublocation(|sublocation| &sublocation.id),
            Field::PktSrcAwsService => Value::text(self.aws_services.0),
            Field::PktDstAwsService => Value::text(self.aws_services.1),
            Field::FlowDirection => self.of_tuple(|tuple| Value::Text(tuple.direction.name())),
            Field::TrafficPath => self.of_tuple(traffic_path),
            Field::EcsClusterArn => named(&task.cluster_arn),
            Field::EcsClusterName => named(&task.cluster_name),
            Field::EcsContainerInstanceArn => named(&task.container_instance_arn),
            Field::EcsContainerInstanceId => named(&task.container_instance_id),
            Field::EcsContainerId => named(&task.container_id),
            Field::EcsSecondContainerId => named(&task.second_container_id),
            Field::EcsServiceName => named(&task.service_name),
            Field::EcsTaskDefinitionArn => named(&task.task_definition_arn),
            Field::EcsTaskArn => named(&task.task_arn),
            Field::EcsTaskId => named(&task.task_id),
            // Of other kinds of ENI than a task's, or AWS's own knowledge. What refuses packets here
            // is a security group, which has no word of its own.
            Field::RejectReason
            | Field::ResourceId
            | Field::EncryptionStatus
            | Field::InterfaceType
            | Field::NextHopInterfaceType => Value::Absent,
            Field::InstanceTag
            | Field::InstanceTag2
            | Field::InterfaceTag
            | Field::InterfaceTag2
            | Field::AsgTag
            | Field::AsgTag2 => self.tag(field, format),
            Field::NextHopInterfaceId => self.own_next_hop(|hop| Some(&hop.interface_id)),
            Field::NextHopSubnetId => self.own_next_hop(|hop| hop.subnet_id.as_ref()),
            Field::NextHopAzId => self
                .next_hop()
                .map_or(Value::Absent, |hop| named(&hop.az_id)),
            Field::NextHopVpcId => self.own_next_hop(|hop| hop.vpc_id.as_ref()),
            Field::BlRuleId => self.rule(Rule::rule_id),
            Field::BlGroupId => self.rule(Rule::group_id),
            Field::BlDropReason => self.of_tuple(drop_reason),
            Field::BlHostId => named(&interface.host_id),
            Field::BlFirstSeen => self.of_counts(|counts| Value::count(counts.first_ms)),
            Field::BlLastSeen => self.of_counts(|counts| Value::count(counts.last_ms)),
            Field::BlSequence => Value::count(self.sequence),
            Field::BlSkippedPackets => self.skipped_packets(),
            Field::BlTaskId => named(&task.id),
        }
    }

    /// Source and destination as VPC Flow Logs have them: an IPv4 address on the ENI's own side is
    /// always its primary one.
    fn addresses(&self, tuple: &FlowTuple) -> (IpAddr, IpAddr) {
        let own = |address: IpAddr| match (address, self.interface.primary_ipv4) {
            (IpAddr::V4(_), Some(primary)) => primary.into(),
            _ => address,
        };
        match tuple.direction {
            Direction::Ingress => (tuple.src, own(tuple.dst)),
            Direction::Egress => (own(tuple.src), tuple.dst),
        }
    }

    fn log_status(&self) -> &'static str {
        match self.content {
            Content::Ok(..) => "OK",
            Content::NoData => "NODATA",
            Content::SkipData { .. } => "SKIPDATA",
        }
    }

    fn sublocation(&self, part: impl Fn(&'a Sublocation) -> &'a String) -> Value<'a> {
        let sublocation = self.interface.sublocation.as_ref();
        Value::text(sublocation.map(|sublocation| part(sublocation).as_str()))
    }

    fn tag(&self, field: Field, format: &Format) -> Value<'a> {
        let tags = &self.interface.tags;
        let tag = tag_of(field).and_then(|(resource_type, index)| {
            let of_type = match resource_type {
                ResourceType::Instance => &tags.instance,
                ResourceType::NetworkInterface => &tags.network_interface,
                ResourceType::AutoScalingGroup => &tags.auto_scaling_group,
            };
            of_type.get(format.tag_key(resource_type, index)?)
        });
        Value::tag(tag.map(String::as_str))
    }

    /// The peer, if it is in the ENI's Region and the packets went to it or came from it.
    fn next_hop(&self) -> Option<&'a Interface> {
        let Content::Ok(tuple, _) = self.content else {
            return None;
        };
        let is_sent = tuple.direction == Direction::Ingress || tuple.action != Action::Reject;
        self.peer
            .filter(|peer| is_sent && peer.region == self.interface.region)
    }

    /// What only the owner of the next hop may know of it.
    fn own_next_hop(&self, part: impl Fn(&'a Interface) -> Option<&'a String>) -> Value<'a> {
        let own = self
            .next_hop()
            .filter(|hop| hop.account_id == self.interface.account_id);
        Value::text(own.and_then(part).map(String::as_str))
    }

    fn rule(&self, id: impl Fn(&'a Rule) -> &'a str) -> Value<'a> {
        self.of_tuple(|tuple| Value::text(tuple.rule.as_ref().map(&id)))
    }

    fn skipped_packets(&self) -> Value<'a> {
        match self.content {
            Content::SkipData { packets } => Value::count(packets),
            Content::Ok(..) | Content::NoData => Value::Absent,
        }
    }

    fn of_tuple(&self, value: impl Fn(&'a FlowTuple) -> Value<'a>) -> Value<'a> {
        match self.content {
            Content::Ok(tuple, _) => value(tuple),
            Content::NoData | Content::SkipData { .. } => Value::Absent,
        }
    }

    fn of_counts(&self, value: impl Fn(&'a FlowCounts) -> Value<'a>) -> Value<'a> {
        match self.content {
            Content::Ok(_, counts) => value(counts),
            Content::NoData | Content::SkipData { .. } => Value::Absent,
        }
    }
}

/// The format knows no word for what audit mode let pass, and it did pass.
fn action(action: Action) -> &'static str {
    match action {
        Action::Accept | Action::Audit => "ACCEPT",
        Action::Reject => "REJECT",
    }
}

fn ip_version(tuple: &FlowTuple) -> &'static str {
    if tuple.src.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn traffic_path(tuple: &FlowTuple) -> Value<'_> {
    let path = match tuple.direction {
        Direction::Egress => tuple.traffic_path,
        Direction::Ingress => None,
    };
    path.map_or(Value::Absent, |path| Value::Int(path.into()))
}

fn drop_reason(tuple: &FlowTuple) -> Value<'_> {
    Value::text(tuple.drop_reason.map(DropReason::name))
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
