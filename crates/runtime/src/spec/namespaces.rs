//! The namespaces of a workload: its own, but for those that it shares.

use atoll_model::{Ipc, Namespaces, Network, Share, Workload};
use atoll_oci::runtime::{Namespace, NamespaceType};
use atoll_wall::NETWORK_PATH;

use super::Error;

/// The path of the network's namespace: none is the host's, an empty one a new one. `given` tells whether there is one to
/// join.
pub(super) fn network(network: &Network, given: bool) -> Result<Option<&'static str>, Error> {
    match network {
        Network::Host => Ok(None),
        Network::None => Ok(Some("")),
        Network::Bridge(_) | Network::Workload(_) if given => Ok(Some(NETWORK_PATH)),
        Network::Bridge(name) | Network::Workload(name) => Err(Error::NoNetwork(name.clone())),
    }
}

/// All of them. The supervisor knows the paths of those that are another workload's.
pub(super) fn all(shared: &Namespaces, network: Option<&str>) -> Vec<Namespace> {
    let mut own = vec![NamespaceType::Mount];
    let mut add = |typ, host: bool| {
        if !host {
            own.push(typ);
        }
    };
    add(NamespaceType::Pid, shared.pid == Share::Host);
    add(NamespaceType::Ipc, shared.ipc == Ipc::Host);
    add(NamespaceType::Uts, shared.host_uts);
    add(NamespaceType::Cgroup, shared.host_cgroup);
    let own = own.into_iter().map(|typ| Namespace { typ, path: String::new() });
    own.chain(network.map(|path| Namespace { typ: NamespaceType::Network, path: path.to_owned() })).collect()
}

/// A host name, which can only be given where it is not the host's.
pub(super) fn own_name(workload: &Workload, name: &str) -> String {
    if workload.host.namespaces.host_uts { String::new() } else { name.to_owned() }
}
