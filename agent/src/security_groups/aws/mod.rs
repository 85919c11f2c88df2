//! What `aws ec2` prints, made into one file for `sg apply`. Pure.
//!
//! Reads `describe-security-groups`, `describe-security-group-rules`, `describe-managed-prefix-lists` (or
//! `describe-prefix-lists`) and `get-managed-prefix-list-entries`, in any number and order. Rules are taken over as
//! they are written: what is wrong with one is found when the file is applied.

mod output;

use std::collections::BTreeMap;

pub use self::output::IpPermission;
use self::output::Output;
use super::file::{PrefixListEntryTable, PrefixListTable, SecurityGroupFile, SecurityGroupTable};
use super::rule_table::SecurityGroupRuleTable;
use crate::field_error::{FieldError, FieldNote, from_json};

/// One command's output.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// The name of its file, for errors, and for whose list entries are that do not say it.
    pub name: &'a str,
    /// The JSON.
    pub text: &'a [u8],
}

/// The file that `documents` make together, and what in them is incomplete.
///
/// The rules of `describe-security-group-rules` stand in place of the permissions of their group: they have ids.
/// `get-managed-prefix-list-entries` does not print whose its entries are. That is said, in this order, by a field
/// `PrefixListId` beside `Entries`, by a `pl-…` in the document's name, or by there being one prefix list only.
///
/// # Errors
/// The document and field that does not fit, contradicts another, or is of nobody.
pub fn import(documents: &[Document<'_>]) -> Result<(SecurityGroupFile, Vec<String>), FieldError> {
    let mut import = Import::default();
    for document in documents {
        import.read(*document)?;
    }
    import.finish()
}

#[derive(Default)]
struct Import {
    groups: BTreeMap<String, SecurityGroupTable>,
    rules: BTreeMap<String, Vec<SecurityGroupRuleTable>>,
    prefix_lists: BTreeMap<String, PrefixListTable>,
    /// With the document and the list that it names, if it does.
    entries: Vec<(String, Option<String>, Vec<PrefixListEntryTable>)>,
    notes: Vec<FieldNote>,
}

impl Import {
    fn read(&mut self, document: Document<'_>) -> Result<(), FieldError> {
        let name = document.name;
        let at = |field: &str| format!("{name}: {field}");
        let output: Output = from_json(document.text).map_err(|error| FieldError {
            field: at(&error.field),
            ..error
        })?;
        let next_page = output.next_token.as_deref().unwrap_or_default();
        if !next_page.is_empty() {
            let note = "this is one page of several; without the others rules are missing";
            self.notes.push(FieldNote::new(at("NextToken"), note));
        }
        if !output.is_known() {
            let fix = "give the JSON that describe-security-groups, describe-security-group-rules, \
                       describe-managed-prefix-lists or get-managed-prefix-list-entries prints";
            let problem = "has none of SecurityGroups, SecurityGroupRules, PrefixLists and Entries";
            return Err(FieldError::new(name, problem, fix));
        }
        for (index, group) in output.security_groups.into_iter().flatten().enumerate() {
            let field = at(&format!("SecurityGroups[{index}]"));
            self.add_group(group.into(), field)?;
        }
        for (index, rule) in output
            .security_group_rules
            .into_iter()
            .flatten()
            .enumerate()
        {
            let field = at(&format!("SecurityGroupRules[{index}]"));
            self.add_rule(rule.group_id.clone(), rule.into(), field)?;
        }
        for list in output.prefix_lists.into_iter().flatten() {
            self.add_prefix_list(list.into());
        }
        if let Some(entries) = output.entries {
            let id = output.prefix_list_id.or_else(|| prefix_list_id_in(name));
            let entries = entries.into_iter().map(Into::into).collect();
            self.entries.push((at("Entries"), id, entries));
        }
        Ok(())
    }

    fn add_group(&mut self, group: SecurityGroupTable, field: String) -> Result<(), FieldError> {
        let earlier = self.groups.insert(group.group_id.clone(), group.clone());
        if earlier.is_some_and(|earlier| earlier != group) {
            let problem = format!("{} was something else before", group.group_id);
            return Err(FieldError::new(
                field,
                problem,
                "give one output of each group",
            ));
        }
        Ok(())
    }

    fn add_rule(
        &mut self,
        group_id: String,
        rule: SecurityGroupRuleTable,
        field: String,
    ) -> Result<(), FieldError> {
        let rules = self.rules.entry(group_id).or_default();
        let id = rule.security_group_rule_id.as_ref();
        let same_id = |earlier: &&SecurityGroupRuleTable| {
            id.is_some() && earlier.security_group_rule_id.as_ref() == id
        };
        match rules.iter().find(same_id) {
            None => rules.push(rule),
            Some(earlier) if *earlier == rule => {}
            Some(_) => {
                let id = rule.security_group_rule_id.unwrap_or_default();
                let problem = format!("{id} was something else before");
                return Err(FieldError::new(
                    field,
                    problem,
                    "give one output of each rule",
                ));
            }
        }
        Ok(())
    }

    /// A list may come twice: described, and with its networks.
    fn add_prefix_list(&mut self, list: PrefixListTable) {
        let id = list.prefix_list_id.clone();
        match self.prefix_lists.get_mut(&id) {
            None => drop(self.prefix_lists.insert(id, list)),
            Some(known) => {
                known.max_entries = known.max_entries.or(list.max_entries);
                if known.prefix_list_name.is_empty() {
                    known.prefix_list_name = list.prefix_list_name;
                }
                add_entries(known, list.entries);
            }
        }
    }

    fn finish(mut self) -> Result<(SecurityGroupFile, Vec<String>), FieldError> {
        self.give_entries()?;
        for list in self.prefix_lists.values() {
            if list.entries.is_empty() {
                let note = "has no entries; give the output of get-managed-prefix-list-entries too";
                self.notes.push(FieldNote::new(&list.prefix_list_id, note));
            }
        }
        self.give_rules();
        let file = SecurityGroupFile {
            security_groups: self.groups.into_values().collect(),
            prefix_lists: self.prefix_lists.into_values().collect(),
        };
        Ok((file, self.notes.iter().map(ToString::to_string).collect()))
    }

    fn give_entries(&mut self) -> Result<(), FieldError> {
        let mut described = self.prefix_lists.keys();
        let only = described
            .next()
            .cloned()
            .filter(|_| described.next().is_none());
        for (field, id, entries) in std::mem::take(&mut self.entries) {
            let Some(id) = id.or_else(|| only.clone()) else {
                let problem = "nothing says of which prefix list these are";
                let fix = "put the list's id into the file's name, as pl-0123456789abcdef0.json";
                return Err(FieldError::new(field, problem, fix));
            };
            let list = self.prefix_lists.entry(id.clone());
            let list = list.or_insert_with(|| PrefixListTable {
                prefix_list_id: id,
                ..PrefixListTable::default()
            });
            add_entries(list, entries);
        }
        Ok(())
    }

    fn give_rules(&mut self) {
        for (id, rules) in std::mem::take(&mut self.rules) {
            let group = self.groups.entry(id.clone()).or_insert_with(|| {
                let name = id.strip_prefix("sg-").unwrap_or(&id).to_owned();
                let note = format!("named {name}; give the output of describe-security-groups too");
                self.notes.push(FieldNote::new(&id, note));
                SecurityGroupTable {
                    group_id: id,
                    group_name: name,
                    ..SecurityGroupTable::default()
                }
            });
            group.ip_permissions = Vec::new();
            group.ip_permissions_egress = None;
            group.security_group_rules = Some(rules);
        }
    }
}

fn add_entries(list: &mut PrefixListTable, entries: Vec<PrefixListEntryTable>) {
    for entry in entries {
        match list
            .entries
            .iter_mut()
            .find(|known| known.cidr == entry.cidr)
        {
            None => list.entries.push(entry),
            Some(known) => known.description = known.description.take().or(entry.description),
        }
    }
}

/// The id in `lists/pl-0123456789abcdef0.json`.
fn prefix_list_id_in(name: &str) -> Option<String> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let word = |text: &&str| text.starts_with("pl-") && text.len() > "pl-".len();
    let is_id = |c: char| c.is_ascii_alphanumeric() || c == '-';
    file.split(|c| !is_id(c)).find(word).map(ToOwned::to_owned)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
