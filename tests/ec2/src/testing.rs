//! A small world without sockets, for unit tests.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use crate::credentials::Caller;
use crate::exchange::Account;
use crate::state::{InstanceType, NetworkInterface, Now};
use crate::world::World;

const CALLER: Caller<'_> = Caller {
    authorization: Some(
        "AWS4-HMAC-SHA256 Credential=AKIA1/20261128/eu-west-1/ec2/aws4_request, SignedHeaders=host, Signature=00",
    ),
    security_token: None,
};

/// An account that tests call, with a clock that they set.
pub(crate) struct Site {
    pub(crate) account: Account,
    pub(crate) now: Now,
    /// 10.0.1.0/28 in zone a, and IPv6.
    pub(crate) subnet: String,
    /// In zone b.
    pub(crate) far_subnet: String,
    /// Of another VPC, in zone a.
    pub(crate) foreign_subnet: String,
    pub(crate) group: String,
    pub(crate) foreign_group: String,
    pub(crate) prefix_list: String,
    /// Of a type with 3 ENIs and 2 branches.
    pub(crate) instance: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        let mut world = World::new("eu-west-1");
        world.state().instance_types.insert(
            "small".to_owned(),
            InstanceType::new("small", 3, 2, Some(2)),
        );
        let vpc = world.vpc("10.0.0.0/16", Some("2001:db8::/56"));
        let subnet = world.subnet(
            &vpc,
            "eu-west-1a",
            Some("10.0.1.0/28"),
            Some("2001:db8:0:1::/64"),
        );
        let far_subnet = world.subnet(&vpc, "eu-west-1b", Some("10.0.2.0/24"), None);
        let foreign = world.vpc("10.9.0.0/16", None);
        let foreign_subnet = world.subnet(&foreign, "eu-west-1a", Some("10.9.1.0/24"), None);
        let group = world.group(&vpc, "web");
        let foreign_group = world.group(&foreign, "foreign");
        let prefix_list = world.prefix_list("list", &["192.0.2.0/24"]);
        let instance = world.instance(&subnet, "small");
        let now = Now::read();
        Self {
            account: Account::new(world.into_state(), now),
            now,
            subnet,
            far_subnet,
            foreign_subnet,
            group,
            foreign_group,
            prefix_list,
            instance,
        }
    }

    /// The body of the answer, or the code of the error; `-` if there is no answer.
    pub(crate) fn call(&mut self, query: &str) -> Result<String, String> {
        let body = format!("Version=2016-11-15&Action={query}");
        let reply = self.account.exchange(body.as_bytes(), CALLER, self.now);
        let answer = reply.answer.ok_or("-")?;
        if answer.status == 200 {
            return Ok(answer.body);
        }
        Err(between(&answer.body, "Code").unwrap())
    }

    /// A call that must succeed.
    pub(crate) fn must(&mut self, query: &str) -> String {
        self.call(query)
            .unwrap_or_else(|code| panic!("{query}: {code}"))
    }

    /// The code that a call is refused with; `fine` if it is not.
    pub(crate) fn code(&mut self, query: &str) -> String {
        self.call(query).err().unwrap_or_else(|| "fine".to_owned())
    }

    /// A new ENI in `subnet`, with more parameters behind a `&`.
    pub(crate) fn create(&mut self, subnet: &str, more: &str) -> String {
        let answer = self.must(&format!("CreateNetworkInterface&SubnetId={subnet}{more}"));
        between(&answer, "networkInterfaceId").unwrap()
    }

    /// A trunk that is attached at device 1.
    pub(crate) fn trunk(&mut self) -> String {
        let trunk = self.create(&self.subnet.clone(), "&InterfaceType=trunk");
        self.attach(&trunk, 1);
        self.later(Duration::from_secs(60));
        trunk
    }

    /// The attachment's id.
    pub(crate) fn attach(&mut self, eni: &str, device: u32) -> String {
        let instance = &self.instance;
        let query = format!(
            "AttachNetworkInterface&NetworkInterfaceId={eni}&InstanceId={instance}&DeviceIndex={device}"
        );
        between(&self.must(&query), "attachmentId").unwrap()
    }

    /// The association's id.
    pub(crate) fn associate(&mut self, branch: &str, trunk: &str, vlan: u32) -> String {
        let query = format!(
            "AssociateTrunkInterface&BranchInterfaceId={branch}&TrunkInterfaceId={trunk}&VlanId={vlan}"
        );
        between(&self.must(&query), "associationId").unwrap()
    }

    pub(crate) fn eni(&self, id: &str) -> &NetworkInterface {
        &self.account.state.network_interfaces[id]
    }

    pub(crate) fn status(&self, id: &str) -> &'static str {
        self.account.state.status(self.eni(id))
    }

    /// Lets time pass.
    pub(crate) fn later(&mut self, by: Duration) {
        self.now.instant += by;
        self.account.advance(self.now);
    }
}

/// The text of the first element `name`.
pub(crate) fn between(body: &str, name: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0.to_owned())
}
