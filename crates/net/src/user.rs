//! The network of an ordinary user's workload: a program of the host carries packets between the workload's network namespace
//! and sockets of the user's (pasta(1) of the project passt, or slirp4netns(1)).
//!
//! Every workload is alone on its network, so all have the same addresses: those that slirp4netns gives, which the other can be
//! told. [`plan`] is pure: it says how the program is called, and what is asked of it once it runs. Who calls it gives the
//! namespace as descriptor 0 and hears on descriptor 1. IPv6 is left out, as on the bridge.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use atoll_model::{PortBinding, Protocol};
use atoll_sys::netns;

use crate::bridge::{INSIDE, mac_of};
use crate::{Error, Ipv4Net, Network};

/// Where programs of the host are looked for. Nothing of a caller's or an image's environment has a say in it.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// The device of which both make the workload's interface.
const TUN: &str = "/dev/net/tun";
/// Parts of a subnet's addresses that slirp4netns has fixed.
const GATEWAY: u32 = 2;
const RESOLVER: u32 = 3;
const OWN: u32 = 100;
/// Largest packet between the two ends, which are on one host: a whole IPv4 packet in an Ethernet frame, in 4-byte units.
const MTU: u32 = 65520;
/// The socket on which slirp4netns takes requests, in the folder where it starts.
const SOCKET: &str = "slirp.sock";

/// A program that connects workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// pasta, at this path.
    Pasta(PathBuf),
    /// slirp4netns, at this path.
    Slirp4netns(PathBuf),
}

/// The addresses of a workload that is alone on its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The network.
    pub subnet: Ipv4Net,
    /// The workload's own.
    pub address: Ipv4Addr,
    /// Where everything else is sent.
    pub gateway: Ipv4Addr,
    /// Where names are asked for when the host's own resolver is on its loopback.
    pub resolver: Ipv4Addr,
    /// The hardware address of its interface.
    pub mac: [u8; 6],
}

/// How a program is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What it says on descriptor 1 once the workload is connected.
    pub ready: String,
    /// The socket for requests, relative to where it starts; one request is sent on each connection.
    pub socket: Option<String>,
    /// Requests; an answer with `error` in it says that one could not be done.
    pub requests: Vec<String>,
}

/// The program of this host.
///
/// # Errors
/// [`Error::NoHelper`], [`Error::Tun`].
pub fn program() -> Result<Program, Error> {
    std::fs::File::options().read(true).write(true).open(TUN).map_err(Error::Tun)?;
    find(&FOLDERS.map(Path::new)).ok_or(Error::NoHelper)
}

fn find(folders: &[&Path]) -> Option<Program> {
    let there = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    there("pasta").map(Program::Pasta).or_else(|| there("slirp4netns").map(Program::Slirp4netns))
}

/// The default network of an ordinary user, for lists: each workload has one like it of its own.
#[must_use]
pub fn network(name: &str, subnet: Ipv4Net) -> Network {
    Network { name: name.to_owned(), subnet, gateway: place(subnet).gateway, bridge: String::new() }
}

/// The addresses on a subnet, which is a /24.
#[must_use]
pub fn place(subnet: Ipv4Net) -> Place {
    let part = |number: u32| Ipv4Addr::from_bits(subnet.address().to_bits() | number);
    let address = part(OWN);
    Place { subnet, address, gateway: part(GATEWAY), resolver: part(RESOLVER), mac: mac_of(address) }
}

/// A network namespace with nothing but a loopback that is down.
///
/// # Errors
/// [`Error::Namespace`].
pub fn namespace() -> Result<OwnedFd, Error> {
    Ok(netns::create(|| ()).map_err(Error::Namespace)?.0)
}

/// How `program` is to connect a workload at `place`, with ports whose numbers are settled.
#[must_use]
pub fn plan(program: &Program, place: &Place, ports: &[PortBinding]) -> Call {
    match program {
        Program::Pasta(path) => pasta(path, place, ports),
        Program::Slirp4netns(path) => slirp4netns(path, place, ports),
    }
}

fn mac(place: &Place) -> String {
    place.mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn pasta(path: &Path, place: &Place, ports: &[PortBinding]) -> Call {
    let mut arguments: Vec<String> = [
        "--foreground",
        "--quiet",
        "--config-net",
        "--ipv4-only",
        // The host's own loopback is none of a workload's business.
        "--no-map-gw",
        "--no-ra",
        "--no-ndp",
        "--no-dhcp",
        "--no-dhcpv6",
        "--no-netns-quit",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
    option("ns-ifname", INSIDE.to_owned());
    option("ns-mac-addr", mac(place));
    option("address", place.address.to_string());
    option("netmask", place.subnet.mask().to_string());
    option("gateway", place.gateway.to_string());
    option("dns-forward", place.resolver.to_string());
    option("tcp-ns", "none".to_owned());
    option("udp-ns", "none".to_owned());
    for (protocol, name) in [(Protocol::Tcp, "tcp-ports"), (Protocol::Udp, "udp-ports")] {
        let of = ports.iter().filter(|port| port.protocol == protocol);
        let specs: Vec<_> =
            of.map(|port| format!("{}/{}:{}", port.host_address(), port.outside, port.inside)).collect();
        if specs.is_empty() {
            option(name, "none".to_owned());
        }
        specs.into_iter().for_each(|spec| option(name, spec));
    }
    // Its number is written when all is set up.
    option("pid", "/proc/self/fd/1".to_owned());
    option("netns", "/proc/self/fd/0".to_owned());
    Call { program: path.to_owned(), arguments, ready: "\n".to_owned(), socket: None, requests: Vec::new() }
}

fn slirp4netns(path: &Path, place: &Place, ports: &[PortBinding]) -> Call {
    let arguments = [
        "--configure".to_owned(),
        format!("--mtu={MTU}"),
        format!("--cidr={}", place.subnet),
        format!("--macaddress={}", mac(place)),
        "--disable-host-loopback".to_owned(),
        "--enable-sandbox".to_owned(),
        "--enable-seccomp".to_owned(),
        "--ready-fd=1".to_owned(),
        format!("--api-socket={SOCKET}"),
        "--netns-type=path".to_owned(),
        "/proc/self/fd/0".to_owned(),
        INSIDE.to_owned(),
    ];
    let request = |port: &PortBinding| {
        format!(
            "{{\"execute\":\"add_hostfwd\",\"arguments\":{{\"proto\":\"{}\",\"host_addr\":\"{}\",\"host_port\":{},\
             \"guest_addr\":\"{}\",\"guest_port\":{}}}}}",
            port.protocol,
            port.host_address(),
            port.outside,
            place.address,
            port.inside
        )
    };
    Call {
        program: path.to_owned(),
        arguments: arguments.to_vec(),
        ready: "1".to_owned(),
        socket: Some(SOCKET.to_owned()),
        requests: ports.iter().map(request).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> [PortBinding; 2] {
        let tcp = PortBinding { inside: 80, protocol: Protocol::Tcp, address: None, outside: 8080 };
        let address = Some(Ipv4Addr::LOCALHOST);
        [tcp, PortBinding { inside: 53, protocol: Protocol::Udp, address, outside: 5353 }]
    }

    fn here() -> Place {
        place("10.210.7.0/24".parse().unwrap())
    }

    #[test]
    fn addresses_are_those_that_both_programs_can_have() {
        let place = here();
        let all = [place.address, place.gateway, place.resolver].map(|address| address.to_string());
        assert_eq!(all, ["10.210.7.100", "10.210.7.2", "10.210.7.3"]);
        assert_eq!(network("bridge", place.subnet).gateway, place.gateway);
    }

    #[test]
    fn pasta_is_told_everything_at_once() {
        let call = plan(&Program::Pasta("/usr/bin/pasta".into()), &here(), &ports());
        let line = call.arguments.join(" ");
        assert!(line.contains("--tcp-ports 0.0.0.0/8080:80 --udp-ports 127.0.0.1/5353:53 "), "{line}");
        assert!(line.contains("--no-map-gw") && line.ends_with("--netns /proc/self/fd/0"), "{line}");
        assert!(call.requests.is_empty() && call.socket.is_none());
        let none = plan(&Program::Pasta("/usr/bin/pasta".into()), &here(), &[]).arguments.join(" ");
        // Without a word it would publish whatever the workload listens on.
        for option in ["--tcp-ports none", "--udp-ports none", "--tcp-ns none", "--udp-ns none"] {
            assert!(none.contains(option), "{none}");
        }
    }

    #[test]
    fn slirp4netns_is_asked_for_ports_later() {
        let call = plan(&Program::Slirp4netns("/usr/bin/slirp4netns".into()), &here(), &ports());
        assert!(call.arguments.iter().any(|argument| argument == "--cidr=10.210.7.0/24"));
        assert!(call.arguments.iter().any(|argument| argument == "--disable-host-loopback"));
        let requests: Vec<serde_json::Value> =
            call.requests.iter().map(|request| serde_json::from_str(request).unwrap()).collect();
        assert_eq!(requests[1]["arguments"]["proto"], "udp");
        assert_eq!(requests[1]["arguments"]["host_addr"], "127.0.0.1");
        assert_eq!(requests[0]["arguments"]["guest_port"], 80);
    }

    #[test]
    fn pasta_comes_first() {
        let folder = std::env::temp_dir().join(format!("atoll-net-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(find(&[&folder]), None);
        std::fs::write(folder.join("slirp4netns"), "").unwrap();
        assert_eq!(find(&[&folder]), Some(Program::Slirp4netns(folder.join("slirp4netns"))));
        std::fs::write(folder.join("pasta"), "").unwrap();
        assert_eq!(find(&[&folder]), Some(Program::Pasta(folder.join("pasta"))));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
