//! The operations: of each its name, its parameters and what it does.

mod addresses;
mod associate;
mod attach;
mod authorize;
mod create;
mod describe_enis;
mod describe_groups;
mod describe_instances;
mod describe_vpcs;
mod modify;
mod permission;
mod prefix_lists;
mod tags;

pub(crate) use self::describe_enis::private_dns_name;
use crate::answer::Xml;
use crate::error::Result;
use crate::filter::{Field, Filters};
use crate::id::Kind;
use crate::paging::{Paging, page};
use crate::protocol::{Parameter, Parameters, boolean};
use crate::state::{Now, State, Tagged, find};

/// Of every operation.
const DRY_RUN: &[Parameter] = &[boolean("DryRun")];

/// One operation of the API.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// Groups of parameters that it has beside `DryRun`.
    pub(crate) parameters: &'static [&'static [Parameter]],
    pub(crate) run: Run,
}

/// What an operation does, given a checked request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Run {
    /// Answers from a state, which may be an older one.
    Read(fn(&State, &Request<'_>, &mut Xml) -> Result<()>),
    /// Changes the state, or fails and changes nothing.
    Write(fn(&mut State, &Request<'_>, &mut Xml) -> Result<()>),
}

/// A checked request.
pub(crate) struct Request<'a> {
    pub(crate) parameters: Parameters<'a>,
    pub(crate) now: Now,
    pub(crate) page_size: usize,
}

/// All operations.
const ALL: [&Operation; 26] = [
    &create::CREATE_NETWORK_INTERFACE,
    &create::DELETE_NETWORK_INTERFACE,
    &attach::ATTACH_NETWORK_INTERFACE,
    &attach::DETACH_NETWORK_INTERFACE,
    &associate::ASSOCIATE_TRUNK_INTERFACE,
    &associate::DISASSOCIATE_TRUNK_INTERFACE,
    &associate::DESCRIBE_TRUNK_INTERFACE_ASSOCIATIONS,
    &modify::MODIFY_NETWORK_INTERFACE_ATTRIBUTE,
    &describe_enis::DESCRIBE_NETWORK_INTERFACES,
    &tags::CREATE_TAGS,
    &describe_instances::DESCRIBE_INSTANCES,
    &describe_instances::DESCRIBE_INSTANCE_TYPES,
    &describe_vpcs::DESCRIBE_SUBNETS,
    &describe_vpcs::DESCRIBE_VPCS,
    &describe_vpcs::DESCRIBE_VPC_ATTRIBUTE,
    &describe_vpcs::DESCRIBE_DHCP_OPTIONS,
    &describe_vpcs::DESCRIBE_ROUTE_TABLES,
    &describe_groups::DESCRIBE_SECURITY_GROUPS,
    &describe_groups::DESCRIBE_SECURITY_GROUP_RULES,
    &authorize::AUTHORIZE_SECURITY_GROUP_INGRESS,
    &authorize::AUTHORIZE_SECURITY_GROUP_EGRESS,
    &authorize::REVOKE_SECURITY_GROUP_INGRESS,
    &authorize::REVOKE_SECURITY_GROUP_EGRESS,
    &prefix_lists::DESCRIBE_MANAGED_PREFIX_LISTS,
    &prefix_lists::GET_MANAGED_PREFIX_LIST_ENTRIES,
    &prefix_lists::MODIFY_MANAGED_PREFIX_LIST,
];

impl Operation {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|operation| operation.name == name)
    }

    /// All parameters that it has.
    pub(crate) fn shape(&self) -> Vec<&'static [Parameter]> {
        let own = self.parameters.iter().copied();
        own.chain([DRY_RUN]).collect()
    }
}

/// Each operation with the parameters that it takes, `N` for a number, and what each must be: `Text`, `Integer` or
/// `Boolean`, with ` required` behind it if there must be one. For a comparison with a model of EC2.
#[must_use]
pub fn parameter_names() -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let form = |of: &Parameter| {
        let required = if of.required { " required" } else { "" };
        (of.name, format!("{:?}{required}", of.form))
    };
    let all = ALL.into_iter();
    all.map(|operation| {
        let shape = operation.shape().into_iter().flatten();
        (operation.name, shape.map(form).collect())
    })
    .collect()
}

/// A describe with ids, filters and pages: what to compare, and by which names.
struct Describe<'a, T: 'static> {
    all: &'a std::collections::BTreeMap<String, T>,
    kind: Kind,
    /// The parameter with ids.
    ids: &'static str,
    fields: &'static [Field<T>],
    limits: std::ops::RangeInclusive<i64>,
}

impl<'a, T: Tagged + 'static> Describe<'a, T> {
    /// What the request asks for, and the token of the next page.
    ///
    /// # Errors
    /// An id is malformed or nobody's, a filter is unknown, the page is impossible.
    fn select(&self, state: &State, request: &Request<'_>) -> Result<(Vec<&'a T>, Option<String>)> {
        let filters = Filters::read(&request.parameters, self.fields)?;
        let ids = request.parameters.list(self.ids);
        for id in &ids {
            find(self.all, self.kind, id)?;
        }
        let chosen = |id: &String| ids.is_empty() || ids.contains(&id.as_str());
        let found = self
            .all
            .iter()
            .filter(|(id, item)| chosen(id) && filters.matches(state, item));
        let found = found.map(|(id, item)| (id.clone(), item)).collect();
        let paging = Paging {
            limits: self.limits.clone(),
            ids: self.ids,
            page_size: request.page_size,
        };
        page(&request.parameters, &paging, found)
    }
}

/// One value of a filter's field.
fn one(value: impl ToString) -> Vec<String> {
    vec![value.to_string()]
}

/// The value that there may be.
fn maybe(value: Option<impl ToString>) -> Vec<String> {
    value.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
