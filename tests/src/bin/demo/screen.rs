//! What the demo prints: text in colour where a person reads it. Decides nothing.

use std::fmt::Display;
use std::io::{IsTerminal, stdout};
use std::net::SocketAddr;

use crate::judge::{Judgement, View, Way};
use crate::traffic::Answer;

/// A select-graphic-rendition parameter of ECMA-48.
#[derive(Clone, Copy)]
enum Style {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Cyan = 36,
}

/// Prints to standard output.
pub(crate) struct Screen {
    has_colour: bool,
}

impl Screen {
    /// In colour on a terminal, unless `NO_COLOR` is set (no-color.org).
    pub(crate) fn new() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            has_colour: stdout().is_terminal() && !no_colour,
        }
    }

    /// A line that opens a part.
    pub(crate) fn heading(&self, text: &str) {
        println!("\n{}", self.paint(Style::Bold, text));
    }

    /// A command of the product's and what it printed.
    pub(crate) fn command(&self, command: &str, output: &[&str]) {
        println!("\n{}", self.paint(Style::Cyan, format!("$ {command}")));
        println!("{}", output.join("\n"));
    }

    /// A line that explains.
    pub(crate) fn note(&self, text: &str) {
        println!("  {}", self.paint(Style::Dim, text));
    }

    /// The last line, good or bad.
    pub(crate) fn result(&self, is_good: bool, text: &str) {
        let style = if is_good { Style::Green } else { Style::Red };
        println!("\n{} {}", self.mark(is_good), self.paint(style, text));
    }

    /// What is wrong.
    pub(crate) fn fault(&self, text: &str) {
        println!("    {}", self.paint(Style::Red, format!("✘ {text}")));
    }

    /// Attempts, their proof, and what is wrong with either.
    pub(crate) fn judgements(&self, judgements: &[Judgement]) {
        for judgement in judgements {
            self.attempt(judgement);
            let of_its_family = judgements
                .iter()
                .filter(|other| {
                    other.outcome.source.is_ipv4() == judgement.outcome.source.is_ipv4()
                })
                .flat_map(|other| &other.ways);
            let width = of_its_family
                .map(|way| addresses(way).chars().count())
                .max();
            let width = width.unwrap_or(0);
            for way in &judgement.ways {
                let views: Vec<String> = way.views.iter().map(|view| self.view(view)).collect();
                println!("    {:<width$}  {}", addresses(way), views.join(" │ "));
            }
            if judgement.ways.is_empty() {
                self.note("  no row: it reaches no ENI");
            }
            for fault in &judgement.faults {
                self.fault(fault);
            }
        }
    }

    fn attempt(&self, judgement: &Judgement) {
        let outcome = &judgement.outcome;
        let attempt = outcome.attempt;
        let expected = verdict(attempt.expected.is_allowed());
        let (actual, what) = match &outcome.answer {
            Answer::Complete { text, seen_as, .. } => {
                let seen_as =
                    seen_as.map_or(String::new(), |address| format!(", seen as {address}"));
                (verdict(true), format!("{text}{seen_as}"))
            }
            Answer::Silence => (verdict(false), "no answer".to_owned()),
            Answer::Wrong(text) => ("WRONG", text.clone()),
        };
        let style = if expected == actual {
            Style::Green
        } else {
            Style::Red
        };
        let family = if outcome.source.is_ipv4() {
            "IPv4"
        } else {
            "IPv6"
        };
        println!(
            "{} {} {family}  expected {expected:<5}  actual {}  {what} {}",
            self.mark(judgement.faults.is_empty()),
            self.paint(Style::Bold, format!("{:<23}", attempt.to_string())),
            self.paint(style, format!("{actual:<5}")),
            self.paint(Style::Dim, format!("· {}", attempt.because)),
        );
    }

    fn view(&self, view: &View) -> String {
        let place = view.place.name();
        let direction = if view.is_egress { "egress" } else { "ingress" };
        let (action, style) = if view.accepted {
            ("ACCEPT", Style::Green)
        } else {
            ("REJECT", Style::Red)
        };
        let action = match view.count {
            Some(_) => self.paint(style, action),
            None => self.paint(Style::Dim, action),
        };
        let count = view.count.map_or("no row".to_owned(), |count| {
            format!("{:>2} pkt {:>6} B", count.packets, count.bytes)
        });
        format!("{place:>3} {direction:<7} {action} {count}")
    }

    fn mark(&self, is_good: bool) -> String {
        if is_good {
            self.paint(Style::Green, "✔")
        } else {
            self.paint(Style::Red, "✘")
        }
    }

    fn paint(&self, style: Style, text: impl Display) -> String {
        if self.has_colour {
            format!("\x1b[{}m{text}\x1b[0m", style as u8)
        } else {
            text.to_string()
        }
    }
}

fn verdict(is_allowed: bool) -> &'static str {
    if is_allowed { "ALLOW" } else { "DENY" }
}

/// From where to where, without ports where there are none.
fn addresses(way: &Way) -> String {
    let text = |address: SocketAddr| match address.port() {
        0 => address.ip().to_string(),
        _ => address.to_string(),
    };
    format!("{} → {}", text(way.src), text(way.dst))
}
