//! Networks on hosts that are network namespaces of their own: the real host's network is never touched.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use atoll_net::{Attachment, Network, Settings, attach, choose_subnet, ensure, host_routes, next_address, remove};
use atoll_sys::netlink::message::Batch;
use atoll_sys::netlink::nft::{self, Chain, Hook, Purpose, Table, Verdict};
use atoll_sys::netlink::route::{self, Address, Veth};
use atoll_sys::netlink::{Protocol, Socket};
use atoll_sys::netns;

/// How long a connection that must not come about is waited for.
const SILENCE: Duration = Duration::from_secs(2);
/// How long one that must: the first packet on a new bridge may be lost, and is sent again after a second.
const PATIENCE: Duration = Duration::from_secs(10);
const OUTSIDE: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];

struct Host {
    namespace: OwnedFd,
    settings: Settings,
    network: Network,
}

impl Host {
    /// A host without neighbours, or none without root.
    #[expect(clippy::print_stdout, reason = "a test that skips says so")]
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: needs root");
            return None;
        }
        let (namespace, ()) = netns::create(|| ()).expect("a namespace");
        let settings = Settings::new("0123456789ab").expect("an id");
        let subnet = choose_subnet(&settings.pools, &[], &[]).expect("a subnet");
        let network = settings.default_network("bridge", subnet);
        Some(Self { namespace, settings, network })
    }

    fn on<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.namespace, work)
    }

    fn ensure(&self) -> Vec<String> {
        self.on(|| ensure(&self.settings, std::slice::from_ref(&self.network))).expect("it is made")
    }

    fn attach(&self, id: &str, last: u8) -> Attachment {
        let address = Ipv4Addr::new(10, 210, 0, last);
        self.on(|| attach(&self.network, id, address)).expect("it is attached")
    }

    fn links(&self) -> Vec<String> {
        let read = || route::links(&mut Socket::open(Protocol::Route).expect("a socket")).expect("a list");
        self.on(read).into_iter().map(|link| link.name).collect()
    }

    fn table_stands(&self) -> bool {
        let table = atoll_net::filter::table(&self.settings, std::slice::from_ref(&self.network));
        self.on(|| nft::stands(&mut Socket::open(Protocol::Netfilter).expect("a socket"), &table)).expect("an answer")
    }

    /// A further host on a network that this one is on too, which sends everything else here.
    fn neighbour(&self) -> OwnedFd {
        let (outside, socket) = netns::create(|| Socket::open(Protocol::Route)).expect("a namespace");
        let mut socket = socket.expect("a socket");
        self.on(|| {
            let mut host = Socket::open(Protocol::Route).expect("a socket");
            let mut batch = Batch::default();
            route::create_bridge(&mut batch, "out0", [2, 0, 0, 0, 0, 1]);
            host.execute(&batch).expect("a bridge");
            let index = route::link(&mut host, "out0").expect("an answer").expect("it is there").index;
            let mut batch = Batch::default();
            route::add_address(&mut batch, &Address { index, address: IpAddr::V4(OUTSIDE[0]), prefix: 24 });
            let namespace = outside.as_fd();
            let peer_mac = [2, 0, 0, 0, 0, 2];
            route::create_veth(
                &mut batch,
                &Veth { name: "out1", master: index, mtu: 1500, peer: "eth0", peer_mac, namespace },
            );
            host.execute(&batch).expect("a pair");
        });
        let index = route::link(&mut socket, "eth0").expect("an answer").expect("it is there").index;
        let mut batch = Batch::default();
        route::add_address(&mut batch, &Address { index, address: IpAddr::V4(OUTSIDE[1]), prefix: 24 });
        route::set_up(&mut batch, index);
        socket.execute(&batch).expect("an address");
        outside
    }
}

fn inside<T: Send>(namespace: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    netns::enter(namespace.as_fd(), work).expect("it is entered")
}

/// A connection from one namespace to a listener in another: the address that the listener sees.
fn reaches(from: &OwnedFd, to: &OwnedFd, address: Ipv4Addr) -> Option<IpAddr> {
    connect(from, to, address, PATIENCE)
}

fn is_cut_off(from: &OwnedFd, to: &OwnedFd, address: Ipv4Addr) -> bool {
    connect(from, to, address, SILENCE).is_none()
}

fn connect(from: &OwnedFd, to: &OwnedFd, address: Ipv4Addr, limit: Duration) -> Option<IpAddr> {
    let listener = inside(to, || TcpListener::bind((address, 0))).expect("a listener");
    let target: SocketAddr = listener.local_addr().expect("its address");
    let mut stream = inside(from, || TcpStream::connect_timeout(&target, limit)).ok()?;
    let (mut accepted, peer) = listener.accept().expect("it was connected");
    stream.write_all(b"well").expect("it takes bytes");
    let mut bytes = [0; 4];
    accepted.read_exact(&mut bytes).expect("they come");
    assert_eq!(&bytes, b"well");
    Some(peer.ip())
}

#[test]
fn workloads_reach_each_other_their_host_and_the_outside() {
    let Some(host) = Host::new() else { return };
    assert_eq!(host.ensure(), Vec::<String>::new());
    let began = Instant::now();
    let (one, two) = (host.attach("aaaaaaaaaaaa", 2), host.attach("bbbbbbbbbbbb", 3));
    println!("two attached in {:?}", began.elapsed());
    let v4 = |address: Ipv4Addr| Some(IpAddr::V4(address));
    assert_eq!(reaches(&one.namespace, &two.namespace, two.address), v4(one.address));
    assert_eq!(reaches(&two.namespace, &host.namespace, host.network.gateway), v4(two.address));
    assert_eq!(reaches(&host.namespace, &one.namespace, one.address), v4(host.network.gateway));
    assert_eq!(reaches(&one.namespace, &one.namespace, Ipv4Addr::LOCALHOST), v4(Ipv4Addr::LOCALHOST));
    let outside = host.neighbour();
    // It knows no way to the workload's own address: the host's stands for it.
    assert_eq!(reaches(&one.namespace, &outside, OUTSIDE[1]), v4(OUTSIDE[0]));
    // Given the way, it is still not let in; the host's own services are its owner's business.
    let mut batch = Batch::default();
    let mut socket = inside(&outside, || Socket::open(Protocol::Route)).expect("a socket");
    let index = route::link(&mut socket, "eth0").expect("an answer").expect("it is there").index;
    route::add_default_route(&mut batch, IpAddr::V4(OUTSIDE[0]), index);
    socket.execute(&batch).expect("a route");
    assert!(is_cut_off(&outside, &one.namespace, one.address));
    assert_eq!(reaches(&outside, &host.namespace, OUTSIDE[0]), v4(OUTSIDE[1]));
}

#[test]
fn two_networks_are_apart() {
    let Some(host) = Host::new() else { return };
    let mut other = host.settings.default_network("other", "10.210.1.0/24".parse().expect("a network"));
    other.bridge = "atl-other".to_owned();
    let both = [host.network.clone(), other.clone()];
    host.on(|| ensure(&host.settings, &both)).expect("they are made");
    let one = host.attach("aaaaaaaaaaaa", 2);
    let far = host.on(|| attach(&other, "bbbbbbbbbbbb", Ipv4Addr::new(10, 210, 1, 2))).expect("it is attached");
    assert!(is_cut_off(&one.namespace, &far.namespace, far.address));
    assert!(is_cut_off(&far.namespace, &one.namespace, one.address));
}

#[test]
fn it_is_made_once_and_healed() {
    let Some(host) = Host::new() else { return };
    host.ensure();
    host.ensure();
    assert_eq!(host.links().iter().filter(|name| *name == &host.network.bridge).count(), 1);
    let routes = host.on(host_routes).expect("a list");
    assert!(routes.contains(&host.network.subnet));
    assert_ne!(choose_subnet(&host.settings.pools, &[], &routes), Some(host.network.subnet));
    assert!(host.table_stands());
    let table = host.settings.table();
    let delete = || nft::delete(&mut Socket::open(Protocol::Netfilter).expect("a socket"), nft::FAMILY_INET, &table);
    assert!(host.on(delete).expect("an answer"));
    assert!(!host.table_stands());
    host.ensure();
    assert!(host.table_stands());
    host.on(|| remove(&host.settings, std::slice::from_ref(&host.network))).expect("they go");
    assert!(!host.table_stands() && !host.links().contains(&host.network.bridge));
    host.on(|| remove(&host.settings, std::slice::from_ref(&host.network))).expect("nothing is left to do");
}

#[test]
fn others_are_left_alone_and_named() {
    let Some(host) = Host::new() else { return };
    let chain = Chain {
        name: "FORWARD".to_owned(),
        purpose: Purpose::Filter,
        hook: Hook::Forward,
        priority: 0,
        policy: Verdict::Drop,
        rules: Vec::new(),
    };
    let foreign = Table { family: nft::FAMILY_V4, name: "firewall".to_owned(), chains: vec![chain] };
    let open = || Socket::open(Protocol::Netfilter).expect("a socket");
    host.on(|| nft::replace(&mut open(), &foreign)).expect("it is written");
    let said = host.ensure();
    assert!(
        matches!(said.as_slice(), [one] if one.contains("\"FORWARD\"") && one.contains("\"firewall\"")),
        "{said:?}"
    );
    assert!(host.on(|| nft::stands(&mut open(), &foreign)).expect("an answer"));
    // Something else with our bridge's name is not taken over.
    let outside = host.neighbour();
    let network = Network { bridge: "out1".to_owned(), ..host.network.clone() };
    let refused = host.on(|| ensure(&host.settings, &[network])).expect_err("no bridge");
    assert!(refused.to_string().contains("out1"), "{refused}");
    drop(outside);
}

#[test]
fn fifty_at_once_leave_nothing() {
    let Some(host) = Host::new() else { return };
    host.ensure();
    let before = host.links();
    let mut taken = Vec::new();
    for _ in 0..50 {
        taken.push(next_address(&host.network, &taken).expect("an address"));
    }
    let attached: Vec<Attachment> = std::thread::scope(|scope| {
        let host = &host;
        let threads: Vec<_> = taken
            .iter()
            .enumerate()
            .map(|(number, address)| scope.spawn(move || host.attach(&format!("{number:012x}"), address.octets()[3])))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(host.links().len(), before.len() + 50);
    // The same workload again: what is left of its earlier run makes way.
    let again = host.attach(&format!("{:012x}", 0), 200);
    assert_eq!(host.links().len(), before.len() + 50);
    drop((attached, again));
    let deadline = Instant::now() + PATIENCE;
    while host.links() != before {
        assert!(Instant::now() < deadline, "left: {:?}", host.links());
        std::thread::sleep(Duration::from_millis(20));
    }
}
