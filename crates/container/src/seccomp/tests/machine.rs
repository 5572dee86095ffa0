//! A machine for classic BPF: runs a filter over one call, as linux/filter.c does, and checks what its verifier checks.

use super::super::bpf::{AND, Instruction, JUMP, JUMP_EQ, JUMP_GE, JUMP_GT, LOAD, RETURN};

/// `struct seccomp_data`, less the instruction pointer.
pub(super) struct Call {
    pub(super) arch: u32,
    pub(super) number: u32,
    pub(super) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16..64 if offset.is_multiple_of(4) => {
                let arg = self.args[(offset as usize - 16) / 8];
                (if offset.is_multiple_of(8) { arg } else { arg >> 32 }) as u32
            }
            _ => panic!("load of {offset}"),
        }
    }
}

/// What the filter returns.
pub(super) fn run(program: &[Instruction], call: &Call) -> u32 {
    walk(program, call).0
}

/// How many instructions it takes to decide.
pub(super) fn steps(program: &[Instruction], call: &Call) -> usize {
    walk(program, call).1
}

fn walk(program: &[Instruction], call: &Call) -> (u32, usize) {
    const SET: u16 = 0x45;
    const OR: u16 = 0x44;
    const RSH: u16 = 0x74;
    let (mut at, mut steps, mut accumulator) = (0, 0, 0_u32);
    loop {
        let instruction = program.get(at).expect("a filter ends in a return");
        let k = instruction.k;
        steps += 1;
        at += 1;
        let test = match instruction.code {
            LOAD => {
                accumulator = call.word(k);
                continue;
            }
            AND => {
                accumulator &= k;
                continue;
            }
            OR => {
                accumulator |= k;
                continue;
            }
            RSH => {
                accumulator >>= k;
                continue;
            }
            JUMP => {
                at += k as usize;
                continue;
            }
            RETURN => return (k, steps),
            JUMP_EQ => accumulator == k,
            JUMP_GT => accumulator > k,
            JUMP_GE => accumulator >= k,
            SET => accumulator & k != 0,
            other => panic!("instruction {other:#x}"),
        };
        at += usize::from(if test { instruction.jump_true } else { instruction.jump_false });
    }
}
