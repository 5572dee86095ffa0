//! Programs that decide over devices in a v2 control group (bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! [`assemble`] writes the program for a list of rules (pure); [`attach`] loads it and puts it on a group's folder in place
//! of those that were there. Programs are accounted to the memory of their loader since kernel 5.11: no limit is raised.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::cgroup::{DeviceAccess, DeviceKind};

/// One instruction (linux/bpf.h, `struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high ones.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// What the program answers.
const RESULT: u8 = 0;
/// At the start the request (`struct bpf_cgroup_dev_ctx`), then scratch.
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
/// Accesses that no rule has decided yet.
const OPEN: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

/// The program for rules in their order: for each access the last rule that names the device decides, as if each had changed
/// a list (the kernel's admin-guide/cgroup-v1/devices.rst). Without a rule for everything, what no rule names is allowed.
#[must_use]
pub fn assemble(rules: &[DeviceAccess]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, SCRATCH, 0, 0),
        instruction(MOVE_REGISTER, OPEN, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, OPEN, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, SCRATCH, 4, 0),
        instruction(LOAD_WORD, MINOR, SCRATCH, 8, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(one(rule));
    }
    program.extend(answer(true));
    program
}

fn answer(allow: bool) -> [Instruction; 2] {
    [instruction(MOVE, RESULT, 0, 0, i32::from(allow)), instruction(EXIT, 0, 0, 0, 0)]
}

fn one(rule: &DeviceAccess) -> Vec<Instruction> {
    let access = i32::from(rule.access.bits());
    let decision = if rule.allow {
        vec![instruction(AND, OPEN, 0, 0, !access), instruction(JUMP_NOT_EQUAL, OPEN, 0, 2, 0)]
    } else {
        vec![
            instruction(MOVE_REGISTER, SCRATCH, OPEN, 0, 0),
            instruction(AND, SCRATCH, 0, 0, access),
            instruction(JUMP_EQUAL, SCRATCH, 0, 2, 0),
        ]
    };
    let kind = match rule.kind {
        DeviceKind::All => None,
        DeviceKind::Block => Some(1),
        DeviceKind::Char => Some(2),
    };
    // Numbers are compared as 64 bits, the immediate with its sign: those above i32::MAX are no device numbers.
    let number = |number: Option<u32>| number.map(|number| i32::try_from(number).unwrap_or(i32::MAX));
    let tests = [(KIND, kind), (MAJOR, number(rule.major)), (MINOR, number(rule.minor))];
    let tests: Vec<_> =
        tests.into_iter().filter_map(|(register, value)| value.map(|value| (register, value))).collect();
    let body = decision.len() + 2;
    let mut code = Vec::new();
    for (index, (register, value)) in tests.iter().enumerate() {
        let over = i16::try_from(tests.len() - index - 1 + body).unwrap_or(i16::MAX);
        code.push(instruction(JUMP_NOT_EQUAL, *register, 0, over, *value));
    }
    code.extend(decision);
    code.extend(answer(rule.allow));
    code
}

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_GET_FD_BY_ID: i32 = 13;
const PROG_QUERY: i32 = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
/// Most programs that a group can have.
const PROGRAMS_MAX: usize = 64;

/// `union bpf_attr`, as far as these commands need it.
#[derive(Default)]
#[repr(C, align(8))]
struct Attributes([u32; 16]);

impl Attributes {
    fn set_pointer(&mut self, index: usize, address: u64) {
        let bytes = address.to_ne_bytes();
        for (word, half) in self.0[index..index + 2].iter_mut().zip(bytes.chunks_exact(4)) {
            *word = half.first_chunk().map_or(0, |half| u32::from_ne_bytes(*half));
        }
    }
}

fn bpf(command: i32, attributes: &mut Attributes) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes the attributes' bytes and what their pointers name, which live through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<Attributes>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(result).map_err(io::Error::other) }
}

fn owned(result: i32) -> OwnedFd {
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(result) }
}

fn number(fd: &impl AsRawFd) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attributes = Attributes::default();
    attributes.0[0] = TYPE_CGROUP_DEVICE;
    attributes.0[1] = u32::try_from(program.len()).map_err(io::Error::other)?;
    attributes.set_pointer(2, program.as_ptr() as u64);
    attributes.set_pointer(4, c"Apache-2.0".as_ptr() as u64);
    bpf(PROG_LOAD, &mut attributes).map(owned)
}

/// The programs of a group.
fn attached(folder: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; PROGRAMS_MAX];
    let mut attributes = Attributes::default();
    attributes.0[0] = number(&folder);
    attributes.0[1] = ATTACH_CGROUP_DEVICE;
    attributes.set_pointer(4, ids.as_mut_ptr() as u64);
    attributes.0[6] = u32::try_from(ids.len()).map_err(io::Error::other)?;
    bpf(PROG_QUERY, &mut attributes)?;
    let count = (attributes.0[6] as usize).min(ids.len());
    let open = |id: &u32| {
        let mut attributes = Attributes::default();
        attributes.0[0] = *id;
        bpf(PROG_GET_FD_BY_ID, &mut attributes).map(owned)
    };
    ids[..count].iter().map(open).collect()
}

/// Puts a program on the group whose folder this is, and takes the others away.
///
/// # Errors
/// `EPERM` without CAP_BPF and CAP_NET_ADMIN, `EINVAL` when the folder is no v2 group's.
pub fn attach(folder: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let before = attached(folder)?;
    let program = load(program)?;
    let change = |command, program: &OwnedFd, flags| {
        let mut attributes = Attributes::default();
        attributes.0[..4].copy_from_slice(&[number(&folder), number(program), ATTACH_CGROUP_DEVICE, flags]);
        bpf(command, &mut attributes).map(|_| ())
    };
    change(PROG_ATTACH, &program, ALLOW_MULTI)?;
    before.iter().try_for_each(|old| change(PROG_DETACH, old, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program on a request as the kernel would.
    fn evaluate(program: &[Instruction], kind: u64, access: u64, major: u64, minor: u64) -> bool {
        let mut registers = [0_u64; 6];
        let mut at = 0;
        for _ in 0..10_000 {
            let Instruction { code, registers: names, offset, immediate } = program[at];
            let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
            let value = i64::from(immediate).cast_unsigned();
            at += 1;
            match code {
                LOAD_WORD => registers[to] = [access << 16 | kind, major, minor][offset as usize / 4],
                MOVE => registers[to] = value,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                JUMP_EQUAL if registers[to] == value => at += offset as usize,
                JUMP_NOT_EQUAL if registers[to] != value => at += offset as usize,
                JUMP_EQUAL | JUMP_NOT_EQUAL => {}
                EXIT => return registers[0] == 1,
                _ => panic!("{code:#x}"),
            }
        }
        panic!("it does not end")
    }

    #[test]
    fn the_last_rule_decides_for_each_access() {
        let rules = ["- a *:* rwm", "+ c 1:3 r", "+ c 1:3 w", "+ b 8:* r", "+ c *:* m", "- c 5:1 m"];
        let rules: Vec<DeviceAccess> = rules.iter().map(|rule| crate::cgroup::device_rule(rule)).collect();
        let program = assemble(&rules);
        let (block, char, mknod, read, write) = (1, 2, 1, 2, 4);
        for (kind, access, major, minor, expected) in [
            (char, read | write, 1, 3, true),
            (char, read | write | mknod, 1, 3, true),
            (char, read, 1, 5, false),
            (char, mknod, 1, 5, true),
            (char, mknod, 5, 1, false),
            (block, read, 8, 7, true),
            (block, read | write, 8, 7, false),
            (block, mknod, 8, 7, false),
        ] {
            assert_eq!(evaluate(&program, kind, access, major, minor), expected, "{kind} {access} {major}:{minor}");
        }
        assert!(evaluate(&assemble(&[]), char, read, 9, 9), "no rules, no limits");
    }

    #[test]
    fn a_real_group_denies() {
        use std::os::fd::AsFd;
        use std::os::unix::process::CommandExt;
        let layout = crate::cgroup::Layout::read().unwrap();
        let name = format!("atoll-bpf-test-{}", std::process::id());
        let group = crate::cgroup::Cgroup::at(&layout, "", &name).unwrap();
        let folder = match group.create_v2(&layout) {
            Ok(Some(folder)) => folder,
            other => return println!("skipped: no v2 group can be made here: {other:?}"),
        };
        let procs = group.unified().unwrap().join("cgroup.procs");
        let deny = crate::cgroup::device_rule("- c 1:5 r");
        attach(folder.as_fd(), &assemble(&[deny])).unwrap();
        attach(folder.as_fd(), &assemble(&[deny])).unwrap();
        assert_eq!(attached(folder.as_fd()).unwrap().len(), 1, "the second took the first one's place");
        let read = |device: &str| {
            let mut command = std::process::Command::new("/usr/bin/head");
            let procs = procs.clone();
            command.args(["-c", "1", device]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            // SAFETY: the closure writes a file and nothing else.
            unsafe { command.pre_exec(move || std::fs::write(&procs, "0")) };
            command.status().unwrap().success()
        };
        let (zero, urandom) = (read("/dev/zero"), read("/dev/urandom"));
        group.remove().unwrap();
        assert!(!zero && urandom);
    }
}
