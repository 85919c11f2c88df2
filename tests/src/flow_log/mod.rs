//! Golden files of flow logs: packets and the lines they make, published lines, names of files.
//!
//! Each kind of file is one module, which reads it, runs it through the agent's pure code and says
//! where that comes out otherwise.

pub mod case;

pub mod replay;

pub mod published;

pub mod path_case;

pub mod random_rows;

use std::fmt;

use anyhow::{Result, bail};
use serde_json::Value;

/// The version of the golden format.
const FORMAT: u64 = 1;

/// Where a case came out otherwise than its file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The case's id.
    pub case: String,
    /// What was expected and what came.
    pub text: String,
}

/// What a file's cases came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Cases that were run.
    pub cases: usize,
    /// Every mismatch, by case.
    pub mismatches: Vec<Mismatch>,
}

impl Mismatch {
    /// Of the case `case`.
    pub fn new(case: &str, text: impl Into<String>) -> Self {
        Self {
            case: case.to_owned(),
            text: text.into(),
        }
    }
}

/// As `two-directions: missing: 2 123456789012 ...`.
impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.text)
    }
}

/// Runs a file of packets and lines, or of published lines.
///
/// # Errors
/// The file is neither, or not as its format says.
pub fn run_flow_logs(text: &str) -> Result<Outcome> {
    let file = document(text)?;
    if file.get("samples").is_some() {
        published::run(&file)
    } else if file.get("cases").is_some() {
        replay::run(&file)
    } else {
        bail!("there is neither `cases` nor `samples`");
    }
}

/// Runs a file of record ends and the paths that they lead to.
///
/// # Errors
/// The file is not as its format says.
pub fn run_paths(text: &str) -> Result<Outcome> {
    path_case::run(&document(text)?)
}

pub(crate) fn document(text: &str) -> Result<Value> {
    let file: Value = serde_json::from_str(text)?;
    if file.get("format").and_then(Value::as_u64) != Some(FORMAT) {
        bail!("format is {:?}, not {FORMAT}", file.get("format"));
    }
    Ok(file)
}

/// The list `name` of a file, each entry with its place in error messages.
pub(crate) fn entries<T: serde::de::DeserializeOwned>(file: &Value, name: &str) -> Result<Vec<T>> {
    let Some(list) = file.get(name).and_then(Value::as_array) else {
        bail!("{name} is no list");
    };
    let read = |(index, entry): (usize, &Value)| {
        serde_path_to_error::deserialize(entry)
            .map_err(|error| anyhow::anyhow!("{name}[{index}].{error}"))
    };
    list.iter().enumerate().map(read).collect()
}
