//! Packet filters (nf_tables over nfnetlink): a table of our own as a value.
//!
//! [`replace`] writes a [`Table`] in one transaction: either all of it is in force or nothing changed. [`stands`] reads the table
//! back and says whether it still is what was written; [`base_chains`] lists where others filter. Sets, maps and handles are
//! left out until published ports need them.

mod read;
mod write;

pub use read::{base_chains, stands};
pub use write::{delete, replace};

/// `NFPROTO_INET`: IPv4 and IPv6 in one table.
pub const FAMILY_INET: u8 = 1;
/// `NFPROTO_IPV4`.
pub const FAMILY_V4: u8 = 2;

/// Where in the way of a packet a base chain stands (`NF_INET_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Before routing.
    Prerouting = 0,
    /// To this host.
    Input = 1,
    /// Through this host.
    Forward = 2,
    /// From this host.
    Output = 3,
    /// After routing.
    Postrouting = 4,
}

/// What a base chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Packets pass or not.
    Filter,
    /// The first packet of a connection decides its translation.
    Nat,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is gone (`NF_DROP`).
    Drop,
    /// This base chain lets it pass; others may still drop it (`NF_ACCEPT`).
    Accept,
}

/// A table and all that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `NFPROTO_*`.
    pub family: u8,
    /// Its name.
    pub name: String,
    /// Its chains, all base chains.
    pub chains: Vec<Chain>,
}

/// A base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Where it stands.
    pub hook: Hook,
    /// Lower comes first.
    pub priority: i32,
    /// What happens when no rule decides.
    pub policy: Verdict,
    /// Its rules, in order.
    pub rules: Vec<Vec<Expression>>,
}

/// One step of a rule. Loads put a value into the one register that the next comparison reads; a comparison that fails ends
/// the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Loads what the kernel knows of the packet.
    Meta(Meta),
    /// Loads the state of the packet's connection.
    ConnectionState,
    /// Loads bytes of the network header.
    Network {
        /// First byte.
        offset: u32,
        /// How many.
        length: u32,
    },
    /// Keeps the bits of a mask.
    Mask(Vec<u8>),
    /// Goes on when the register is this.
    Equal(Vec<u8>),
    /// Goes on when the register is not this.
    NotEqual(Vec<u8>),
    /// Counts packets and bytes.
    Counter,
    /// Gives the connection the address of the interface it leaves by.
    Masquerade,
    /// Ends the chain.
    Verdict(Verdict),
}

/// What [`Expression::Meta`] loads (`NFT_META_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Meta {
    /// Name of the interface it came in by, 16 bytes.
    InputName = 6,
    /// Name of the interface it leaves by, 16 bytes.
    OutputName = 7,
    /// `NFPROTO_*` of the packet, one byte.
    Protocol = 15,
}

/// Bits of [`Expression::ConnectionState`], in the host's byte order.
pub mod state {
    /// Belongs to no connection and begins none.
    pub const INVALID: u32 = 1;
    /// Belongs to a connection that has seen both directions.
    pub const ESTABLISHED: u32 = 2;
    /// Was caused by such a connection.
    pub const RELATED: u32 = 4;
}

/// A base chain of anybody's, as found in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// `NFPROTO_*`.
    pub family: u8,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// `NF_INET_*` of its hook.
    pub hook: u32,
    /// Lower comes first.
    pub priority: i32,
    /// Whether a packet that no rule decides is dropped.
    pub drops: bool,
}

const SUBSYSTEM: u16 = 10 << 8;
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;

/// A `struct nfgenmsg`.
fn fixed(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}
