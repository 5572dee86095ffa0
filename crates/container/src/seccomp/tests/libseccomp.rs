//! The same policies through libseccomp: both filters must answer every call alike.
//!
//! Needs Debian's python3-seccomp. Calls that its libseccomp does not know, and numbers above those named (where our
//! filters say ENOSYS on purpose), are not compared.

use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Stdio};

use atoll_oci::runtime::LinuxSeccomp;

use super::super::{Arch, Instruction, compile, default_profile, table};
use super::machine::{self, Call};
use super::{DOCKER, read};

const ORACLE: &str = r#"
import json, sys
try:
    import seccomp
except ImportError:
    sys.exit(3)
profile, path = json.load(sys.stdin), sys.argv[1]
ops = {"SCMP_CMP_NE": seccomp.NE, "SCMP_CMP_LT": seccomp.LT, "SCMP_CMP_LE": seccomp.LE, "SCMP_CMP_EQ": seccomp.EQ,
       "SCMP_CMP_GE": seccomp.GE, "SCMP_CMP_GT": seccomp.GT, "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ}
def action(name, errno):
    name = name[len("SCMP_ACT_"):]
    if name == "ERRNO": return seccomp.ERRNO(1 if errno is None else errno)
    if name == "TRACE": return seccomp.TRACE(1 if errno is None else errno)
    return getattr(seccomp, name)
default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
filter = seccomp.SyscallFilter(default)
filter.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
for arch in profile.get("architectures", []):
    arch = getattr(seccomp.Arch, arch[len("SCMP_ARCH_"):])
    if not filter.exist_arch(arch): filter.add_arch(arch)
unknown = []
for rule in profile["syscalls"]:
    do = action(rule["action"], rule.get("errnoRet"))
    if do == default: continue
    args = [seccomp.Arg(a["index"], ops[a["op"]], a["value"], a.get("valueTwo", 0)) for a in rule.get("args", [])]
    indices = [a["index"] for a in rule.get("args", [])]
    ways = [[a] for a in args] if len(set(indices)) < len(indices) else [args]
    for name in rule["names"]:
        if seccomp.resolve_syscall(seccomp.Arch(), name) == -1: unknown.append(name); continue
        for way in ways: filter.add_rule(do, name, *way)
filter.export_bpf(open(path, "wb"))
print(json.dumps(unknown))
"#;

/// libseccomp's filter for `profile` and the names it does not know; `None` where the oracle is not installed.
fn oracle(profile: &LinuxSeccomp) -> Option<(Vec<Instruction>, HashSet<String>)> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", ORACLE])
        .arg(file.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let json = serde_json::to_vec(profile).expect("profiles serialise");
    python.stdin.take().expect("piped").write_all(&json).ok()?;
    let output = python.wait_with_output().expect("it ends");
    if output.status.code() == Some(3) {
        return None;
    }
    assert!(output.status.success(), "the oracle failed");
    let bytes = std::fs::read(file.path()).expect("it wrote the filter");
    let instructions = bytes.chunks_exact(8).map(|b| Instruction {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jump_true: b[2],
        jump_false: b[3],
        k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
    });
    Some((instructions.collect(), serde_json::from_slice(&output.stdout).expect("it lists what it does not know")))
}

/// Argument values worth trying: those of the rules and their neighbours, and the corners.
fn values(profile: &LinuxSeccomp) -> Vec<u64> {
    let args = || profile.syscalls.iter().flat_map(|rule| &rule.args);
    let mut values: Vec<u64> = args()
        .flat_map(|arg| [arg.value, arg.value_two])
        .flat_map(|v| [v.wrapping_sub(1), v, v.wrapping_add(1), v | 1 << 32, v | 1 << 63])
        .chain([0, 1, 38, 0xffff_ffff, 0x1_0000_0000, u64::MAX])
        .collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// Compares all numbers of all architectures of x86_64; says how many answers were compared, `None` without the oracle.
fn compare(profile: &LinuxSeccomp) -> Option<usize> {
    let (theirs, unknown) = oracle(profile)?;
    let ours = compile(profile, Arch::X86_64).expect("compiles");
    let values = values(profile);
    let mut compared = 0;
    for arch in [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64] {
        let named: Vec<u32> =
            profile.syscalls.iter().flat_map(|rule| &rule.names).filter_map(|n| table::number(n, arch)).collect();
        let newest = named.iter().max().copied().unwrap_or(600);
        let skip: HashSet<u32> = unknown.iter().filter_map(|name| table::number(name, arch)).collect();
        let bit = if arch == Arch::X32 { super::super::compile::X32_BIT } else { 0 };
        for number in (0..=newest).filter(|number| !skip.contains(number)) {
            for value in &values {
                for index in 0..3 {
                    // Arguments of a 32-bit call have no high half.
                    let value = if arch.wide() { *value } else { *value & 0xffff_ffff };
                    let mut args = [0; 6];
                    args[index] = value;
                    let call = Call { arch: arch.audit(), number: bit + number, args };
                    let (our, their) = (machine::run(ours.instructions(), &call), machine::run(&theirs, &call));
                    assert_eq!(our, their, "{arch:?} {number} {args:x?}: {our:#x}, libseccomp {their:#x}");
                    compared += 1;
                }
            }
        }
    }
    println!("{compared} answers alike; {} instructions, libseccomp {}", ours.instructions().len(), theirs.len());
    Some(compared)
}

#[test]
fn libseccomp_agrees() {
    if !cfg!(target_arch = "x86_64") {
        println!("skipped: the oracle compares on x86_64");
        return;
    }
    let rules = |default: &str, others: &str, rules: &str| {
        read(&format!(
            r#"{{"defaultAction": "SCMP_ACT_{default}", "architectures": [{others}], "syscalls": [{rules}]}}"#
        ))
    };
    let profiles = [
        default_profile(&DOCKER, Arch::X86_64),
        default_profile(&["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_TIME"], Arch::X86_64),
        rules(
            "ALLOW",
            "",
            r#"{"names": ["read", "openat"], "action": "SCMP_ACT_TRAP", "args": [
                 {"index": 0, "value": 4294967301, "op": "SCMP_CMP_GE"}, {"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}]},
               {"names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [
                 {"index": 2, "value": 17179869187, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]},
               {"names": ["close", "mount"], "action": "SCMP_ACT_KILL_PROCESS"},
               {"names": ["dup"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_NE"}]},
               {"names": ["ioctl"], "action": "SCMP_ACT_TRACE", "errnoRet": 9, "args": [
                 {"index": 1, "value": 21522, "op": "SCMP_CMP_LE"}]}"#,
        ),
        rules(
            "KILL",
            r#""SCMP_ARCH_X86", "SCMP_ARCH_X32""#,
            r#"{"names": ["read", "write", "exit_group"], "action": "SCMP_ACT_ALLOW"},
               {"names": ["futex"], "action": "SCMP_ACT_ALLOW", "args": [
                 {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 129, "op": "SCMP_CMP_LT"}]}"#,
        ),
    ];
    for profile in &profiles {
        let Some(compared) = compare(profile) else {
            println!("skipped: python3-seccomp is not installed");
            return;
        };
        assert!(compared > 10_000);
    }
}
