//! The options that choose rows, as one expression of the engine. Values are literals of it and never
//! text of a query.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use branchline::flows::Action;
use branchline::live::Filter;
use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::{Expr, ident, lit};
use ipnet::IpNet;

use crate::files::Times;

/// An option that no file can answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConditionError {
    #[error("no file has {}, which --{option} needs{fix}", .columns.join(" or "))]
    NoColumn {
        option: &'static str,
        columns: &'static [&'static str],
        fix: &'static str,
    },
    #[error(
        "files do not tell what audit mode let pass from what a rule did; write --action accept"
    )]
    Audit,
}

/// What an option asks of which columns.
struct Condition {
    option: &'static str,
    /// Any of them.
    columns: &'static [&'static str],
    fix: &'static str,
    /// Any of them.
    holds: Vec<Expr>,
}

/// A row meets every option that is given, and of each one of the values.
///
/// `present` are the columns that files have.
///
/// # Errors
/// An option asks for what no file says.
pub(crate) fn condition(
    filter: &Filter,
    times: Times,
    present: &BTreeSet<String>,
) -> Result<Option<Expr>, ConditionError> {
    let mut whole: Option<Expr> = None;
    for condition in conditions(filter, times)? {
        let Condition {
            option,
            columns,
            fix,
            holds,
        } = condition;
        let Some(holds) = holds.into_iter().reduce(Expr::or) else {
            continue;
        };
        if !columns.iter().any(|column| present.contains(*column)) {
            return Err(ConditionError::NoColumn {
                option,
                columns,
                fix,
            });
        }
        whole = Some(match whole {
            Some(others) => others.and(holds),
            None => holds,
        });
    }
    Ok(whole)
}

fn conditions(filter: &Filter, times: Times) -> Result<[Condition; 8], ConditionError> {
    const TASK: &[&str] = &["bl_task_id", "ecs_task_id"];
    const ADDRESS: &[&str] = &["srcaddr", "dstaddr", "pkt_srcaddr", "pkt_dstaddr"];
    const PORT: &[&str] = &["srcport", "dstport"];
    let condition = |option, columns, holds| Condition {
        option,
        columns,
        fix: "",
        holds,
    };
    let equal = |column: &str, value: Expr| ident(column).eq(value);
    let mut actions = Vec::new();
    for action in &filter.actions {
        actions.push(equal("action", lit(word(action.0)?)));
    }
    let tasks = each(&filter.tasks, TASK, |task, column| {
        equal(column, lit(task.as_str()))
    });
    let addresses = each(&filter.addresses, ADDRESS, |network, column| {
        in_network().call(vec![ident(column), lit(network.0.to_string())])
    });
    let ports = each(&filter.ports, PORT, |port, column| {
        equal(column, lit(i32::from(*port)))
    });
    let protocols = each(&filter.protocols, &["protocol"], |protocol, column| {
        equal(column, lit(i32::from(protocol.0)))
    });
    let directions = each(
        &filter.directions,
        &["flow_direction"],
        |direction, column| equal(column, lit(direction.0.name())),
    );
    let since = times.since.map(|since| ident("end").gt_eq(lit(since)));
    let until = times.until.map(|until| ident("start").lt(lit(until)));
    Ok([
        Condition {
            fix: "; write --sql with a condition on interface_id, which `branchline task show` has",
            ..condition("task", TASK, tasks)
        },
        condition("address", ADDRESS, addresses),
        condition("port", PORT, ports),
        condition("protocol", &["protocol"], protocols),
        condition("action", &["action"], actions),
        condition("direction", &["flow_direction"], directions),
        condition("since", &["end"], since.into_iter().collect()),
        condition("until", &["start"], until.into_iter().collect()),
    ])
}

/// What holds of each value and column.
fn each<T>(values: &[T], columns: &[&str], holds: impl Fn(&T, &str) -> Expr) -> Vec<Expr> {
    let pairs = values
        .iter()
        .flat_map(|value| columns.iter().map(move |column| (value, *column)));
    pairs.map(|(value, column)| holds(value, column)).collect()
}

fn word(action: Action) -> Result<&'static str, ConditionError> {
    match action {
        Action::Accept => Ok("ACCEPT"),
        Action::Reject => Ok("REJECT"),
        Action::Audit => Err(ConditionError::Audit),
    }
}

/// `in_network(address, network)`: whether an address is of a network as `10.0.0.0/8`, or is the
/// address that stands in its place. NULL if one of them is, or what should be an address is none.
pub(crate) fn in_network() -> ScalarUDF {
    create_udf(
        "in_network",
        vec![DataType::Utf8, DataType::Utf8],
        DataType::Boolean,
        Volatility::Immutable,
        Arc::new(|arguments| {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let [addresses, networks] = &arrays[..] else {
                return Err(exec_datafusion_err!("in_network takes two arguments"));
            };
            let found: ArrayRef = Arc::new(contains(addresses, networks)?);
            Ok(ColumnarValue::Array(found))
        }),
    )
}

fn contains(addresses: &ArrayRef, networks: &ArrayRef) -> Result<BooleanArray> {
    // Mostly the same in every row.
    let mut last: Option<(&str, IpNet)> = None;
    let (addresses, networks) = (addresses.as_string::<i32>(), networks.as_string::<i32>());
    let pairs = addresses.iter().zip(networks);
    let found = pairs.map(|(address, text)| {
        let Some(text) = text else {
            return Ok(None);
        };
        let network = match last {
            Some((known, network)) if known == text => network,
            _ => network(text)?,
        };
        last = Some((text, network));
        let address = address.and_then(|address| address.parse::<IpAddr>().ok());
        Ok(address.map(|address| network.contains(&address)))
    });
    found.collect()
}

fn network(text: &str) -> Result<IpNet> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map_err(|_| {
        exec_datafusion_err!(
            "in_network: {text:?} is no network; write an address as 10.0.1.5 or a network as fd00::/64"
        )
    })
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
