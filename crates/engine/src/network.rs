//! Networks of this host, and who is on them.
//!
//! There is one so far, the default bridge; its subnet is chosen when it is first needed and recorded. A workload gets an
//! address when it starts and gives it back when it ends. Which one it has is kept in its run folder, where the next daemon
//! finds it. An ordinary user's workloads are each alone on a network of the same addresses.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use atoll_model::{Network as Wanted, PortBinding, Protocol, Workload, WorkloadId};
use atoll_net::user;
use serde::{Deserialize, Serialize};

use crate::db::Db;
use crate::runtime::NetworkHelper;
use crate::{Engine, Error, host};

/// The network of workloads that name none, as Docker calls it.
const BRIDGE: &str = "bridge";
/// Where its record is.
const RECORD: &str = "network.bridge";
/// Name of a workload's place in its run folder.
const ENDPOINT: &str = "network.json";

/// A workload's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// The workload's address.
    pub address: Ipv4Addr,
    /// Bits of it that name the network.
    pub prefix: u8,
    /// Where everything else is sent.
    pub gateway: Ipv4Addr,
    /// The hardware address of its interface.
    pub mac: [u8; 6],
    /// Where it asks for names, when the host's own resolver cannot be reached from there.
    #[serde(default)]
    pub resolver: Option<Ipv4Addr>,
    /// Its ports that answer on the host.
    #[serde(default)]
    pub ports: Vec<PortBinding>,
}

/// What a workload is given to be on its network.
#[derive(Debug)]
pub(crate) struct Place {
    /// The namespace that it joins.
    pub(crate) namespace: OwnedFd,
    pub(crate) endpoint: Endpoint,
    /// Who connects the namespace.
    pub(crate) helper: Option<NetworkHelper>,
}

/// A network as callers see it.
#[derive(Clone, Debug)]
pub struct NetworkView {
    /// What it is.
    pub network: atoll_net::Network,
    /// Who is on it.
    pub endpoints: BTreeMap<String, Endpoint>,
}

/// What the engine knows of networks.
#[derive(Debug)]
pub(crate) struct Networks {
    settings: atoll_net::Settings,
    /// Whether each workload is on a network of its own, which an ordinary user can have, in the place of a bridge.
    alone: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bridge: Option<atoll_net::Network>,
    endpoints: HashMap<WorkloadId, Endpoint>,
    warnings: Vec<String>,
}

impl Networks {
    pub(crate) fn new(root_id: &str, alone: bool) -> Result<Self, Error> {
        Ok(Self { settings: atoll_net::Settings::new(root_id)?, alone, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The default bridge; its subnet is chosen here when that was never done.
    fn bridge(&mut self, networks: &Networks, db: &Db) -> Result<atoll_net::Network, Error> {
        let settings = &networks.settings;
        if let Some(bridge) = &self.bridge {
            return Ok(bridge.clone());
        }
        let choose = || {
            let subnet = atoll_net::choose_subnet(&settings.pools, &[], &atoll_net::host_routes()?);
            let subnet = subnet.ok_or(atoll_net::Error::NoSubnet)?;
            Ok(match networks.alone {
                true => user::network(BRIDGE, subnet),
                false => settings.default_network(BRIDGE, subnet),
            })
        };
        let bridge: atoll_net::Network = db.value_or_insert(RECORD, choose)?;
        self.bridge = Some(bridge.clone());
        Ok(bridge)
    }
}

impl Engine {
    /// Puts a workload on its network: the namespace that it is to join, and its place there.
    pub(crate) fn connect(&self, workload: &Workload, run: &Path) -> Result<Option<Place>, Error> {
        let name = match &workload.host.network {
            Wanted::None | Wanted::Host | Wanted::Workload(_) => return Ok(None),
            Wanted::Bridge(name) => name,
        };
        if name != BRIDGE {
            return Err(Error::NoSuch(format!("network {name} not found")));
        }
        if self.shared.networks.alone {
            return self.connect_alone(workload, run).map(Some);
        }
        let (network, endpoint) = self.reserve(&workload.id)?;
        let attach = || {
            let attachment = atoll_net::attach(&network, workload.id.as_str(), endpoint.address)?;
            let endpoint = Endpoint { mac: attachment.mac, ..endpoint };
            self.record(workload, run, &endpoint)?;
            Ok(Place { namespace: attachment.namespace, endpoint, helper: None })
        };
        attach().map(Some).inspect_err(|_| self.disconnect(&workload.id))
    }

    /// Puts an ordinary user's workload on a network of its own, on which nobody else is.
    fn connect_alone(&self, workload: &Workload, run: &Path) -> Result<Place, Error> {
        let networks = &self.shared.networks;
        let network = networks.state().bridge(networks, &self.shared.db)?;
        let program = user::program()?;
        let place = user::place(network.subnet);
        let ports = settle(&workload.host.ports)?;
        let user::Call { program, arguments, ready, socket, requests } = user::plan(&program, &place, &ports);
        let endpoint = Endpoint {
            network: network.name,
            address: place.address,
            prefix: place.subnet.prefix(),
            gateway: place.gateway,
            mac: place.mac,
            resolver: Some(place.resolver),
            ports,
        };
        let namespace = user::namespace()?;
        self.record(workload, run, &endpoint)?;
        let helper = Some(NetworkHelper { program, arguments, ready, socket, requests });
        Ok(Place { namespace, endpoint, helper })
    }

    fn record(&self, workload: &Workload, run: &Path, endpoint: &Endpoint) -> Result<(), Error> {
        let record = serde_json::to_vec(endpoint).expect("an endpoint is plain data");
        host::write_file(&run.join(ENDPOINT), &record)?;
        self.shared.networks.state().endpoints.insert(workload.id.clone(), endpoint.clone());
        Ok(())
    }

    /// An address for a workload, on a network that is as it should be.
    fn reserve(&self, id: &WorkloadId) -> Result<(atoll_net::Network, Endpoint), Error> {
        let networks = &self.shared.networks;
        let mut state = networks.state();
        let network = state.bridge(networks, &self.shared.db)?;
        let warnings = atoll_net::ensure(&networks.settings, std::slice::from_ref(&network))?;
        for warning in warnings.iter().filter(|warning| !state.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        state.warnings = warnings;
        let taken: Vec<Ipv4Addr> = state.endpoints.values().map(|endpoint| endpoint.address).collect();
        let address = atoll_net::next_address(&network, &taken)
            .ok_or_else(|| atoll_net::Error::NoAddress(network.name.clone()))?;
        let endpoint = Endpoint {
            network: network.name.clone(),
            address,
            prefix: network.subnet.prefix(),
            gateway: network.gateway,
            mac: [0; 6],
            resolver: None,
            ports: Vec::new(),
        };
        state.endpoints.insert(id.clone(), endpoint.clone());
        Ok((network, endpoint))
    }

    /// Gives a workload's address back; its interface went with its namespace.
    pub(crate) fn disconnect(&self, id: &WorkloadId) {
        self.shared.networks.state().endpoints.remove(id);
    }

    /// Finds out where a workload that was found running is.
    pub(crate) fn adopt_endpoint(&self, id: &WorkloadId) {
        let file = self.run_folder(id).join(ENDPOINT);
        let Ok(bytes) = std::fs::read(&file) else { return };
        match serde_json::from_slice(&bytes) {
            Ok(endpoint) => drop(self.shared.networks.state().endpoints.insert(id.clone(), endpoint)),
            Err(error) => tracing::warn!(%error, file = %file.display(), "reading a workload's place on its network"),
        }
    }

    pub(crate) fn endpoint(&self, id: &WorkloadId) -> Option<Endpoint> {
        self.shared.networks.state().endpoints.get(id).cloned()
    }

    /// The networks of this host.
    ///
    /// # Errors
    /// When no subnet is free for the default one.
    pub async fn networks(&self) -> Result<Vec<NetworkView>, Error> {
        let engine = self.clone();
        host::blocking(move || {
            let networks = &engine.shared.networks;
            let mut state = networks.state();
            let network = state.bridge(networks, &engine.shared.db)?;
            let endpoints = state.endpoints.iter().map(|(id, endpoint)| (id.to_string(), endpoint.clone())).collect();
            Ok(vec![NetworkView { network, endpoints }])
        })
        .await
    }

    /// What the owner of this host should know of its network: sentences.
    pub(crate) fn network_warnings(&self) -> Vec<String> {
        self.shared.networks.state().warnings.clone()
    }
}

/// The ports with numbers for those that left them open: free ones, all different.
fn settle(ports: &[PortBinding]) -> Result<Vec<PortBinding>, Error> {
    // What was found stays taken until all have one.
    let (mut streams, mut datagrams) = (Vec::new(), Vec::new());
    let mut free = |port: &PortBinding| -> std::io::Result<u16> {
        let any = (port.host_address(), 0);
        Ok(match port.protocol {
            Protocol::Tcp => {
                streams.push(TcpListener::bind(any)?);
                streams.last().map_or(Ok(0), |socket| socket.local_addr().map(|address| address.port()))?
            }
            Protocol::Udp => {
                datagrams.push(UdpSocket::bind(any)?);
                datagrams.last().map_or(Ok(0), |socket| socket.local_addr().map(|address| address.port()))?
            }
        })
    };
    let settled = |port: &PortBinding| {
        if port.outside != 0 {
            return Ok(*port);
        }
        let outside = free(port).map_err(Error::host(format!("finding a free port of {}", port.host_address())))?;
        Ok(PortBinding { outside, ..*port })
    };
    ports.iter().map(settled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_port_numbers_are_settled_and_differ() {
        let port = |outside, protocol| PortBinding { inside: 1, protocol, address: Some(Ipv4Addr::LOCALHOST), outside };
        let asked = [port(0, Protocol::Tcp), port(0, Protocol::Tcp), port(5, Protocol::Tcp), port(0, Protocol::Udp)];
        let settled = settle(&asked).expect("the loopback has free ports");
        assert!(settled.iter().all(|port| port.outside != 0));
        assert_eq!(settled[2].outside, 5);
        assert_ne!(settled[0].outside, settled[1].outside);
    }
}
