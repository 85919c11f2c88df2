//! `[capacity]`: the instance type whose limits the host keeps to.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ProviderKind;
use crate::capacity::Bound;
use crate::capacity::instance_limits::{self, LimitsError};
use crate::field_error::FieldError;

/// `[capacity]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapacityConfig {
    /// As `c5.large`; without it no instance type bounds the number of tasks.
    pub instance_type: Option<String>,
    /// A table of the types' limits (CSV); a relative path starts at the configuration file's folder.
    pub eni_limits: Option<PathBuf>,
    /// ECS's list of tasks with trunking (CSV); of both tables the smaller number counts.
    pub ecs_trunking_limits: Option<PathBuf>,
}

impl CapacityConfig {
    /// What the instance type takes on its trunk; `known` is the type where the configuration names none.
    ///
    /// # Errors
    /// A table cannot be used, does not know the type, or says that it has no trunk.
    pub fn bound(&self, known: Option<&str>) -> Result<Option<Bound>, LimitsError> {
        let instance_type = self.instance_type.as_deref().or(known);
        let (Some(instance_type), Some(table)) = (instance_type, &self.eni_limits) else {
            return Ok(None);
        };
        let ecs = self.ecs_trunking_limits.as_deref();
        let limits = instance_limits::load(instance_type, table, ecs)?;
        let no_trunk = || LimitsError::NoTrunk(instance_type.to_owned());
        let most = limits.branch_tasks.ok_or_else(no_trunk)?;
        Ok(Some(Bound {
            resource: "branches".to_owned(),
            most,
            source: format!("instance type {instance_type}"),
            counts_foreign: true,
        }))
    }

    /// Network interfaces of the instance type, the primary one among them; `known` as in [`CapacityConfig::bound`].
    ///
    /// # Errors
    /// The table cannot be used, or does not know the type.
    pub fn interfaces(&self, known: Option<&str>) -> Result<Option<Bound>, LimitsError> {
        let instance_type = self.instance_type.as_deref().or(known);
        let (Some(instance_type), Some(table)) = (instance_type, &self.eni_limits) else {
            return Ok(None);
        };
        let limits = instance_limits::load(instance_type, table, None)?;
        Ok(Some(Bound {
            resource: "network-interfaces".to_owned(),
            most: limits.max_enis,
            source: format!("capacity.eni_limits of {instance_type}"),
            counts_foreign: true,
        }))
    }

    pub(super) fn start_at(&mut self, folder: &Path) {
        for path in [&mut self.eni_limits, &mut self.ecs_trunking_limits]
            .into_iter()
            .flatten()
        {
            *path = folder.join(&*path);
        }
    }

    /// On EC2 the instance says its type itself.
    pub(super) fn check(&self, provider: ProviderKind) -> Result<(), FieldError> {
        match (
            &self.instance_type,
            &self.eni_limits,
            &self.ecs_trunking_limits,
        ) {
            (Some(_), None, _) => Err(FieldError::new(
                "capacity.eni_limits",
                "is missing, while capacity.instance_type is set",
                "name a CSV file with the columns instance_type, max_enis, trunking_compatible, branch_enis",
            )),
            (None, Some(_), _) if provider == ProviderKind::Ec2 => Ok(()),
            (None, Some(_), _) | (None, None, Some(_)) => Err(FieldError::new(
                "capacity.instance_type",
                "is missing, while there is a table of limits",
                "write the type, as c5.large, or remove the table",
            )),
            _ => Ok(()),
        }
    }
}
