//! What the rule numbers mean that connections and rows hold: a redb file of its own.
//!
//! Many policies have the same rules, so these are in a table of their own. The file belongs where a
//! reboot empties it, as it does the maps that hold the numbers: there a change of policies costs no
//! fsync of a disk.

use std::path::Path;

use redb::{ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StateError;
use super::file::{StateFile, from_json, json};

/// Name of the file.
const FILE: &str = "rules.redb";

/// A policy's generation to what is known of it, as JSON.
const RULE_PAGES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("rule_pages");
/// A number that pages name to rules, as JSON.
const RULES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("rules");

/// Entries by number.
type Entries<T> = Vec<(u32, T)>;

/// The open store of rules; one process at a time has it.
#[derive(Debug)]
pub struct RuleStore {
    file: StateFile,
}

impl RuleStore {
    /// Opens the store in `folder`, making folder and file if they are missing.
    ///
    /// # Errors
    /// As [`Store::open`](super::Store::open).
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let file = StateFile::open(folder, FILE, 0, |write| {
            write.open_table(RULE_PAGES)?;
            write.open_table(RULES)?;
            Ok(())
        })?;
        Ok(Self { file })
    }

    /// All pages and all rules.
    ///
    /// # Errors
    /// `Damaged` if an entry cannot be read.
    pub fn rule_pages<P: DeserializeOwned, R: DeserializeOwned>(
        &self,
    ) -> Result<(Entries<P>, Entries<R>), StateError> {
        Ok((
            self.numbered(RULE_PAGES, "rule_pages")?,
            self.numbered(RULES, "rules")?,
        ))
    }

    /// Stores pages and rules, replacing those of the same numbers, in one transaction.
    ///
    /// # Errors
    /// `Database` if none of them may be there.
    pub fn put_rule_pages<P: Serialize, R: Serialize>(
        &self,
        pages: &[(u32, P)],
        rules: &[(u32, R)],
    ) -> Result<(), StateError> {
        self.file.write(
            || format!("store the rules of {} policies", pages.len()),
            |write| {
                let mut table = write.open_table(RULE_PAGES)?;
                for (generation, page) in pages {
                    table.insert(generation, json(page).as_slice())?;
                }
                let mut table = write.open_table(RULES)?;
                for (number, rules) in rules {
                    table.insert(number, json(rules).as_slice())?;
                }
                Ok(())
            },
        )
    }

    /// Forgets pages and rules in one transaction; one that is not there is success.
    ///
    /// # Errors
    /// `Database` if they may still be there.
    pub fn forget_rule_pages(&self, pages: &[u32], rules: &[u32]) -> Result<(), StateError> {
        self.file.write(
            || format!("forget the rules of {} policies in the store", pages.len()),
            |write| {
                let mut table = write.open_table(RULE_PAGES)?;
                for generation in pages {
                    table.remove(generation)?;
                }
                let mut table = write.open_table(RULES)?;
                for number in rules {
                    table.remove(number)?;
                }
                Ok(())
            },
        )
    }

    fn numbered<T: DeserializeOwned>(
        &self,
        table: TableDefinition<'_, u32, &[u8]>,
        name: &'static str,
    ) -> Result<Entries<T>, StateError> {
        let entries = self.file.read(
            || format!("read the {name} from the store"),
            |read| {
                let mut entries = Vec::new();
                for row in read.open_table(table)?.iter()? {
                    let (number, value) = row?;
                    entries.push((number.value(), value.value().to_owned()));
                }
                Ok(entries)
            },
        )?;
        let entry = |(number, bytes): (u32, Vec<u8>)| {
            Ok((number, from_json(name, &number.to_string(), &bytes)?))
        };
        entries.into_iter().map(entry).collect()
    }
}
