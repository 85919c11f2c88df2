//! The VPC's networks, which may become more or fewer while tasks run: resolvers and data plane follow them.

use tokio::task::block_in_place;

use super::Agent;
use super::answers::FollowError;
use crate::datapath::DatapathError;
use crate::server::causes;

/// Why something goes by networks of before.
#[derive(Debug, thiserror::Error)]
enum NetworksError {
    /// The resolvers.
    #[error("answer at the resolvers' addresses")]
    Resolvers(#[from] FollowError),
    /// The data plane.
    #[error("tell the data plane of the resolvers")]
    Datapath(#[from] DatapathError),
}

impl Agent {
    /// What the provider's last look found the VPC's networks to be is what resolvers and data plane go by. What could
    /// not be done is done after the next look.
    pub(super) fn follow_networks(&self) {
        match block_in_place(|| self.follow_networks_now()) {
            Ok(0) => {}
            Ok(enis) => tracing::info!(enis, "the VPC's networks are others; resolvers follow"),
            Err(error) => {
                let error = causes(&error);
                tracing::warn!(error, "resolvers are by the VPC's networks of before");
            }
        }
    }

    fn follow_networks_now(&self) -> Result<usize, NetworksError> {
        let vpc = self.host.provider.vpc();
        // They answer before packets are led to them.
        self.resolvers.follow(&vpc, &self.host.services)?;
        let mut plugs = self.host.plugs();
        Ok(plugs.set_vpc_cidrs(&self.host.datapath, vpc.cidrs())?)
    }
}
