//! The packet filter of a root: one nftables table of our own, a pure function of the networks that there are.
//!
//! ```text
//!   prerouting    what a workload sends to 127.0.0.0/8          → dropped
//!   forward       answers to what a workload began              → accepted
//!                 into a bridge from anywhere but itself        → dropped (nothing is published yet; bridges are apart)
//!                 packets of no connection                      → dropped
//!   postrouting   from a network's addresses, leaving its bridge → the host's address (masquerade)
//! ```
//!
//! Its verdict is never the last: where another's chain drops forwarded packets, ours cannot let them pass.

use std::net::Ipv4Addr;

use atoll_sys::netlink::nft::{Chain, Expression, FAMILY_INET, FAMILY_V4, Hook, Meta, Purpose, Table, Verdict, state};

use crate::{Ipv4Net, Network, Settings};

/// Bytes of an interface's name in a comparison.
const NAME_BYTES: usize = 16;
/// Where the addresses are in an IPv4 header (RFC 791, section 3.1).
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
/// `NF_IP_PRI_RAW`, `_FILTER`, `_NAT_SRC`.
const RAW: i32 = -300;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;

/// The table that `networks` want.
#[must_use]
pub fn table(settings: &Settings, networks: &[Network]) -> Table {
    let chain = |name: &str, purpose, hook, priority, rules| Chain {
        name: name.to_owned(),
        purpose,
        hook,
        priority,
        policy: Verdict::Accept,
        rules,
    };
    let of_each = |rule: &dyn Fn(&Network) -> Vec<Expression>| networks.iter().map(rule).collect::<Vec<_>>();
    let mut forward = vec![answers()];
    forward.extend(of_each(&into_bridge));
    forward.extend(of_each(&of_no_connection));
    Table {
        family: FAMILY_INET,
        name: settings.table(),
        chains: vec![
            chain("prerouting", Purpose::Filter, Hook::Prerouting, RAW, of_each(&to_loopback)),
            chain("forward", Purpose::Filter, Hook::Forward, FILTER, forward),
            chain("postrouting", Purpose::Nat, Hook::Postrouting, SOURCE_NAT, of_each(&leaving)),
        ],
    }
}

fn answers() -> Vec<Expression> {
    let mut rule = connection_is(state::ESTABLISHED | state::RELATED);
    rule.push(Expression::Verdict(Verdict::Accept));
    rule
}

fn into_bridge(network: &Network) -> Vec<Expression> {
    vec![
        Expression::Meta(Meta::OutputName),
        Expression::Equal(name(&network.bridge)),
        Expression::Meta(Meta::InputName),
        Expression::NotEqual(name(&network.bridge)),
        Expression::Counter,
        Expression::Verdict(Verdict::Drop),
    ]
}

fn of_no_connection(network: &Network) -> Vec<Expression> {
    let mut rule = vec![
        Expression::Meta(Meta::InputName),
        Expression::Equal(name(&network.bridge)),
        // Within the bridge there is nothing to follow: with br_netfilter such packets come by here too.
        Expression::Meta(Meta::OutputName),
        Expression::NotEqual(name(&network.bridge)),
    ];
    rule.extend(connection_is(state::INVALID));
    rule.push(Expression::Verdict(Verdict::Drop));
    rule
}

fn to_loopback(network: &Network) -> Vec<Expression> {
    let mut rule = vec![Expression::Meta(Meta::InputName), Expression::Equal(name(&network.bridge))];
    rule.extend(address_in(DESTINATION, Ipv4Addr::new(127, 0, 0, 0), Ipv4Addr::new(255, 0, 0, 0)));
    rule.push(Expression::Verdict(Verdict::Drop));
    rule
}

fn leaving(network: &Network) -> Vec<Expression> {
    let Network { subnet, bridge, .. } = network;
    let mut rule = of_subnet(*subnet);
    rule.extend([
        Expression::Meta(Meta::OutputName),
        Expression::NotEqual(name(bridge)),
        Expression::Counter,
        Expression::Masquerade,
    ]);
    rule
}

fn of_subnet(subnet: Ipv4Net) -> Vec<Expression> {
    address_in(SOURCE, subnet.address(), subnet.mask())
}

/// Goes on for IPv4 packets whose address at `offset` is in a network.
fn address_in(offset: u32, network: Ipv4Addr, mask: Ipv4Addr) -> Vec<Expression> {
    vec![
        Expression::Meta(Meta::Protocol),
        Expression::Equal(vec![FAMILY_V4]),
        Expression::Network { offset, length: 4 },
        Expression::Mask(mask.octets().to_vec()),
        Expression::Equal(network.octets().to_vec()),
    ]
}

fn connection_is(bits: u32) -> Vec<Expression> {
    vec![Expression::ConnectionState, Expression::Mask(bits.to_ne_bytes().to_vec()), Expression::NotEqual(vec![0; 4])]
}

fn name(interface: &str) -> Vec<u8> {
    let mut bytes = interface.as_bytes().to_vec();
    bytes.resize(NAME_BYTES, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_with_networks() {
        let settings = Settings::new("0123456789ab").expect("an id");
        let count = |networks: &[Network]| -> Vec<usize> {
            table(&settings, networks).chains.iter().map(|chain| chain.rules.len()).collect()
        };
        let network = |text: &str| settings.default_network("bridge", text.parse().expect("a network"));
        assert_eq!(count(&[]), [0, 1, 0]);
        assert_eq!(count(&[network("10.210.0.0/24")]), [1, 3, 1]);
        assert_eq!(count(&[network("10.210.0.0/24"), network("10.210.1.0/24")]), [2, 5, 2]);
        let table = table(&settings, &[network("10.210.7.0/24")]);
        assert_eq!(table.name, "atoll-0123456789ab");
        let masquerade = &table.chains[2].rules[0];
        assert!(masquerade.contains(&Expression::Equal(vec![10, 210, 7, 0])));
        assert!(masquerade.contains(&Expression::NotEqual(name("atl-01234567"))));
    }
}
