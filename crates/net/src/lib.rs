//! Networks of one host: values, pure plans ([`address`], [`filter`], [`user`]) and their execution ([`ensure`], [`attach`]).
//!
//! A root's id gives the names of its bridge and its nftables table. What a host has of ours is made when a workload needs
//! it and checked each time; nobody else's bridge, rule or policy is touched. An ordinary user, who may make no bridge, has a
//! network for each workload, with published ports. On bridges these are left out until they are here, and so are DNS, IPv6
//! and networks that users make.

#![forbid(unsafe_code)]

pub mod address;
mod bridge;
pub mod filter;
pub mod user;

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

pub use address::{Ipv4Net, POOLS, choose_subnet, next_address};
pub use bridge::{Attachment, attach, ensure, foreign_drops, host_routes, remove};

/// Fewest and most characters of a root's id.
const ROOT_ID_CHARS: std::ops::RangeInclusive<usize> = 8..=64;
/// How many characters of a root's id are in the name of a bridge.
const BRIDGE_ID_CHARS: usize = 8;

/// What can go wrong with a network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root's id cannot be part of names.
    #[error("root id {0:?} cannot name networks: it takes 8 to 64 lower-case letters and digits")]
    RootId(String),
    /// The kernel refused something of a network.
    #[error("{doing} failed")]
    Netlink {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: atoll_sys::netlink::Error,
    },
    /// Every subnet that we would take is routed somewhere.
    #[error("no free subnet is left for a network: use --network host or none")]
    NoSubnet,
    /// Every address of a network is taken.
    #[error("no free address is left on network {0:?}: stop a container of it")]
    NoAddress(String),
    /// The host cannot be made to pass packets on.
    #[error(
        "this host does not forward packets, and /proc/sys/net/ipv4/ip_forward cannot be set to 1: set it, or use --network host or none"
    )]
    Forwarding(#[source] std::io::Error),
    /// Something else has the name of a bridge of ours.
    #[error("interface {0:?} is not our bridge: remove it, or use --network host or none")]
    NotABridge(String),
    /// No program connects an ordinary user's workloads.
    #[error(
        "neither pasta nor slirp4netns is installed to connect an ordinary user's containers: install the package passt or \
         slirp4netns, or use --network none or host"
    )]
    NoHelper,
    /// The device that such a program needs is closed to us.
    #[error(
        "cannot open /dev/net/tun to connect an ordinary user's containers: give it mode 0666, or use --network none or host"
    )]
    Tun(#[source] std::io::Error),
    /// No network namespace could be made.
    #[error("cannot make a network namespace")]
    Namespace(#[source] std::io::Error),
}

impl Error {
    pub(crate) fn netlink(doing: &'static str) -> impl Fn(atoll_sys::netlink::Error) -> Self + Copy {
        move |source| Self::Netlink { doing, source }
    }
}

/// What all networks of one root share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The root's id: names of bridges and tables derive from it.
    pub root_id: String,
    /// Where subnets are taken from, in this order.
    pub pools: Vec<Ipv4Net>,
}

impl Settings {
    /// Settings with the default pools.
    ///
    /// # Errors
    /// [`Error::RootId`].
    pub fn new(root_id: &str) -> Result<Self, Error> {
        let letters = root_id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !letters || !ROOT_ID_CHARS.contains(&root_id.len()) {
            return Err(Error::RootId(root_id.to_owned()));
        }
        Ok(Self { root_id: root_id.to_owned(), pools: POOLS.to_vec() })
    }

    /// The name of our nftables table, family `inet`.
    #[must_use]
    pub fn table(&self) -> String {
        format!("atoll-{}", self.root_id)
    }

    /// The default network of this root on `subnet`.
    #[must_use]
    pub fn default_network(&self, name: &str, subnet: Ipv4Net) -> Network {
        let id = self.root_id.get(..BRIDGE_ID_CHARS).unwrap_or(&self.root_id);
        Network { name: name.to_owned(), subnet, gateway: subnet.first_host(), bridge: format!("atl-{id}") }
    }
}

/// A network: one bridge on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// What people call it.
    pub name: String,
    /// Its addresses.
    pub subnet: Ipv4Net,
    /// The host's own address in it.
    pub gateway: Ipv4Addr,
    /// Name of its bridge, at most 15 bytes.
    pub bridge: String,
}
