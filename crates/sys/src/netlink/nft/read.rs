//! What the kernel has: base chains of everybody, and whether our table still is as written.
//!
//! Chains and rules are dumped and held against the attributes that [`super::replace`] would send: each must be there with the
//! same bytes. What the kernel adds (handles, counts) does not matter.

use super::{
    BaseChain, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, HOOK_NUMBER, HOOK_PRIORITY, RULE_CHAIN,
    RULE_EXPRESSIONS, RULE_TABLE, SUBSYSTEM, Table, fixed, write,
};
use crate::netlink::message::{Attributes, Batch, attributes, be32, find, flag, messages, text};
use crate::netlink::{Error, Reply, Socket};

const GETCHAIN: u16 = SUBSYSTEM | 4;
const GETRULE: u16 = SUBSYSTEM | 7;
const FIXED: usize = 4;
/// How deep attributes are nested in a rule, at most.
const MAX_DEPTH: usize = 8;

/// All base chains of all tables and families.
///
/// # Errors
/// See [`Socket::dump`].
pub fn base_chains(socket: &mut Socket) -> Result<Vec<BaseChain>, Error> {
    let chains = dump(socket, GETCHAIN, 0, |_| ())?;
    chains.iter().filter_map(|reply| base_chain(&reply.body).transpose()).collect()
}

fn base_chain(body: &[u8]) -> Result<Option<BaseChain>, Error> {
    let inner = body.get(FIXED..).unwrap_or_default();
    let Some(hook) = find(inner, CHAIN_HOOK)? else { return Ok(None) };
    let number = |bytes: Option<&[u8]>| bytes.map_or(Ok(0), be32);
    let words = |kind| find(inner, kind)?.map_or(Ok(""), text).map(str::to_owned);
    Ok(Some(BaseChain {
        family: body.first().copied().unwrap_or(0),
        table: words(CHAIN_TABLE)?,
        name: words(CHAIN_NAME)?,
        hook: number(find(hook, HOOK_NUMBER)?)?,
        priority: number(find(hook, HOOK_PRIORITY)?)?.cast_signed(),
        drops: find(inner, CHAIN_POLICY)?.map(be32).transpose()? == Some(0),
    }))
}

/// Whether the kernel has `table` with exactly these chains and rules.
///
/// # Errors
/// See [`Socket::dump`].
pub fn stands(socket: &mut Socket, table: &Table) -> Result<bool, Error> {
    let mut chains = dump(socket, GETCHAIN, table.family, |_| ())?;
    chains.retain(|chain| named(&chain.body, CHAIN_TABLE, &table.name));
    if chains.len() != table.chains.len() {
        return Ok(false);
    }
    for chain in &table.chains {
        let wanted = written(|attributes| write::write_chain(attributes, table, chain))?;
        let found = chains.iter().find(|found| named(&found.body, CHAIN_NAME, &chain.name));
        if !found.is_some_and(|found| covers(&wanted, found.body.get(FIXED..).unwrap_or_default(), MAX_DEPTH)) {
            return Ok(false);
        }
    }
    let mut rules = dump(socket, GETRULE, table.family, |attributes| {
        attributes.text(RULE_TABLE, &table.name);
    })?;
    rules.retain(|rule| named(&rule.body, RULE_TABLE, &table.name));
    for chain in &table.chains {
        let found: Vec<_> = rules.iter().filter(|rule| named(&rule.body, RULE_CHAIN, &chain.name)).collect();
        if found.len() != chain.rules.len() {
            return Ok(false);
        }
        for (rule, found) in chain.rules.iter().zip(found) {
            let wanted = written(|list| write::write_rule(list, rule))?;
            let inner = find(found.body.get(FIXED..).unwrap_or_default(), RULE_EXPRESSIONS)?.unwrap_or_default();
            if !same_list(&wanted, inner) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Whether two lists have as many elements, each covering its counterpart.
fn same_list(wanted: &[u8], found: &[u8]) -> bool {
    let (wanted, found): (Vec<_>, Vec<_>) =
        (attributes(wanted).flatten().collect(), attributes(found).flatten().collect());
    wanted.len() == found.len() && wanted.iter().zip(&found).all(|(wanted, found)| covers(wanted.1, found.1, MAX_DEPTH))
}

/// Whether `found` has each attribute of `wanted`, with the same bytes or, nested, covering them.
fn covers(wanted: &[u8], found: &[u8], depth: usize) -> bool {
    if wanted == found || wanted.is_empty() {
        return true;
    }
    depth > 0
        && attributes(wanted).all(|attribute| {
            attribute.is_ok_and(|(kind, payload)| {
                find(found, kind).ok().flatten().is_some_and(|found| covers(payload, found, depth - 1))
            })
        })
}

fn named(body: &[u8], kind: u16, name: &str) -> bool {
    let found = find(body.get(FIXED..).unwrap_or_default(), kind).ok().flatten();
    found.and_then(|found| text(found).ok()) == Some(name)
}

/// Attributes as bytes.
fn written(fill: impl FnOnce(&mut Attributes<'_>)) -> Result<Vec<u8>, Error> {
    let mut batch = Batch::default();
    batch.message(0, 0, &[], fill);
    let (bytes, _) = batch.seal(0, false)?;
    messages(&bytes).next().transpose().map(|message| message.map_or_else(Vec::new, |message| message.body.to_vec()))
}

fn dump(
    socket: &mut Socket,
    kind: u16,
    family: u8,
    fill: impl FnOnce(&mut Attributes<'_>),
) -> Result<Vec<Reply>, Error> {
    let mut batch = Batch::default();
    batch.message(kind, flag::DUMP, &fixed(family), fill);
    socket.dump(&batch)
}
