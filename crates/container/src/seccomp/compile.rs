//! From a policy to a filter: one decision tree over system call numbers per audit architecture.
//!
//! Every architecture's numbers become a partition of the whole 32-bit range into intervals of one outcome, and a
//! balanced tree of unsigned comparisons finds the interval in about log2(n) steps; outcomes that depend on arguments
//! hang below the leaves. What the filter does with a call:
//!
//! - a call named without arguments gets the action of the first such rule, whatever other rules say about its
//!   arguments (as libseccomp does); otherwise the first rule in the policy's order whose arguments match decides;
//! - conditions of one rule hold together, except that a rule with two conditions on the same argument is several
//!   rules with one condition each (as runc does);
//! - a call nobody named gets the default action, except that above the highest number named an ERRNO policy answers
//!   ENOSYS, so that C libraries fall back from calls newer than the policy (as runc does);
//! - calls of an architecture that is not listed kill the process.
//!
//! On x86 `socketcall` and `ipc` multiplex older calls: rules without arguments reach through them. Rules with
//! arguments cannot, since the arguments lie in memory that a filter cannot read.

use super::bpf::{AND_ALL, Assembler, JUMP_EQ, JUMP_GE, JUMP_GT, Label, OFFSET_ARCH, OFFSET_ARGS, OFFSET_NR};
use super::policy::{Condition, Policy, Rule, Test};
use super::table::{self, Numbers};
use super::{Arch, Error, Instruction, action};

/// Marker bit of x32 calls, which share the audit architecture of x86_64.
pub(super) const X32_BIT: u32 = 0x4000_0000;
/// What a tracer leaves as the number of a call that it skips; never an x32 call.
const SKIPPED: u32 = u32::MAX;
/// Numbers from here up are ARM's private calls, not a measure of how new a policy is.
const PRIVATE_CALLS: u32 = 0xf_0000;

/// What becomes of one number.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    /// Always this return value.
    Always(u32),
    /// The first alternative whose conditions hold, else the policy's default.
    Depends {
        /// Whether arguments have 64 bits that count.
        wide: bool,
        /// Tried in order.
        alternatives: Vec<Alternative>,
    },
}

/// Conditions that must hold together, and the return value where they do.
type Alternative = (Vec<Condition>, u32);

/// A number from which on an outcome holds, up to the next one.
type Interval = (u32, Outcome);

/// Rules gathered for one number.
#[derive(Debug, Default)]
struct Entry {
    always: Option<u32>,
    depends: Vec<Alternative>,
}

/// Compiles `policy` for a kernel of architecture `native`.
pub(super) fn compile(policy: &Policy, native: Arch) -> Result<Vec<Instruction>, Error> {
    let mut assembler = Assembler::default();
    let mut next = assembler.ret(action::KILL_PROCESS);
    for (audit, intervals) in sections(policy, native).into_iter().rev() {
        let tree = tree(&mut assembler, &intervals, policy.default);
        let entry = assembler.load(OFFSET_NR, tree);
        next = assembler.branch(JUMP_EQ, audit, entry, next);
    }
    let entry = assembler.load(OFFSET_ARCH, next);
    assembler.finish(entry)
}

/// Audit architectures and their partitions; the native one first.
fn sections(policy: &Policy, native: Arch) -> Vec<(u32, Vec<Interval>)> {
    let listed = |arch: Arch| arch == native || policy.architectures.contains(&arch);
    let mut sections = Vec::new();
    for arch in native.family() {
        if !listed(*arch) || *arch == Arch::X32 {
            continue;
        }
        let mut intervals = partition(policy, *arch, 0);
        if *arch == Arch::X86_64 {
            intervals.retain(|(start, _)| *start < X32_BIT);
            let unknown = intervals.last().map_or(Outcome::Always(policy.default), |(_, outcome)| outcome.clone());
            if listed(Arch::X32) {
                intervals.extend(partition(policy, Arch::X32, X32_BIT));
            } else {
                intervals.push((X32_BIT, Outcome::Always(action::KILL_PROCESS)));
            }
            intervals.push((SKIPPED, unknown));
        }
        sections.push((arch.audit(), merge(intervals)));
    }
    sections
}

/// The outcomes of all numbers of `arch` from `base` up, in rising order, beginning at `base` itself.
fn partition(policy: &Policy, arch: Arch, base: u32) -> Vec<Interval> {
    let (entries, newest) = gather(policy, arch);
    let default = Outcome::Always(policy.default);
    let newer = Outcome::Always(if action::is_errno(policy.default) {
        action::errno(libc::ENOSYS as u16)
    } else {
        policy.default
    });
    let mut intervals = vec![(base, default.clone())];
    let mut beyond = newest.map_or(u32::MAX, |newest| newest + 1);
    for (number, entry) in entries {
        if number >= beyond {
            intervals.push((base + beyond, newer.clone()));
            beyond = u32::MAX;
        }
        let after = if beyond == u32::MAX { newer.clone() } else { default.clone() };
        let outcome = entry
            .always
            .map_or_else(|| Outcome::Depends { wide: arch.wide(), alternatives: entry.depends }, Outcome::Always);
        intervals.push((base + number, outcome));
        intervals.push((base + number + 1, after));
    }
    if beyond != u32::MAX {
        intervals.push((base + beyond, newer));
    }
    intervals
}

/// The rules of every number of `arch` that has one, in rising order, and the highest number named.
fn gather(policy: &Policy, arch: Arch) -> (Vec<(u32, Entry)>, Option<u32>) {
    let multiplexed = if arch == Arch::X86 { multiplexed() } else { Vec::new() };
    let mut said: Vec<(u32, Said<'_>)> = Vec::new();
    let mut newest = None;
    for rule in &policy.rules {
        // A rule that says what the default says anyway adds nothing but its numbers.
        let counts = rule.value != policy.default;
        for call in &rule.calls {
            if let Some(number) = table::column(call, arch) {
                if number < PRIVATE_CALLS {
                    newest = newest.max(Some(number));
                }
                said.extend(counts.then_some((number, Said::Rule(rule))));
            }
            if counts && rule.always() {
                let through = multiplexed.iter().find(|through| std::ptr::eq(through.call, *call));
                said.extend(through.map(|through| (through.number, Said::Through(through.value, rule.value))));
            }
        }
    }
    // Stable: what rules say of one number stays in their order.
    said.sort_by_key(|(number, _)| *number);
    let mut entries: Vec<(u32, Entry)> = Vec::with_capacity(said.len());
    for (number, said) in said {
        if entries.last().is_none_or(|(last, _)| *last != number) {
            entries.push((number, Entry::default()));
        }
        if let Some((_, entry)) = entries.last_mut() {
            said.add_to(entry);
        }
    }
    (entries, newest)
}

/// What one rule says of one number.
enum Said<'a> {
    /// The rule names it.
    Rule(&'a Rule),
    /// The rule names a call that the number multiplexes under this first argument; and its return value.
    Through(u64, u32),
}

impl Said<'_> {
    fn add_to(self, entry: &mut Entry) {
        match self {
            Self::Rule(rule) if rule.always() => {
                entry.always.get_or_insert(rule.value);
            }
            Self::Rule(rule) => {
                entry.depends.extend(rule.alternatives.iter().map(|conditions| (conditions.clone(), rule.value)));
            }
            Self::Through(argument, value) => {
                let condition = Condition { index: 0, test: Test::Masked { mask: u64::MAX, value: argument } };
                entry.depends.push((vec![condition], value));
            }
        }
    }
}

/// A call of x86 that another one carries too.
struct Multiplexed {
    /// Its row of the table.
    call: &'static Numbers,
    /// Number of the one that carries it.
    number: u32,
    /// First argument that means it.
    value: u64,
}

/// The calls of x86 that `socketcall` and `ipc` carry. Source: linux/net.h (`SYS_*`), linux/ipc.h.
fn multiplexed() -> Vec<Multiplexed> {
    const SOCKETCALL: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(&str, u64); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    let sockets = SOCKETCALL.iter().zip(1..).map(|(name, value)| ("socketcall", *name, value));
    let all = sockets.chain(IPC.iter().map(|(name, value)| ("ipc", *name, *value)));
    let read = |(carrier, name, value)| {
        let number = table::column(table::row(carrier)?, Arch::X86)?;
        Some(Multiplexed { call: table::row(name)?, number, value })
    };
    all.filter_map(read).collect()
}

/// Drops empty intervals (a later one with the same start wins) and joins neighbours of one outcome.
fn merge(intervals: Vec<Interval>) -> Vec<Interval> {
    let mut merged: Vec<Interval> = Vec::with_capacity(intervals.len());
    for (start, outcome) in intervals {
        if merged.last().is_some_and(|(last, _)| *last == start) {
            merged.pop();
        }
        if merged.last().is_none_or(|(_, last)| *last != outcome || matches!(outcome, Outcome::Depends { .. })) {
            merged.push((start, outcome));
        }
    }
    merged
}

/// A balanced tree over `intervals`; expects the number in the accumulator.
fn tree(assembler: &mut Assembler, intervals: &[Interval], default: u32) -> Label {
    match intervals {
        [] => assembler.ret(default),
        [(_, Outcome::Always(value))] => assembler.ret(*value),
        [(_, Outcome::Depends { wide, alternatives })] => chain(assembler, alternatives, *wide, default),
        _ => {
            let (low, high) = intervals.split_at(intervals.len() / 2);
            let yes = tree(assembler, high, default);
            let no = tree(assembler, low, default);
            assembler.branch(JUMP_GE, high[0].0, yes, no)
        }
    }
}

/// Tries alternatives in order; the default where none holds.
fn chain(assembler: &mut Assembler, alternatives: &[Alternative], wide: bool, default: u32) -> Label {
    let mut next = assembler.ret(default);
    let mut rest = alternatives;
    while let Some((conditions, value)) = rest.last() {
        let list = list(rest);
        let mut holds = assembler.ret(*value);
        if list.len() > 1 {
            next = one_of(assembler, conditions[0].index, &list, wide, (holds, next));
            rest = &rest[..rest.len() - list.len()];
            continue;
        }
        for condition in conditions.iter().rev() {
            holds = test(assembler, condition, wide, holds, next);
        }
        next = holds;
        rest = &rest[..rest.len() - 1];
    }
    next
}

/// The values at the end of `alternatives` that one argument is compared with for equality, to one outcome and with one
/// high half: such a list needs its argument loaded only once.
fn list(alternatives: &[Alternative]) -> Vec<u64> {
    let single = |(conditions, outcome): &Alternative| match conditions.as_slice() {
        [Condition { index, test: Test::Masked { mask: u64::MAX, value } }] => {
            Some(((*index, *outcome, high(*value)), *value))
        }
        _ => None,
    };
    let Some((kind, _)) = alternatives.last().and_then(single) else {
        return Vec::new();
    };
    let values = alternatives.iter().rev().map_while(single);
    values.take_while(|(other, _)| *other == kind).map(|(_, value)| value).collect()
}

/// Whether argument `index` is one of `values`, which share their high half.
fn one_of(asm: &mut Assembler, index: u32, values: &[u64], wide: bool, (yes, no): (Label, Label)) -> Label {
    let mut entry = no;
    for value in values {
        entry = asm.branch(JUMP_EQ, low(*value), yes, entry);
    }
    entry = asm.load(OFFSET_ARGS + 8 * index, entry);
    if wide {
        entry = half_equal(asm, OFFSET_ARGS + 8 * index + 4, (AND_ALL, high(values[0])), (entry, no));
    }
    entry
}

/// One comparison of an argument, going on at `yes` or `no`.
fn test(assembler: &mut Assembler, condition: &Condition, wide: bool, yes: Label, no: Label) -> Label {
    let index = condition.index;
    match condition.test {
        Test::Masked { mask, value } => equal(assembler, index, (mask, value & mask), wide, (yes, no)),
        Test::NotEqual(value) => equal(assembler, index, (u64::MAX, value), wide, (no, yes)),
        Test::Greater(value) => above(assembler, index, (JUMP_GT, value), wide, (yes, no)),
        Test::GreaterOrEqual(value) => above(assembler, index, (JUMP_GE, value), wide, (yes, no)),
        Test::LessOrEqual(value) => above(assembler, index, (JUMP_GT, value), wide, (no, yes)),
        Test::Less(value) => above(assembler, index, (JUMP_GE, value), wide, (no, yes)),
    }
}

/// `(argument & mask) == value`. A 32-bit architecture has no high half: values given sign-extended still match there.
fn equal(asm: &mut Assembler, index: u32, (mask, value): (u64, u64), wide: bool, (yes, no): (Label, Label)) -> Label {
    let mut entry = half_equal(asm, OFFSET_ARGS + 8 * index, (low(mask), low(value)), (yes, no));
    if wide && high(mask) != 0 {
        entry = half_equal(asm, OFFSET_ARGS + 8 * index + 4, (high(mask), high(value)), (entry, no));
    }
    entry
}

fn half_equal(asm: &mut Assembler, offset: u32, (mask, value): (u32, u32), (yes, no): (Label, Label)) -> Label {
    let mut entry = asm.branch(JUMP_EQ, value, yes, no);
    if mask != AND_ALL {
        entry = asm.and(mask, entry);
    }
    asm.load(offset, entry)
}

/// `argument > value` or `argument >= value`, by `code`. A 32-bit argument is never above what 32 bits cannot hold.
fn above(asm: &mut Assembler, index: u32, (code, value): (u16, u64), wide: bool, (yes, no): (Label, Label)) -> Label {
    if !wide && high(value) != 0 {
        return no;
    }
    let lower = asm.branch(code, low(value), yes, no);
    let lower = asm.load(OFFSET_ARGS + 8 * index, lower);
    if !wide {
        return lower;
    }
    let tie = asm.branch(JUMP_EQ, high(value), lower, no);
    let upper = asm.branch(JUMP_GT, high(value), yes, tie);
    asm.load(OFFSET_ARGS + 8 * index + 4, upper)
}

const fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

const fn high(value: u64) -> u32 {
    (value >> 32) as u32
}
