//! Filters installed for real, in children.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output};

use super::super::{Arch, compile, default_profile};
use super::{DOCKER, profile};

/// Runs a shell command under `profile`.
fn under(profile: &atoll_oci::runtime::LinuxSeccomp, command: &str) -> Output {
    let program = compile(profile, Arch::HOST).expect("compiles");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]);
    let enter = move || {
        // SAFETY: prctl with these arguments touches no memory.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        program.install()
    };
    // SAFETY: between fork and exec the closure only makes two system calls and allocates nothing.
    unsafe { shell.pre_exec(enter) };
    shell.output().expect("the shell starts")
}

#[test]
fn the_kernel_takes_and_applies_a_filter() {
    let rules = r#"{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}"#;
    let output =
        under(&profile("ALLOW", rules), "mkdir /tmp/atoll-seccomp-never; echo $?; test ! -e /tmp/atoll-seccomp-never");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"), "{output:?}");

    let rules = r#"{"names": ["uname"], "action": "SCMP_ACT_KILL_PROCESS"}"#;
    let output = under(&profile("ALLOW", rules), "exec uname");
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
}

#[test]
fn programs_live_under_the_default_policy() {
    let profile = default_profile(&DOCKER, Arch::HOST);
    let output =
        under(&profile, "ls -l /proc/self/ | cat >/dev/null && (sleep 0.01 & wait) && grep Seccomp: /proc/self/status");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Seccomp:\t2\n");
    let output = under(&profile, "unshare -U true");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Operation not permitted"), "{output:?}");
}

#[test]
fn a_filter_that_notifies_needs_its_listener() {
    let mut profile = profile("ALLOW", r#"{"names": ["uname"], "action": "SCMP_ACT_NOTIFY"}"#);
    profile.listener_path = "/run/listener".to_owned();
    let program = compile(&profile, Arch::HOST).expect("compiles");
    let refused = program.install().expect_err("nobody would answer");
    assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    // A thread of its own, since a filter cannot be taken off again.
    let listener = std::thread::spawn(move || {
        // SAFETY: prctl with these arguments touches no memory.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
        program.install_with_listener()
    });
    let listener = listener.join().expect("no panic");
    assert!(listener.is_ok(), "{listener:?}");
}
