//! What a flow log shows: its fields, in order, and the keys of the tags among them.
//!
//! Pure. Reads what AWS writes, `${version} ${account-id}`, and plain names with blanks or commas
//! between them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::field::Field;

/// Lowest version that a row can claim.
const LOWEST_VERSION: u8 = 2;
/// Tag keys of one resource type.
const MAX_TAG_KEYS: usize = 2;

/// What a log shows of each record. At least one field, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    fields: Vec<Field>,
    tags: Vec<TagFieldSpecification>,
    version: u8,
}

/// Keys of the tags that a log shows of one type of resource, as EC2's `TagFieldSpecifications`
/// has them: the first is in the field `instance-tag`, the second in `instance-tag-2`, and so on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TagFieldSpecification {
    /// Whose tags.
    pub resource_type: ResourceType,
    /// One or two keys.
    pub tag_keys: Vec<String>,
}

/// What has tags that a row can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceType {
    /// The instance that the ENI is attached to.
    Instance,
    /// The ENI.
    NetworkInterface,
    /// The instance's Auto Scaling group.
    AutoScalingGroup,
}

/// Why a list of fields is no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// No field at all.
    #[error("the format names no field; write at least one, such as ${{version}} ${{srcaddr}}")]
    Empty,
    /// A name that no field has.
    #[error("{name:?} is no flow-log field; {}", .nearest.map_or_else(
        || "write names as VPC Flow Logs have them, such as srcaddr".to_owned(),
        |nearest| format!("did you mean {nearest}?"),
    ))]
    Unknown {
        /// What was written.
        name: String,
        /// The name most like it.
        nearest: Option<&'static str>,
    },
    /// A field twice.
    #[error("{0} is there twice; leave one out")]
    Duplicate(&'static str),
    /// A tag whose key is not said.
    #[error(
        "{field} shows no tag: tag_field_specifications has fewer than {needed} tag_keys of resource_type {resource_type}; add the key or leave the field out"
    )]
    NoTagKey {
        /// The field.
        field: &'static str,
        /// Whose tag.
        resource_type: ResourceType,
        /// Keys that there must be at least.
        needed: usize,
    },
    /// Not one or two keys of a type, or an empty one.
    #[error(
        "tag_field_specifications has {found} tag_keys of resource_type {resource_type}; write one or two, none of them empty"
    )]
    TagKeys {
        /// Whose tags.
        resource_type: ResourceType,
        /// Keys that are not empty.
        found: usize,
    },
    /// A type of resource twice.
    #[error("tag_field_specifications has resource_type {0} twice; write its keys into one")]
    DuplicateResourceType(ResourceType),
}

impl Format {
    /// Reads a list of fields, with the keys of the tags among them.
    ///
    /// # Errors
    /// The first thing wrong, and what to write instead.
    pub fn parse(text: &str, tags: &[TagFieldSpecification]) -> Result<Self, FormatError> {
        check_tags(tags)?;
        let mut fields = Vec::new();
        let is_between = |c: char| c.is_whitespace() || c == ',';
        for word in text.split(is_between).filter(|word| !word.is_empty()) {
            let field = field(word)?;
            if fields.contains(&field) {
                return Err(FormatError::Duplicate(field.name()));
            }
            fields.push(field);
        }
        if fields.is_empty() {
            return Err(FormatError::Empty);
        }
        let format = Self::of(fields, tags.to_vec());
        format.check_tag_fields()?;
        Ok(format)
    }

    fn of(fields: Vec<Field>, tags: Vec<TagFieldSpecification>) -> Self {
        let versions = fields.iter().filter_map(|field| field.version());
        Self {
            version: versions.fold(LOWEST_VERSION, u8::max),
            fields,
            tags,
        }
    }

    /// The fields, in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The highest version of its fields, which the field `version` shows; 2 at least.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The key of the first (0) or second (1) tag of a type of resource.
    #[must_use]
    pub fn tag_key(&self, resource_type: ResourceType, index: usize) -> Option<&str> {
        let of_type = |tags: &&TagFieldSpecification| tags.resource_type == resource_type;
        let tags = self.tags.iter().find(of_type)?;
        tags.tag_keys.get(index).map(String::as_str)
    }

    /// Whether it shows what VPC Flow Logs do not tell records apart by: if not, records of one
    /// [`standard`](crate::flows::FlowTuple::standard) tuple are one row.
    #[must_use]
    pub fn tells_rules_apart(&self) -> bool {
        let own = [Field::BlRuleId, Field::BlGroupId, Field::BlDropReason];
        own.iter().any(|field| self.fields.contains(field))
    }

    /// Whether it shows anything of the next hop.
    #[must_use]
    pub fn tells_next_hops(&self) -> bool {
        let hop = [
            Field::NextHopInterfaceId,
            Field::NextHopSubnetId,
            Field::NextHopAzId,
            Field::NextHopVpcId,
        ];
        hop.iter().any(|field| self.fields.contains(field))
    }

    /// Whether it shows the AWS service of an address.
    #[must_use]
    pub fn tells_services(&self) -> bool {
        let services = [Field::PktSrcAwsService, Field::PktDstAwsService];
        services.iter().any(|field| self.fields.contains(field))
    }

    fn check_tag_fields(&self) -> Result<(), FormatError> {
        for field in &self.fields {
            if let Some((resource_type, index)) = tag_of(*field)
                && self.tag_key(resource_type, index).is_none()
            {
                return Err(FormatError::NoTagKey {
                    field: field.name(),
                    resource_type,
                    needed: index + 1,
                });
            }
        }
        Ok(())
    }
}

impl Default for Format {
    /// Version 2, as a log without a format of its own has it.
    fn default() -> Self {
        Self::of(Field::defaults().to_vec(), Vec::new())
    }
}

/// As AWS writes it: `${version} ${account-id}`.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, field) in self.fields.iter().enumerate() {
            let between = if index == 0 { "" } else { " " };
            write!(f, "{between}${{{}}}", field.name())?;
        }
        Ok(())
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instance => "instance",
            Self::NetworkInterface => "network-interface",
            Self::AutoScalingGroup => "auto-scaling-group",
        })
    }
}

/// Whose tag a field shows, and which: the first (0) or the second (1).
pub(super) fn tag_of(field: Field) -> Option<(ResourceType, usize)> {
    [
        (Field::InstanceTag, ResourceType::Instance, 0),
        (Field::InstanceTag2, ResourceType::Instance, 1),
        (Field::InterfaceTag, ResourceType::NetworkInterface, 0),
        (Field::InterfaceTag2, ResourceType::NetworkInterface, 1),
        (Field::AsgTag, ResourceType::AutoScalingGroup, 0),
        (Field::AsgTag2, ResourceType::AutoScalingGroup, 1),
    ]
    .into_iter()
    .find(|(tag, ..)| *tag == field)
    .map(|(_, resource_type, index)| (resource_type, index))
}

/// The field of a word: a name, or a name in `${}`.
fn field(word: &str) -> Result<Field, FormatError> {
    let inner = word
        .strip_prefix("${")
        .and_then(|word| word.strip_suffix('}'));
    let name = inner.unwrap_or(word);
    Field::of_name(name).ok_or_else(|| FormatError::Unknown {
        name: name.to_owned(),
        nearest: Field::nearest_name(name),
    })
}

fn check_tags(tags: &[TagFieldSpecification]) -> Result<(), FormatError> {
    for (index, specification) in tags.iter().enumerate() {
        let TagFieldSpecification {
            resource_type,
            tag_keys,
        } = specification;
        let found = tag_keys.iter().filter(|key| !key.is_empty()).count();
        if found != tag_keys.len() || !(1..=MAX_TAG_KEYS).contains(&found) {
            return Err(FormatError::TagKeys {
                resource_type: *resource_type,
                found,
            });
        }
        let is_same = |other: &TagFieldSpecification| other.resource_type == *resource_type;
        if tags.iter().take(index).any(is_same) {
            return Err(FormatError::DuplicateResourceType(*resource_type));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
