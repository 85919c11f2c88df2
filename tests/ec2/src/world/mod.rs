//! A world to start from: VPCs, groups and instances, made in a line each.
//!
//! Ids count up in the order of the calls, so that the same calls make the same world.

mod groups;
mod routes;

use std::collections::BTreeMap;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::answer::Xml;
use crate::id::Kind;
use crate::operations::{Operation, Request, Run};
use crate::protocol::{self, Parameters};
use crate::state::{
    Attachment, AttachmentStatus, DhcpOptions, Instance, InstanceState, Now, RouteTarget, State,
    Subnet, Tags, Vpc,
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
            more_cidr_blocks: Vec::new(),
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
