//! AssociateTrunkInterface, DisassociateTrunkInterface and what describes both.

use super::attach::instance_type;
use super::{Describe, Operation, Request, Run, one};
use crate::answer::Xml;
use crate::error::{Ec2Error, Result};
use crate::filter::FILTERS;
use crate::id::Kind;
use crate::paging::{self, PAGES};
use crate::protocol::{integer, text};
use crate::state::{
    AttachmentStatus, Event, InterfaceType, NetworkInterface, State, Tagged, Tags,
    TrunkAssociation, find,
};

pub(super) const ASSOCIATE_TRUNK_INTERFACE: Operation = Operation {
    name: "AssociateTrunkInterface",
    parameters: &[&[
        text("BranchInterfaceId").required(),
        text("TrunkInterfaceId").required(),
        integer("VlanId"),
        integer("GreKey"),
        text("ClientToken"),
    ]],
    run: Run::Write(associate),
};

pub(super) const DISASSOCIATE_TRUNK_INTERFACE: Operation = Operation {
    name: "DisassociateTrunkInterface",
    parameters: &[&[text("AssociationId").required(), text("ClientToken")]],
    run: Run::Write(disassociate),
};

pub(super) const DESCRIBE_TRUNK_INTERFACE_ASSOCIATIONS: Operation = Operation {
    name: "DescribeTrunkInterfaceAssociations",
    parameters: &[&[text("AssociationId.N")], FILTERS, PAGES],
    run: Run::Read(describe),
};

/// VLAN ids that a frame can have (IEEE 802.1Q: 0 is none, 4095 reserved).
const VLANS: std::ops::RangeInclusive<i64> = 1..=4094;

fn associate(state: &mut State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let parameters = &request.parameters;
    let operation = ASSOCIATE_TRUNK_INTERFACE.name;
    if let Some(answer) = state.tokens.replay(operation, parameters)? {
        *xml = answer;
        return Ok(());
    }
    let vlan_id = vlan_id(request)?;
    let branch = state.network_interface(parameters.require("BranchInterfaceId")?, request.now)?;
    let trunk = state.network_interface(parameters.require("TrunkInterfaceId")?, request.now)?;
    check(state, branch, trunk, vlan_id)?;
    let association = TrunkAssociation {
        association_id: String::new(),
        branch_interface_id: branch.network_interface_id.clone(),
        trunk_interface_id: trunk.network_interface_id.clone(),
        vlan_id,
        created: request.now.instant,
    };
    let event = Event::Associated {
        branch_interface_id: association.branch_interface_id.clone(),
        branch_mac_address: branch.mac_address.clone(),
        trunk_interface_id: association.trunk_interface_id.clone(),
        vlan_id,
    };
    let association_id = state.ids.next(Kind::TrunkAssociation);
    let association = TrunkAssociation {
        association_id: association_id.clone(),
        ..association
    };
    xml.within("interfaceAssociation", |xml| write(xml, &association));
    xml.optional("clientToken", parameters.text("ClientToken"));
    state.trunk_associations.insert(association_id, association);
    state.events.push(event);
    state.tokens.note(operation, parameters, xml);
    Ok(())
}

fn vlan_id(request: &Request<'_>) -> Result<i64> {
    let vlan_id = request.parameters.integer("VlanId");
    if request.parameters.any("GreKey") {
        return Err(match vlan_id {
            Some(_) => Ec2Error::combination("VlanId and GreKey cannot be used together"),
            None => Ec2Error::new(
                "UnsupportedOperation",
                "Only VLAN associations are made here",
            ),
        });
    }
    let vlan_id = vlan_id.ok_or_else(|| Ec2Error::missing("VlanId"))?;
    if !VLANS.contains(&vlan_id) {
        return Err(Ec2Error::value(vlan_id, "VlanId", "Expecting 1 to 4094."));
    }
    Ok(vlan_id)
}

fn check(
    state: &State,
    branch: &NetworkInterface,
    trunk: &NetworkInterface,
    vlan_id: i64,
) -> Result<()> {
    let (branch_id, trunk_id) = (&branch.network_interface_id, &trunk.network_interface_id);
    if trunk.interface_type != InterfaceType::Trunk {
        return Err(Ec2Error::invalid(format!(
            "Network interface '{trunk_id}' is not a trunk interface"
        )));
    }
    if branch.interface_type == InterfaceType::Trunk {
        return Err(Ec2Error::invalid(format!(
            "Network interface '{branch_id}' is a trunk interface"
        )));
    }
    let attached = trunk
        .attachment
        .as_ref()
        .filter(|at| at.status == AttachmentStatus::Attached);
    let Some(attachment) = attached else {
        let message = format!("Trunk interface '{trunk_id}' is not attached to an instance");
        return Err(Ec2Error::new("IncorrectState", message));
    };
    if state.status(branch) != "available" {
        let message = format!("Interface: [{branch_id}] in use.");
        return Err(Ec2Error::new("InvalidNetworkInterface.InUse", message));
    }
    if branch.vpc_id != trunk.vpc_id || branch.availability_zone != trunk.availability_zone {
        let message = "A branch and its trunk must be in the same VPC and availability zone";
        return Err(Ec2Error::combination(message));
    }
    if state
        .branches_of(trunk_id)
        .any(|other| other.vlan_id == vlan_id)
    {
        let message = format!("VlanId '{vlan_id}' is in use");
        return Err(Ec2Error::new("InvalidVlanId.Duplicate", message));
    }
    let instance = find(&state.instances, Kind::Instance, &attachment.instance_id)?;
    let of = instance_type(state, instance)?;
    let limit = of.branches.unwrap_or_default();
    if state.branches_of(trunk_id).count() >= limit {
        let message = format!(
            "The limit of {limit} branch interfaces for {} has been reached",
            of.name
        );
        return Err(Ec2Error::new("AttachmentLimitExceeded", message));
    }
    Ok(())
}

fn disassociate(state: &mut State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let parameters = &request.parameters;
    let operation = DISASSOCIATE_TRUNK_INTERFACE.name;
    if let Some(answer) = state.tokens.replay(operation, parameters)? {
        *xml = answer;
        return Ok(());
    }
    let id = parameters.require("AssociationId")?;
    let found = find(&state.trunk_associations, Kind::TrunkAssociation, id)?;
    if state.is_fresh(found.created, request.now) {
        return Err(Ec2Error::not_found(Kind::TrunkAssociation, id));
    }
    state.disassociate(id);
    xml.text("return", true);
    xml.optional("clientToken", parameters.text("ClientToken"));
    state.tokens.note(operation, parameters, xml);
    Ok(())
}

/// An association has no tags here.
impl Tagged for TrunkAssociation {
    fn tags(&self) -> &Tags {
        static NONE: Tags = Tags::new();
        &NONE
    }
}

fn describe(state: &State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let describe = Describe {
        all: &state.trunk_associations,
        kind: Kind::TrunkAssociation,
        ids: "AssociationId",
        fields: &[
            ("gre-key", |_, _| Vec::new()),
            ("interface-protocol", |_, _| one("VLAN")),
        ],
        limits: 5..=255,
    };
    let found = describe.select(state, request)?;
    paging::write(xml, "interfaceAssociationSet", found, |xml, association| {
        write(xml, association)
    });
    Ok(())
}

fn write(xml: &mut Xml, association: &TrunkAssociation) {
    xml.text("associationId", &association.association_id)
        .text("branchInterfaceId", &association.branch_interface_id)
        .text("trunkInterfaceId", &association.trunk_interface_id)
        .text("interfaceProtocol", "VLAN")
        .text("vlanId", association.vlan_id)
        .list("tagSet", [(); 0], |_, ()| {});
}
