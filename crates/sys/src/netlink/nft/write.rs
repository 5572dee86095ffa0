//! A table as one transaction: begin, create, delete and create again, chains, rules, end.
//!
//! Creating before deleting makes "replace" work whether or not the table was there.

use rustix::io::Errno;

use super::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_TYPE, Chain, Expression, HOOK_NUMBER, HOOK_PRIORITY,
    Purpose, RULE_CHAIN, RULE_EXPRESSIONS, RULE_TABLE, SUBSYSTEM, TABLE_NAME, Table, Verdict, fixed,
};
use crate::netlink::message::{Attributes, Batch, flag};
use crate::netlink::{Error, Socket};

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEWTABLE: u16 = SUBSYSTEM;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const NEWRULE: u16 = SUBSYSTEM | 6;
/// `NFT_REG_1` and `NFT_REG_VERDICT`.
const REGISTER: u32 = 1;
const REGISTER_VERDICT: u32 = 0;
/// `NFTA_LIST_ELEM`, `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`.
const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
/// `NFT_PAYLOAD_NETWORK_HEADER`, `NFT_CMP_EQ`, `NFT_CMP_NEQ`.
const NETWORK_HEADER: u32 = 1;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// Puts `table` in the place of what bears its name, in one transaction.
///
/// # Errors
/// [`Error::Refused`]: `EPERM` without CAP_NET_ADMIN, `ENOENT` when the kernel lacks an expression or chain type.
pub fn replace(socket: &mut Socket, table: &Table) -> Result<(), Error> {
    let mut batch = begin();
    for kind in [NEWTABLE, DELTABLE, NEWTABLE] {
        batch.message(kind, if kind == NEWTABLE { flag::CREATE } else { 0 }, &fixed(table.family), |attributes| {
            attributes.text(TABLE_NAME, &table.name);
        });
    }
    for chain in &table.chains {
        batch.message(NEWCHAIN, flag::CREATE, &fixed(table.family), |attributes| write_chain(attributes, table, chain));
        for rule in &chain.rules {
            batch.message(NEWRULE, flag::CREATE | flag::APPEND, &fixed(table.family), |attributes| {
                attributes.text(RULE_TABLE, &table.name).text(RULE_CHAIN, &chain.name);
                attributes.nested(RULE_EXPRESSIONS, |list| write_rule(list, rule));
            });
        }
    }
    end(&mut batch);
    socket.execute(&batch).map(drop)
}

/// Removes a table; says whether there was one.
///
/// # Errors
/// [`Error::Refused`].
pub fn delete(socket: &mut Socket, family: u8, name: &str) -> Result<bool, Error> {
    let mut batch = begin();
    batch.message(DELTABLE, 0, &fixed(family), |attributes| {
        attributes.text(TABLE_NAME, name);
    });
    end(&mut batch);
    match socket.execute(&batch) {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn begin() -> Batch {
    let mut batch = Batch::default();
    batch.bare(BATCH_BEGIN, 0, &[0, 0, 0, 10], |_| ());
    batch
}

fn end(batch: &mut Batch) {
    batch.bare(BATCH_END, 0, &[0, 0, 0, 10], |_| ());
}

pub(super) fn write_chain(attributes: &mut Attributes<'_>, table: &Table, chain: &Chain) {
    attributes.text(CHAIN_TABLE, &table.name).text(CHAIN_NAME, &chain.name);
    attributes.nested(CHAIN_HOOK, |hook| {
        hook.be32(HOOK_NUMBER, chain.hook as u32).bytes(HOOK_PRIORITY, &chain.priority.to_be_bytes());
    });
    attributes.be32(CHAIN_POLICY, code(chain.policy));
    attributes.text(CHAIN_TYPE, if chain.purpose == Purpose::Nat { "nat" } else { "filter" });
}

/// The verdict's number: NF_DROP, NF_ACCEPT.
pub(super) fn code(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
    }
}

pub(super) fn write_rule(list: &mut Attributes<'_>, rule: &[Expression]) {
    for expression in rule {
        list.nested(LIST_ELEMENT, |element| {
            element.text(1, name(expression)).nested(2, |data| write_expression(data, expression));
        });
    }
}

fn name(expression: &Expression) -> &'static str {
    match expression {
        Expression::Meta(_) => "meta",
        Expression::ConnectionState => "ct",
        Expression::Network { .. } => "payload",
        Expression::Mask(_) => "bitwise",
        Expression::Equal(_) | Expression::NotEqual(_) => "cmp",
        Expression::Counter => "counter",
        Expression::Masquerade => "masq",
        Expression::Verdict(_) => "immediate",
    }
}

/// The attributes of each expression by their numbers in linux/netfilter/nf_tables.h.
fn write_expression(data: &mut Attributes<'_>, expression: &Expression) {
    match expression {
        Expression::Meta(key) => {
            data.be32(1, REGISTER).be32(2, *key as u32);
        }
        Expression::ConnectionState => {
            data.be32(1, REGISTER).be32(2, 0);
        }
        Expression::Network { offset, length } => {
            data.be32(1, REGISTER).be32(2, NETWORK_HEADER).be32(3, *offset).be32(4, *length);
        }
        Expression::Mask(mask) => {
            data.be32(1, REGISTER).be32(2, REGISTER).be32(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
            write_value(data, 4, mask);
            write_value(data, 5, &vec![0; mask.len()]);
        }
        Expression::Equal(value) => {
            data.be32(1, REGISTER).be32(2, EQUAL);
            write_value(data, 3, value);
        }
        Expression::NotEqual(value) => {
            data.be32(1, REGISTER).be32(2, NOT_EQUAL);
            write_value(data, 3, value);
        }
        Expression::Counter | Expression::Masquerade => {}
        Expression::Verdict(verdict) => {
            data.be32(1, REGISTER_VERDICT).nested(2, |value| {
                value.nested(DATA_VERDICT, |inner| {
                    inner.be32(1, code(*verdict));
                });
            });
        }
    }
}

fn write_value(data: &mut Attributes<'_>, kind: u16, value: &[u8]) {
    data.nested(kind, |inner| {
        inner.bytes(DATA_VALUE, value);
    });
}
