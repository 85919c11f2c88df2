//! The embedded VPC of one host: a file says what exists, the store says who has what.
//!
//! Hands out ENIs; the fabric that carries their frames is the data plane's. Keeps nothing itself.

pub mod addresses;
pub mod routes;
pub mod vpc_file;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::future::ready;
use std::sync::Arc;

use ipnet::IpNet;

use self::addresses::allocate;
use self::routes::route_table;
use self::vpc_file::{CheckedVpc, VpcFileError};
use super::vpc::{Subnet, Vpc};
use super::{
    Eni, EniRequest, EniState, Occupied, Pending, Provider, ProviderError, RouteTables, VlanId,
    WarmPool,
};
use crate::api::{GROUPS_FIELD, SubnetDescription};
use crate::capacity::Bound;
use crate::capacity::instance_limits::LimitsError;
use crate::config::{Config, LocalConfig};
use crate::field_error::FieldError;
use crate::random::random_bytes;
use crate::security_groups::{Directory, Members};
use crate::spec::TaskId;

/// Why there is no local VPC.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Its file.
    #[error(transparent)]
    VpcFile(#[from] VpcFileError),
    /// The limits of the instance type.
    #[error(transparent)]
    Limits(#[from] LimitsError),
}

/// Hands out ENIs of a VPC that a file describes.
#[derive(Debug)]
pub struct LocalProvider {
    vpc: Arc<Vpc>,
    /// What the configuration says.
    configured_enis: usize,
    /// What the instance type takes, if the configuration names one.
    instance: Option<Bound>,
    routes: RouteTables,
}

impl LocalProvider {
    /// Reads the VPC file that `config` names, and returns the provider with the file's warnings.
    ///
    /// # Errors
    /// The file cannot be read, the first field that is wrong, alone or beside the uplink's networks, or the limits of
    /// the instance type are not known.
    pub fn load(config: &Config) -> Result<(Self, Vec<String>), LocalError> {
        let path = &config.local.vpc_file;
        let CheckedVpc { vpc, warnings } = vpc_file::load(path)?;
        check_uplink(&vpc, &config.local).map_err(|source| VpcFileError::Invalid {
            path: path.clone(),
            source,
        })?;
        let provider = Self {
            instance: config.capacity.bound(None)?,
            ..Self::new(vpc, config.max_enis as usize, &config.local)
        };
        Ok((provider, warnings))
    }

    /// A provider for `vpc`, with the ways out of `local`, that refuses more than `max_enis` ENIs.
    pub fn new(vpc: Vpc, max_enis: usize, local: &LocalConfig) -> Self {
        let routes = RouteTables {
            main: Arc::new(route_table(&vpc, local)),
            ..RouteTables::default()
        };
        Self {
            vpc: Arc::new(vpc),
            configured_enis: max_enis,
            instance: None,
            routes,
        }
    }

    /// ENIs that it hands out at most.
    fn max_enis(&self) -> usize {
        let instance = self.instance.as_ref().map(|bound| bound.most);
        let instance = instance.and_then(|most| usize::try_from(most).ok());
        instance.map_or(self.configured_enis, |most| most.min(self.configured_enis))
    }

    fn new_eni(
        &self,
        request: &EniRequest,
        directory: &Directory,
        occupied: &Occupied,
    ) -> Result<Eni, ProviderError> {
        if let Some(eni) = occupied.eni(&request.attachment_id) {
            return Ok(eni.clone());
        }
        let random = random_bytes().map_err(|source| ProviderError::Failed {
            attempt: "make a random id for an ENI".to_owned(),
            source: source.into(),
        })?;
        Ok(allocate(
            &self.vpc,
            directory,
            occupied,
            request,
            &eni_id(random),
            self.max_enis(),
        )?)
    }

    /// An ENI outlives edits of the VPC file only if its subnet and addresses are still there. Its groups need not be
    /// in the file: they may have been applied.
    fn state_of(&self, eni: &Eni) -> EniState {
        let Some(subnet) = self.vpc.subnet(&eni.subnet_id) else {
            return EniState::Gone(format!("{} is no longer in the VPC file", eni.subnet_id));
        };
        if eni.ipv4.map(|net| net.trunc()) != subnet.ipv4
            || eni.ipv6.map(|net| net.trunc()) != subnet.ipv6
        {
            return EniState::Gone(format!("{} has other networks now", eni.subnet_id));
        }
        EniState::Attached
    }
}

impl Provider for LocalProvider {
    fn allocate<'a>(
        &'a self,
        request: &'a EniRequest,
        directory: &'a Directory,
        occupied: &'a Occupied,
    ) -> Pending<'a, Eni> {
        Box::pin(ready(self.new_eni(request, directory, occupied)))
    }

    fn try_allocate<'a>(
        &'a self,
        request: &'a EniRequest,
        directory: &'a Directory,
        occupied: &'a Occupied,
    ) -> Pending<'a, ()> {
        let allocated = self.new_eni(request, directory, occupied);
        Box::pin(ready(allocated.map(drop)))
    }

    /// The fabric learns of an ENI from the maps that the data plane fills: nothing is left to attach.
    fn attach<'a>(&'a self, _eni: &'a Eni) -> Pending<'a, ()> {
        Box::pin(ready(Ok(())))
    }

    fn describe<'a>(&'a self, eni: &'a Eni) -> Pending<'a, EniState> {
        Box::pin(ready(Ok(self.state_of(eni))))
    }

    /// An ENI exists as long as the store has it: nothing is left to free.
    fn release<'a>(&'a self, _eni: &'a Eni) -> Pending<'a, ()> {
        Box::pin(ready(Ok(())))
    }

    /// The data plane has them from the caller: only whether there are such groups is the VPC's to say.
    fn set_groups<'a>(&'a self, eni: &'a Eni, directory: &'a Directory) -> Pending<'a, ()> {
        let known = addresses::known_groups(GROUPS_FIELD, &self.vpc.vpc_id, directory, &eni.groups);
        Box::pin(ready(known.map(drop).map_err(ProviderError::from)))
    }

    /// The store has them, and nobody else changes them.
    fn groups_of_enis(&self) -> BTreeMap<String, Vec<String>> {
        BTreeMap::new()
    }

    /// Nothing is ever left: an ENI exists as long as the store has it.
    fn collect<'a>(&'a self, _live: &'a HashSet<String>) -> Pending<'a, usize> {
        Box::pin(ready(Ok(0)))
    }

    fn describe_security_groups<'a>(&'a self) -> Pending<'a, Directory> {
        Box::pin(ready(Ok(self.vpc.directory.clone())))
    }

    fn describe_members<'a>(&'a self) -> Pending<'a, Members> {
        let mut members = Members::default();
        for interface in &self.vpc.network_interfaces {
            let groups = interface.groups.iter().cloned();
            members.insert(
                &interface.network_interface_id,
                groups,
                interface.networks.iter().copied(),
            );
        }
        Box::pin(ready(Ok(members)))
    }

    /// The file is read at the start only.
    fn refresh<'a>(&'a self) -> Pending<'a, ()> {
        Box::pin(ready(Ok(())))
    }

    fn describe_subnets(&self, occupied: &Occupied) -> Vec<SubnetDescription> {
        let describe = |subnet: &Subnet| SubnetDescription {
            subnet_id: subnet.subnet_id.clone(),
            vpc_id: self.vpc.vpc_id.clone(),
            cidr_block: subnet.ipv4.map(|net| net.to_string()),
            ipv6_cidr_block: subnet.ipv6.map(|net| net.to_string()),
            availability_zone: subnet.availability_zone.clone(),
            available_ip_address_count: addresses::available(&self.vpc, subnet, occupied),
        };
        self.vpc.subnets.iter().map(describe).collect()
    }

    fn bounds(&self) -> Vec<Bound> {
        let mut bounds = vec![
            Bound {
                resource: "network-interfaces".to_owned(),
                most: self.configured_enis as u64,
                source: "max_enis".to_owned(),
                counts_foreign: false,
            },
            Bound {
                resource: "vlans".to_owned(),
                most: VlanId::all().count() as u64,
                source: "IEEE 802.1Q".to_owned(),
                counts_foreign: false,
            },
        ];
        bounds.extend(self.instance.clone());
        bounds
    }

    /// The embedded VPC is this host's alone, and knows none.
    fn foreign_enis(&self) -> u64 {
        0
    }

    fn vpc(&self) -> Arc<Vpc> {
        Arc::clone(&self.vpc)
    }

    fn groups_read(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    /// An ENI costs nothing to make: none has to wait.
    fn warm_pool(&self) -> Option<WarmPool> {
        None
    }

    fn plan_pool(&self, _occupied: &Occupied) -> Result<bool, ProviderError> {
        Ok(false)
    }

    fn fill_pool<'a>(&'a self) -> Pending<'a, ()> {
        Box::pin(ready(Ok(())))
    }

    fn route_tables(&self) -> RouteTables {
        self.routes.clone()
    }

    fn name(&self) -> &'static str {
        "local"
    }
}

/// Host and VPC are linked by networks that must not be the VPC's own.
fn check_uplink(vpc: &Vpc, local: &LocalConfig) -> Result<(), FieldError> {
    let uplinks = [
        ("cidr_block", IpNet::V4(local.uplink_ipv4)),
        ("ipv6_cidr_block", IpNet::V6(local.uplink_ipv6)),
    ];
    for (field, uplink) in uplinks {
        let overlaps = |cidr: &IpNet| cidr.contains(&uplink) || uplink.contains(cidr);
        if let Some(cidr) = vpc
            .cidrs()
            .into_iter()
            .find(overlaps)
            .filter(|_| local.uplink)
        {
            let problem = format!("{cidr} overlaps the uplink's network {uplink}");
            let fix = "choose another, or set local.uplink_ipv4 and local.uplink_ipv6 in the configuration";
            return Err(FieldError::new(field, problem, fix));
        }
    }
    Ok(())
}

/// A fresh task id: 32 hex digits, as ECS's.
///
/// # Errors
/// The kernel gives no random numbers.
pub fn new_task_id() -> std::io::Result<TaskId> {
    let id = format!("{:032x}", u128::from_be_bytes(random_bytes()?));
    Ok(id.parse().expect("hex digits are a task id"))
}

/// A fresh attachment id: a random UUID (RFC 9562 §5.4).
///
/// # Errors
/// The kernel gives no random numbers.
pub fn new_attachment_id() -> std::io::Result<String> {
    random_bytes().map(uuid)
}

/// `eni-` and 17 hex digits, as EC2's.
fn eni_id(random: [u8; 16]) -> String {
    format!("eni-{:017x}", u128::from_be_bytes(random) >> 60)
}

fn uuid(random: [u8; 16]) -> String {
    uuid::Builder::from_random_bytes(random)
        .into_uuid()
        .to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::test_dir::TestDir;

    const FILE: &str = "vpc_id = 'vpc-1'\ncidr_block = '10.0.0.0/16'
        subnets = [{subnet_id = 'subnet-a', cidr_block = '10.0.1.0/24'}]
        [[security_groups]]\ngroup_id = 'sg-web'\ngroup_name = 'web'";

    fn provider(file: &str) -> LocalProvider {
        let vpc = vpc_file::parse(file).unwrap().vpc;
        LocalProvider::new(vpc, 4095, &LocalConfig::default())
    }

    fn request(groups: &[&str]) -> EniRequest {
        EniRequest {
            attachment_id: new_attachment_id().unwrap(),
            subnets: vec!["subnet-a".into()],
            security_groups: groups.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn ids_have_ec2s_and_uuids_form() {
        assert_eq!(eni_id([0xff; 16]), "eni-fffffffffffffffff");
        assert_eq!(eni_id([0; 16]), "eni-00000000000000000");
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_ne!(new_attachment_id().unwrap(), new_attachment_id().unwrap());
    }

    #[tokio::test]
    async fn a_repeated_request_gets_the_same_eni() {
        let provider: Box<dyn Provider> = Box::new(provider(FILE));
        let directory = provider.describe_security_groups().await.unwrap();
        let request = request(&["sg-web"]);
        let eni = provider
            .allocate(&request, &directory, &Occupied::default())
            .await
            .unwrap();
        assert_eq!(
            provider
                .allocate(&request, &directory, &Occupied::of([&eni]))
                .await
                .unwrap(),
            eni
        );
        assert_eq!(directory.groups["sg-web"].group_name, "web");
    }

    #[tokio::test]
    async fn edits_of_the_vpc_file_show_in_describe() {
        let provider_of_file = provider(FILE);
        let eni = provider_of_file
            .allocate(
                &request(&["sg-web"]),
                &Provider::vpc(&provider_of_file).directory,
                &Occupied::default(),
            )
            .await
            .unwrap();
        let rows = [
            (FILE.to_owned(), EniState::Attached),
            (
                FILE.replace("subnet-a", "subnet-b"),
                EniState::Gone("subnet-a is no longer in the VPC file".into()),
            ),
            (
                FILE.replace("10.0.1.0", "10.0.2.0"),
                EniState::Gone("subnet-a has other networks now".into()),
            ),
            (FILE.replace("sg-web", "sg-db"), EniState::Attached),
        ];
        for (file, state) in rows {
            assert_eq!(provider(&file).describe(&eni).await.unwrap(), state);
        }
    }

    #[test]
    fn the_uplink_is_outside_the_vpc() {
        let dir = TestDir::new();
        let vpc_file = dir.path().join("vpc.toml");
        std::fs::write(&vpc_file, FILE).unwrap();
        let config = |uplink: bool, uplink_ipv4: &str| Config {
            local: LocalConfig {
                vpc_file: vpc_file.clone(),
                uplink,
                uplink_ipv4: uplink_ipv4.parse().unwrap(),
                ..LocalConfig::default()
            },
            max_enis: 3,
            ..Config::default()
        };
        let (provider, warnings) = LocalProvider::load(&config(true, "169.254.77.0/30")).unwrap();
        assert_eq!(
            (
                provider.vpc().vpc_id.as_str(),
                provider.max_enis(),
                warnings.len()
            ),
            ("vpc-1", 3, 0)
        );
        for uplink in ["10.0.255.0/30", "10.0.0.0/8"] {
            let error = LocalProvider::load(&config(true, uplink))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("vpc.toml: cidr_block: 10.0.0.0/16 overlaps the uplink"),
                "{error}"
            );
            assert!(LocalProvider::load(&config(false, uplink)).is_ok());
        }
    }
}
