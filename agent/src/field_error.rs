//! What is wrong with an operator's file: the field, the problem with the value found, and the fix.
//!
//! Used for the configuration, the VPC file and the task specification. Never reads a file.

use serde::de::DeserializeOwned;

/// One mistake in one field.
///
/// Reads `security_groups[1].group_id: "web" is no security group id; write sg- and ...`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}{}{fix}", if fix.is_empty() { "" } else { "; " })]
pub struct FieldError {
    /// Path of the field, as `subnets[1].cidr_block`.
    pub field: String,
    /// What was found and why it cannot be used.
    pub problem: String,
    /// What to write instead; empty where `problem` already says it.
    pub fix: String,
}

impl FieldError {
    /// Says that `field` has `problem` and how to mend it.
    pub fn new(
        field: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }

    /// The same mistake, its text beginning with the name of what it was found in, as `sg-web`.
    #[must_use]
    pub fn within(mut self, name: &str) -> Self {
        self.problem = format!("{name}: {}", self.problem);
        self
    }
}

/// What was taken otherwise than written, or has no effect: no mistake, but said.
///
/// Reads `security_groups[1].ip_permissions[0].ip_protocol: 6 is tcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldNote {
    /// Path of the field, as `subnets[1].cidr_block`.
    pub field: String,
    /// What was made of it.
    pub note: String,
}

impl FieldNote {
    /// Says `note` of `field`.
    pub fn new(field: impl Into<String>, note: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            note: note.into(),
        }
    }
}

impl std::fmt::Display for FieldNote {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.field, self.note)
    }
}

/// Reads TOML into `T`.
///
/// # Errors
/// The first field that does not fit, or the line where the text stops being TOML.
pub fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, FieldError> {
    let deserializer = toml::Deserializer::parse(text).map_err(|error| not_toml(text, &error))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        misfit(path, error.inner().message())
    })
}

/// Reads JSON into `T`.
///
/// # Errors
/// The first field that does not fit, or the line where the text stops being JSON.
pub fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, FieldError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        if !error.inner().is_data() {
            return not_json(error.inner());
        }
        let path = error.path().to_string();
        let message = error.inner().to_string();
        // serde_json ends its messages with the place; the path says it better.
        let end = message.rfind(" at line ").unwrap_or(message.len());
        misfit(path, &message[..end])
    })?;
    deserializer.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

/// Accepts the prefix and then letters, digits and dashes: EC2's hex digits and names that people like.
///
/// # Errors
/// `field`, with the form the id must have.
pub fn check_id(id: &str, prefix: &str, field: &str) -> Result<(), FieldError> {
    let rest = id.strip_prefix(prefix).unwrap_or_default();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if (1..=64).contains(&rest.len()) && rest.bytes().all(allowed) {
        return Ok(());
    }
    let fix = format!("write {prefix} and 1 to 64 letters, digits or dashes");
    Err(FieldError::new(
        field,
        format!("{id:?} is no id of this kind"),
        fix,
    ))
}

/// Refuses a number outside `range`.
///
/// # Errors
/// Names `field` and the range.
pub fn within<T: PartialOrd + std::fmt::Display>(
    field: &str,
    value: T,
    range: &std::ops::RangeInclusive<T>,
) -> Result<(), FieldError> {
    if range.contains(&value) {
        return Ok(());
    }
    let fix = format!("write a number from {} to {}", range.start(), range.end());
    Err(FieldError::new(
        field,
        format!("{value} is out of range"),
        fix,
    ))
}

fn not_toml(text: &str, error: &toml::de::Error) -> FieldError {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    FieldError::new(
        format!("line {line}"),
        format!("not TOML: {}", error.message()),
        "correct the syntax",
    )
}

fn not_json(error: &serde_json::Error) -> FieldError {
    FieldError::new(
        format!("line {}", error.line()),
        format!("not JSON: {error}"),
        "correct the syntax",
    )
}

/// Names the field itself where serde only knows the table around it.
fn misfit(path: String, message: &str) -> FieldError {
    let missing = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next());
    match (missing, path.as_str()) {
        (Some(field), ".") => FieldError::new(field, "is missing", "add it"),
        (Some(field), _) => FieldError::new(format!("{path}.{field}"), "is missing", "add it"),
        (None, ".") => FieldError::new("file", message, ""),
        (None, _) => FieldError::new(path, message, ""),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only read by serde")]
        rows: Vec<Row>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        #[expect(dead_code, reason = "only read by serde")]
        port: u16,
    }

    #[test]
    fn names_the_field_in_toml() {
        let rows = [
            (
                "rows = 1",
                "rows",
                "invalid type: integer `1`, expected a sequence",
            ),
            (
                "[[rows]]\nport = \"x\"",
                "rows[0].port",
                "invalid type: string \"x\", expected u16",
            ),
            (
                "[[rows]]\nport = 70000",
                "rows[0].port",
                "invalid value: integer `70000`, expected u16",
            ),
            (
                "[[rows]]\nport = 1\n[[rows]]\n",
                "rows[1].port",
                "is missing",
            ),
            (
                "[[rows]]\nport = 1\nprot = 2",
                "rows[0].prot",
                "unknown field `prot`, expected `port`",
            ),
            ("", "rows", "is missing"),
        ];
        for (text, field, problem) in rows {
            let error = from_toml::<Outer>(text).unwrap_err();
            assert_eq!(
                (error.field.as_str(), error.problem.as_str()),
                (field, problem),
                "{text}"
            );
        }
        assert_eq!(
            from_toml::<Outer>("rows = []\nrows = = 1")
                .unwrap_err()
                .field,
            "line 2"
        );
    }

    #[test]
    fn names_the_field_in_json() {
        let rows = [
            (r#"{"rows": [{"port": 1}, {"port": "x"}]}"#, "rows[1].port"),
            (r#"{"rows": [{"port": 1, "prot": 1}]}"#, "rows[0].prot"),
            (r#"{"rows": [{}]}"#, "rows[0].port"),
            ("{\n\"rows\": [}", "line 2"),
            ("{\"rows\": []} x", "line 1"),
            ("", "line 1"),
        ];
        for (text, field) in rows {
            let error = from_json::<Outer>(text.as_bytes()).unwrap_err();
            assert_eq!(error.field, field, "{text}: {error}");
        }
        let error = from_json::<Outer>(br#"{"rows": [{"port": "x"}]}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rows[0].port: invalid type: string \"x\", expected u16"
        );
    }
}
