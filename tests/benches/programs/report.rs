//! The bench's output: a table for people, JSON for machines.

use std::fs;

use anyhow::Result;
use nix::sys::utsname::uname;

use crate::cases::{Figure, GOAL, Machine};

/// Prints the figures and where they were measured.
pub(crate) fn print(machine: &Machine, figures: &[Figure], is_json: bool) -> Result<()> {
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
        "included; flows come in random order; `vlan` is the part of net that the tag costs\n"
    );
    println!(
        "{:<15} {:<30} {:>6} {:>7} {:>5} {:>6} {:>8}  goal",
        "program", "case", "net", "lowest", "vlan", "floor", "net/floor"
    );
    for figure in figures {
        println!("{}", line(figure));
    }
    Ok(())
}

fn line(figure: &Figure) -> String {
    let goal = match figure.goal {
        Some(goal) if figure.net <= goal => format!("{GOAL}: met"),
        Some(_) => format!("{GOAL}: missed"),
        None => String::new(),
    };
    let line = format!(
        "{:<15} {:<30} {:>6.0} {:>7.0} {:>5.0} {:>6.0} {:>8.1}x  {goal}",
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

/// The processor's name, as the kernel has it.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, name)| name);
    name.to_owned()
}
