//! Who hands out this host's ENIs, and what carries their frames, by the configuration.

use std::{collections::HashSet, sync::Arc};

use super::EC2_FACT;
use crate::{
    cli::HostError,
    config::{Config, ProviderKind, WireKind},
    link::Mac,
    link_news,
    metrics::Instruments,
    netlink::Netlink,
    netns::Netns,
    provider::{
        Provider,
        ec2::{Beginning, Departure, Ec2Provider, Keeper, Kept, Known},
        local::{LocalProvider, addresses},
    },
    server::causes,
    state::{StateError, Store, TaskStore},
};

/// Who hands out ENIs.
pub(super) struct Opened {
    pub(super) provider: Box<dyn Provider>,
    pub(super) carrier: Carrier,
    /// What is known of the VPC at the start.
    pub(super) known: Known,
}

/// What carries the tasks' frames.
pub(super) enum Carrier {
    /// The embedded VPC.
    Embedded,
    /// The link of a trunk ENI.
    Trunk(Mac),
    /// Each ENI's own link.
    OwnLinks,
}

/// Who hands out ENIs by the configuration.
///
/// # Errors
/// The VPC file is wrong, or EC2 does not answer as it must.
pub(super) async fn open(
    config: &Config,
    store: &Arc<Store>,
    tasks: &TaskStore,
    instruments: &Instruments,
) -> Result<Opened, HostError> {
    match config.provider {
        ProviderKind::Local => {
            let (provider, warnings) = LocalProvider::load(config)?;
            for warning in warnings {
                tracing::warn!(%warning, "VPC file");
            }
            let known = Known {
                directory: provider.describe_security_groups().await?,
                members: provider.describe_members().await?,
                routes: Provider::route_tables(&provider),
                stale: None,
            };
            Ok(Opened {
                provider: Box::new(provider),
                carrier: Carrier::Embedded,
                known,
            })
        }
        ProviderKind::Ec2 => {
            let is_embedded = config.ec2.wire == WireKind::Fabric;
            let beginning = Beginning {
                router_mac: is_embedded.then_some(addresses::ROUTER_MAC),
                kept: kept(store),
                keeper: keeper(store),
                departure: departure(),
                store_id: tasks.id(),
                tasks: attachments(tasks),
            };
            let calls = instruments.ec2.clone();
            let observer = move |action, took, answer| calls.ended(action, took, answer);
            let started = Ec2Provider::start(config, Arc::new(observer), beginning).await?;
            let (provider, known) = started;
            let carrier = match provider.trunk_mac() {
                None => Carrier::OwnLinks,
                Some(_) if is_embedded => Carrier::Embedded,
                Some(mac) => Carrier::Trunk(Mac(mac.0)),
            };
            Ok(Opened {
                provider: Box::new(provider),
                carrier,
                known,
            })
        }
    }
}

/// Of every task that is there, and of those that have gone and are remembered.
fn attachments(tasks: &TaskStore) -> HashSet<String> {
    let table = tasks.table();
    let all = table.live().chain(table.gone());
    all.map(|task| task.eni.attachment_id.clone()).collect()
}

/// What an earlier agent kept of EC2; one that wrote it in another way kept nothing of use.
fn kept(store: &Store) -> Option<Kept> {
    let kept = store.fact(EC2_FACT);
    let useless =
        |error: &StateError| tracing::warn!(error = causes(error), "EC2 is read as a whole");
    kept.inspect_err(useless).ok().flatten()
}

/// Tells the provider when the link of a detached ENI has gone.
fn departure() -> Departure {
    Departure(Box::new(|mac| {
        Box::pin(async move {
            let host = Netlink::open(&Netns::host()?)?;
            link_news::wait_until_gone(&host, Mac(mac.0)).await
        })
    }))
}

fn keeper(store: &Arc<Store>) -> Keeper {
    let store = Arc::clone(store);
    Keeper(Box::new(move |kept| {
        if let Err(error) = store.put_fact(EC2_FACT, kept) {
            let error = causes(&error);
            tracing::warn!(
                error,
                "the next start reads EC2 as a whole, or older groups"
            );
        }
    }))
}
