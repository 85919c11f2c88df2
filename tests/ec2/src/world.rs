//! A world to start from: VPCs, groups and instances, made in a line each.
//!
//! Ids count up in the order of the calls, so that the same calls make the same world.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::answer::Xml;
use crate::id::Kind;
use crate::operations::{Operation, Request, Run};
use crate::protocol::{self, Parameters};
use crate::state::{
    Attachment, AttachmentStatus, DhcpOptions, Entry, Instance, InstanceState, Now, PrefixList,
    Route, RouteTable, RouteTarget, SecurityGroup, State, Subnet, Tags, Vpc,
};

/// An account under construction. Its methods panic if they are asked for what cannot be.
#[derive(Debug)]
pub struct World(State);

impl World {
    /// An account without anything in it.
    #[must_use]
    pub fn new(region: &str) -> Self {
        Self(State::new(region))
    }

    /// The account itself, for whatever has no method.
    pub fn state(&mut self) -> &mut State {
        &mut self.0
    }

    pub(crate) fn into_state(mut self) -> State {
        self.0.events.clear();
        self.0
    }

    /// A VPC with its default group, its main route table and DHCP options with AmazonProvidedDNS.
    pub fn vpc(&mut self, cidr_block: &str, ipv6_cidr_block: Option<&str>) -> String {
        let state = &mut self.0;
        let vpc_id = state.ids.next(Kind::Vpc);
        let association_ids = [(); 2].map(|()| state.ids.next(Kind::CidrAssociation));
        let cidr_block: Ipv4Net = parse(cidr_block);
        let ipv6_cidr_block: Option<Ipv6Net> = ipv6_cidr_block.map(parse);
        let vpc = Vpc {
            vpc_id: vpc_id.clone(),
            cidr_block,
            ipv6_cidr_block,
            dhcp_options_id: String::new(),
            enable_dns_support: true,
            enable_dns_hostnames: true,
            default_group_id: String::new(),
            association_ids,
            tags: Tags::new(),
        };
        state.vpcs.insert(vpc_id.clone(), vpc);
        let domain = format!("{}.compute.internal", self.0.region);
        let options = [
            ("domain-name", &[domain.as_str()][..]),
            ("domain-name-servers", &["AmazonProvidedDNS"]),
        ];
        self.dhcp_options(&vpc_id, &options);
        let group = self.group(&vpc_id, "default");
        self.vpc_mut(&vpc_id).default_group_id.clone_from(&group);
        self.ingress(&group, "-1", None, &group);
        let table = self.add_route_table(&vpc_id, true, &[]);
        self.route(&table, &cidr_block.to_string(), RouteTarget::Local);
        if let Some(ipv6) = ipv6_cidr_block {
            self.route(&table, &ipv6.to_string(), RouteTarget::Local);
        }
        vpc_id
    }

    /// A VPC, to change it.
    pub fn vpc_mut(&mut self, vpc_id: &str) -> &mut Vpc {
        self.0.vpcs.get_mut(vpc_id).expect("a VPC of this world")
    }

    /// DHCP options, which a VPC has from now on.
    pub fn dhcp_options(&mut self, vpc_id: &str, configurations: &[(&str, &[&str])]) -> String {
        let id = self.0.ids.next(Kind::DhcpOptions);
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let configurations = configurations
            .iter()
            .map(|(key, values)| ((*key).to_owned(), owned(values)));
        let options = DhcpOptions {
            dhcp_options_id: id.clone(),
            configurations: configurations.collect(),
            tags: Tags::new(),
        };
        self.0.dhcp_options.insert(id.clone(), options);
        self.vpc_mut(vpc_id).dhcp_options_id.clone_from(&id);
        id
    }

    /// A subnet; of IPv6 only if `cidr_block` is `None`.
    pub fn subnet(
        &mut self,
        vpc_id: &str,
        availability_zone: &str,
        cidr_block: Option<&str>,
        ipv6_cidr_block: Option<&str>,
    ) -> String {
        let subnet_id = self.0.ids.next(Kind::Subnet);
        let subnet = Subnet {
            subnet_id: subnet_id.clone(),
            vpc_id: self.vpc_mut(vpc_id).vpc_id.clone(),
            availability_zone: availability_zone.to_owned(),
            cidr_block: cidr_block.map(parse),
            ipv6_cidr_block: ipv6_cidr_block.map(parse),
            assign_ipv6_address_on_creation: false,
            association_id: self.0.ids.next(Kind::CidrAssociation),
            tags: Tags::new(),
        };
        self.0.subnets.insert(subnet_id.clone(), subnet);
        subnet_id
    }

    /// A group that lets everything out, as a new one does.
    pub fn group(&mut self, vpc_id: &str, group_name: &str) -> String {
        let group_id = self.0.ids.next(Kind::SecurityGroup);
        let has_ipv6 = self.vpc_mut(vpc_id).ipv6_cidr_block.is_some();
        let group = SecurityGroup {
            group_id: group_id.clone(),
            group_name: group_name.to_owned(),
            description: format!("{group_name} of the stand-in"),
            vpc_id: vpc_id.to_owned(),
            tags: Tags::new(),
        };
        self.0.security_groups.insert(group_id.clone(), group);
        self.egress(&group_id, "-1", None, "0.0.0.0/0");
        if has_ipv6 {
            self.egress(&group_id, "-1", None, "::/0");
        }
        group_id
    }

    /// An inbound rule; `peer` is a network, a group or a prefix list. The id of the rule.
    pub fn ingress(
        &mut self,
        group_id: &str,
        protocol: &str,
        ports: Option<(u16, u16)>,
        peer: &str,
    ) -> String {
        self.authorize(
            "AuthorizeSecurityGroupIngress",
            group_id,
            protocol,
            ports,
            peer,
        )
    }

    /// An outbound rule, as [`World::ingress`].
    pub fn egress(
        &mut self,
        group_id: &str,
        protocol: &str,
        ports: Option<(u16, u16)>,
        peer: &str,
    ) -> String {
        self.authorize(
            "AuthorizeSecurityGroupEgress",
            group_id,
            protocol,
            ports,
            peer,
        )
    }

    fn authorize(
        &mut self,
        operation: &str,
        group_id: &str,
        protocol: &str,
        ports: Option<(u16, u16)>,
        peer: &str,
    ) -> String {
        let name = match peer {
            group if group.starts_with("sg-") => "Groups.1.GroupId",
            list if list.starts_with("pl-") => "PrefixListIds.1.PrefixListId",
            ipv6 if ipv6.contains(':') => "Ipv6Ranges.1.CidrIpv6",
            _ => "IpRanges.1.CidrIp",
        };
        let mut values = vec![
            ("GroupId".to_owned(), group_id.to_owned()),
            ("IpPermissions.1.IpProtocol".to_owned(), protocol.to_owned()),
            (format!("IpPermissions.1.{name}"), peer.to_owned()),
        ];
        for (name, port) in ports
            .iter()
            .flat_map(|(from, to)| [("FromPort", from), ("ToPort", to)])
        {
            values.push((format!("IpPermissions.1.{name}"), port.to_string()));
        }
        self.call(operation, values);
        last(&self.0.security_group_rules)
    }

    /// A prefix list of one family in its version 1, with room for 20 entries.
    pub fn prefix_list(&mut self, name: &str, cidrs: &[&str]) -> String {
        let id = self.0.ids.next(Kind::PrefixList);
        let entry = |cidr: &&str| Entry {
            cidr: parse::<IpNet>(cidr),
            description: None,
        };
        let list = PrefixList {
            prefix_list_id: id.clone(),
            prefix_list_name: name.to_owned(),
            ipv6: cidrs.iter().any(|cidr| cidr.contains(':')),
            max_entries: 20,
            versions: BTreeMap::from([(1, cidrs.iter().map(entry).collect())]),
            modified: false,
            tags: Tags::new(),
        };
        self.0.prefix_lists.insert(id.clone(), list);
        id
    }

    /// A route table of some subnets, with no route but the VPC's own.
    pub fn route_table(&mut self, vpc_id: &str, subnet_ids: &[&str]) -> String {
        let own: Vec<Route> = self.main_route_table(vpc_id).routes.clone();
        let table = self.add_route_table(vpc_id, false, subnet_ids);
        let local = own
            .into_iter()
            .filter(|route| route.target == RouteTarget::Local);
        self.route_table_mut(&table).routes = local.collect();
        table
    }

    /// The route table of all subnets that no other has.
    pub fn main_route_table(&mut self, vpc_id: &str) -> &mut RouteTable {
        let mut all = self.0.route_tables.values_mut();
        all.find(|table| table.main && table.vpc_id == vpc_id)
            .expect("a VPC of this world")
    }

    fn route_table_mut(&mut self, id: &str) -> &mut RouteTable {
        self.0
            .route_tables
            .get_mut(id)
            .expect("a route table of this world")
    }

    fn add_route_table(&mut self, vpc_id: &str, main: bool, subnet_ids: &[&str]) -> String {
        let ids = &mut self.0.ids;
        let id = ids.next(Kind::RouteTable);
        let main_association_id = ids.next(Kind::RouteTableAssociation);
        let associate =
            |subnet: &&str| ((*subnet).to_owned(), ids.next(Kind::RouteTableAssociation));
        let table = RouteTable {
            route_table_id: id.clone(),
            vpc_id: vpc_id.to_owned(),
            main,
            main_association_id,
            subnets: subnet_ids.iter().map(associate).collect(),
            routes: Vec::new(),
            tags: Tags::new(),
        };
        self.0.route_tables.insert(id.clone(), table);
        id
    }

    /// A route.
    pub fn route(&mut self, route_table_id: &str, destination: &str, target: RouteTarget) {
        let destination = parse(destination);
        self.route_table_mut(route_table_id).routes.push(Route {
            destination,
            target,
        });
    }

    /// A NAT gateway, as far as a route names one.
    pub fn nat_gateway(&mut self) -> RouteTarget {
        RouteTarget::NatGateway(self.0.ids.next(Kind::NatGateway))
    }

    /// An egress-only internet gateway, as far as a route names one.
    pub fn egress_only_internet_gateway(&mut self) -> RouteTarget {
        RouteTarget::EgressOnlyInternetGateway(self.0.ids.next(Kind::EgressOnlyInternetGateway))
    }

    /// A running instance with its primary ENI in `subnet_id`.
    pub fn instance(&mut self, subnet_id: &str, instance_type: &str) -> String {
        let now = Now::read();
        assert!(
            self.0.instance_types.contains_key(instance_type),
            "no type {instance_type}"
        );
        let subnet = self
            .0
            .subnets
            .get(subnet_id)
            .expect("a subnet of this world")
            .clone();
        let instance_id = self.0.ids.next(Kind::Instance);
        let instance = Instance {
            instance_id: instance_id.clone(),
            instance_type: instance_type.to_owned(),
            subnet_id: subnet.subnet_id,
            vpc_id: subnet.vpc_id,
            availability_zone: subnet.availability_zone,
            state: InstanceState::Running,
            launch_time: now.timestamp,
            tags: Tags::new(),
            reservation_id: self.0.ids.next(Kind::Reservation),
        };
        self.0.instances.insert(instance_id.clone(), instance);
        let eni = self.network_interface(subnet_id);
        let attachment = Attachment {
            attachment_id: self.0.ids.next(Kind::Attachment),
            instance_id: instance_id.clone(),
            device_index: 0,
            network_card_index: 0,
            status: AttachmentStatus::Attached,
            delete_on_termination: true,
            attach_time: now.timestamp,
            created: now.instant,
            due: None,
        };
        let eni = self
            .0
            .network_interfaces
            .get_mut(&eni)
            .expect("the ENI just made");
        eni.attachment = Some(attachment);
        instance_id
    }

    /// An ENI of nobody, in the VPC's default group.
    pub fn network_interface(&mut self, subnet_id: &str) -> String {
        self.call(
            "CreateNetworkInterface",
            vec![("SubnetId".to_owned(), subnet_id.to_owned())],
        );
        last(&self.0.network_interfaces)
    }

    /// Does what a call of the API would.
    fn call(&mut self, name: &str, values: Vec<(String, String)>) {
        let values = values.into_iter().collect();
        let operation = Operation::named(name).expect("an operation");
        let checked = protocol::check(&values, &operation.shape());
        let request = Request {
            parameters: Parameters::new(&values),
            now: Now::read(),
            page_size: usize::MAX,
        };
        let result = match operation.run {
            Run::Write(run) => {
                checked.and_then(|()| run(&mut self.0, &request, &mut Xml::default()))
            }
            Run::Read(_) => checked,
        };
        if let Err(error) = result {
            panic!("{name} {values:?}: {error}");
        }
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> T {
    let parsed = text.parse();
    parsed.unwrap_or_else(|_| panic!("{text} is no network"))
}

/// The last id, which is the newest: they count up and have one length.
fn last<T>(all: &BTreeMap<String, T>) -> String {
    all.keys().next_back().cloned().expect("what was just made")
}
