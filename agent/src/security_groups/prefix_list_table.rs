//! A `[[prefix_lists]]` table, checked and made a prefix list, and back. Pure.
//!
//! Never looks at another table: that two have one id is `change`'s.

use super::directory::{PrefixList, PrefixListEntry};
use super::file::{PrefixListEntryTable, PrefixListTable};
use super::peer::{self, check_description};
use crate::field_error::{FieldError, FieldNote, check_id};

/// Checks the table at `field`. Errors begin with the list's id.
pub(super) fn check(
    table: &PrefixListTable,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<PrefixList, FieldError> {
    let id = &table.prefix_list_id;
    check_id(id, "pl-", &format!("{field}.prefix_list_id"))?;
    let name_field = format!("{field}.prefix_list_name");
    check_description(Some(&table.prefix_list_name), &name_field)?;
    let entries = entries(table, field, notes).map_err(|error| error.within(id))?;
    Ok(PrefixList {
        prefix_list_id: id.clone(),
        prefix_list_name: table.prefix_list_name.clone(),
        max_entries: table.max_entries,
        entries,
    })
}

fn entries(
    table: &PrefixListTable,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<Vec<PrefixListEntry>, FieldError> {
    let count = table.entries.len();
    if let Some(max) = table.max_entries.filter(|max| count > *max as usize) {
        let problem = format!("{count} entries are more than max_entries, {max}");
        let fix = "raise max_entries, or leave it out";
        return Err(FieldError::new(format!("{field}.entries"), problem, fix));
    }
    let mut entries = std::collections::BTreeMap::new();
    for (index, entry) in table.entries.iter().enumerate() {
        let at = format!("{field}.entries[{index}]");
        let cidr_field = format!("{at}.cidr");
        let cidr = peer::network(&entry.cidr, &cidr_field, notes)?;
        check_description(entry.description.as_deref(), &format!("{at}.description"))?;
        if entries.insert(cidr, entry.description.clone()).is_some() {
            let problem = format!("{cidr} is in the list already");
            return Err(FieldError::new(
                cidr_field,
                problem,
                "remove one of the two",
            ));
        }
    }
    let entry = |(cidr, description)| PrefixListEntry { cidr, description };
    Ok(entries.into_iter().map(entry).collect())
}

impl PrefixListTable {
    /// The table that reads back as `list`.
    pub(super) fn of(list: &PrefixList) -> Self {
        let entry = |entry: &PrefixListEntry| PrefixListEntryTable {
            cidr: entry.cidr.to_string(),
            description: entry.description.clone(),
        };
        Self {
            prefix_list_id: list.prefix_list_id.clone(),
            prefix_list_name: list.prefix_list_name.clone(),
            max_entries: list.max_entries,
            entries: list.entries.iter().map(entry).collect(),
        }
    }
}
