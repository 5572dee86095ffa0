//! Subnets and addresses (RFC 1918, RFC 4632): which are free, as pure functions.
//!
//! A subnet is the first /24 of the pools that overlaps nothing; an address is the lowest one that nobody has.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where subnets are taken from, in this order; the later ones serve hosts that route all of 10.0.0.0/8.
pub const POOLS: [Ipv4Net; 3] = [
    Ipv4Net { address: Ipv4Addr::new(10, 210, 0, 0), prefix: 16 },
    Ipv4Net { address: Ipv4Addr::new(172, 26, 0, 0), prefix: 16 },
    Ipv4Net { address: Ipv4Addr::new(192, 168, 128, 0), prefix: 17 },
];
/// Bits of a subnet that we choose.
pub const SUBNET_PREFIX: u8 = 24;
/// Routes no longer than this mean "everything" (the default route, or its halves as VPN clients set them).
const EVERYTHING_PREFIX: u8 = 1;

/// An IPv4 network: an address without host bits, and how many bits count. Written `10.210.0.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Net {
    address: Ipv4Addr,
    prefix: u8,
}

/// A text that is no network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 network: write it as 10.210.0.0/24")]
pub struct NotANetwork(String);

impl Ipv4Net {
    /// The network that `address` is in; none when `prefix` is over 32.
    #[must_use]
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        (prefix <= 32).then(|| Self { address: Ipv4Addr::from_bits(address.to_bits() & mask(prefix)), prefix })
    }

    /// Its first address.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// How many bits count.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The bits that count, as a mask.
    #[must_use]
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.prefix))
    }

    /// Its last address.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !mask(self.prefix))
    }

    /// The first address after its own.
    #[must_use]
    pub fn first_host(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits().saturating_add(1))
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.address.to_bits()
    }

    /// Whether a host may have `address`: it is in it and neither the first nor the last.
    #[must_use]
    pub fn is_host(self, address: Ipv4Addr) -> bool {
        self.contains(address) && address != self.address && address != self.broadcast()
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Ipv4Net {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let address: Ipv4Addr = address.parse().ok()?;
            Self::new(address, prefix.parse().ok()?).filter(|network| network.address == address)
        });
        parsed.ok_or_else(|| NotANetwork(text.to_owned()))
    }
}

impl TryFrom<String> for Ipv4Net {
    type Error = NotANetwork;

    fn try_from(text: String) -> Result<Self, NotANetwork> {
        text.parse()
    }
}

impl From<Ipv4Net> for String {
    fn from(network: Ipv4Net) -> Self {
        network.to_string()
    }
}

/// The first /24 of `pools` that overlaps no network of ours and no route or address of the host.
#[must_use]
pub fn choose_subnet(pools: &[Ipv4Net], taken: &[Ipv4Net], host_routes: &[Ipv4Net]) -> Option<Ipv4Net> {
    let routes = host_routes.iter().filter(|route| route.prefix > EVERYTHING_PREFIX);
    let busy: Vec<_> = taken.iter().chain(routes).copied().collect();
    pools.iter().find_map(|pool| {
        let size = 1 << (32 - u32::from(SUBNET_PREFIX));
        let count = 1_u32.checked_shl(u32::from(SUBNET_PREFIX.checked_sub(pool.prefix)?))?;
        (0..count)
            .filter_map(|index| Ipv4Net::new(Ipv4Addr::from_bits(pool.address.to_bits() + index * size), SUBNET_PREFIX))
            .find(|subnet| !busy.iter().any(|other| subnet.overlaps(*other)))
    })
}

/// The lowest address of the network that is neither the gateway's, nor taken, nor its first or last.
#[must_use]
pub fn next_address(network: &super::Network, taken: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    let subnet = network.subnet;
    let hosts = subnet.address.to_bits().checked_add(1)?..subnet.broadcast().to_bits();
    let taken: std::collections::HashSet<_> = taken.iter().collect();
    hosts.map(Ipv4Addr::from_bits).find(|address| *address != network.gateway && !taken.contains(address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Network, Settings};

    fn nets(list: &[&str]) -> Vec<Ipv4Net> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn subnets() {
        fn check(taken: &[&str], routes: &[&str], expected: Option<&str>) {
            let chosen = choose_subnet(&POOLS, &nets(taken), &nets(routes));
            assert_eq!(chosen.map(|chosen| chosen.to_string()).as_deref(), expected, "{taken:?} {routes:?}");
        }
        check(&[], &[], Some("10.210.0.0/24"));
        check(&["10.210.0.0/24"], &[], Some("10.210.1.0/24"));
        check(&["10.210.1.0/24"], &["10.210.0.128/25"], Some("10.210.2.0/24"));
        check(&[], &["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"], Some("10.210.0.0/24"));
        check(&[], &["10.210.0.7/32"], Some("10.210.1.0/24"));
        check(&[], &["10.0.0.0/8"], Some("172.26.0.0/24"));
        check(&[], &["10.0.0.0/8", "172.16.0.0/12"], Some("192.168.128.0/24"));
        check(&[], &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"], None);
    }

    #[test]
    fn addresses() {
        let network = Settings::new("0123456789ab").unwrap().default_network("bridge", nets(&["10.210.0.0/29"])[0]);
        let check = |taken: &[u8], expected: Option<u8>| {
            let taken: Vec<_> = taken.iter().map(|last| Ipv4Addr::new(10, 210, 0, *last)).collect();
            assert_eq!(next_address(&network, &taken).map(|found| found.octets()[3]), expected, "{taken:?}");
        };
        check(&[], Some(2));
        check(&[2, 4], Some(3));
        check(&[2, 3, 4, 5], Some(6));
        check(&[2, 3, 4, 5, 6], None);
    }

    #[test]
    fn texts() {
        for wrong in ["", "10.0.0.0", "10.0.0.1/24", "10.0.0.0/33", "10.0.0/24", "::/0"] {
            assert!(wrong.parse::<Ipv4Net>().is_err(), "{wrong}");
        }
        let network = Settings::new("0123456789ab").unwrap().default_network("bridge", nets(&["10.210.3.0/24"])[0]);
        let text = serde_json::to_string(&network).unwrap();
        assert_eq!(serde_json::from_str::<Network>(&text).unwrap(), network);
        assert_eq!(network.bridge, "atl-01234567");
    }

    proptest! {
        #[test]
        fn a_chosen_subnet_overlaps_nothing(routes in prop::collection::vec((any::<u32>(), 2_u8..=32), 0..50)) {
            let pool = POOLS[0].address.to_bits();
            let routes: Vec<_> = routes.iter()
                .filter_map(|(bits, prefix)| Ipv4Net::new(Ipv4Addr::from_bits(pool | bits >> 16), *prefix)).collect();
            if let Some(chosen) = choose_subnet(&POOLS, &[], &routes) {
                prop_assert!(POOLS.iter().any(|pool| pool.overlaps(chosen)));
                prop_assert!(!routes.iter().any(|route| route.overlaps(chosen)));
            }
        }
    }
}
