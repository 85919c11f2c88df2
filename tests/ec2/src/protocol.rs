//! Requests: a form of names and values, compared with what the operation has.
//!
//! A list is `Name.1`, `Name.2`; a list within a list `TagSpecification.1.Tag.1.Key`.

use std::collections::BTreeMap;

use crate::error::{Ec2Error, Result};

/// The only version of the API that is spoken.
pub(crate) const VERSION: &str = "2016-11-15";

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Integer,
    Boolean,
}

/// A parameter that an operation has; in its name `N` is any number from 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) required: bool,
}

pub(crate) const fn text(name: &'static str) -> Parameter {
    Parameter {
        name,
        form: Form::Text,
        required: false,
    }
}

pub(crate) const fn integer(name: &'static str) -> Parameter {
    Parameter {
        form: Form::Integer,
        ..text(name)
    }
}

pub(crate) const fn boolean(name: &'static str) -> Parameter {
    Parameter {
        form: Form::Boolean,
        ..text(name)
    }
}

impl Parameter {
    pub(crate) const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }
}

/// Splits a body into the action and the rest.
///
/// # Errors
/// No action, another version, a name twice.
pub(crate) fn parse(body: &[u8]) -> Result<(String, BTreeMap<String, String>)> {
    let mut values = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(body) {
        if values
            .insert(name.to_string(), value.into_owned())
            .is_some()
        {
            let message = format!("The parameter {name} is given twice");
            return Err(Ec2Error::combination(message));
        }
    }
    let Some(action) = values.remove("Action") else {
        return Err(Ec2Error::new(
            "MissingAction",
            "The request must contain the parameter Action",
        ));
    };
    match values.remove("Version") {
        Some(version) if version == VERSION => Ok((action, values)),
        Some(version) => {
            let message =
                format!("The requested version ({version}) of service AmazonEC2 does not exist");
            Err(Ec2Error::new("NoSuchVersion", message))
        }
        None => Err(Ec2Error::missing("Version")),
    }
}

/// Whether `values` are what an operation with `shape` may be asked.
///
/// # Errors
/// One it does not have, one of the wrong form, a gap in a list, a required one missing.
pub(crate) fn check(values: &BTreeMap<String, String>, shape: &[&[Parameter]]) -> Result<()> {
    let known = || shape.iter().copied().flatten();
    for (name, value) in values {
        let pattern = pattern(name);
        let Some(parameter) = known().find(|parameter| parameter.name == pattern) else {
            return Err(Ec2Error::unknown(name));
        };
        check_form(name, value, parameter.form)?;
        check_numbers(name, values)?;
    }
    for parameter in known().filter(|parameter| parameter.required) {
        let given = |name: &String| pattern(name) == parameter.name;
        if !values.keys().any(given) {
            let name = parameter.name.split(".N").next().unwrap_or_default();
            return Err(Ec2Error::missing(name));
        }
    }
    Ok(())
}

/// `TagSpecification.1.Tag.2.Key` as `TagSpecification.N.Tag.N.Key`.
fn pattern(name: &str) -> String {
    let number = |part: &str| !part.starts_with('0') && part.parse::<u16>().is_ok();
    let parts = name.split('.');
    let parts: Vec<&str> = parts
        .map(|part| if number(part) { "N" } else { part })
        .collect();
    parts.join(".")
}

fn check_form(name: &str, value: &str, form: Form) -> Result<()> {
    match form {
        Form::Text => Ok(()),
        Form::Integer if value.parse::<i64>().is_ok() => Ok(()),
        Form::Integer => Err(Ec2Error::value(value, name, "Expecting an integer.")),
        Form::Boolean if matches!(value, "true" | "false") => Ok(()),
        Form::Boolean => Err(Ec2Error::value(value, name, "Expecting true or false.")),
    }
}

/// Whether for each number in `name` the one before it is in use too.
fn check_numbers(name: &str, values: &BTreeMap<String, String>) -> Result<()> {
    let parts: Vec<&str> = name.split('.').collect();
    for (at, part) in parts.iter().enumerate() {
        let Ok(number) = part.parse::<u16>() else {
            continue;
        };
        let before = format!("{}.{}", parts[..at].join("."), number.saturating_sub(1));
        let of_it = |name: &String| {
            let rest = name.strip_prefix(&before);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if number > 1 && !values.keys().any(of_it) {
            return Err(Ec2Error::invalid(format!("{name} comes without {before}")));
        }
    }
    Ok(())
}

/// Checked values, or those of one member of a list.
#[derive(Debug, Clone)]
pub(crate) struct Parameters<'a> {
    values: &'a BTreeMap<String, String>,
    prefix: String,
}

impl<'a> Parameters<'a> {
    /// Of values that [`check`] accepted.
    pub(crate) fn new(values: &'a BTreeMap<String, String>) -> Self {
        Self {
            values,
            prefix: String::new(),
        }
    }

    /// The values as they came.
    pub(crate) fn values(&self) -> &'a BTreeMap<String, String> {
        self.values
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        let value = self.values.get(&format!("{}{name}", self.prefix));
        value.map(String::as_str)
    }

    /// # Errors
    /// There is none.
    pub(crate) fn require(&self, name: &str) -> Result<&'a str> {
        let missing = || Ec2Error::missing(&format!("{}{name}", self.prefix));
        self.text(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(missing)
    }

    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        self.text(name)?.parse().ok()
    }

    /// The values `name.1`, `name.2`, …
    pub(crate) fn list(&self, name: &str) -> Vec<&'a str> {
        let of = |number| self.text(&format!("{name}.{number}"));
        (1..).map_while(of).collect()
    }

    /// The members `name.1.…`, `name.2.…`, …
    pub(crate) fn members(&self, name: &str) -> Vec<Self> {
        let of = |number: u32| {
            let member = Self {
                values: self.values,
                prefix: format!("{}{name}.{number}.", self.prefix),
            };
            member.is_given().then_some(member)
        };
        (1..).map_while(of).collect()
    }

    fn is_given(&self) -> bool {
        let mut from = self.values.range(self.prefix.clone()..);
        from.next()
            .is_some_and(|(name, _)| name.starts_with(&self.prefix))
    }

    /// Whether anything begins with `name`.
    pub(crate) fn any(&self, name: &str) -> bool {
        let start = format!("{}{name}", self.prefix);
        let mut from = self.values.range(start.clone()..);
        from.next()
            .is_some_and(|(name, _)| name.starts_with(&start))
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
