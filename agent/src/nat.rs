//! The NAT gateway: one nftables table in the fabric, one on the host if asked.
//!
//! Applies, compares and removes tables named `branchline`, and (in
//! `forwarding`) switches the host's forwarding on and back. Touches no other table and no other rule.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use nftables::batch::Batch;
use nftables::expr::CT;
use nftables::expr::{Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix};
use nftables::schema::{Chain, NfListObject, Rule, Table};
use nftables::stmt::{Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use serde::Serialize;

use crate::netns::{Netns, NetnsError};
use crate::sysctl::SysctlError;

mod forwarding;
mod nft;

pub use forwarding::{PreviousForwarding, enable_forwarding, restore_forwarding};

/// The name of the only table that is ours, in whatever namespace.
pub const TABLE: &str = "branchline";

const FORWARD: &str = "forward";
const POSTROUTING: &str = "postrouting";
/// `NF_IP_PRI_FILTER` and `NF_IP_PRI_NAT_SRC` of linux/netfilter_ipv4.h.
const FILTER_PRIORITY: i32 = 0;
const SOURCE_NAT_PRIORITY: i32 = 100;

/// Why a table could not be applied, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum NatError {
    /// There is no `nft` to run.
    #[error("{action} in network namespace {netns}: nft is missing; install package nftables")]
    NftMissing {
        /// What was attempted.
        action: &'static str,
        /// The namespace.
        netns: String,
    },
    /// The kernel does not know what the table needs.
    #[error(
        "{action} in network namespace {netns}: the kernel lacks nf_tables with NAT \
         (CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_CT); install the \
         kernel's package of extra modules, or set nat_gateway = false ({reason})"
    )]
    KernelSupport {
        /// What was attempted.
        action: &'static str,
        /// The namespace.
        netns: String,
        /// The words of nft.
        reason: String,
    },
    /// nft ran and refused.
    #[error("{action} in network namespace {netns}: {reason}")]
    Nft {
        /// What was attempted.
        action: &'static str,
        /// The namespace.
        netns: String,
        /// The words of nft.
        reason: String,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A forwarding setting could not be read or written.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// What is found of our table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableState {
    /// There is none.
    Absent,
    /// It is as it should be.
    Equal,
    /// Someone or another version made it different; applying mends it.
    Different,
}

/// The table of the fabric's namespace: what may pass between VPC and outside.
///
/// Replies pass. The VPC opens connections to the outside if there is a NAT
/// gateway, IPv4 under the uplink's address. Into the VPC only the host may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FabricNat {
    /// The fabric's link to the VPC.
    pub trunk: String,
    /// The fabric's link to the host.
    pub uplink: String,
    /// The host's addresses on the uplink.
    pub host: (Ipv4Addr, Ipv6Addr),
    /// Whether the VPC reaches the outside.
    pub nat_gateway: bool,
}

/// The host's table: lends the host's addresses to what comes out of the VPC,
/// and lets nothing but replies be forwarded into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNat {
    /// The host's link to the fabric.
    pub uplink: String,
    /// The sources that come over it: the uplink's networks and the VPC's CIDRs.
    pub sources: Vec<IpNet>,
}

impl FabricNat {
    /// Makes the table what it should be, in one transaction: no packet meets a half of it.
    ///
    /// # Errors
    /// `NftMissing`, `KernelSupport`, `Nft`; the table is then as it was.
    pub fn apply(&self, netns: &Netns) -> Result<(), NatError> {
        nft::apply("apply the fabric's nftables table", netns, self.objects())
    }

    /// Compares the table in place with what it should be.
    ///
    /// # Errors
    /// As [`FabricNat::apply`].
    pub fn check(&self, netns: &Netns) -> Result<TableState, NatError> {
        nft::check("check the fabric's nftables table", netns, &self.objects())
    }

    fn objects(&self) -> Vec<NfListObject<'static>> {
        let trunk_to_uplink = [iif(&self.trunk), oif(&self.uplink)];
        let from_host = |source: IpNet| {
            let way = [iif(&self.uplink), oif(&self.trunk), source_is(&source)];
            rule(FORWARD, [&way[..], &[accept()]].concat())
        };
        let mut objects = vec![
            table(),
            chain(FORWARD, NfHook::Forward, NfChainPolicy::Drop),
            chain(POSTROUTING, NfHook::Postrouting, NfChainPolicy::Accept),
            rule(FORWARD, vec![is_reply(), accept()]),
            from_host(IpNet::from(IpAddr::V4(self.host.0))),
            from_host(IpNet::from(IpAddr::V6(self.host.1))),
        ];
        if self.nat_gateway {
            let ipv4 = compare(meta(MetaKey::Nfproto), Operator::EQ, text("ipv4"));
            objects.extend([
                rule(FORWARD, [&trunk_to_uplink[..], &[accept()]].concat()),
                rule(POSTROUTING, vec![ipv4, oif(&self.uplink), masquerade()]),
            ]);
        }
        objects
    }
}

impl HostNat {
    /// Makes the table what it should be, in one transaction.
    ///
    /// # Errors
    /// As [`FabricNat::apply`].
    pub fn apply(&self, netns: &Netns) -> Result<(), NatError> {
        nft::apply("apply the host's nftables table", netns, self.objects())
    }

    /// Compares the table in place with what it should be.
    ///
    /// # Errors
    /// As [`FabricNat::apply`].
    pub fn check(&self, netns: &Netns) -> Result<TableState, NatError> {
        nft::check("check the host's nftables table", netns, &self.objects())
    }

    fn objects(&self) -> Vec<NfListObject<'static>> {
        let leaves_elsewhere =
            || compare(meta(MetaKey::Oifname), Operator::NEQ, text(&self.uplink));
        let mut objects = vec![
            table(),
            chain(FORWARD, NfHook::Forward, NfChainPolicy::Accept),
            chain(POSTROUTING, NfHook::Postrouting, NfChainPolicy::Accept),
            rule(FORWARD, vec![oif(&self.uplink), is_reply(), accept()]),
            rule(FORWARD, vec![oif(&self.uplink), Statement::Drop(None)]),
        ];
        objects.extend(self.sources.iter().map(|source| {
            let out = vec![source_is(source), leaves_elsewhere(), masquerade()];
            rule(POSTROUTING, out)
        }));
        objects
    }
}

/// Removes our table from `netns`; already gone is success.
///
/// # Errors
/// `NftMissing`, `Nft`.
pub fn remove(netns: &Netns) -> Result<(), NatError> {
    let mut batch = Batch::new();
    // Adding what exists is no error, deleting what does not is one.
    batch.add(table());
    batch.delete(table());
    nft::run_nft("remove the nftables table", netns, &batch.to_nftables())
}

fn table() -> NfListObject<'static> {
    NfListObject::Table(Table {
        family: NfFamily::INet,
        name: TABLE.into(),
        handle: None,
    })
}

fn chain(name: &'static str, hook: NfHook, policy: NfChainPolicy) -> NfListObject<'static> {
    let (kind, priority) = if hook == NfHook::Postrouting {
        (NfChainType::NAT, SOURCE_NAT_PRIORITY)
    } else {
        (NfChainType::Filter, FILTER_PRIORITY)
    };
    NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(policy),
        ..Chain::default()
    })
}

fn rule(chain: &'static str, statements: Vec<Statement<'static>>) -> NfListObject<'static> {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: statements.into(),
        ..Rule::default()
    })
}

fn iif(link: &str) -> Statement<'static> {
    compare(meta(MetaKey::Iifname), Operator::EQ, text(link))
}

fn oif(link: &str) -> Statement<'static> {
    compare(meta(MetaKey::Oifname), Operator::EQ, text(link))
}

fn is_reply() -> Statement<'static> {
    let state = NamedExpression::CT(CT {
        key: "state".into(),
        family: None,
        dir: None,
    });
    let replies = Expression::List(vec![text("established"), text("related")]);
    compare(Expression::Named(state), Operator::IN, replies)
}

fn source_is(net: &IpNet) -> Statement<'static> {
    let protocol = match net {
        IpNet::V4(_) => "ip",
        IpNet::V6(_) => "ip6",
    };
    let source = NamedExpression::Payload(Payload::PayloadField(PayloadField {
        protocol: protocol.into(),
        field: "saddr".into(),
    }));
    let value = if net.prefix_len() == net.max_prefix_len() {
        text(&net.addr().to_string())
    } else {
        Expression::Named(NamedExpression::Prefix(Prefix {
            addr: Box::new(text(&net.network().to_string())),
            len: net.prefix_len().into(),
        }))
    };
    compare(Expression::Named(source), Operator::EQ, value)
}

fn compare(
    left: Expression<'static>,
    op: Operator,
    right: Expression<'static>,
) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn text(value: &str) -> Expression<'static> {
    Expression::String(value.to_owned().into())
}

fn accept() -> Statement<'static> {
    Statement::Accept(None)
}

fn masquerade() -> Statement<'static> {
    Statement::Masquerade(None)
}
