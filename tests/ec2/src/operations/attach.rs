//! AttachNetworkInterface and DetachNetworkInterface.

use super::{Operation, Request, Run};
use crate::answer::Xml;
use crate::error::{Ec2Error, Result};
use crate::id::Kind;
use crate::protocol::{boolean, integer, text};
use crate::state::{
    Attachment, AttachmentStatus, Event, Instance, InstanceState, InstanceType, InterfaceType,
    NetworkInterface, State, find,
};

pub(super) const ATTACH_NETWORK_INTERFACE: Operation = Operation {
    name: "AttachNetworkInterface",
    parameters: &[&[
        text("NetworkInterfaceId").required(),
        text("InstanceId").required(),
        integer("DeviceIndex").required(),
        integer("NetworkCardIndex"),
    ]],
    run: Run::Write(attach),
};

pub(super) const DETACH_NETWORK_INTERFACE: Operation = Operation {
    name: "DetachNetworkInterface",
    parameters: &[&[text("AttachmentId").required(), boolean("Force")]],
    run: Run::Write(detach),
};

fn attach(state: &mut State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let parameters = &request.parameters;
    let id = parameters.require("NetworkInterfaceId")?;
    let eni = state.network_interface(id, request.now)?;
    let instance_id = parameters.require("InstanceId")?;
    let instance = find(&state.instances, Kind::Instance, instance_id)?;
    if state.status(eni) != "available" {
        let message = format!("Interface: [{id}] in use.");
        return Err(Ec2Error::new("InvalidNetworkInterface.InUse", message));
    }
    check_place(eni, instance)?;
    let device_index = parameters.integer("DeviceIndex").unwrap_or_default();
    let card = parameters.integer("NetworkCardIndex").unwrap_or_default();
    check_device(state, eni, instance, device_index, card)?;
    let instance_id = instance.instance_id.clone();
    let attachment_id = state.ids.next(Kind::Attachment);
    let due = request.now.instant + state.settings.attach_delay;
    let eni = state.network_interface_mut(id, request.now)?;
    eni.attachment = Some(Attachment {
        attachment_id: attachment_id.clone(),
        instance_id,
        device_index,
        network_card_index: card,
        status: AttachmentStatus::Attaching,
        delete_on_termination: false,
        attach_time: request.now.timestamp,
        created: request.now.instant,
        due: Some(due),
    });
    xml.text("attachmentId", attachment_id)
        .text("networkCardIndex", card);
    Ok(())
}

fn check_place(eni: &NetworkInterface, instance: &Instance) -> Result<()> {
    if !matches!(
        instance.state,
        InstanceState::Running | InstanceState::Stopped
    ) {
        let (_, name) = instance.state.shown();
        let message = format!("Instance '{}' is {name}.", instance.instance_id);
        return Err(Ec2Error::new("IncorrectState", message));
    }
    if eni.availability_zone != instance.availability_zone {
        let message = "You may not attach a network interface to an instance if they are not in the same \
                       availability zone";
        return Err(Ec2Error::combination(message));
    }
    if eni.vpc_id != instance.vpc_id {
        let message =
            "You may not attach a network interface to an instance if they are not in the same VPC";
        return Err(Ec2Error::combination(message));
    }
    Ok(())
}

fn check_device(
    state: &State,
    eni: &NetworkInterface,
    instance: &Instance,
    device_index: i64,
    card: i64,
) -> Result<()> {
    let of = instance_type(state, instance)?;
    let card_limit = usize::try_from(card)
        .ok()
        .and_then(|card| of.network_cards.get(card));
    let Some(card_limit) = card_limit else {
        let why = format!(
            "{} has {} network card(s).",
            of.name,
            of.network_cards.len()
        );
        return Err(Ec2Error::value(card, "NetworkCardIndex", &why));
    };
    if device_index < 0 {
        return Err(Ec2Error::value(
            device_index,
            "DeviceIndex",
            "Expecting 0 or more.",
        ));
    }
    let attached = state.attached_to(&instance.instance_id);
    let on_card: Vec<_> = attached
        .iter()
        .filter(|(_, other)| other.network_card_index == card)
        .collect();
    if on_card
        .iter()
        .any(|(_, other)| other.device_index == device_index)
    {
        let message = format!(
            "Instance '{}' already has an interface attached at device index '{device_index}'.",
            instance.instance_id
        );
        return Err(Ec2Error::invalid(message));
    }
    let count = i64::try_from(on_card.len()).unwrap_or(i64::MAX) + 1;
    if count > *card_limit {
        let message = format!("Interface count {count} exceeds the limit for {}", of.name);
        return Err(Ec2Error::new("AttachmentLimitExceeded", message));
    }
    let addresses = eni.private_ip_addresses.len().max(eni.ipv6_addresses.len());
    if addresses > of.addresses_per_interface {
        let message = format!(
            "Number of private addresses ({addresses}) exceeds the limit for {}",
            of.name
        );
        return Err(Ec2Error::new("PrivateIpAddressLimitExceeded", message));
    }
    let trunk = |eni: &NetworkInterface| eni.interface_type == InterfaceType::Trunk;
    if trunk(eni) && of.branches.is_none() {
        let message = format!(
            "Instance type {} does not support trunk interfaces",
            of.name
        );
        return Err(Ec2Error::invalid(message));
    }
    if trunk(eni) && attached.iter().any(|(other, _)| trunk(other)) {
        let message = format!(
            "Instance '{}' has a trunk interface already",
            instance.instance_id
        );
        return Err(Ec2Error::new("AttachmentLimitExceeded", message));
    }
    Ok(())
}

/// The type of an instance.
pub(super) fn instance_type<'a>(state: &'a State, instance: &Instance) -> Result<&'a InstanceType> {
    let name = &instance.instance_type;
    state.instance_types.get(name).ok_or_else(|| {
        let message = format!("The instance type {name} is unknown");
        Ec2Error::new("InvalidInstanceType", message)
    })
}

fn detach(state: &mut State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let attachment_id = request.parameters.require("AttachmentId")?;
    Kind::Attachment.check(attachment_id)?;
    let is_it = |at: &Attachment| {
        at.attachment_id == attachment_id && !state.is_fresh(at.created, request.now)
    };
    let mut all = state.network_interfaces.values();
    let found = all.find(|eni| eni.attachment.as_ref().is_some_and(is_it));
    let Some((eni, attachment)) = found.and_then(|eni| Some((eni, eni.attachment.as_ref()?)))
    else {
        return Err(Ec2Error::not_found(Kind::Attachment, attachment_id));
    };
    let force = request.parameters.boolean("Force") == Some(true);
    let id = eni.network_interface_id.clone();
    check_detachable(state, &id, attachment, force)?;
    let event = Event::Detaching {
        network_interface_id: id.clone(),
        mac_address: eni.mac_address.clone(),
        instance_id: attachment.instance_id.clone(),
    };
    let due = request.now.instant + state.settings.detach_delay;
    if let Some(attachment) = state
        .network_interfaces
        .get_mut(&id)
        .and_then(|eni| eni.attachment.as_mut())
    {
        attachment.status = AttachmentStatus::Detaching;
        attachment.due = Some(due);
    }
    state.events.push(event);
    xml.text("return", true);
    Ok(())
}

fn check_detachable(state: &State, id: &str, attachment: &Attachment, force: bool) -> Result<()> {
    let attachment_id = &attachment.attachment_id;
    if attachment.device_index == 0 && attachment.network_card_index == 0 {
        let message = "The network interface at device index 0 cannot be detached.";
        return Err(Ec2Error::new("OperationNotPermitted", message));
    }
    let wrong = match attachment.status {
        AttachmentStatus::Attached => false,
        AttachmentStatus::Attaching => !force,
        AttachmentStatus::Detaching => true,
    };
    if wrong {
        let message = format!(
            "Attachment '{attachment_id}' is {}",
            attachment.status.name()
        );
        return Err(Ec2Error::new("IncorrectState", message));
    }
    let branches = state.branches_of(id).count();
    if branches > 0 {
        let message =
            format!("Network interface '{id}' has {branches} associated branch interface(s)");
        return Err(Ec2Error::new("DependencyViolation", message));
    }
    Ok(())
}
