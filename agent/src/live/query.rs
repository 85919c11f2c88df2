//! A follower's request as the query of a URL, and back. Pure.

use std::fmt::{self, Display, Write};
use std::str::FromStr;

use super::filter::{Filter, WrongValue};
use crate::field_error::FieldError;

/// Flows that a look at the rates shows unless it is asked for others.
const LIMIT: usize = 100;
/// The most that it shows.
const MOST: usize = 100_000;

/// What a follower asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Which flows and events.
    pub filter: Filter,
    /// Rates: what comes first.
    pub sort: Sort,
    /// Rates: how many flows.
    pub limit: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            sort: Sort::default(),
            limit: LIMIT,
        }
    }
}

/// What comes first, largest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// Bytes a second.
    #[default]
    Bytes,
    /// Packets a second.
    Packets,
    /// Rejected packets a second, then the others.
    Rejects,
}

impl FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "bytes" => Self::Bytes,
            "packets" => Self::Packets,
            "rejects" => Self::Rejects,
            _ => {
                return Err(format!(
                    "{text:?} is no order; write bytes, packets or rejects"
                ));
            }
        })
    }
}

impl Display for Sort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Bytes => "bytes",
            Self::Packets => "packets",
            Self::Rejects => "rejects",
        })
    }
}

impl Query {
    /// Reads what follows the `?` of a URL. A parameter may come several times.
    ///
    /// # Errors
    /// The parameter that does not exist, or whose value cannot be used.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value)
                .ok_or_else(|| FieldError::new(name, "is no UTF-8", "encode it as %XX"))?;
            query.set(name, &value)?;
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), FieldError> {
        let filter = &mut self.filter;
        match name {
            "task" => push(&mut filter.tasks, name, value),
            "address" => push(&mut filter.addresses, name, value),
            "port" => match value.parse() {
                Ok(port) => {
                    filter.ports.push(port);
                    Ok(())
                }
                Err(_) => Err(not_from_to(name, value, 65_535)),
            },
            "protocol" => push(&mut filter.protocols, name, value),
            "action" => push(&mut filter.actions, name, value),
            "direction" => push(&mut filter.directions, name, value),
            "event" => push(&mut filter.events, name, value),
            "sort" => {
                self.sort = value.parse().map_err(|error| misused(name, error))?;
                Ok(())
            }
            "limit" => match value.parse() {
                Ok(limit) if limit <= MOST => {
                    self.limit = limit;
                    Ok(())
                }
                Ok(_) | Err(_) => Err(not_from_to(name, value, MOST)),
            },
            _ => Err(FieldError::new(
                name,
                "is no parameter",
                "write task, address, port, protocol, action, direction, event, sort or limit",
            )),
        }
    }
}

/// The query of a URL; no value has a character that needs encoding.
impl Display for Query {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Filter {
            tasks,
            addresses,
            ports,
            protocols,
            actions,
            directions,
            events,
        } = &self.filter;
        let mut text = format!("sort={}&limit={}", self.sort, self.limit);
        all(&mut text, "task", tasks)?;
        all(&mut text, "address", addresses)?;
        all(&mut text, "port", ports)?;
        all(&mut text, "protocol", protocols)?;
        all(&mut text, "action", actions)?;
        all(&mut text, "direction", directions)?;
        all(&mut text, "event", events)?;
        out.write_str(&text)
    }
}

fn all<T: Display>(text: &mut String, name: &str, values: &[T]) -> fmt::Result {
    values
        .iter()
        .try_for_each(|value| write!(text, "&{name}={value}"))
}

fn push<T: FromStr<Err: Display>>(
    values: &mut Vec<T>,
    name: &str,
    value: &str,
) -> Result<(), FieldError> {
    values.push(value.parse().map_err(|error| misused(name, error))?);
    Ok(())
}

fn misused(name: &str, error: impl Display) -> FieldError {
    FieldError::new(name, error.to_string(), "")
}

fn not_from_to(name: &str, value: &str, most: usize) -> FieldError {
    let fix = format!("write a number from 0 to {most}");
    FieldError::new(name, format!("{value:?} is out of range"), fix)
}

/// Undoes percent-encoding; `None` if that leaves no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        bytes.push(match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                let pair = [*high, *low];
                u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
            }
            (b'+', _) => b' ',
            _ => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

impl Filter {
    /// Takes in a word whose form says which condition it is: a number is a port, `tcp` a protocol,
    /// `10.0.0.0/8` a network, `reject` an action, `ingress` a direction; the rest are tasks.
    ///
    /// # Errors
    /// It is nothing of this.
    pub fn add_word(&mut self, word: &str) -> Result<(), WrongValue> {
        if let Ok(port) = word.parse() {
            self.ports.push(port);
        } else if let Ok(protocol) = word.parse() {
            self.protocols.push(protocol);
        } else if let Ok(network) = word.parse() {
            self.addresses.push(network);
        } else if let Ok(action) = word.parse() {
            self.actions.push(action);
        } else if let Ok(direction) = word.parse() {
            self.directions.push(direction);
        } else {
            self.tasks
                .push(word.parse().map_err(|_| Self::wrong_word(word))?);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
