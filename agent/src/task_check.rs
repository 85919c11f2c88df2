//! A running task's network compared with what it should be: first all is read, then the comparison is a function of
//! what was read. Mends nothing.
//!
//! What a task has beyond its own, such as more addresses or routes, is no difference: only what is missing or changed.
//! Its files are looked at apart: a container may change its own, and no network is given up for that.

use crate::{
    api::{Difference, NetworkPart},
    datapath::{BRANCH_BLOCK, DatapathError, program},
    eni_link::{self, EniLinkError},
    eni_settings::EniSettings,
    fabric::FabricError,
    link::{LOOPBACK, Link, Mac},
    neighbour::Neighbour,
    netlink::{Netlink, NetlinkError},
    plug::Wanted,
    route::{Address, Route},
    task::{self, Host},
    task_files::TaskFiles,
    task_network::TaskNetwork,
    task_record::TaskRecord,
    tc::FilterAt,
};

/// Why a task's network could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum TaskCheckError {
    /// The kernel did not tell.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A map could not be read.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The ENI's own link could not be looked at.
    #[error("look at the link of the task's ENI")]
    EniLink(#[from] EniLinkError),
    /// The services could not be looked at.
    #[error(transparent)]
    Services(#[from] FabricError),
}

/// What there is of a task's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The host's end of its veth.
    pub host_link: Option<Link>,
    /// The block that it has joined.
    pub block: Option<u32>,
    /// The name of the program in the block of all branches.
    pub program: Option<String>,
    /// The link of its ENI, if there is one; of an ENI on the trunk none is looked for.
    pub eni_link: Option<eni_link::Found>,
    /// Whether the maps have its ENI as it should be.
    pub is_plugged: bool,
    /// Its namespace, if it is there.
    pub inside: Option<Inside>,
    /// What the services lack for their answers to reach it.
    pub services_lack: Vec<String>,
}

/// What there is in a task's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// Whether `lo` is up.
    pub is_loopback_up: bool,
    /// The link of the task's name.
    pub link: Option<Link>,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// All unicast routes of the main table.
    pub routes: Vec<Route>,
    /// Those of the wanted permanent neighbours' addresses that are permanent.
    pub neighbours: Vec<Neighbour>,
}

/// Which of `task`'s files are missing or different; empty if none is.
#[must_use]
pub fn check_files(task: &TaskRecord) -> Vec<Difference> {
    let mut list = List::default();
    for (path, found) in task.files.different(&TaskFiles::of(&task.dns, &task.eni)) {
        let what = format!("file {}", path.display());
        list.add(
            NetworkPart::Files,
            what,
            "as it was written".to_owned(),
            found,
        );
    }
    list.0
}

/// What of `task`'s network is missing or different; empty if nothing is.
///
/// # Errors
/// It could not be looked at. What is missing is no error.
pub fn check(host: &Host, task: &TaskRecord) -> Result<Vec<Difference>, TaskCheckError> {
    let wanted = task::network(host, task);
    let found = read(host, task, &wanted)?;
    Ok(differences(task, &wanted, &found))
}

/// Reads what there is of a task's network.
fn read(host: &Host, task: &TaskRecord, wanted: &TaskNetwork) -> Result<Found, TaskCheckError> {
    let host_link = host.netlink.link_named(&task.host_link)?;
    let index = host_link.as_ref().map(|link| link.index);
    let block = match index {
        Some(index) => host.netlink.ingress_block(index)?,
        None => None,
    };
    let program = host.netlink.filter(FilterAt::Block(BRANCH_BLOCK))?;
    let attributes = task.spec.network_interface_attributes();
    let settings = EniSettings::resolve(&host.conntrack, attributes);
    let is_plugged = match index {
        Some(branch_ifindex) => host.plugs().is_plugged(
            &host.datapath,
            Wanted {
                eni: &task.eni,
                settings: &settings,
                has_dns: task.dns.has_resolver,
                branch_ifindex,
            },
        )?,
        None => false,
    };
    let eni_link = match task.eni.device {
        Some(_) => eni_link::look(host, &task.eni)?,
        None => None,
    };
    let inside = match Netlink::open_at(&task.netns, host.netlink.netns()) {
        Ok(inside) => Some(look_inside(&inside, wanted)?),
        Err(NetlinkError::Netns(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Found {
        host_link,
        block,
        program: program.map(|filter| filter.name),
        eni_link,
        is_plugged,
        inside,
        services_lack: host.services.lacks(&task.eni)?,
    })
}

fn look_inside(netlink: &Netlink, wanted: &TaskNetwork) -> Result<Inside, NetlinkError> {
    let link = netlink.link_named(&wanted.link)?;
    let mut neighbours = Vec::new();
    if let Some(link) = &link {
        // One by one: for a list the kernel walks those of all namespaces (`neigh_dump_table` of net/core/neighbour.c).
        for Neighbour { link, address, .. } in wanted.on_link(link.index).neighbours {
            neighbours.extend(netlink.permanent_neighbour(link, address)?);
        }
    }
    Ok(Inside {
        is_loopback_up: netlink.link_at(LOOPBACK)?.is_some_and(|lo| lo.up),
        link,
        addresses: netlink.addresses()?,
        routes: netlink.routes()?,
        neighbours,
    })
}

/// Compares what was found with `wanted`, what `task` should have.
#[must_use]
pub fn differences(task: &TaskRecord, wanted: &TaskNetwork, found: &Found) -> Vec<Difference> {
    let mut list = List::default();
    if task.eni.device.is_some() {
        compare_eni_link(&mut list, task, wanted.mtu, found.eni_link.as_ref());
    }
    compare_host(&mut list, task, found);
    match &found.inside {
        Some(inside) => compare_inside(&mut list, wanted, inside, found.host_link.as_ref()),
        None => list.missing(
            NetworkPart::Namespace,
            format!("network namespace {}", task.netns.display()),
        ),
    }
    for what in &found.services_lack {
        list.missing(
            NetworkPart::Services,
            format!("{what} of the host's services"),
        );
    }
    list.0
}

fn compare_eni_link(list: &mut List, task: &TaskRecord, mtu: u32, found: Option<&eni_link::Found>) {
    let part = NetworkPart::EniLink;
    match found {
        Some(found) => {
            for (what, expected, is) in found.differences(mtu) {
                list.add(part, what, expected, is);
            }
        }
        None => list.missing(
            part,
            format!("link of {} ({})", task.eni.eni_id, task.eni.mac),
        ),
    }
}

fn compare_host(list: &mut List, task: &TaskRecord, found: &Found) {
    let name = &task.host_link;
    let Some(link) = &found.host_link else {
        list.missing(NetworkPart::HostLink, format!("host link {name}"));
        return;
    };
    list.same(
        NetworkPart::HostLink,
        format!("host link {name} kind"),
        "veth",
        link.kind.as_deref().unwrap_or("none"),
    );
    list.same(
        NetworkPart::HostLink,
        format!("host link {name}"),
        "up",
        up(link),
    );
    let block = found
        .block
        .map_or("none".to_owned(), |block| block.to_string());
    list.same(
        NetworkPart::Program,
        format!("TC block of host link {name}"),
        &BRANCH_BLOCK.to_string(),
        &block,
    );
    let attached = found.program.as_deref().unwrap_or("none");
    list.same(
        NetworkPart::Program,
        "program of the branches".to_owned(),
        program::BRANCH_EGRESS,
        attached,
    );
    if !found.is_plugged {
        let what = format!("{} in the data plane", task.eni.eni_id);
        list.add(
            NetworkPart::DataPlane,
            what,
            "its entries".to_owned(),
            "others, or none".to_owned(),
        );
    }
}

fn compare_inside(list: &mut List, wanted: &TaskNetwork, inside: &Inside, host: Option<&Link>) {
    let name = &wanted.link;
    if !inside.is_loopback_up {
        list.add(
            NetworkPart::Loopback,
            "lo".to_owned(),
            "up".to_owned(),
            "down".to_owned(),
        );
    }
    let Some(link) = &inside.link else {
        list.missing(NetworkPart::Link, format!("link {name}"));
        return;
    };
    if let Some(host) = host
        && (link.peer_index != Some(host.index) || host.peer_index != Some(link.index))
    {
        let expected = format!("the other end of {}", host.name);
        list.add(
            NetworkPart::Link,
            format!("link {name}"),
            expected,
            "another link".to_owned(),
        );
    }
    list.same(NetworkPart::Link, format!("link {name}"), "up", up(link));
    let mac = link
        .mac
        .map_or("none".to_owned(), |mac: Mac| mac.to_string());
    list.same(
        NetworkPart::MacAddress,
        format!("MAC address of {name}"),
        &wanted.mac.to_string(),
        &mac,
    );
    list.same(
        NetworkPart::Mtu,
        format!("MTU of {name}"),
        &wanted.mtu.to_string(),
        &link.mtu.to_string(),
    );
    let there = wanted.on_link(link.index);
    for Address { link, address, .. } in there.addresses {
        let is_it = |found: &Address| (found.link, found.address) == (link, address);
        if !inside.addresses.iter().any(is_it) {
            list.missing(NetworkPart::Address, format!("address {address} of {name}"));
        }
    }
    for route in there.routes {
        let ends = |route: &Route| (route.destination, route.gateway, route.link);
        if !inside
            .routes
            .iter()
            .any(|found| ends(found) == ends(&route))
        {
            let gateway = route.gateway.map(|router| format!(" via {router}"));
            let (to, via) = (route.destination, gateway.unwrap_or_default());
            list.missing(NetworkPart::Route, format!("route {to}{via} over {name}"));
        }
    }
    for neighbour in there.neighbours {
        if !inside.neighbours.contains(&neighbour) {
            let Neighbour { address, mac, .. } = neighbour;
            let what = format!("permanent neighbour {address} at {mac} on {name}");
            list.missing(NetworkPart::Neighbour, what);
        }
    }
}

fn up(link: &Link) -> &'static str {
    if link.up { "up" } else { "down" }
}

#[derive(Default)]
struct List(Vec<Difference>);

impl List {
    fn same(&mut self, part: NetworkPart, what: String, expected: &str, found: &str) {
        if expected != found {
            self.add(part, what, expected.to_owned(), found.to_owned());
        }
    }

    fn missing(&mut self, part: NetworkPart, what: String) {
        self.add(part, what, "to be there".to_owned(), "none".to_owned());
    }

    fn add(&mut self, part: NetworkPart, what: String, expected: String, found: String) {
        self.0.push(Difference {
            part,
            what,
            expected,
            found,
        });
    }
}

#[cfg(test)]
#[path = "task_check_tests.rs"]
mod tests;
