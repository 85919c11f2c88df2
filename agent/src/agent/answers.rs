//! The sockets of this host's services: opened early, so that questions wait, and answered once the tasks are known.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use super::Agent;
use crate::config::{Config, Forwarder};
use crate::netlink::NetlinkError;
use crate::provider::vpc::Vpc;
use crate::resolver::{self, Forwarders, Resolver, Zone, host_forwarders, serve_tcp, serve_udp};
use crate::server::causes;
use crate::services::{Connections, Services, TASK_METADATA};
use crate::task_metadata::{self, Endpoint};

/// Where the host says whom it asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Open sockets in the services' namespace.
pub(super) struct Answers {
    metadata: TcpListener,
    resolver: Arc<Resolver>,
    dns: Vec<(IpAddr, Sockets)>,
}

/// Of one resolver's address.
type Sockets = (UdpSocket, TcpListener);

/// The VPC's resolvers.
pub(super) struct Resolvers {
    resolver: Arc<Resolver>,
    /// Where they answer.
    addresses: Mutex<BTreeSet<IpAddr>>,
}

/// Why there are not all of the VPC's resolvers.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    /// There is no such address.
    #[error(transparent)]
    Address(#[from] NetlinkError),
    /// Nobody listens at it.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Why the services do not listen.
#[derive(Debug, thiserror::Error)]
#[error("listen at {address} port {port} in the services' namespace")]
pub(super) struct ListenError {
    address: IpAddr,
    port: u16,
    source: io::Error,
}

impl Answers {
    /// Opens the sockets.
    pub(super) fn open(
        services: &Services,
        config: &Config,
        zone: Zone,
    ) -> Result<Self, ListenError> {
        let dns = services.resolvers().into_iter().map(|address| {
            let sockets = open(services, address)?;
            Ok((address, sockets))
        });
        Ok(Self {
            metadata: listen(services, TASK_METADATA.into(), task_metadata::PORT)?,
            dns: dns.collect::<Result<_, _>>()?,
            resolver: Arc::new(Resolver::new(zone, forwarders(config))),
        })
    }

    /// The resolvers, to be told of later networks of the VPC.
    pub(super) fn resolvers(&self) -> Resolvers {
        let addresses = self.dns.iter().map(|(address, _)| *address);
        Resolvers {
            resolver: Arc::clone(&self.resolver),
            addresses: Mutex::new(addresses.collect()),
        }
    }

    /// Answers on all of them until the agent ends.
    pub(super) fn serve(self, agent: &Agent) -> io::Result<()> {
        let tenants = agent.host.tenants.clone();
        let listener = tokio::net::TcpListener::from_std(self.metadata)?;
        let endpoint = Endpoint {
            tenants: tenants.clone(),
            tasks: Arc::clone(&agent.tasks),
            availability_zone_id: agent.config.flow_records.az_id.clone(),
        };
        let metadata = task_metadata::serve(endpoint, Connections::new(listener, tenants));
        run("task metadata", metadata);
        for (_, sockets) in self.dns {
            answer(&self.resolver, sockets);
        }
        Ok(())
    }
}

impl Resolvers {
    /// Answers for the networks that `vpc` has now, also at the resolvers' addresses that are new with them. One that
    /// is the VPC's no more goes on listening: nothing leads to it.
    ///
    /// # Errors
    /// The first address at which nobody answers; a repeat goes on there.
    pub(super) fn follow(&self, vpc: &Vpc, services: &Services) -> Result<(), FollowError> {
        self.resolver.set_networks(vpc.cidrs());
        let addresses = self.addresses.lock();
        let mut addresses = addresses.unwrap_or_else(PoisonError::into_inner);
        for address in vpc.resolvers() {
            if !addresses.contains(&IpAddr::V4(address)) {
                services.add_resolver(address)?;
                answer(&self.resolver, open(services, address.into())?);
                addresses.insert(address.into());
            }
        }
        Ok(())
    }
}

fn open(services: &Services, address: IpAddr) -> Result<Sockets, ListenError> {
    let port = resolver::PORT;
    let failed = |source| ListenError {
        address,
        port,
        source,
    };
    let socket = services.socket(address, port).map_err(failed)?;
    Ok((socket, listen(services, address, port)?))
}

fn listen(services: &Services, address: IpAddr, port: u16) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError {
        address,
        port,
        source,
    };
    services.listen(address, port).map_err(failed)
}

fn answer(resolver: &Arc<Resolver>, (socket, listener): Sockets) {
    run("DNS over UDP", serve_udp(Arc::clone(resolver), socket));
    run("DNS over TCP", serve_tcp(Arc::clone(resolver), listener));
}

fn run(what: &'static str, work: impl Future<Output = io::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = work.await {
            tracing::error!(what, error = causes(&error), "a service of the tasks ended");
        }
    });
}

/// Those of the configuration, or of the host as it is now.
fn forwarders(config: &Config) -> Forwarders {
    let named = config.local.dns.forwarders.as_ref();
    Forwarders::new(match named {
        Some(named) => named.iter().map(|Forwarder(address)| *address).collect(),
        None => host_forwarders(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default()),
    })
}
