//! Runs `nft` inside a namespace: applies, lists and compares one table.
//!
//! Knows the table's name and nothing of its rules.

use std::io;

use nftables::batch::Batch;
use nftables::helper::{self, NftablesError};
use nftables::schema::{NfListObject, NfObject, Nftables};

use crate::nat::{NatError, TABLE, TableState, table};
use crate::netns::Netns;

/// Where nft is when `PATH` is a user's.
const NFT_IN_SBIN: &str = "/usr/sbin/nft";

pub(super) fn apply(
    action: &'static str,
    netns: &Netns,
    objects: Vec<NfListObject<'static>>,
) -> Result<(), NatError> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    for object in objects {
        batch.add(object);
    }
    run_nft(action, netns, &batch.to_nftables())
}

pub(super) fn check(
    action: &'static str,
    netns: &Netns,
    wanted: &[NfListObject<'static>],
) -> Result<TableState, NatError> {
    let tables = list(action, netns, &["list", "tables", "inet"])?;
    let is_ours =
        |object: &NfListObject<'_>| matches!(object, NfListObject::Table(t) if t.name == TABLE);
    if !tables.iter().any(is_ours) {
        return Ok(TableState::Absent);
    }
    let found = list(action, netns, &["list", "table", "inet", TABLE])?;
    let same = by_chain(&found) == by_chain(wanted);
    Ok(if same {
        TableState::Equal
    } else {
        TableState::Different
    })
}

/// The objects in an order that does not depend on who lists them: rules keep theirs within a chain.
fn by_chain<'a>(objects: &[NfListObject<'a>]) -> Vec<(String, NfListObject<'a>)> {
    let mut named: Vec<_> = objects
        .iter()
        .map(|object| {
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "we make three kinds of objects"
            )]
            let name = match object {
                NfListObject::Chain(chain) => format!("{} chain", chain.name),
                NfListObject::Rule(rule) => format!("{} rule", rule.chain),
                _ => String::new(),
            };
            (name, object.clone())
        })
        .collect();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    named
}

fn list(
    action: &'static str,
    netns: &Netns,
    arguments: &[&'static str],
) -> Result<Vec<NfListObject<'static>>, NatError> {
    let listed = netns.run(|| {
        with_nft(|program| {
            helper::get_current_ruleset_with_args(program, arguments.iter().copied())
        })
    })?;
    let listed = listed.map_err(|error| nat_error(action, netns, error))?;
    Ok(listed.objects.iter().filter_map(without_handle).collect())
}

fn without_handle(object: &NfObject<'static>) -> Option<NfListObject<'static>> {
    let NfObject::ListObject(object) = object else {
        return None;
    };
    let mut object = object.clone();
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "others hold nothing of ours, and count as different"
    )]
    match &mut object {
        NfListObject::MetainfoObject(_) => return None,
        NfListObject::Table(table) => table.handle = None,
        NfListObject::Chain(chain) => chain.handle = None,
        NfListObject::Rule(rule) => rule.handle = None,
        _ => {}
    }
    Some(object)
}

pub(super) fn run_nft(
    action: &'static str,
    netns: &Netns,
    ruleset: &Nftables<'_>,
) -> Result<(), NatError> {
    netns
        .run(|| {
            with_nft(|program| {
                helper::apply_ruleset_with_args(
                    ruleset,
                    program,
                    helper::DEFAULT_ARGS.iter().copied(),
                )
            })
        })?
        .map_err(|error| nat_error(action, netns, error))
}

fn with_nft<T>(run: impl Fn(Option<&str>) -> Result<T, NftablesError>) -> Result<T, NftablesError> {
    match run(helper::DEFAULT_NFT) {
        Err(NftablesError::NftExecution { inner, .. })
            if inner.kind() == io::ErrorKind::NotFound =>
        {
            run(Some(NFT_IN_SBIN))
        }
        result => result,
    }
}

fn nat_error(action: &'static str, netns: &Netns, error: NftablesError) -> NatError {
    let netns = netns.name().to_owned();
    let reason = match error {
        NftablesError::NftExecution { inner, .. } if inner.kind() == io::ErrorKind::NotFound => {
            return NatError::NftMissing { action, netns };
        }
        NftablesError::NftFailed { stdout, stderr, .. } => {
            format!("{stdout}{stderr}").trim().to_owned()
        }
        other @ (NftablesError::NftExecution { .. }
        | NftablesError::NftOutputEncoding { .. }
        | NftablesError::NftInvalidJson(_)) => other.to_string(),
    };
    // ENOENT comes for an expression or chain type whose module is not there.
    let unsupported = [
        "not supported",
        "No such file or directory",
        "Invalid argument",
    ];
    if unsupported.iter().any(|words| reason.contains(words)) {
        return NatError::KernelSupport {
            action,
            netns,
            reason,
        };
    }
    NatError::Nft {
        action,
        netns,
        reason,
    }
}
