//! Calls about ENIs, and about branches on their trunks.

use std::collections::HashMap;

use aws_sdk_ec2::types::{
    AttributeBooleanValue, Filter, NetworkInterfaceAttachmentChanges, NetworkInterfaceCreationType,
    ResourceType, Tag, TagSpecification,
};

use crate::call::{Action, Ec2};
use crate::error::Error;
use crate::groups::FILTER_VALUES;
use crate::model::{NetworkInterface, NewInterface, Tags, TrunkAssociation};
use crate::read::Reader;
use crate::restraint::Kind;

const CREATE: Action = action("CreateNetworkInterface", Kind::Interface, true);
const DELETE: Action = action("DeleteNetworkInterface", Kind::Interface, true);
const MODIFY: Action = action("ModifyNetworkInterfaceAttribute", Kind::Interface, true);
const DESCRIBE: Action = action("DescribeNetworkInterfaces", Kind::Describe, true);
// Has no token: a second one fails if the first was carried out.
const ATTACH: Action = action("AttachNetworkInterface", Kind::Change, false);
const DETACH: Action = action("DetachNetworkInterface", Kind::Change, true);
const ASSOCIATE: Action = action("AssociateTrunkInterface", Kind::Change, true);
const DISASSOCIATE: Action = action("DisassociateTrunkInterface", Kind::Change, true);
const DESCRIBE_ASSOCIATIONS: Action =
    action("DescribeTrunkInterfaceAssociations", Kind::Describe, true);
const CREATE_TAGS: Action = action("CreateTags", Kind::Tags, true);

/// ENIs in one page (EC2: 5 to 1,000).
const PAGE: i32 = 1_000;
/// Associations in one page (EC2: 5 to 255).
const ASSOCIATIONS_PAGE: i32 = 255;

pub(crate) const fn action(name: &'static str, kind: Kind, is_idempotent: bool) -> Action {
    Action {
        name,
        kind,
        is_idempotent,
    }
}

/// One condition of a describe: any of the values.
pub(crate) fn filter(name: &str, values: &[impl AsRef<str>]) -> Filter {
    let values = values.iter().map(|value| value.as_ref().to_owned());
    Filter::builder()
        .name(name)
        .set_values(Some(values.collect()))
        .build()
}

/// Tags that an ENI is made with.
pub(crate) fn specification(tags: &Tags) -> TagSpecification {
    let tags = tags.iter().map(|(key, value)| tag(key, value));
    TagSpecification::builder()
        .resource_type(ResourceType::NetworkInterface)
        .set_tags(Some(tags.collect()))
        .build()
}

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

impl Ec2 {
    /// Makes an ENI; a repeat with the same token returns the same one.
    ///
    /// # Errors
    /// EC2's.
    pub async fn create_network_interface(
        &self,
        new: &NewInterface,
    ) -> Result<NetworkInterface, Error> {
        let groups = (!new.groups.is_empty()).then(|| new.groups.clone());
        let request = self
            .sdk
            .create_network_interface()
            .subnet_id(&new.subnet_id)
            .set_groups(groups)
            .description(&new.description)
            .client_token(&new.client_token)
            .tag_specifications(specification(&new.tags))
            .set_interface_type(new.is_trunk.then_some(NetworkInterfaceCreationType::Trunk))
            .set_ipv6_address_count(new.has_ipv6.then_some(1))
            .set_enable_primary_ipv6(new.has_primary_ipv6.then_some(true));
        let answer = self.call(CREATE, || request.clone().send()).await?;
        let reader = Reader(CREATE.name);
        let interface = answer.network_interface();
        reader.interface(interface.ok_or_else(|| reader.wrong("networkInterface"))?)
    }

    /// Whether a branch can be made and put on a trunk without taking a turn from others: what can wait asks first.
    #[must_use]
    pub fn has_spare_turns_for_branches(&self) -> bool {
        self.has_spare_turns(&[CREATE, ASSOCIATE])
    }

    /// Deletes an ENI that is `available`.
    ///
    /// # Errors
    /// EC2's; one that is gone is `InvalidNetworkInterfaceID.NotFound`.
    pub async fn delete_network_interface(&self, id: &str) -> Result<(), Error> {
        let request = self.sdk.delete_network_interface().network_interface_id(id);
        self.call(DELETE, || request.clone().send()).await?;
        Ok(())
    }

    /// Attaches an ENI, and returns the attachment's id. Has no token: after an error that is
    /// [`Class::Lost`](crate::Class::Lost) only a describe tells whether it is attached.
    ///
    /// # Errors
    /// EC2's.
    pub async fn attach_network_interface(
        &self,
        id: &str,
        instance_id: &str,
        device_index: u32,
        network_card_index: u32,
    ) -> Result<String, Error> {
        let reader = Reader(ATTACH.name);
        let index = |number: u32| i32::try_from(number).map_err(|_| reader.wrong("index"));
        let request = self
            .sdk
            .attach_network_interface()
            .network_interface_id(id)
            .instance_id(instance_id)
            .device_index(index(device_index)?)
            .network_card_index(index(network_card_index)?);
        let answer = self.call(ATTACH, || request.clone().send()).await?;
        reader.text("attachmentId", answer.attachment_id())
    }

    /// Detaches an ENI.
    ///
    /// # Errors
    /// EC2's.
    pub async fn detach_network_interface(&self, attachment_id: &str) -> Result<(), Error> {
        let request = self
            .sdk
            .detach_network_interface()
            .attachment_id(attachment_id);
        self.call(DETACH, || request.clone().send()).await?;
        Ok(())
    }

    /// Says whether an attached ENI goes with its instance. EC2's default is no.
    ///
    /// # Errors
    /// EC2's.
    pub async fn set_delete_on_termination(
        &self,
        id: &str,
        attachment_id: &str,
        value: bool,
    ) -> Result<(), Error> {
        let changes = NetworkInterfaceAttachmentChanges::builder()
            .attachment_id(attachment_id)
            .delete_on_termination(value)
            .build();
        let request = self
            .sdk
            .modify_network_interface_attribute()
            .network_interface_id(id)
            .attachment(changes);
        self.call(MODIFY, || request.clone().send()).await?;
        Ok(())
    }

    /// Says whether EC2 drops what is not of or for the ENI's addresses.
    ///
    /// # Errors
    /// EC2's.
    pub async fn set_source_dest_check(&self, id: &str, value: bool) -> Result<(), Error> {
        let request = self
            .sdk
            .modify_network_interface_attribute()
            .network_interface_id(id)
            .source_dest_check(AttributeBooleanValue::builder().value(value).build());
        self.call(MODIFY, || request.clone().send()).await?;
        Ok(())
    }

    /// Gives an ENI other groups, at least one, in place of those it has.
    ///
    /// # Errors
    /// EC2's.
    pub async fn set_groups(&self, id: &str, groups: &[String]) -> Result<(), Error> {
        let request = self
            .sdk
            .modify_network_interface_attribute()
            .network_interface_id(id)
            .set_groups(Some(groups.to_vec()));
        self.call(MODIFY, || request.clone().send()).await?;
        Ok(())
    }

    /// Gives something tags, in place of those with the same keys.
    ///
    /// # Errors
    /// EC2's.
    pub async fn create_tags(&self, id: &str, tags: &Tags) -> Result<(), Error> {
        let tags = tags.iter().map(|(key, value)| tag(key, value)).collect();
        let request = self.sdk.create_tags().resources(id).set_tags(Some(tags));
        self.call(CREATE_TAGS, || request.clone().send()).await?;
        Ok(())
    }

    /// Every ENI that meets all of `filters`, each a name and the values of which one is to match. Never without
    /// a filter: EC2 finds that dear.
    ///
    /// # Errors
    /// EC2's.
    pub async fn describe_network_interfaces(
        &self,
        filters: &[(&str, &[String])],
    ) -> Result<Vec<NetworkInterface>, Error> {
        let owned = filters
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values.to_vec()));
        let shared = &self.shared.interfaces;
        let found = shared
            .ask(owned.collect(), || self.interfaces(filters))
            .await?;
        Ok(found.unwrap_or_default())
    }

    async fn interfaces(
        &self,
        filters: &[(&str, &[String])],
    ) -> Result<Vec<NetworkInterface>, Error> {
        let filters = filters.iter().map(|(name, values)| filter(name, values));
        let request = self
            .sdk
            .describe_network_interfaces()
            .set_filters(Some(filters.collect()))
            .max_results(PAGE);
        self.pages(
            DESCRIBE,
            |token| request.clone().set_next_token(token).send(),
            |answer| {
                let interfaces = answer.network_interfaces().iter();
                interfaces
                    .map(|interface| Reader(DESCRIBE.name).interface(interface))
                    .collect()
            },
            |answer| answer.next_token(),
        )
        .await
    }

    /// One ENI; `None` if EC2 does not know it, or not yet. Many that are asked for at the same time share a call.
    ///
    /// # Errors
    /// EC2's.
    pub async fn describe_network_interface(
        &self,
        id: &str,
    ) -> Result<Option<NetworkInterface>, Error> {
        let by_id = |ids: Vec<String>| async move {
            let mut found = HashMap::new();
            for ids in ids.chunks(FILTER_VALUES) {
                // A filter, not an id: what is not there is no error then.
                let filters: [(&str, &[String]); 1] = [("network-interface-id", ids)];
                let some = self.interfaces(&filters).await?.into_iter();
                found.extend(some.map(|interface| (interface.id.clone(), interface)));
            }
            Ok(found)
        };
        let shared = &self.shared.interfaces_by_id;
        shared.ask(id.to_owned(), by_id).await
    }

    /// Puts a branch that is `available` on a trunk; a repeat with the same token returns the same association.
    ///
    /// # Errors
    /// EC2's.
    pub async fn associate_trunk_interface(
        &self,
        branch_id: &str,
        trunk_id: &str,
        vlan: u16,
        client_token: &str,
    ) -> Result<TrunkAssociation, Error> {
        let request = self
            .sdk
            .associate_trunk_interface()
            .branch_interface_id(branch_id)
            .trunk_interface_id(trunk_id)
            .vlan_id(vlan.into())
            .client_token(client_token);
        let answer = self.call(ASSOCIATE, || request.clone().send()).await?;
        let reader = Reader(ASSOCIATE.name);
        let association = answer.interface_association();
        reader.association(association.ok_or_else(|| reader.wrong("interfaceAssociation"))?)
    }

    /// Takes a branch off its trunk.
    ///
    /// # Errors
    /// EC2's.
    pub async fn disassociate_trunk_interface(
        &self,
        association_id: &str,
        client_token: &str,
    ) -> Result<(), Error> {
        let request = self
            .sdk
            .disassociate_trunk_interface()
            .association_id(association_id)
            .client_token(client_token);
        self.call(DISASSOCIATE, || request.clone().send()).await?;
        Ok(())
    }

    /// The branches of all trunks that the credentials may see; not granted to every principal.
    ///
    /// # Errors
    /// EC2's.
    pub async fn describe_trunk_interface_associations(
        &self,
    ) -> Result<Vec<TrunkAssociation>, Error> {
        let shared = &self.shared.associations;
        let found = shared.ask((), || self.associations()).await?;
        Ok(found.unwrap_or_default())
    }

    async fn associations(&self) -> Result<Vec<TrunkAssociation>, Error> {
        let request = self
            .sdk
            .describe_trunk_interface_associations()
            .filters(filter("interface-protocol", &["VLAN"]))
            .max_results(ASSOCIATIONS_PAGE);
        self.pages(
            DESCRIBE_ASSOCIATIONS,
            |token| request.clone().set_next_token(token).send(),
            |answer| {
                let associations = answer.interface_associations().iter();
                associations
                    .map(|one| Reader(DESCRIBE_ASSOCIATIONS.name).association(one))
                    .collect()
            },
            |answer| answer.next_token(),
        )
        .await
    }
}
