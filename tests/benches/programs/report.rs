//! The bench's output: a table for people, JSON for machines.

use std::fs;

use anyhow::Result;
use branchline::datapath::program::TRUNK_INGRESS;
use nix::sys::utsname::uname;

use crate::cases::{Figure, GOAL, Machine};

/// A figure that is no cost of one packet.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Amount {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The most that it should be.
    pub(crate) goal: Option<f64>,
}

/// An [`Amount`].
pub(crate) fn amount(what: &str, value: f64, unit: &'static str, goal: Option<f64>) -> Amount {
    Amount {
        what: what.to_owned(),
        value,
        unit,
        goal,
    }
}

/// Most that a packet of an established flow may cost, in lookups of as many keys.
const LOOKUPS: f64 = 1.25;
/// Most that a packet may cost with 1,000 rules, as a multiple of few.
const RULES: f64 = 1.2;

/// What the figures are to each other, as far as both were measured.
pub(crate) fn ratios(figures: &[Figure]) -> Vec<Amount> {
    let mut ratios = Vec::new();
    for figure in figures {
        if let Some(lookup) = figure.lookup {
            let what = format!("{}, {}: net / lookup", figure.program, figure.case);
            let goal = figure.case.contains("100000").then_some(LOOKUPS);
            ratios.push(amount(&what, figure.net / lookup, "x", goal));
        }
    }
    let new = "TCP IPv4, new flow";
    let denied = "TCP IPv4, denied, 1 flow";
    let (many_new, many_denied) = (
        format!("{new}, 1000 rules"),
        format!("{denied}, 1000 rules"),
    );
    let pairs = [
        ("new flow: 1,000 rules / few", many_new.as_str(), new, RULES),
        ("denied: 1,000 rules / few", &many_denied, denied, RULES),
        ("denied / new flow", denied, new, 1.0),
        (
            "denied / new flow, 1,000 rules",
            &many_denied,
            &many_new,
            1.0,
        ),
    ];
    let net = |case| {
        let mut figures = figures.iter();
        let figure = figures.find(|figure| figure.program == TRUNK_INGRESS && figure.case == case);
        figure.map(|figure| figure.net)
    };
    for (what, of, to, goal) in pairs {
        if let (Some(of), Some(to)) = (net(of), net(to)) {
            ratios.push(amount(what, of / to, "x", Some(goal)));
        }
    }
    ratios
}

/// Prints the figures and where they were measured.
pub(crate) fn print(
    machine: &Machine,
    figures: &[Figure],
    amounts: &[Amount],
    is_json: bool,
) -> Result<()> {
    let name = uname()?;
    let kernel = name.release().to_string_lossy().into_owned();
    let processor = processor();
    if is_json {
        let json = serde_json::json!({
            "kernel": kernel,
            "processor": processor,
            "machine": machine,
            "unit": "ns per packet, net of an empty program",
            "figures": figures,
            "amounts": amounts,
        });
        println!("{}", serde_json::to_string_pretty(&json)?);
        return Ok(());
    }
    println!("{processor}, Linux {kernel}");
    println!(
        "this machine: empty program {:.0} ns, net of it finding a 40-byte key {:.0} ns",
        machine.floor, machine.lookup
    );
    println!(
        "ns per packet, net of the program `empty` (the floor) in the same rounds, everything"
    );
    println!(
        "included; flows come in random order; `vlan` is the part of net that the tag costs; `lookup`\n\
         is what finding one of as many keys costs\n"
    );
    println!(
        "{:<15} {:<30} {:>6} {:>7} {:>5} {:>6} {:>8} {:>7}  goal",
        "program", "case", "net", "lowest", "vlan", "floor", "net/floor", "lookup"
    );
    for figure in figures {
        println!("{}", line(figure));
    }
    println!();
    for amount in amounts {
        println!("{}", amount_line(amount));
    }
    Ok(())
}

fn line(figure: &Figure) -> String {
    let goal = match figure.goal {
        Some(goal) if figure.net <= goal => format!("{GOAL}: met"),
        Some(_) => format!("{GOAL}: missed"),
        None => String::new(),
    };
    let lookup = figure
        .lookup
        .map_or_else(String::new, |lookup| format!("{lookup:.0}"));
    let line = format!(
        "{:<15} {:<30} {:>6.0} {:>7.0} {:>5.0} {:>6.0} {:>8.1}x {lookup:>7}  {goal}",
        figure.program,
        figure.case,
        figure.net,
        figure.lowest,
        figure.vlan,
        figure.floor,
        figure.net / figure.floor,
    );
    line.trim_end().to_owned()
}

fn amount_line(amount: &Amount) -> String {
    let Amount {
        what, value, unit, ..
    } = amount;
    let digits = usize::from(!matches!(*unit, "rows/s" | "packets")) * 2;
    let goal = match amount.goal {
        Some(goal) if *value <= goal => format!("  {goal}: met"),
        Some(goal) => format!("  {goal}: missed"),
        None => String::new(),
    };
    format!("{what:<70} {value:>12.digits$} {unit}{goal}")
}

/// The processor's name, as the kernel has it.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, name)| name);
    name.to_owned()
}
