//! Which instance this is, by the instance metadata service, version 2.
//!
//! AWS: "Instance metadata categories".

use std::time::Duration;

use aws_config::imds::Client;
use aws_config::provider_config::ProviderConfig;
use serde::{Deserialize, Serialize};

use crate::call::http_client;

/// How long the service may take: it is beside us, or not there.
const CONNECT: Duration = Duration::from_secs(1);
const READ: Duration = Duration::from_secs(2);

/// An instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `i-…`.
    pub instance_id: String,
    /// As `m5.large`.
    pub instance_type: String,
    /// As `eu-west-1`.
    pub region: String,
    /// As `eu-west-1a`.
    pub availability_zone: String,
    /// As `euw1-az1`.
    pub availability_zone_id: Option<String>,
    /// The account that has it, 12 digits.
    pub account_id: Option<String>,
    /// MAC address of its primary ENI.
    pub mac: String,
    /// VPC of its primary ENI.
    pub vpc_id: String,
    /// Subnet of its primary ENI.
    pub subnet_id: String,
}

/// What is known without asking: each field in place of the service's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// `i-…`.
    pub instance_id: Option<String>,
    /// As `m5.large`.
    pub instance_type: Option<String>,
    /// As `eu-west-1`.
    pub region: Option<String>,
    /// As `eu-west-1a`.
    pub availability_zone: Option<String>,
}

/// Why it is not known which instance this is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The address of the service is none.
    #[error("{endpoint:?} is no address of an instance metadata service")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// The service did not tell.
    #[error("ask the instance metadata service for {path}")]
    Ask {
        /// What was asked.
        path: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Identity {
    /// Asks the service at `endpoint`, or the instance's own, for all that is not `known`.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub async fn load(endpoint: Option<&str>, known: &Known) -> Result<Self, IdentityError> {
        let provider = ProviderConfig::without_region().with_http_client(http_client());
        let mut builder = Client::builder()
            .configure(&provider)
            .connect_timeout(CONNECT)
            .read_timeout(READ)
            .max_attempts(3);
        if let Some(endpoint) = endpoint {
            let wrong = |_| IdentityError::Endpoint {
                endpoint: endpoint.to_owned(),
            };
            builder = builder.endpoint(endpoint).map_err(wrong)?;
        }
        let service = Service(builder.build());
        let mac = service.text("mac").await?;
        let interface = |leaf: &str| format!("network/interfaces/macs/{mac}/{leaf}");
        Ok(Self {
            instance_id: service.unless(&known.instance_id, "instance-id").await?,
            instance_type: service
                .unless(&known.instance_type, "instance-type")
                .await?,
            region: service.unless(&known.region, "placement/region").await?,
            availability_zone: service
                .unless(&known.availability_zone, "placement/availability-zone")
                .await?,
            availability_zone_id: service.text("placement/availability-zone-id").await.ok(),
            account_id: service.text(&interface("owner-id")).await.ok(),
            vpc_id: service.text(&interface("vpc-id")).await?,
            subnet_id: service.text(&interface("subnet-id")).await?,
            mac,
        })
    }
}

struct Service(Client);

impl Service {
    async fn text(&self, path: &str) -> Result<String, IdentityError> {
        let path = format!("/latest/meta-data/{path}");
        let answer = self.0.get(path.clone()).await;
        let answer = answer.map_err(|error| IdentityError::Ask {
            path,
            source: Box::new(error),
        })?;
        let answer: String = answer.into();
        Ok(answer.trim().to_owned())
    }

    async fn unless(&self, known: &Option<String>, path: &str) -> Result<String, IdentityError> {
        match known {
            Some(known) => Ok(known.clone()),
            None => self.text(path).await,
        }
    }
}
