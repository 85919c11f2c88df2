//! Groups with rules, and prefix lists.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{World, last, parse};
use crate::id::Kind;
use crate::state::{Entry, PrefixList, SecurityGroup, Tags};

impl World {
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
}
