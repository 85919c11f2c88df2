//! What an EC2 instance type takes, by tables that the operator supplies as CSV with a header line.
//!
//! No EC2 call returns the limits of branches, and branchline ships no copy of AWS's tables.

use std::path::{Path, PathBuf};

use crate::field_error::FieldError;

/// The limits of one instance type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceLimits {
    /// ENIs of the instance, the primary one among them.
    pub max_enis: u64,
    /// Tasks with an ENI each on a trunk; `None` if the type has no trunk.
    pub branch_tasks: Option<u64>,
}

/// Why the limits of an instance type are not known.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// A table could not be read.
    #[error("read {field} {}", path.display())]
    Read {
        /// The configuration's field.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The type cannot carry branches.
    #[error(
        "instance type {0} has no trunk, by capacity.eni_limits; use a type that has one (trunking_compatible)"
    )]
    NoTrunk(String),
    /// A table, or the type, cannot be used.
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// Reads the limits of `instance_type` from `eni_limits` (columns `instance_type`, `max_enis`,
/// `trunking_compatible`, `branch_enis`) and, if it is there and knows the type, from ECS's list (columns
/// `instance_type`, `ecs_tasks_with_trunking`): of both the smaller (`spec/awsvpc.md` section 9).
///
/// # Errors
/// `Read`; `Field` names the table's line and column, or the type that is not in it.
pub fn load(
    instance_type: &str,
    eni_limits: &Path,
    ecs_limits: Option<&Path>,
) -> Result<InstanceLimits, LimitsError> {
    let text = read("capacity.eni_limits", eni_limits)?;
    let mut limits = of_type(&text, "capacity.eni_limits", instance_type)?;
    if let Some(path) = ecs_limits {
        let field = "capacity.ecs_trunking_limits";
        let text = read(field, path)?;
        let row = row(&text, field, instance_type)?;
        let tasks = match &row {
            Some(row) => number(row, field, "ecs_tasks_with_trunking")?,
            None => None,
        };
        limits.branch_tasks = match (limits.branch_tasks, tasks) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (known, _) => known,
        };
    }
    Ok(limits)
}

fn read(field: &'static str, path: &Path) -> Result<String, LimitsError> {
    std::fs::read_to_string(path).map_err(|source| LimitsError::Read {
        field,
        path: path.to_owned(),
        source,
    })
}

fn of_type(text: &str, field: &str, instance_type: &str) -> Result<InstanceLimits, FieldError> {
    let Some(row) = row(text, field, instance_type)? else {
        return Err(FieldError::new(
            "capacity.instance_type",
            format!("{instance_type:?} is not in {field}"),
            "write a type as c5.large, or add it to the table",
        ));
    };
    let max_enis = number(&row, field, "max_enis")?;
    let max_enis = max_enis.ok_or_else(|| missing(field, "max_enis"))?;
    let has_trunk = value(&row, field, "trunking_compatible")? == "true";
    let branches = number(&row, field, "branch_enis")?;
    Ok(InstanceLimits {
        max_enis,
        branch_tasks: branches.filter(|_| has_trunk),
    })
}

/// The columns of one line, by name.
type Row<'a> = Vec<(&'a str, &'a str)>;

fn row<'a>(text: &'a str, field: &str, name: &str) -> Result<Option<Row<'a>>, FieldError> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    for (index, line) in lines.enumerate() {
        let values: Vec<&str> = line.split(',').collect();
        if values.len() != header.len() {
            let problem = format!(
                "line {} has {} columns, the first line {}",
                index + 2,
                values.len(),
                header.len()
            );
            return Err(FieldError::new(field, problem, "mend the table"));
        }
        let row: Row<'_> = header.iter().copied().zip(values).collect();
        if value(&row, field, "instance_type")? == name {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

fn value<'a>(row: &Row<'a>, field: &str, column: &str) -> Result<&'a str, FieldError> {
    let found = row.iter().find(|(name, _)| name.trim() == column);
    found
        .map(|(_, value)| value.trim())
        .ok_or_else(|| missing(field, column))
}

fn number(row: &Row<'_>, field: &str, column: &str) -> Result<Option<u64>, FieldError> {
    let text = value(row, field, column)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let problem = format!("{column} is {text:?}");
        FieldError::new(field, problem, "write a number, or nothing")
    })
}

fn missing(field: &str, column: &str) -> FieldError {
    let problem = format!("has no column {column}");
    FieldError::new(field, problem, "name the columns in the first line")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::test_dir::TestDir;

    const ENI: &str = "instance_type,max_enis,ipv4_per_eni,ipv6_per_eni,trunking_compatible,branch_enis,hypervisor,bare_metal
c5.large,3,10,10,true,9,nitro,false
t3.large,3,12,12,false,,nitro,false
x9.odd,three,10,10,true,9,nitro,false
";
    const ECS: &str = "instance_type,ecs_tasks_without_trunking,ecs_tasks_with_trunking
c5.large,2,10
";

    fn loaded(instance_type: &str, eni: &str, ecs: Option<&str>) -> Result<InstanceLimits, String> {
        let dir = TestDir::new();
        let (eni_path, ecs_path) = (dir.path().join("eni.csv"), dir.path().join("ecs.csv"));
        std::fs::write(&eni_path, eni).unwrap();
        std::fs::write(&ecs_path, ecs.unwrap_or_default()).unwrap();
        let ecs_path = ecs.map(|_| ecs_path.as_path());
        load(instance_type, &eni_path, ecs_path).map_err(|error| error.to_string())
    }

    #[test]
    fn of_two_tables_the_smaller_number_counts() {
        let limits = |branch_tasks| InstanceLimits {
            max_enis: 3,
            branch_tasks,
        };
        assert_eq!(loaded("c5.large", ENI, Some(ECS)), Ok(limits(Some(9))));
        let fewer = ECS.replace(",2,10", ",2,4");
        assert_eq!(loaded("c5.large", ENI, Some(&fewer)), Ok(limits(Some(4))));
        assert_eq!(loaded("c5.large", ENI, None), Ok(limits(Some(9))));
        assert_eq!(loaded("t3.large", ENI, Some(ECS)), Ok(limits(None)));
    }

    #[test]
    fn what_a_table_lacks_is_named() {
        let rows = [
            (
                "m9.none",
                ENI,
                "capacity.instance_type: \"m9.none\" is not in capacity.eni_limits",
            ),
            (
                "x9.odd",
                ENI,
                "capacity.eni_limits: max_enis is \"three\"; write a number",
            ),
            (
                "a",
                "instance_type\na\n",
                "capacity.eni_limits: has no column max_enis",
            ),
            (
                "a",
                "instance_type,max_enis\na\n",
                "capacity.eni_limits: line 2 has 1 columns",
            ),
            ("a", "", "is not in capacity.eni_limits"),
        ];
        for (instance_type, table, expected) in rows {
            let error = loaded(instance_type, table, None).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let error = load("a", Path::new("/no/such/file"), None).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("read capacity.eni_limits /no/such/file")
        );
    }
}
