//! Making what the plan says: the bridge with its address, forwarding, the packet filter, and a workload's way in.
//!
//! Everything works on the network namespace of the calling thread. A workload's namespace is held by a descriptor alone:
//! when that and the workload's processes are gone, the kernel takes the veth pair away with it, whoever was killed when.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};

use atoll_sys::netlink::message::Batch;
use atoll_sys::netlink::nft::{self, Hook};
use atoll_sys::netlink::route::{self, Address, Mac, Veth};
use atoll_sys::netlink::{self, Protocol, Socket};
use atoll_sys::netns;
use rustix::io::Errno;

use crate::{Error, Ipv4Net, Network, Settings, filter};

/// Whether this host passes packets on (ip-sysctl.rst); what we change of it stays.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// What a workload's interface is called, as everywhere.
pub(crate) const INSIDE: &str = "eth0";
/// Characters of a workload's id in the name of its end on the host.
const VETH_ID_CHARS: usize = 12;
/// The loopback of a new namespace is its first interface.
const LOOPBACK: u32 = 1;
/// Largest packet where the bridge says nothing else, bytes.
const MTU: u32 = 1500;

/// A workload's place on a network, as its interface has it.
#[derive(Debug)]
pub struct Attachment {
    /// Its network namespace, which lives as long as this or a process in it.
    pub namespace: OwnedFd,
    /// Its address.
    pub address: Ipv4Addr,
    /// The hardware address of its interface.
    pub mac: Mac,
}

/// The networks of the host: where its routes lead, and its own addresses.
///
/// # Errors
/// [`Error::Netlink`].
pub fn host_routes() -> Result<Vec<Ipv4Net>, Error> {
    let failed = Error::netlink("reading the host's routes");
    let read = || -> Result<_, netlink::Error> {
        let mut socket = Socket::open(Protocol::Route)?;
        Ok((route::routes(&mut socket)?, route::addresses(&mut socket, None)?))
    };
    let (routes, addresses) = read().map_err(failed)?;
    let routes = routes.into_iter().map(|route| (route.destination, route.prefix));
    let addresses = addresses.into_iter().map(|address| (address.address, address.prefix));
    let v4 = |(address, prefix)| match address {
        IpAddr::V4(address) => Ipv4Net::new(address, prefix),
        IpAddr::V6(_) => None,
    };
    Ok(routes.chain(addresses).filter_map(v4).collect())
}

/// Sees to it that the bridges of `networks` are there and up with their addresses, that the host forwards, and that our
/// packet filter is what it should be. Cheap when nothing is to be done. What it returns are sentences about the host that
/// its owner should know.
///
/// # Errors
/// [`Error::Netlink`], [`Error::Forwarding`], [`Error::NotABridge`].
pub fn ensure(settings: &Settings, networks: &[Network]) -> Result<Vec<String>, Error> {
    let mut socket = Socket::open(Protocol::Route).map_err(Error::netlink("opening a netlink socket"))?;
    for network in networks {
        ensure_bridge(&mut socket, network)?;
    }
    forward()?;
    let failed = Error::netlink("writing the packet filter (nftables)");
    let table = filter::table(settings, networks);
    let write = || -> Result<_, netlink::Error> {
        let mut socket = Socket::open(Protocol::Netfilter)?;
        if !nft::stands(&mut socket, &table)? {
            nft::replace(&mut socket, &table)?;
        }
        Ok(())
    };
    write().map_err(failed)?;
    let bridges = networks.iter().map(|network| network.bridge.as_str()).collect::<Vec<_>>().join(", ");
    let said = |chain: &String| {
        format!(
            "{chain} drops forwarded packets that none of its rules accepts: workloads on a bridge cannot reach other hosts until \
             it accepts packets from and to {bridges}"
        )
    };
    Ok(foreign_drops()?.iter().map(said).collect())
}

/// Chains that drop what the host would pass on, where no rule of theirs accepts it. Ours never do that.
///
/// # Errors
/// [`Error::Netlink`].
pub fn foreign_drops() -> Result<Vec<String>, Error> {
    let read = || nft::base_chains(&mut Socket::open(Protocol::Netfilter)?);
    let chains = read().map_err(Error::netlink("reading the packet filter (nftables)"))?;
    let drops = chains.into_iter().filter(|chain| {
        let sees_ours = matches!(chain.family, nft::FAMILY_INET | nft::FAMILY_V4);
        chain.drops && sees_ours && chain.hook == Hook::Forward as u32
    });
    Ok(drops.map(|chain| format!("chain {:?} of the host's table {:?}", chain.name, chain.table)).collect())
}

fn ensure_bridge(socket: &mut Socket, network: &Network) -> Result<(), Error> {
    let failed = |what: &'static str| Error::netlink(what);
    let find = |socket: &mut Socket| route::link(socket, &network.bridge).map_err(failed("looking for the bridge"));
    let link = match find(socket)? {
        Some(link) => link,
        None => {
            let mut batch = Batch::default();
            route::create_bridge(&mut batch, &network.bridge, mac_of(network.gateway));
            match socket.execute(&batch) {
                Err(error) if error.errno() != Some(Errno::EXIST) => return Err(failed("making the bridge")(error)),
                _ => find(socket)?.ok_or_else(|| Error::NotABridge(network.bridge.clone()))?,
            }
        }
    };
    if link.kind != "bridge" {
        return Err(Error::NotABridge(network.bridge.clone()));
    }
    let addresses = route::addresses(socket, Some(link.index)).map_err(failed("reading the bridge's addresses"))?;
    let mut batch = Batch::default();
    if !addresses.iter().any(|address| address.address == IpAddr::V4(network.gateway)) {
        let address = IpAddr::V4(network.gateway);
        route::add_address(&mut batch, &Address { index: link.index, address, prefix: network.subnet.prefix() });
    }
    if !link.up {
        route::set_up(&mut batch, link.index);
    }
    match socket.execute(&batch) {
        // Somebody else did it meanwhile.
        Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
        other => other.map(drop).map_err(failed("setting the bridge up")),
    }
}

fn forward() -> Result<(), Error> {
    let on = |text: String| text.trim() == "1";
    if std::fs::read_to_string(FORWARDING).is_ok_and(on) {
        return Ok(());
    }
    std::fs::write(FORWARDING, "1").map_err(Error::Forwarding)
}

/// Makes a network namespace for the workload `id` with an interface on `network`, whose bridge is there.
///
/// # Errors
/// [`Error::Netlink`], [`Error::Namespace`]; nothing is left then.
pub fn attach(network: &Network, id: &str, address: Ipv4Addr) -> Result<Attachment, Error> {
    let mut host = Socket::open(Protocol::Route).map_err(Error::netlink("opening a netlink socket"))?;
    let bridge = route::link(&mut host, &network.bridge).map_err(Error::netlink("looking for the bridge"))?;
    let bridge = bridge.ok_or_else(|| Error::NotABridge(network.bridge.clone()))?;
    let (namespace, inside) = netns::create(|| Socket::open(Protocol::Route)).map_err(Error::Namespace)?;
    let mut inside = inside.map_err(Error::netlink("opening a netlink socket"))?;
    let mac = mac_of(address);
    let name = format!("av{}", id.get(..VETH_ID_CHARS).unwrap_or(id));
    let mtu = if bridge.mtu == 0 { MTU } else { bridge.mtu };
    let veth =
        Veth { name: &name, master: bridge.index, mtu, peer: INSIDE, peer_mac: mac, namespace: namespace.as_fd() };
    let failed = Error::netlink("making the workload's interface");
    let mut batch = Batch::default();
    route::create_veth(&mut batch, &veth);
    match host.execute(&batch) {
        Err(error) if error.errno() == Some(Errno::EXIST) => {
            // Of an earlier run of this workload, whose namespace somebody still holds.
            let mut again = Batch::default();
            route::delete_link(&mut again, &name);
            route::create_veth(&mut again, &veth);
            host.execute(&again).map_err(failed)?;
        }
        other => drop(other.map_err(failed)?),
    }
    configure(&mut inside, network, address).map_err(Error::netlink("setting the workload's interface up"))?;
    Ok(Attachment { namespace, address, mac })
}

fn configure(inside: &mut Socket, network: &Network, address: Ipv4Addr) -> Result<(), netlink::Error> {
    let index = route::link(inside, INSIDE)?.map_or(0, |link| link.index);
    let mut batch = Batch::default();
    route::set_up(&mut batch, LOOPBACK);
    route::add_address(&mut batch, &Address { index, address: IpAddr::V4(address), prefix: network.subnet.prefix() });
    route::set_up(&mut batch, index);
    route::add_default_route(&mut batch, IpAddr::V4(network.gateway), index);
    inside.execute(&batch).map(drop)
}

/// Takes the bridges of `networks` and our packet filter away. Workloads that are still attached lose their way.
///
/// # Errors
/// [`Error::Netlink`].
pub fn remove(settings: &Settings, networks: &[Network]) -> Result<(), Error> {
    let failed = Error::netlink("taking networks away");
    let work = || -> Result<(), netlink::Error> {
        let mut socket = Socket::open(Protocol::Route)?;
        for network in networks {
            let mut batch = Batch::default();
            route::delete_link(&mut batch, &network.bridge);
            match socket.execute(&batch) {
                Err(error) if error.errno() != Some(Errno::NODEV) => return Err(error),
                _ => {}
            }
        }
        nft::delete(&mut Socket::open(Protocol::Netfilter)?, nft::FAMILY_INET, &settings.table()).map(drop)
    };
    work().map_err(failed)
}

/// A locally administered hardware address that is as unique as the address it is made of.
pub(crate) fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}
