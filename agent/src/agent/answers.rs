//! The sockets of this host's services: opened early, so that questions wait, and answered once the tasks are known.

use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use super::Agent;
use crate::config::{Config, Forwarder};
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
    dns: Vec<(UdpSocket, TcpListener)>,
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
        let listen = |address, port| {
            let failed = |source| ListenError {
                address,
                port,
                source,
            };
            services.listen(address, port).map_err(failed)
        };
        let dns = services.resolvers().map(|address| {
            let port = resolver::PORT;
            let failed = |source| ListenError {
                address,
                port,
                source,
            };
            let socket = services.socket(address, port).map_err(failed)?;
            Ok((socket, listen(address, port)?))
        });
        Ok(Self {
            metadata: listen(TASK_METADATA.into(), task_metadata::PORT)?,
            dns: dns.collect::<Result<_, _>>()?,
            resolver: Arc::new(Resolver::new(zone, forwarders(config))),
        })
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
        for (socket, listener) in self.dns {
            run(
                "DNS over UDP",
                serve_udp(Arc::clone(&self.resolver), socket),
            );
            run(
                "DNS over TCP",
                serve_tcp(Arc::clone(&self.resolver), listener),
            );
        }
        Ok(())
    }
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
