//! What version 2 of a spool file holds: epochs of an agent that knew no IPv6 address of an ENI. Only
//! read.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::Deserialize;

use crate::flows::interface::{self, Sublocation, Tags, TaskIdentity};
use crate::flows::ledger::Window;
use crate::flows::record::{self, FlowCounts, FlowTuple};

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) struct Epoch {
    number: u32,
    window: Window,
    reports: Vec<Report>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct Report {
    interface: Interface,
    flows: Vec<(FlowTuple, FlowCounts)>,
    skipped_packets: u64,
    is_whole: bool,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct Interface {
    account_id: String,
    interface_id: String,
    primary_ipv4: Option<Ipv4Addr>,
    vpc_id: Option<String>,
    subnet_id: Option<String>,
    instance_id: Option<String>,
    region: Option<String>,
    az_id: Option<String>,
    sublocation: Option<Sublocation>,
    host_id: Option<String>,
    group_ids: Vec<String>,
    task: TaskIdentity,
    tags: Tags,
}

impl From<Epoch> for super::Epoch {
    fn from(epoch: Epoch) -> Self {
        Self {
            number: epoch.number,
            window: epoch.window,
            reports: epoch.reports.into_iter().map(Report::into).collect(),
        }
    }
}

impl From<Report> for record::Report {
    fn from(report: Report) -> Self {
        Self {
            interface: Arc::new(report.interface.into()),
            flows: report.flows,
            skipped_packets: report.skipped_packets,
            is_whole: report.is_whole,
        }
    }
}

impl From<Interface> for interface::Interface {
    fn from(old: Interface) -> Self {
        Self {
            account_id: old.account_id,
            interface_id: old.interface_id,
            primary_ipv4: old.primary_ipv4,
            ipv6: None,
            vpc_id: old.vpc_id,
            subnet_id: old.subnet_id,
            instance_id: old.instance_id,
            region: old.region,
            az_id: old.az_id,
            sublocation: old.sublocation,
            host_id: old.host_id,
            group_ids: old.group_ids,
            task: old.task,
            tags: old.tags,
        }
    }
}

#[cfg(test)]
pub(super) fn of(epoch: super::Epoch) -> Epoch {
    let report = |report: record::Report| {
        let interface = (*report.interface).clone();
        Report {
            interface: Interface {
                account_id: interface.account_id,
                interface_id: interface.interface_id,
                primary_ipv4: interface.primary_ipv4,
                vpc_id: interface.vpc_id,
                subnet_id: interface.subnet_id,
                instance_id: interface.instance_id,
                region: interface.region,
                az_id: interface.az_id,
                sublocation: interface.sublocation,
                host_id: interface.host_id,
                group_ids: interface.group_ids,
                task: interface.task,
                tags: interface.tags,
            },
            flows: report.flows,
            skipped_packets: report.skipped_packets,
            is_whole: report.is_whole,
        }
    };
    Epoch {
        number: epoch.number,
        window: epoch.window,
        reports: epoch.reports.into_iter().map(report).collect(),
    }
}
