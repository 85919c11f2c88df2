//! DescribeManagedPrefixLists, GetManagedPrefixListEntries and ModifyManagedPrefixList.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Describe, Operation, Request, Run, one, tags};
use crate::answer::Xml;
use crate::error::{Ec2Error, Result};
use crate::filter::{FILTERS, Field};
use crate::id::Kind;
use crate::paging::{self, PAGES, Paging};
use crate::protocol::{integer, text};
use crate::state::{Entry, PrefixList, State, find};

pub(super) const DESCRIBE_MANAGED_PREFIX_LISTS: Operation = Operation {
    name: "DescribeManagedPrefixLists",
    parameters: &[&[text("PrefixListId.N")], FILTERS, PAGES],
    run: Run::Read(describe),
};

pub(super) const GET_MANAGED_PREFIX_LIST_ENTRIES: Operation = Operation {
    name: "GetManagedPrefixListEntries",
    parameters: &[
        &[text("PrefixListId").required(), integer("TargetVersion")],
        PAGES,
    ],
    run: Run::Read(get_entries),
};

pub(super) const MODIFY_MANAGED_PREFIX_LIST: Operation = Operation {
    name: "ModifyManagedPrefixList",
    parameters: &[&[
        text("PrefixListId").required(),
        integer("CurrentVersion"),
        text("PrefixListName"),
        text("AddEntry.N.Cidr"),
        text("AddEntry.N.Description"),
        text("RemoveEntry.N.Cidr"),
        integer("MaxEntries"),
    ]],
    run: Run::Write(modify),
};

const FIELDS: &[Field<PrefixList>] = &[
    ("owner-id", |state, _| one(&state.account_id)),
    ("prefix-list-id", |_, list| one(&list.prefix_list_id)),
    ("prefix-list-name", |_, list| one(&list.prefix_list_name)),
];

fn describe(state: &State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let describe = Describe {
        all: &state.prefix_lists,
        kind: Kind::PrefixList,
        ids: "PrefixListId",
        fields: FIELDS,
        limits: 1..=100,
    };
    let found = describe.select(state, request)?;
    paging::write(xml, "prefixListSet", found, |xml, list| {
        write(xml, state, list)
    });
    Ok(())
}

fn write(xml: &mut Xml, state: &State, list: &PrefixList) {
    let (region, account, id) = (&state.region, &state.account_id, &list.prefix_list_id);
    let family = if list.ipv6 { "IPv6" } else { "IPv4" };
    let condition = if list.modified {
        "modify-complete"
    } else {
        "create-complete"
    };
    xml.text("prefixListId", id)
        .text("addressFamily", family)
        .text("state", condition)
        .text(
            "prefixListArn",
            format!("arn:aws:ec2:{region}:{account}:prefix-list/{id}"),
        )
        .text("prefixListName", &list.prefix_list_name)
        .text("maxEntries", list.max_entries)
        .text("version", list.version());
    tags::write(xml, &list.tags);
    xml.text("ownerId", account);
}

fn get_entries(state: &State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let parameters = &request.parameters;
    let list = find(
        &state.prefix_lists,
        Kind::PrefixList,
        parameters.require("PrefixListId")?,
    )?;
    let version = parameters.integer("TargetVersion");
    let Some(entries) = list.entries(version) else {
        let message = format!(
            "The prefix list '{}' does not have this version",
            list.prefix_list_id
        );
        return Err(Ec2Error::new("InvalidPrefixListVersion", message));
    };
    let paging = Paging {
        limits: 1..=100,
        ids: "",
        page_size: request.page_size.min(100),
    };
    let mut sorted: Vec<_> = entries
        .iter()
        .map(|entry| (format!("{}", entry.cidr), entry))
        .collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let found = paging::page(parameters, &paging, sorted)?;
    paging::write(xml, "entrySet", found, |xml, entry| {
        xml.text("cidr", entry.cidr)
            .optional("description", entry.description.as_ref());
    });
    Ok(())
}

fn modify(state: &mut State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let parameters = &request.parameters;
    let id = parameters.require("PrefixListId")?;
    let mut list = find(&state.prefix_lists, Kind::PrefixList, id)?.clone();
    let changes_entries = parameters.any("AddEntry.") || parameters.any("RemoveEntry.");
    if changes_entries {
        let version = parameters.integer("CurrentVersion");
        let version = version.ok_or_else(|| Ec2Error::missing("CurrentVersion"))?;
        if version != list.version() {
            let message = format!(
                "The prefix list has the version {}, not {version}",
                list.version()
            );
            return Err(Ec2Error::new("PrefixListVersionMismatch", message));
        }
    }
    if let Some(max) = parameters.integer("MaxEntries") {
        let invalid = || Ec2Error::value(max, "MaxEntries", "Expecting 1 or more.");
        list.max_entries = usize::try_from(max)
            .ok()
            .filter(|max| *max > 0)
            .ok_or_else(invalid)?;
    }
    if let Some(name) = parameters.text("PrefixListName") {
        name.clone_into(&mut list.prefix_list_name);
    }
    let entries = changed(&list, request)?;
    if entries.len() > list.max_entries {
        let message = format!("The prefix list has room for {} entries", list.max_entries);
        return Err(Ec2Error::new("PrefixListMaxEntriesExceeded", message));
    }
    if changes_entries {
        list.versions.insert(list.version() + 1, entries);
    }
    list.modified = true;
    xml.within("prefixList", |xml| write(xml, state, &list));
    state.prefix_lists.insert(id.to_owned(), list);
    Ok(())
}

/// The entries after a request.
fn changed(list: &PrefixList, request: &Request<'_>) -> Result<Vec<Entry>> {
    let mut entries = list.entries(None).cloned().unwrap_or_default();
    for member in request.parameters.members("RemoveEntry") {
        let cidr = cidr(list, member.require("Cidr")?)?;
        let before = entries.len();
        entries.retain(|entry| entry.cidr != cidr);
        if entries.len() == before {
            return Err(Ec2Error::invalid(format!(
                "The prefix list has no entry {cidr}"
            )));
        }
    }
    for member in request.parameters.members("AddEntry") {
        let cidr = cidr(list, member.require("Cidr")?)?;
        let description = member.text("Description").map(str::to_owned);
        entries.retain(|entry| entry.cidr != cidr);
        entries.push(Entry { cidr, description });
    }
    Ok(entries)
}

fn cidr(list: &PrefixList, text: &str) -> Result<IpNet> {
    let net: Option<IpNet> = text.parse().ok();
    let fits =
        |net: &IpNet| net.trunc() == *net && matches!(net.addr(), IpAddr::V6(_)) == list.ipv6;
    net.filter(fits).ok_or_else(|| {
        Ec2Error::value(text, "Cidr", "Expecting a CIDR block of the list's family.")
    })
}
