//! Links, addresses and routes (rtnetlink(7)): requests are added to a batch, lists are read as values.
//!
//! A new link gets its master, its flags and, for a veth pair, its peer's name, index and namespace in the one message that
//! makes it. Kinds other than bridge and veth, neighbours, rules and traffic control are left out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::message::{self, Attributes, Batch, array_at, attributes, flag, text, u32_at};
use super::{Error, Reply, Socket};

/// Bytes that the name of a link may have (`IFNAMSIZ` without the zero byte).
pub const MAX_NAME_BYTES: usize = 15;

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;

const FAMILY_ANY: u8 = 0;
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;
const IFF_UP: u32 = 1;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const SCOPE_UNIVERSE: u8 = 0;
const TYPE_UNICAST: u8 = 1;

/// Bytes of `struct ifinfomsg`, `ifaddrmsg` and `rtmsg`.
const LINK_FIXED: usize = 16;
const ADDRESS_FIXED: usize = 8;
const ROUTE_FIXED: usize = 12;

/// A hardware address.
pub type Mac = [u8; 6];

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number within the namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind as the kernel names it (`bridge`, `veth`); empty for hardware and loopback.
    pub kind: String,
    /// Index of the bridge (or other master) that it is a port of.
    pub master: Option<u32>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Its hardware address, if it has one of six bytes.
    pub mac: Option<Mac>,
    /// Whether it is administratively up.
    pub up: bool,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Bits of it that name the network.
    pub prefix: u8,
}

/// A route of any table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; the unspecified address with prefix 0 is the default route.
    pub destination: IpAddr,
    /// Bits of the destination that count.
    pub prefix: u8,
    /// The next hop, if there is one.
    pub gateway: Option<IpAddr>,
    /// The interface, if it has exactly one.
    pub interface: Option<u32>,
    /// The routing table; 254 is the main one, 255 the host's own addresses.
    pub table: u32,
    /// `RTN_*`: 1 is unicast, 2 an address of the host's own.
    pub kind: u8,
}

/// A veth pair to be made: one end here and up, its peer in another namespace and to be brought up there.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// Name of the end that stays here.
    pub name: &'a str,
    /// Index of the bridge that it becomes a port of.
    pub master: u32,
    /// Largest packet in bytes, of both ends.
    pub mtu: u32,
    /// Name of the peer.
    pub peer: &'a str,
    /// Hardware address of the peer.
    pub peer_mac: Mac,
    /// The peer's network namespace.
    pub namespace: BorrowedFd<'a>,
}

/// Adds: make a bridge that is up. `EEXIST` when the name is taken.
pub fn create_bridge(batch: &mut Batch, name: &str, mac: Mac) {
    batch.message(NEWLINK, flag::CREATE | flag::EXCL, &link_fixed(0, true), |link| {
        link.text(IFLA_IFNAME, name).bytes(IFLA_ADDRESS, &mac);
        link.nested(IFLA_LINKINFO, |info| {
            info.bytes(INFO_KIND, b"bridge");
        });
    });
}

/// Adds: make a veth pair. `EEXIST` when a name is taken.
pub fn create_veth(batch: &mut Batch, veth: &Veth<'_>) {
    batch.message(NEWLINK, flag::CREATE | flag::EXCL, &link_fixed(0, true), |link| {
        link.text(IFLA_IFNAME, veth.name).u32(IFLA_MTU, veth.mtu).u32(IFLA_MASTER, veth.master);
        link.nested(IFLA_LINKINFO, |info| {
            info.bytes(INFO_KIND, b"veth").nested(INFO_DATA, |data| {
                data.nested(VETH_PEER, |peer| write_peer(peer, veth));
            });
        });
    });
}

fn write_peer(peer: &mut Attributes<'_>, veth: &Veth<'_>) {
    // A peer that is up before its pair is complete is refused (ENOTCONN).
    peer.fixed(&link_fixed(0, false)).text(IFLA_IFNAME, veth.peer).u32(IFLA_MTU, veth.mtu);
    peer.bytes(IFLA_ADDRESS, &veth.peer_mac).bytes(IFLA_NET_NS_FD, &veth.namespace.as_raw_fd().to_ne_bytes());
}

/// Adds: bring an interface up.
pub fn set_up(batch: &mut Batch, index: u32) {
    batch.message(NEWLINK, 0, &link_fixed(index, true), |_| ());
}

/// Adds: move an interface into another network namespace under this name, where it is down and without addresses.
pub fn move_link(batch: &mut Batch, index: u32, namespace: BorrowedFd<'_>, name: &str) {
    batch.message(NEWLINK, 0, &link_fixed(index, false), |link| {
        link.text(IFLA_IFNAME, name).bytes(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
    });
}

/// Adds: remove an interface by its name. `ENODEV` when there is none.
pub fn delete_link(batch: &mut Batch, name: &str) {
    batch.message(DELLINK, 0, &link_fixed(0, false), |link| {
        link.text(IFLA_IFNAME, name);
    });
}

/// Adds: give an interface an address, with its network's broadcast address for IPv4. `EEXIST` when it has it.
pub fn add_address(batch: &mut Batch, address: &Address) {
    let (family, bytes) = bytes_of(address.address);
    let mut fixed = [0; ADDRESS_FIXED];
    fixed[0] = family;
    fixed[1] = address.prefix;
    fixed[4..].copy_from_slice(&address.index.to_ne_bytes());
    batch.message(NEWADDR, flag::CREATE | flag::EXCL, &fixed, |attributes| {
        attributes.bytes(IFA_LOCAL, &bytes).bytes(IFA_ADDRESS, &bytes);
        if let IpAddr::V4(address_v4) = address.address {
            let host_bits = u32::MAX.checked_shr(u32::from(address.prefix)).unwrap_or(0);
            if host_bits > 1 {
                attributes.bytes(IFA_BROADCAST, &(address_v4.to_bits() | host_bits).to_be_bytes());
            }
        }
    });
}

/// Adds: a default route of the main table. `EEXIST` when there is one, `ENETUNREACH` when the gateway cannot be reached.
pub fn add_default_route(batch: &mut Batch, gateway: IpAddr, interface: u32) {
    let (family, bytes) = bytes_of(gateway);
    let fixed = [family, 0, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, SCOPE_UNIVERSE, TYPE_UNICAST, 0, 0, 0, 0];
    batch.message(NEWROUTE, flag::CREATE | flag::EXCL, &fixed, |route| {
        route.bytes(RTA_GATEWAY, &bytes).u32(RTA_OIF, interface);
    });
}

/// All interfaces.
///
/// # Errors
/// See [`Socket::dump`].
pub fn links(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    let mut batch = Batch::default();
    batch.message(GETLINK, flag::DUMP, &link_fixed(0, false), |_| ());
    read(&socket.dump(&batch)?, NEWLINK, |body| read_link(body).map(Some))
}

/// The interface of a name, if there is one.
///
/// # Errors
/// See [`Socket::execute`].
pub fn link(socket: &mut Socket, name: &str) -> Result<Option<Link>, Error> {
    let mut batch = Batch::default();
    batch.message(GETLINK, 0, &link_fixed(0, false), |link| {
        link.text(IFLA_IFNAME, name);
    });
    match socket.execute(&batch) {
        Ok(replies) => Ok(read(&replies, NEWLINK, |body| read_link(body).map(Some))?.pop()),
        Err(error) if error.errno() == Some(Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All addresses, of one interface when it is given.
///
/// # Errors
/// See [`Socket::dump`].
pub fn addresses(socket: &mut Socket, interface: Option<u32>) -> Result<Vec<Address>, Error> {
    let mut fixed = [0; ADDRESS_FIXED];
    fixed[4..].copy_from_slice(&interface.unwrap_or(0).to_ne_bytes());
    let mut batch = Batch::default();
    batch.message(GETADDR, flag::DUMP, &fixed, |_| ());
    let mut all = read(&socket.dump(&batch)?, NEWADDR, read_address)?;
    all.retain(|address| interface.is_none_or(|interface| address.index == interface));
    Ok(all)
}

/// All routes of all tables and both families.
///
/// # Errors
/// See [`Socket::dump`].
pub fn routes(socket: &mut Socket) -> Result<Vec<Route>, Error> {
    let mut all = Vec::new();
    for family in [FAMILY_V4, FAMILY_V6] {
        let mut fixed = [0; ROUTE_FIXED];
        fixed[0] = family;
        let mut batch = Batch::default();
        batch.message(GETROUTE, flag::DUMP, &fixed, |_| ());
        match socket.dump(&batch) {
            Ok(replies) => all.extend(read(&replies, NEWROUTE, read_route)?),
            // A kernel without this family has no routes of it.
            Err(error) if matches!(error.errno(), Some(Errno::AFNOSUPPORT | Errno::OPNOTSUPP)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Reads the replies of one kind, leaving out what `one` knows nothing of.
fn read<T>(replies: &[Reply], kind: u16, one: impl Fn(&[u8]) -> Result<Option<T>, Error>) -> Result<Vec<T>, Error> {
    replies.iter().filter(|reply| reply.kind == kind).filter_map(|reply| one(&reply.body).transpose()).collect()
}

fn read_link(body: &[u8]) -> Result<Link, Error> {
    let mut link = Link { index: u32_at(body, 4)?, up: u32_at(body, 8)? & IFF_UP != 0, ..Link::default() };
    for attribute in attributes(body.get(LINK_FIXED..).unwrap_or_default()) {
        let (kind, payload) = attribute?;
        match kind {
            IFLA_IFNAME => text(payload)?.clone_into(&mut link.name),
            IFLA_MTU => link.mtu = u32_at(payload, 0)?,
            IFLA_MASTER => link.master = Some(u32_at(payload, 0)?),
            IFLA_ADDRESS => link.mac = payload.try_into().ok(),
            IFLA_LINKINFO => {
                if let Some(kind) = message::find(payload, INFO_KIND)? {
                    text(kind)?.clone_into(&mut link.kind);
                }
            }
            _ => {}
        }
    }
    Ok(link)
}

fn read_address(body: &[u8]) -> Result<Option<Address>, Error> {
    let [family, prefix] = array_at(body, 0)?;
    let index = u32_at(body, 4)?;
    let attributes = body.get(ADDRESS_FIXED..).unwrap_or_default();
    // On a point-to-point link IFA_ADDRESS is the other end; the local one is ours.
    let payload = match message::find(attributes, IFA_LOCAL)? {
        Some(local) => Some(local),
        None => message::find(attributes, IFA_ADDRESS)?,
    };
    let address = payload.map(|payload| address_of(family, payload)).transpose()?.flatten();
    Ok(address.map(|address| Address { index, address, prefix }))
}

fn read_route(body: &[u8]) -> Result<Option<Route>, Error> {
    let [family, prefix] = array_at(body, 0)?;
    let [table, _, _, kind] = array_at(body, 4)?;
    let unspecified = match family {
        FAMILY_V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        FAMILY_V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Ok(None),
    };
    let mut route =
        Route { destination: unspecified, prefix, gateway: None, interface: None, table: u32::from(table), kind };
    for attribute in attributes(body.get(ROUTE_FIXED..).unwrap_or_default()) {
        let (kind, payload) = attribute?;
        match kind {
            RTA_DST => route.destination = address_of(family, payload)?.unwrap_or(unspecified),
            RTA_GATEWAY => route.gateway = address_of(family, payload)?,
            RTA_OIF => route.interface = Some(u32_at(payload, 0)?),
            RTA_TABLE => route.table = u32_at(payload, 0)?,
            _ => {}
        }
    }
    Ok(Some(route))
}

fn address_of(family: u8, payload: &[u8]) -> Result<Option<IpAddr>, Error> {
    match family {
        FAMILY_V4 => array_at::<4>(payload, 0).map(|bytes| Some(IpAddr::from(bytes))),
        FAMILY_V6 => array_at::<16>(payload, 0).map(|bytes| Some(IpAddr::from(bytes))),
        _ => Ok(None),
    }
}

fn bytes_of(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (FAMILY_V4, address.octets().to_vec()),
        IpAddr::V6(address) => (FAMILY_V6, address.octets().to_vec()),
    }
}

/// A `struct ifinfomsg`; `up` sets IFF_UP and says that no other flag is meant.
fn link_fixed(index: u32, up: bool) -> [u8; LINK_FIXED] {
    let mut fixed = [0; LINK_FIXED];
    fixed[0] = FAMILY_ANY;
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        fixed[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        fixed[12..].copy_from_slice(&IFF_UP.to_ne_bytes());
    }
    fixed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::Protocol;
    use crate::netlink::message::messages;
    use crate::netns;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = read_link(&bytes);
            let _ = read_address(&bytes);
            let _ = read_route(&bytes);
        }

        #[test]
        fn an_address_is_read_as_written(bits: u32, prefix in 0_u8..=32, index in 1_u32..) {
            let address = Address { index, address: IpAddr::V4(bits.into()), prefix };
            let mut batch = Batch::default();
            add_address(&mut batch, &address);
            let (bytes, _) = batch.seal(1, true).unwrap();
            let message = messages(&bytes).next().unwrap().unwrap();
            prop_assert_eq!(read_address(message.body).unwrap(), Some(address));
        }
    }

    #[test]
    fn links_addresses_and_routes_of_a_new_namespace() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: needs root");
            return;
        }
        let (host, socket) = netns::create(|| Socket::open(Protocol::Route)).unwrap();
        let mut socket = socket.unwrap();
        assert_eq!(link(&mut socket, "lo").unwrap().map(|lo| (lo.index, lo.up)), Some((1, false)));
        assert_eq!(link(&mut socket, "br0").unwrap(), None);

        let mut batch = Batch::default();
        create_bridge(&mut batch, "br0", [2, 0, 0, 0, 0, 1]);
        set_up(&mut batch, 1);
        socket.execute(&batch).unwrap();
        let bridge = link(&mut socket, "br0").unwrap().unwrap();
        assert_eq!((bridge.kind.as_str(), bridge.up, bridge.mac), ("bridge", true, Some([2, 0, 0, 0, 0, 1])));
        let refused = socket.execute(&batch).unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::EXIST), "the first message fails, the last is acknowledged");

        let address = Address { index: bridge.index, address: "10.9.8.1".parse().unwrap(), prefix: 24 };
        let mut batch = Batch::default();
        add_address(&mut batch, &address);
        socket.execute(&batch).unwrap();
        assert_eq!(addresses(&mut socket, Some(bridge.index)).unwrap(), [address]);
        assert!(addresses(&mut socket, None).unwrap().len() > 1);
        let found = routes(&mut socket).unwrap();
        assert!(found.iter().any(|route| route.destination == IpAddr::from([10, 9, 8, 0]) && route.prefix == 24));

        let (inside, inner) = netns::create(|| Socket::open(Protocol::Route)).unwrap();
        let mut inner = inner.unwrap();
        let veth = Veth {
            name: "veth1",
            master: bridge.index,
            mtu: 1400,
            peer: "eth0",
            peer_mac: [2, 0, 0, 0, 0, 2],
            namespace: std::os::fd::AsFd::as_fd(&inside),
        };
        let mut batch = Batch::default();
        create_veth(&mut batch, &veth);
        socket.execute(&batch).unwrap();
        let near = link(&mut socket, "veth1").unwrap().unwrap();
        assert_eq!((near.kind.as_str(), near.master, near.mtu, near.up), ("veth", Some(bridge.index), 1400, true));
        let far = link(&mut inner, "eth0").unwrap().unwrap();
        assert_eq!((far.index, far.mac, far.mtu, far.up), (far.index, Some([2, 0, 0, 0, 0, 2]), 1400, false));
        assert_eq!(links(&mut socket).unwrap().iter().filter(|link| link.kind == "veth").count(), 1);

        let mut batch = Batch::default();
        let gateway = IpAddr::from([10, 9, 8, 1]);
        set_up(&mut batch, 1);
        set_up(&mut batch, far.index);
        add_address(&mut batch, &Address { index: far.index, address: IpAddr::from([10, 9, 8, 2]), prefix: 24 });
        add_default_route(&mut batch, gateway, far.index);
        inner.execute(&batch).unwrap();
        let default =
            routes(&mut inner).unwrap().into_iter().find(|route| route.prefix == 0 && route.gateway.is_some());
        assert_eq!(default.and_then(|route| route.gateway), Some(gateway));

        let mut batch = Batch::default();
        delete_link(&mut batch, "veth1");
        socket.execute(&batch).unwrap();
        assert_eq!(socket.execute(&batch).unwrap_err().errno(), Some(Errno::NODEV));
        drop(host);
    }
}
