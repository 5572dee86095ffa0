//! Classic BPF as seccomp(2) takes it: instructions, and an assembler that writes them from the last to the first.
//!
//! A filter is a decision graph whose edges only point forward. Building it backwards means that every jump's target is
//! already placed when the jump is written, so offsets are final at once and a target further than the 8 bits of a
//! conditional jump gets an unconditional one right behind it. Left out: loads other than the 32-bit words of
//! `struct seccomp_data`, scratch memory and arithmetic other than `and`, which no filter here needs.

use super::Error;

/// Kernel's limit on the length of a filter (`BPF_MAXINSNS`, linux/bpf_common.h).
pub const INSTRUCTIONS_MAX: usize = 4096;

/// `BPF_LD | BPF_W | BPF_ABS`: load the 32-bit word at offset `k` of `struct seccomp_data`.
pub(super) const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JA`: jump forward by `k`.
pub(super) const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub(super) const JUMP_EQ: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`, unsigned.
pub(super) const JUMP_GT: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`, unsigned.
pub(super) const JUMP_GE: u16 = 0x35;
/// `BPF_ALU | BPF_AND | BPF_K`.
pub(super) const AND: u16 = 0x54;
/// `BPF_RET | BPF_K`.
pub(super) const RETURN: u16 = 0x06;

/// A mask that changes nothing.
pub(super) const AND_ALL: u32 = u32::MAX;

/// Offset of `nr` in `struct seccomp_data` (linux/seccomp.h).
pub(super) const OFFSET_NR: u32 = 0;
/// Offset of `arch`.
pub(super) const OFFSET_ARCH: u32 = 4;
/// Offset of `args[0]`; each argument is 64 bits, low half first on every architecture of ours.
pub(super) const OFFSET_ARGS: u32 = 16;

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// Operation and addressing mode.
    pub code: u16,
    /// Instructions to skip when a conditional jump's test holds.
    pub jump_true: u8,
    /// Instructions to skip when it does not.
    pub jump_false: u8,
    /// Immediate operand.
    pub k: u32,
}

/// A place in the program, counted from its end. Only the assembler makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Builds a program from its last instruction to its first.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// The program in reverse.
    reversed: Vec<Instruction>,
    /// Where each value was last returned from, newest last.
    returns: Vec<(u32, usize)>,
}

impl Assembler {
    /// Returns `value` to the kernel. One instruction serves every jump in reach of it.
    pub(super) fn ret(&mut self, value: u32) -> Label {
        let near = self.reversed.len();
        if let Some((_, at)) =
            self.returns.iter().find(|(known, at)| *known == value && near - at <= u8::MAX as usize / 2)
        {
            return Label(*at);
        }
        self.returns.retain(|(known, _)| *known != value);
        let label = self.push(Instruction { code: RETURN, jump_true: 0, jump_false: 0, k: value });
        self.returns.push((value, label.0));
        label
    }

    /// Loads the word at `offset`, then goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.straight(LOAD, offset, next)
    }

    /// Masks the accumulator, then goes on at `next`.
    pub(super) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.straight(AND, mask, next)
    }

    /// Compares the accumulator with `k` and goes on at one of two places. `code` is one of the conditional jumps.
    pub(super) fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        // A detour for one side pushes the other side one further away: make room for both before measuring.
        let reach = u8::MAX as usize - 1;
        let far = |program: &Self, target: Label| program.reversed.len() - target.0 - 1 > reach;
        let no = if far(self, no) { self.jump(no) } else { no };
        let yes = if far(self, yes) { self.jump(yes) } else { yes };
        let (jump_true, jump_false) = (self.distance(yes), self.distance(no));
        self.push(Instruction { code, jump_true, jump_false, k })
    }

    /// The finished program, first instruction first, beginning at `entry`.
    pub(super) fn finish(mut self, entry: Label) -> Result<Vec<Instruction>, Error> {
        if entry.0 + 1 != self.reversed.len() {
            self.jump(entry);
        }
        let length = self.reversed.len();
        if length > INSTRUCTIONS_MAX {
            return Err(Error::TooLong { length });
        }
        self.reversed.reverse();
        Ok(self.reversed)
    }

    /// An instruction that falls through to `next`; jumps there where `next` is not the one right behind it.
    fn straight(&mut self, code: u16, k: u32, next: Label) -> Label {
        if next.0 + 1 != self.reversed.len() {
            self.jump(next);
        }
        self.push(Instruction { code, jump_true: 0, jump_false: 0, k })
    }

    fn jump(&mut self, target: Label) -> Label {
        let skip = (self.reversed.len() - target.0 - 1) as u32;
        self.push(Instruction { code: JUMP, jump_true: 0, jump_false: 0, k: skip })
    }

    fn distance(&self, target: Label) -> u8 {
        u8::try_from(self.reversed.len() - target.0 - 1).expect("a far target was given a jump in reach")
    }

    fn push(&mut self, instruction: Instruction) -> Label {
        self.reversed.push(instruction);
        Label(self.reversed.len() - 1)
    }
}
