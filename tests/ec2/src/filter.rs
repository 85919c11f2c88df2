//! Filters of a describe: values of one filter are alternatives, filters must all match, `*` and `?` are wild.

use crate::error::{Ec2Error, Result};
use crate::protocol::{Parameter, Parameters, text};
use crate::state::{State, Tagged};

/// The parameters of a describe with filters.
pub(crate) const FILTERS: &[Parameter] = &[text("Filter.N.Name"), text("Filter.N.Value.N")];

/// Values of one request, all filters together.
const MAX_VALUES: usize = 200;

/// What a filter compares: its name, and the values that an item has for it.
pub(crate) type Field<T> = (&'static str, fn(&State, &T) -> Vec<String>);

/// A request's filters, each one that the resource has.
pub(crate) struct Filters<'a, T>(Vec<(Compare<T>, Vec<&'a str>)>);

enum Compare<T> {
    Field(fn(&State, &T) -> Vec<String>),
    Tag(String),
    TagKey,
}

impl<'a, T: Tagged> Filters<'a, T> {
    /// Reads the filters of a request.
    ///
    /// # Errors
    /// One is not of `fields`, has no value, or there are too many values.
    pub(crate) fn read(parameters: &Parameters<'a>, fields: &[Field<T>]) -> Result<Self> {
        let mut filters = Vec::new();
        let mut count = 0;
        for member in parameters.members("Filter") {
            let name = member.require("Name")?;
            let values = member.list("Value");
            if values.is_empty() {
                let message = format!("The filter '{name}' has no value");
                return Err(Ec2Error::invalid(message));
            }
            count += values.len();
            filters.push((Compare::read(name, fields)?, values));
        }
        if count > MAX_VALUES {
            let message = format!(
                "The maximum number of filter values specified on a single call is {MAX_VALUES}"
            );
            return Err(Ec2Error::new("FilterLimitExceeded", message));
        }
        Ok(Self(filters))
    }

    /// Whether `item` is asked for.
    pub(crate) fn matches(&self, state: &State, item: &T) -> bool {
        self.0.iter().all(|(compare, patterns)| {
            let has = match compare {
                Compare::Field(values) => values(state, item),
                Compare::Tag(key) => item.tags().get(key).cloned().into_iter().collect(),
                Compare::TagKey => item.tags().keys().cloned().collect(),
            };
            has.iter()
                .any(|value| patterns.iter().any(|pattern| is_like(pattern, value)))
        })
    }
}

impl<T> Compare<T> {
    fn read(name: &str, fields: &[Field<T>]) -> Result<Self> {
        if let Some(key) = name.strip_prefix("tag:") {
            return Ok(Self::Tag(key.to_owned()));
        }
        if name == "tag-key" {
            return Ok(Self::TagKey);
        }
        let found = fields.iter().find(|field| field.0 == name);
        found
            .map(|field| Self::Field(field.1))
            .ok_or_else(|| Ec2Error::invalid(format!("The filter '{name}' is invalid")))
    }
}

/// Whether `value` is what `pattern` says; a backslash makes the next character mean itself.
fn is_like(pattern: &str, value: &str) -> bool {
    fn like(pattern: &[char], value: &[char]) -> bool {
        match (pattern, value) {
            ([], rest) => rest.is_empty(),
            (['*', more @ ..], _) => (0..=value.len()).any(|skip| like(more, &value[skip..])),
            (['\\', literal, more @ ..], [first, rest @ ..]) => {
                literal == first && like(more, rest)
            }
            (['?', more @ ..], [_, rest @ ..]) => like(more, rest),
            ([same, more @ ..], [first, rest @ ..]) => same == first && like(more, rest),
            ([_, ..], []) => false,
        }
    }
    let characters = |text: &str| text.chars().collect::<Vec<_>>();
    like(&characters(pattern), &characters(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_two_wild_characters() {
        for (pattern, value, expected) in [
            ("eni-1", "eni-1", true),
            ("eni-1", "ENI-1", false),
            ("eni-?", "eni-12", false),
            ("eni-??", "eni-12", true),
            ("*", "", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
        ] {
            assert_eq!(is_like(pattern, value), expected, "{pattern} {value}");
        }
    }
}
