//! CreateTags, and tags in requests and answers of other operations.

use super::{Operation, Request, Run};
use crate::answer::Xml;
use crate::error::{Ec2Error, Result};
use crate::protocol::{Parameter, Parameters, text};
use crate::state::{State, Tags};

const MAX_TAGS: usize = 50;

/// The parameters that tag what an operation creates.
pub(super) const TAG_SPECIFICATION: &[Parameter] = &[
    text("TagSpecification.N.ResourceType"),
    text("TagSpecification.N.Tag.N.Key"),
    text("TagSpecification.N.Tag.N.Value"),
];

pub(super) const CREATE_TAGS: Operation = Operation {
    name: "CreateTags",
    parameters: &[&[
        text("ResourceId.N").required(),
        text("Tag.N.Key").required(),
        text("Tag.N.Value"),
    ]],
    run: Run::Write(create_tags),
};

fn create_tags(state: &mut State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let tags = read(&request.parameters)?;
    let ids = request.parameters.list("ResourceId");
    for id in &ids {
        let mut all = state.tags_mut(id, request.now)?.clone();
        all.extend(tags.clone());
        check_count(&all)?;
    }
    for id in &ids {
        state.tags_mut(id, request.now)?.extend(tags.clone());
    }
    xml.text("return", true);
    Ok(())
}

/// The tags of `Tag.1.Key` and so on.
///
/// # Errors
/// A key is empty, reserved, too long or twice there; a value is too long.
pub(super) fn read(parameters: &Parameters<'_>) -> Result<Tags> {
    let mut tags = Tags::new();
    for tag in parameters.members("Tag") {
        let key = tag.require("Key")?;
        let value = tag.text("Value").unwrap_or_default();
        if key.starts_with("aws:") {
            let message =
                format!("Tag keys starting with 'aws:' are reserved for internal use: {key}");
            return Err(Ec2Error::invalid(message));
        }
        if key.chars().count() > 128 || value.chars().count() > 256 {
            let message =
                format!("Tag {key} exceeds the maximum length of 128 for keys or 256 for values");
            return Err(Ec2Error::invalid(message));
        }
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            let message = format!("Duplicate tag key '{key}' specified.");
            return Err(Ec2Error::invalid(message));
        }
    }
    check_count(&tags)?;
    Ok(tags)
}

/// The tags that a request gives to what it creates, which is a `resource_type`.
///
/// # Errors
/// A specification is of another type, or as [`read`].
pub(super) fn read_specification(parameters: &Parameters<'_>, resource_type: &str) -> Result<Tags> {
    let mut tags = Tags::new();
    for specification in parameters.members("TagSpecification") {
        let of = specification.require("ResourceType")?;
        if of != resource_type {
            let message =
                format!("'{of}' is not a valid taggable resource type for this operation.");
            return Err(Ec2Error::invalid(message));
        }
        if !tags.is_empty() {
            let message = format!("The resource type {of} is specified twice");
            return Err(Ec2Error::invalid(message));
        }
        tags = read(&specification)?;
    }
    Ok(tags)
}

fn check_count(tags: &Tags) -> Result<()> {
    if tags.len() > MAX_TAGS {
        let message =
            format!("The maximum number of tags for a resource ({MAX_TAGS}) has been reached");
        return Err(Ec2Error::new("TagLimitExceeded", message));
    }
    Ok(())
}

/// Writes tags as a `tagSet`.
pub(super) fn write(xml: &mut Xml, tags: &Tags) {
    xml.list("tagSet", tags, |xml, (key, value)| {
        xml.text("key", key).text("value", value);
    });
}
