//! Ports of a workload that answer on its host.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// A port of a workload, and where on its host it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortBinding {
    /// Its number inside.
    pub inside: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The host's address; none is all of them.
    pub address: Option<Ipv4Addr>,
    /// Its number on the host; 0 is one that is free when the workload starts.
    pub outside: u16,
}

impl PortBinding {
    /// The host's address, `0.0.0.0` for all of them.
    #[must_use]
    pub fn host_address(&self) -> Ipv4Addr {
        self.address.unwrap_or(Ipv4Addr::UNSPECIFIED)
    }
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
