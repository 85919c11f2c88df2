//! Gives a task's network back what somebody took from it, by the steps that made it.
//!
//! The namespace is never made anew: the task's processes are in the one that was there.

use crate::{
    datapath::{self, BRANCH_BLOCK, DatapathError, program},
    eni_link::{self, EniLinkError},
    link::{Link, Mac},
    netlink::{Netlink, NetlinkError},
    netns::Netns,
    task::{self, Host, SetUpError},
    task_network::Found,
    task_record::TaskRecord,
    tc::FilterAt,
};

/// Mends a task's network as far as it differs from what it should be; returns the host's end.
///
/// # Errors
/// Names the step that failed, `Netns` if the namespace has gone. What was mended stays.
pub fn mend(host: &Host, task: &TaskRecord) -> Result<Link, SetUpError> {
    let netns = Netns::open(&task.netns).map_err(|source| SetUpError::Netns {
        path: task.netns.clone(),
        source,
    })?;
    let inside = Netlink::open(&netns)?;
    mend_eni_link(host, task)?;
    rename_back(host, task, &inside)?;
    let (link, _) = task::connect(host, task, &inside)?;
    task::quiet(host, &link)?;
    let far = task::configure(host, task, &inside, Found::Unknown)?;
    task::plug(host, task, link.index)?;
    if !host.services.lacks(&task.eni)?.is_empty() {
        host.services.bring_up(&host.netlink)?;
        task::join_services(host, task)?;
    }
    attach(host, link.index)?;
    host.netlink.set_up(link.index, true)?;
    task::carrier(task, &inside, far)?;
    Ok(link)
}

/// The link of the task's ENI as it should be. One that has gone only EC2 can bring back.
fn mend_eni_link(host: &Host, task: &TaskRecord) -> Result<(), SetUpError> {
    let eni = &task.eni;
    let failed = |source| SetUpError::EniLink {
        eni_id: eni.eni_id.clone(),
        source,
    };
    let links = host.netlink.links()?;
    if eni_link::take_up(host, eni, &links).map_err(failed)? {
        return Ok(());
    }
    let mac = Mac(eni.mac.0);
    Err(failed(EniLinkError::Gone { mac }))
}

/// Gives the two ends their names. A host's end whose other end is nowhere to be found is of no use
/// and goes.
fn rename_back(host: &Host, task: &TaskRecord, inside: &Netlink) -> Result<(), SetUpError> {
    let near = match host.netlink.link_named(&task.host_link)? {
        Some(link) => link,
        None => match renamed_host_link(host, task)? {
            Some(link) => {
                rename(&host.netlink, &link, &task.host_link)?;
                link
            }
            None => return Ok(()),
        },
    };
    let name = task.spec.link_name.as_str();
    let is_other_end =
        |link: &Link| near.peer_index == Some(link.index) && link.peer_index == Some(near.index);
    let named = inside.link_named(name)?;
    if named.as_ref().is_some_and(is_other_end) {
        return Ok(());
    }
    match inside.links()?.iter().find(|link| is_other_end(link)) {
        Some(link) => rename(inside, link, name)?,
        None => drop(host.netlink.delete_link(near.index)?),
    }
    Ok(())
}

/// The host's end by what the maps say.
fn renamed_host_link(host: &Host, task: &TaskRecord) -> Result<Option<Link>, SetUpError> {
    let index = {
        let plugs = host.plugs();
        let slot = plugs.slot(&task.eni.eni_id);
        let datapath = datapath::lock(&host.datapath);
        slot.map(|slot| datapath.eni(slot)).transpose()?
    };
    let Some(eni) = index else { return Ok(None) };
    let link = host.netlink.link_at(eni.branch_ifindex)?;
    Ok(link.filter(|link| link.kind.as_deref() == Some("veth")))
}

/// Before Linux 6.2 only a link that is down can be renamed.
fn rename(netlink: &Netlink, link: &Link, name: &str) -> Result<(), NetlinkError> {
    tracing::warn!(link = link.name, name, "renamed back");
    if link.up {
        netlink.set_up(link.index, false)?;
    }
    netlink.rename(link.index, name)?;
    if link.up {
        netlink.set_up(link.index, true)?;
    }
    Ok(())
}

/// The branch joins the block with this build's program in it, whatever else is there.
fn attach(host: &Host, link: u32) -> Result<(), DatapathError> {
    let (maps, netlink) = (&host.datapath, &host.netlink);
    match datapath::attach_branch(maps, netlink, link) {
        Err(DatapathError::Netlink(NetlinkError::Conflict { .. })) => {
            netlink.delete_ingress_qdisc(link)?;
            datapath::attach_branch(maps, netlink, link)?;
        }
        other => other?,
    }
    let found = netlink.filter(FilterAt::Block(BRANCH_BLOCK))?;
    if found.is_none_or(|found| found.name != program::BRANCH_EGRESS) {
        datapath::replace_branches(maps, netlink)?;
    }
    Ok(())
}
