//! Filters checked by interpretation, against libseccomp, and on the running kernel.

mod kernel;
mod libseccomp;
mod machine;

use atoll_oci::runtime::LinuxSeccomp;

use self::machine::Call;
use super::{Arch, Error, INSTRUCTIONS_MAX, action, compile, default_profile, table};

const ALLOW: u32 = action::ALLOW;
const KILL: u32 = action::KILL_PROCESS;
const EPERM: u32 = action::errno(1);
const ENOSYS: u32 = action::errno(38);

fn read(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).expect("test profiles parse")
}

/// A profile with a default action and rules as JSON.
fn profile(default: &str, rules: &str) -> LinuxSeccomp {
    read(&format!(r#"{{"defaultAction": "SCMP_ACT_{default}", "syscalls": [{rules}]}}"#))
}

fn number(name: &str, arch: Arch) -> u32 {
    table::number(name, arch).unwrap_or_else(|| panic!("{name} has no number on {arch:?}"))
}

/// Runs the filter of `profile` over `calls` of x86_64 and compares what it answers.
#[track_caller]
fn check(profile: &LinuxSeccomp, calls: &[(&str, [u64; 6], u32)]) {
    let program = compile(profile, Arch::X86_64).expect("compiles");
    for (name, args, expected) in calls {
        let call = Call { arch: Arch::X86_64.audit(), number: number(name, Arch::X86_64), args: *args };
        let got = machine::run(program.instructions(), &call);
        assert_eq!(got, *expected, "{name}{args:?}: got {got:#x}, expected {expected:#x}");
    }
}

const fn first(value: u64) -> [u64; 6] {
    [value, 0, 0, 0, 0, 0]
}

#[test]
fn every_action_reaches_the_kernel_as_its_number() {
    let cases = [
        (r#""SCMP_ACT_KILL""#, 0),
        (r#""SCMP_ACT_KILL_THREAD""#, 0),
        (r#""SCMP_ACT_KILL_PROCESS""#, 0x8000_0000),
        (r#""SCMP_ACT_TRAP""#, 0x3_0000),
        (r#""SCMP_ACT_ERRNO""#, 0x5_0001),
        (r#""SCMP_ACT_ERRNO", "errnoRet": 13"#, 0x5_000d),
        (r#""SCMP_ACT_ERRNO", "errnoRet": 0"#, 0x5_0000),
        (r#""SCMP_ACT_TRACE", "errnoRet": 65535"#, 0x7ff0_ffff),
        (r#""SCMP_ACT_LOG""#, 0x7ffc_0000),
    ];
    for (action, expected) in cases {
        let profile = profile("ALLOW", &format!(r#"{{"names": ["read"], "action": {action}}}"#));
        check(&profile, &[("read", [0; 6], expected), ("write", [0; 6], ALLOW)]);
    }
    let mut notify = profile("ALLOW", r#"{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}"#);
    assert_eq!(compile(&notify, Arch::X86_64), Err(Error::NoListener));
    notify.listener_path = "/run/listener".to_owned();
    check(&notify, &[("read", [0; 6], 0x7fc0_0000)]);
    assert!(compile(&notify, Arch::X86_64).expect("compiles").notifies());
}

#[test]
fn operators_compare_all_64_bits_unsigned() {
    const BIG: u64 = 0x1_0000_0005;
    const TOP: u64 = u64::MAX;
    /// Operator, value, second value, arguments that match, arguments that do not.
    type Case = (&'static str, u64, u64, &'static [u64], &'static [u64]);
    let cases: [Case; 9] = [
        ("EQ", BIG, 0, &[BIG], &[5, BIG + 1, 0x2_0000_0005, 0, TOP]),
        ("NE", BIG, 0, &[5, BIG + 1, 0x2_0000_0005, 0, TOP], &[BIG]),
        ("LT", BIG, 0, &[0, 4, 5, 6, 0xffff_ffff, BIG - 1], &[BIG, BIG + 1, 0x2_0000_0000, TOP]),
        ("LE", BIG, 0, &[0, 0xffff_ffff, BIG - 1, BIG], &[BIG + 1, 0x2_0000_0000, TOP]),
        ("GT", BIG, 0, &[BIG + 1, 0x2_0000_0000, TOP], &[0, 6, 0xffff_ffff, BIG - 1, BIG]),
        ("GE", BIG, 0, &[BIG, BIG + 1, 0x2_0000_0000, TOP], &[0, 6, 0xffff_ffff, BIG - 1]),
        ("MASKED_EQ", 0xf_0000_000f, 0x1_0000_0002, &[0x1_0000_0002, 0xf1_0000_00f2], &[2, 0x1_0000_0003, TOP]),
        ("MASKED_EQ", 0xff00, 0, &[0, 0xff, TOP << 16], &[0x100, 0xff00, TOP]),
        ("MASKED_EQ", 0, 0, &[0, 1, TOP], &[]),
    ];
    for index in 0..6_usize {
        for (op, value, two, holds, fails) in &cases {
            let profile = profile(
                "ALLOW",
                &format!(
                    r#"{{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [
                        {{"index": {index}, "value": {value}, "valueTwo": {two}, "op": "SCMP_CMP_{op}"}}]}}"#
                ),
            );
            let call = |value: u64, expected| {
                let mut args = [0x5555_5555_5555_5555; 6];
                args[index] = value;
                ("read", args, expected)
            };
            let calls: Vec<_> =
                holds.iter().map(|v| call(*v, EPERM)).chain(fails.iter().map(|v| call(*v, ALLOW))).collect();
            check(&profile, &calls);
        }
    }
}

#[test]
fn conditions_of_a_rule_hold_together_but_the_same_argument_twice_is_either() {
    let both = r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [
        {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 9, "op": "SCMP_CMP_GT"}]}"#;
    let args = |a, c| [a, 0, c, 0, 0, 0];
    let calls = [("read", args(1, 10), EPERM), ("read", args(1, 9), ALLOW), ("read", args(2, 10), ALLOW)];
    check(&profile("ALLOW", both), &calls);
    let either = r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [
        {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}"#;
    let calls = [("read", first(1), EPERM), ("read", first(2), EPERM), ("read", first(3), ALLOW)];
    check(&profile("ALLOW", either), &calls);
}

#[test]
fn a_rule_without_arguments_outranks_those_with_and_the_first_of_a_kind_wins() {
    let rules = r#"
        {"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["write"], "action": "SCMP_ACT_KILL_PROCESS"},
        {"names": ["close"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 5, "op": "SCMP_CMP_GE"}]},
        {"names": ["close"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 4, "op": "SCMP_CMP_GE"}]}"#;
    let calls = [
        ("read", first(1), ALLOW),
        ("write", first(1), ALLOW),
        ("close", first(5), action::TRAP),
        ("close", first(4), action::LOG),
        ("close", first(3), EPERM),
    ];
    check(&profile("ERRNO", rules), &calls);
}

#[test]
fn calls_newer_than_an_errno_policy_do_not_exist() {
    let rules = r#"{"names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW"}"#;
    let calls = [
        ("write", [0; 6], EPERM),
        ("openat2", [0; 6], ALLOW),
        ("pidfd_getfd", [0; 6], ENOSYS),
        ("mseal", [0; 6], ENOSYS),
    ];
    check(&profile("ERRNO", rules), &calls);
    check(&profile("KILL_PROCESS", rules), &[("mseal", [0; 6], KILL)]);
    check(&profile("ERRNO", ""), &[("read", [0; 6], EPERM), ("mseal", [0; 6], EPERM)]);
}

/// What `profile` compiled for `native` answers to call `number` under audit architecture `arch`.
fn answer(profile: &LinuxSeccomp, native: Arch, arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let program = compile(profile, native).expect("compiles");
    machine::run(program.instructions(), &Call { arch, number, args })
}

#[test]
fn architectures_that_are_not_listed_are_killed() {
    let mut profile = profile("ERRNO", r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}"#);
    let ask = |profile: &LinuxSeccomp, arch: Arch, number| answer(profile, Arch::X86_64, arch.audit(), number, [0; 6]);
    assert_eq!(ask(&profile, Arch::X86_64, 0), ALLOW);
    assert_eq!(ask(&profile, Arch::X86_64, 0x4000_0000), KILL, "x32's read");
    assert_eq!(ask(&profile, Arch::X86_64, u32::MAX), ENOSYS, "a call that a tracer skips");
    assert_eq!(ask(&profile, Arch::X86, 3), KILL);
    assert_eq!(ask(&profile, Arch::Aarch64, 63), KILL);
    profile = serde_json::from_value(serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_S390X"],
        "syscalls": [{"names": ["read", "ioctl"], "action": "SCMP_ACT_ALLOW"}],
    }))
    .expect("parses");
    assert_eq!(ask(&profile, Arch::X86_64, 0), ALLOW);
    assert_eq!(ask(&profile, Arch::X86_64, 0x4000_0000), ALLOW);
    assert_eq!(ask(&profile, Arch::X86_64, 0x4000_0001), EPERM);
    assert_eq!(ask(&profile, Arch::X86_64, 0x4000_0000 + 514), ALLOW, "x32 has an ioctl of its own");
    assert_eq!(ask(&profile, Arch::X86_64, 0x4000_0000 + 16), EPERM, "and not x86_64's");
    assert_eq!(ask(&profile, Arch::X86, 3), ALLOW);
    assert_eq!(ask(&profile, Arch::X86, 4), EPERM);
    assert_eq!(ask(&profile, Arch::Aarch64, 63), KILL);
}

#[test]
fn a_32_bit_architecture_reads_sign_extended_values() {
    let profile: LinuxSeccomp = serde_json::from_value(serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",
                      "args": [{"index": 0, "value": u64::MAX, "op": "SCMP_CMP_EQ"}]}],
    }))
    .expect("parses");
    let x86 = Arch::X86.audit();
    assert_eq!(answer(&profile, Arch::X86_64, x86, 3, first(0xffff_ffff)), EPERM);
    assert_eq!(answer(&profile, Arch::X86_64, x86, 3, first(1)), ALLOW);
    assert_eq!(answer(&profile, Arch::X86_64, Arch::X86_64.audit(), 0, first(0xffff_ffff)), ALLOW);
}

#[test]
fn multiplexed_calls_of_x86_are_reached() {
    let profile: LinuxSeccomp = serde_json::from_value(serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{"names": ["connect", "shmget"], "action": "SCMP_ACT_ERRNO"}],
    }))
    .expect("parses");
    let ask = |number, call| answer(&profile, Arch::X86_64, Arch::X86.audit(), number, first(call));
    assert_eq!([ask(102, 2), ask(102, 3), ask(102, 4)], [ALLOW, EPERM, ALLOW], "socketcall");
    assert_eq!([ask(117, 22), ask(117, 23), ask(117, 24)], [ALLOW, EPERM, ALLOW], "ipc");
    assert_eq!(ask(362, 0), EPERM, "connect itself");
}

#[test]
fn unknown_names_are_ignored_and_malformed_ones_refused() {
    let rules = |name: &str| format!(r#"{{"names": ["read", "{name}"], "action": "SCMP_ACT_ALLOW"}}"#);
    for name in ["call_of_tomorrow", "swapcontext", "_private2"] {
        check(&profile("ERRNO", &rules(name)), &[("read", [0; 6], ALLOW)]);
    }
    let long = "x".repeat(65);
    for name in ["", " read", "read;", "../read", "2read", "re\u{e9}d", long.as_str()] {
        let refused = compile(&profile("ERRNO", &rules(name)), Arch::X86_64);
        assert_eq!(refused, Err(Error::MalformedName { name: name.to_owned() }), "{name:?}");
    }
}

#[test]
fn what_could_not_be_enforced_is_refused() {
    let cases = [
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}"#,
            Error::ErrnoNotTaken { action: "SCMP_ACT_ALLOW" },
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_KILL", "errnoRet": 1}]}"#,
            Error::ErrnoNotTaken { action: "SCMP_ACT_KILL" },
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#,
            Error::ErrnoRange { errno: 4096, max: 4095 },
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 65536}"#,
            Error::ErrnoRange { errno: 65536, max: 65535 },
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_FUTURE"]}"#,
            Error::UnknownFlag { flag: "SECCOMP_FILTER_FLAG_FUTURE".to_owned() },
        ),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/l"}"#, Error::IdleListener),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["dup"], "action": "SCMP_ACT_KILL",
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            Error::ArgumentIndex { call: "dup".to_owned(), index: 6 },
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(compile(&read(json), Arch::X86_64), Err(expected), "{json}");
    }
    let flags = r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}"#;
    assert_eq!(compile(&read(flags), Arch::X86_64).expect("compiles").flags(), 0b110);
}

/// Many argument rules: far beyond the reach of a conditional jump, up to the kernel's limit.
#[test]
fn long_filters_jump_far_and_too_long_ones_are_refused() {
    let rule = |value: u64| {
        format!(
            r#"{{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": {}, "args": [
                {{"index": 0, "value": {value}, "op": "SCMP_CMP_EQ"}}]}}"#,
            value % 4000 + 1
        )
    };
    let rules: Vec<_> = (0..600).map(rule).collect();
    let rules = format!(r#"{}, {{"names": ["close"], "action": "SCMP_ACT_LOG"}}"#, rules.join(","));
    let mut calls: Vec<_> = (0..600).map(|v| ("read", first(v), action::errno(v as u16 + 1))).collect();
    calls.push(("read", first(600), ALLOW));
    calls.push(("read", first(1 << 40), ALLOW));
    calls.push(("write", first(1), ALLOW));
    calls.push(("close", first(1), action::LOG));
    calls.push(("open", first(1), ALLOW));
    check(&profile("ALLOW", &rules), &calls);

    let rules: Vec<_> = (0..3000).map(rule).collect();
    let refused = compile(&profile("ALLOW", &rules.join(",")), Arch::X86_64);
    assert!(matches!(refused, Err(Error::TooLong { length }) if length > INSTRUCTIONS_MAX), "{refused:?}");
}

#[test]
fn the_table_is_sorted_and_without_repeats() {
    assert!(table::TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let known = [
        ("read", [Some(0), Some(0), Some(3), Some(63), Some(3), Some(63)]),
        ("clone3", [Some(435); 6]),
        ("execve", [Some(59), Some(520), Some(11), Some(221), Some(11), Some(221)]),
        ("socketcall", [None, None, Some(102), None, None, None]),
        ("riscv_flush_icache", [None, None, None, None, None, Some(259)]),
        ("mseal", [Some(462); 6]),
    ];
    let all = [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64, Arch::Arm, Arch::Riscv64];
    for (name, numbers) in known {
        assert_eq!(all.map(|arch| table::number(name, arch)), numbers, "{name}");
    }
    // On the machine that runs the test, the C library's own numbers.
    #[cfg(target_arch = "x86_64")]
    for (name, number) in [("seccomp", libc::SYS_seccomp), ("openat2", libc::SYS_openat2), ("ptrace", libc::SYS_ptrace)]
    {
        assert_eq!(table::number(name, Arch::X86_64).map(i64::from), Some(number), "{name}");
    }
}

const DOCKER: [&str; 3] = ["CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_NET_RAW"];

#[test]
fn the_default_policy_of_a_plain_container() {
    const NEW_USER: u64 = 0x1000_0000;
    let calls = [
        ("read", [0; 6], ALLOW),
        ("write", [0; 6], ALLOW),
        ("ptrace", [0; 6], ALLOW),
        ("chroot", [0; 6], ALLOW),
        ("arch_prctl", [0; 6], ALLOW),
        ("removexattrat", [0; 6], ALLOW),
        ("mount", [0; 6], EPERM),
        ("unshare", [0; 6], EPERM),
        ("setns", [0; 6], EPERM),
        ("bpf", [0; 6], EPERM),
        ("reboot", [0; 6], EPERM),
        ("keyctl", [0; 6], EPERM),
        ("userfaultfd", [0; 6], EPERM),
        ("io_uring_setup", [0; 6], EPERM),
        ("kexec_load", [0; 6], EPERM),
        ("clone3", [0; 6], ENOSYS),
        ("listns", [0; 6], ENOSYS),
        ("clone", first(0x11), ALLOW),
        ("clone", first(NEW_USER | 0x11), EPERM),
        ("clone", first(0x0200_0000), EPERM),
        ("personality", first(0), ALLOW),
        ("personality", first(8), ALLOW),
        ("personality", first(0x2_0008), ALLOW),
        ("personality", first(0xffff_ffff), ALLOW),
        ("personality", first(0x4_0000), EPERM),
        ("socket", first(1), ALLOW),
        ("socket", first(2), ALLOW),
        ("socket", first(16), ALLOW),
        ("socket", first(11), ALLOW),
        ("socket", first(12), EPERM),
        ("socket", first(37), EPERM),
        ("socket", first(1 << 32 | 38), EPERM),
        ("socket", first(1 << 63 | 40), EPERM),
        ("socket", first(38), EPERM),
        ("socket", first(39), ALLOW),
        ("socket", first(40), EPERM),
        ("socket", first(41), ALLOW),
        ("socket", first(45), ALLOW),
        ("socket", first(46), EPERM),
    ];
    check(&default_profile(&DOCKER, Arch::X86_64), &calls);
}

#[test]
fn capabilities_open_their_calls() {
    let cases = [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_ADMIN", "perf_event_open"),
        ("CAP_BPF", "bpf"),
        ("CAP_PERFMON", "perf_event_open"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_SYS_MODULE", "finit_module"),
        ("CAP_SYS_NICE", "mbind"),
        ("CAP_SYS_PACCT", "acct"),
        ("CAP_SYS_PTRACE", "kcmp"),
        ("CAP_SYS_RAWIO", "iopl"),
        ("CAP_SYS_TIME", "settimeofday"),
        ("CAP_SYS_TTY_CONFIG", "vhangup"),
        ("CAP_SYSLOG", "syslog"),
    ];
    for (capability, name) in cases {
        let shut = if name == "clone3" { ENOSYS } else { EPERM };
        check(&default_profile::<&str>(&[], Arch::X86_64), &[(name, [0; 6], shut)]);
        check(&default_profile(&[capability], Arch::X86_64), &[(name, [0; 6], ALLOW)]);
    }
    let admin = default_profile(&["CAP_SYS_ADMIN"], Arch::X86_64);
    check(&admin, &[("clone", first(0x1000_0011), ALLOW), ("reboot", [0; 6], EPERM)]);
}

#[test]
fn the_default_policy_on_every_architecture() {
    let natives = [
        (Arch::X86_64, &[Arch::X86_64, Arch::X86][..]),
        (Arch::Aarch64, &[Arch::Aarch64, Arch::Arm][..]),
        (Arch::Riscv64, &[Arch::Riscv64][..]),
    ];
    for (native, archs) in natives {
        let profile = default_profile(&DOCKER, native);
        for arch in archs {
            let ask = |name, args| answer(&profile, native, arch.audit(), number(name, *arch), args);
            assert_eq!(ask("openat", [0; 6]), ALLOW, "{arch:?}");
            assert_eq!(ask("unshare", [0; 6]), EPERM, "{arch:?}");
            assert_eq!(ask("clone", first(0x1000_0011)), EPERM, "{arch:?}");
            assert_eq!(ask("clone", first(0x11)), ALLOW, "{arch:?}");
            assert_eq!(ask("socket", first(38)), EPERM, "{arch:?}");
            assert_eq!(ask("clone3", [0; 6]), ENOSYS, "{arch:?}");
            assert_eq!(answer(&profile, native, arch.audit(), 480, [0; 6]), ENOSYS, "{arch:?}: a future call");
        }
    }
    let arm = default_profile(&DOCKER, Arch::Aarch64);
    assert_eq!(answer(&arm, Arch::Aarch64, Arch::Arm.audit(), 0xf_0005, [0; 6]), ALLOW, "set_tls");
}

/// Prints what the default filter costs; asserts only its length, since timing is the machine's.
#[test]
fn the_default_filter_is_short() {
    let profile = default_profile(&DOCKER, Arch::X86_64);
    let once = |_| {
        let start = std::time::Instant::now();
        std::hint::black_box(compile(&profile, Arch::X86_64)).expect("compiles");
        start.elapsed()
    };
    let mut times: Vec<_> = (0..200).map(once).collect();
    times.sort_unstable();
    let program = compile(&default_profile(&DOCKER, Arch::X86_64), Arch::X86_64).expect("compiles");
    let call = Call { arch: Arch::X86_64.audit(), number: 0, args: [0; 6] };
    let steps = machine::steps(program.instructions(), &call);
    println!(
        "default policy: compiled in {:?} (least {:?}), {} instructions, {steps} for read",
        times[times.len() / 2],
        times[0],
        program.instructions().len()
    );
    assert!(program.instructions().len() < 600);
    assert!(steps < 20);
}
