//! ModifyNetworkInterfaceAttribute: one attribute a call.

use super::create::{CONNECTION_TRACKING, check_groups, connection_tracking, description};
use super::{Operation, Request, Run};
use crate::answer::Xml;
use crate::error::{Ec2Error, Result};
use crate::id::Kind;
use crate::protocol::{boolean, text};
use crate::state::{NetworkInterface, State};

pub(super) const MODIFY_NETWORK_INTERFACE_ATTRIBUTE: Operation = Operation {
    name: "ModifyNetworkInterfaceAttribute",
    parameters: &[
        &[
            text("NetworkInterfaceId").required(),
            text("Description.Value"),
            boolean("SourceDestCheck.Value"),
            text("SecurityGroupId.N"),
            text("Attachment.AttachmentId"),
            boolean("Attachment.DeleteOnTermination"),
            boolean("EnablePrimaryIpv6"),
        ],
        CONNECTION_TRACKING,
    ],
    run: Run::Write(modify),
};

/// What the parameters of each attribute begin with.
const ATTRIBUTES: [&str; 6] = [
    "Description.",
    "SourceDestCheck.",
    "SecurityGroupId.",
    "Attachment.",
    "EnablePrimaryIpv6",
    "ConnectionTrackingSpecification.",
];

fn modify(state: &mut State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let parameters = &request.parameters;
    let id = parameters.require("NetworkInterfaceId")?;
    let mut eni = state.network_interface(id, request.now)?.clone();
    let given: Vec<&str> = ATTRIBUTES
        .into_iter()
        .filter(|attribute| parameters.any(attribute))
        .collect();
    match given[..] {
        ["Description."] => eni.description = description(parameters.text("Description.Value"))?,
        ["SourceDestCheck."] => {
            eni.source_dest_check = parameters.boolean("SourceDestCheck.Value") == Some(true)
        }
        ["SecurityGroupId."] => {
            eni.group_ids = check_groups(state, &parameters.list("SecurityGroupId"), &eni.vpc_id)?;
        }
        ["Attachment."] => modify_attachment(&mut eni, request)?,
        ["EnablePrimaryIpv6"] => enable_primary_ipv6(&mut eni, request)?,
        ["ConnectionTrackingSpecification."] => {
            eni.connection_tracking = connection_tracking(parameters)?
        }
        [] => return Err(Ec2Error::combination("No attributes specified.")),
        _ => {
            let names = given.join(", ").replace('.', "");
            let message = format!("Fields for multiple attribute types specified: {names}");
            return Err(Ec2Error::combination(message));
        }
    }
    state.network_interfaces.insert(id.to_owned(), eni);
    xml.text("return", true);
    Ok(())
}

fn modify_attachment(eni: &mut NetworkInterface, request: &Request<'_>) -> Result<()> {
    let parameters = &request.parameters;
    let attachment_id = parameters.require("Attachment.AttachmentId")?;
    let delete = parameters.boolean("Attachment.DeleteOnTermination");
    let delete = delete.ok_or_else(|| Ec2Error::missing("Attachment.DeleteOnTermination"))?;
    Kind::Attachment.check(attachment_id)?;
    let found = eni
        .attachment
        .as_mut()
        .filter(|at| at.attachment_id == attachment_id);
    let Some(attachment) = found else {
        return Err(Ec2Error::not_found(Kind::Attachment, attachment_id));
    };
    attachment.delete_on_termination = delete;
    Ok(())
}

fn enable_primary_ipv6(eni: &mut NetworkInterface, request: &Request<'_>) -> Result<()> {
    let enable = request.parameters.boolean("EnablePrimaryIpv6") == Some(true);
    if !enable && eni.primary_ipv6 {
        let message = "A primary IPv6 address cannot be disabled once it is enabled";
        return Err(Ec2Error::new("OperationNotPermitted", message));
    }
    if enable && eni.ipv6_addresses.is_empty() {
        return Err(Ec2Error::combination(
            "EnablePrimaryIpv6 needs an IPv6 address",
        ));
    }
    eni.primary_ipv6 = enable;
    Ok(())
}
