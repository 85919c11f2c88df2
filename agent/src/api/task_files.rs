//! What a task is told of names, and its files, as the API says it. Plain values.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::dns::TaskDns;
use crate::task_record::TaskRecord;

/// What a task is told of names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskDnsDescription {
    /// Its hostname; without it the container runtime's random one stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// What it asks, in order.
    pub name_servers: Vec<String>,
    /// What it appends to short names.
    pub search_domains: Vec<String>,
    /// Where it may get the time from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp_servers: Vec<String>,
}

/// A task's files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskFilesDescription {
    /// For `/etc/hostname`, if the task has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub hostname: Option<PathBuf>,
    /// For `/etc/hosts`.
    #[schema(value_type = String)]
    pub hosts: PathBuf,
    /// For `/etc/resolv.conf`.
    #[schema(value_type = String)]
    pub resolv_conf: PathBuf,
}

impl TaskDnsDescription {
    pub(super) fn of(dns: &TaskDns) -> Self {
        let texts = |addresses: &[std::net::IpAddr]| {
            let texts = addresses.iter().map(ToString::to_string);
            texts.collect()
        };
        Self {
            host_name: dns.host_name.clone(),
            name_servers: texts(&dns.name_servers),
            search_domains: dns.search.clone(),
            ntp_servers: texts(&dns.ntp_servers),
        }
    }
}

impl TaskFilesDescription {
    pub(super) fn of(record: &TaskRecord) -> Self {
        let places = &record.files;
        Self {
            hostname: record.dns.host_name.as_ref().map(|_| places.host_name()),
            hosts: places.hosts(),
            resolv_conf: places.resolv_conf(),
        }
    }
}
