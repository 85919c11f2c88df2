//! Route tables and where their routes lead.

use super::{World, parse};
use crate::id::Kind;
use crate::state::{Route, RouteTable, RouteTarget, Tags};

impl World {
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

    pub(super) fn add_route_table(
        &mut self,
        vpc_id: &str,
        main: bool,
        subnet_ids: &[&str],
    ) -> String {
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
}
