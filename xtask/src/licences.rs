//! Checks that every dependency's licence is on the list in `deny.toml` and that it comes from a registry.
//!
//! Reads `cargo metadata` only, so it works offline. Knows nothing of advisories: their database is on the network.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::process::{self, output};
use crate::workspace;

/// The part of `deny.toml` that we read; the rest is for cargo-deny, for those who have it.
#[derive(Deserialize)]
struct Deny {
    licenses: Licences,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

/// What one package may have besides.
#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Checks all packages in `Cargo.lock`; returns how many there are.
///
/// # Errors
/// Names each package whose licence is not allowed, or that comes from elsewhere.
pub(crate) fn check() -> Result<usize> {
    let deny = fs::read_to_string(workspace::root().join("deny.toml")).context("read deny.toml")?;
    let deny: Deny = toml::from_str(&deny).context("read deny.toml")?;
    let metadata = output(process::cargo("metadata").args(["--format-version", "1", "--locked"]))?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("read cargo's metadata")?;
    let faults: Vec<String> = metadata
        .packages
        .iter()
        .filter_map(|package| fault(package, &deny.licenses))
        .collect();
    ensure!(
        faults.is_empty(),
        "deny.toml does not allow: {}",
        faults.join(", ")
    );
    Ok(metadata.packages.len())
}

/// Why `package` is not allowed.
fn fault(package: &Package, licences: &Licences) -> Option<String> {
    let Package {
        name,
        version,
        license,
        source,
    } = package;
    let licence = license.as_deref().unwrap_or_default();
    let mut allowed = licences.allow.clone();
    let exceptions = licences.exceptions.iter();
    for exception in exceptions.filter(|exception| exception.name == *name) {
        allowed.extend_from_slice(&exception.allow);
    }
    if !accepts(licence, &allowed) {
        return Some(format!("{name} {version} (licence {licence:?})"));
    }
    // A package without a source is one of this workspace.
    let source = source
        .as_deref()
        .filter(|source| !source.starts_with("registry+"))?;
    Some(format!("{name} {version} (from {source})"))
}

/// True if the SPDX expression `licence` can be met with `allowed` ones. `/` is an old way to write OR.
fn accepts(licence: &str, allowed: &[String]) -> bool {
    let spaced = licence
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace(" WITH ", "+WITH+");
    let mut words = spaced.split_whitespace().peekable();
    any(&mut words, allowed) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words, allowed: &[String]) -> bool {
    let mut met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all(words: &mut Words, allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words, allowed: &[String]) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let met = any(words, allowed);
        return words.next_if_eq(&")").is_some() && met;
    }
    let name = words.next().unwrap_or_default().replace("+WITH+", " WITH ");
    allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_licence_expressions() {
        let allowed = ["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        let rows = [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT", true),
            ("MIT/GPL-3.0-only", true),
            ("MIT AND GPL-3.0-only", false),
            ("(GPL-3.0-only OR MIT) AND Unicode-3.0", true),
            ("GPL-3.0-only OR MIT AND Unicode-3.0", true),
            ("(MIT OR GPL-3.0-only) AND GPL-3.0-only", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("(MIT", false),
            ("MIT)", false),
            ("", false),
        ];
        for (licence, accepted) in rows {
            assert_eq!(accepts(licence, &allowed), accepted, "{licence}");
        }
    }

    #[test]
    fn names_the_package_and_the_fault() {
        let package = |licence: &str, source: Option<&str>| Package {
            name: "thing".to_owned(),
            version: "1.0.0".to_owned(),
            license: Some(licence.to_owned()),
            source: source.map(str::to_owned),
        };
        let exception = |name: &str, licence: &str| Exception {
            name: name.to_owned(),
            allow: vec![licence.to_owned()],
        };
        let allowed = Licences {
            allow: vec!["MIT".to_owned()],
            exceptions: vec![exception("thing", "CC0-1.0"), exception("other", "X")],
        };
        assert_eq!(fault(&package("MIT", None), &allowed), None);
        assert_eq!(fault(&package("CC0-1.0", None), &allowed), None);
        assert_eq!(fault(&package("MIT", Some("registry+x")), &allowed), None);
        assert_eq!(
            fault(&package("X", None), &allowed).as_deref(),
            Some("thing 1.0.0 (licence \"X\")")
        );
        assert_eq!(
            fault(&package("MIT", Some("git+x")), &allowed).as_deref(),
            Some("thing 1.0.0 (from git+x)")
        );
    }
}
