//! Case 1: the runtime's own program.

use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use super::*;

/// A copy that a successful attack may overwrite. By another process: a child that another test forks while we had it open
/// for writing would keep it busy.
fn copy_of_the_runtime(dir: &Path) -> &'static str {
    let program = dir.join("runtime");
    assert!(Command::new("cp").arg(RUNTIME).arg(&program).status().unwrap().success());
    Box::leak(program.to_str().unwrap().to_owned().into_boxed_str())
}

/// CVE-2019-5736: a container whose program is the runtime's, by a link or as the interpreter of a script, holds the file
/// until nobody executes it, then opens it for writing.
#[test]
fn overwriting_the_runtime_through_proc_self_exe_by_exec() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = copy_of_the_runtime(dir.path());
    let before = fs::read(runtime).unwrap();
    // By the link it waits for a reader of its log, long enough to be caught; by the script it is tried again.
    let attack = r#"use POSIX; $| = 1; POSIX::mkfifo("/fifo", 0666); print "ready\n";
        while (!$pid) {
            for $p (glob "/proc/[0-9]*") {
                open($c, "<", "$p/cmdline") or next; $line = <$c>;
                $pid = $p if $line =~ /bogus/ && open($held, "<", "$p/exe");
            }
        }
        print "held\n"; sysopen($log, "/fifo", O_RDONLY | O_NONBLOCK); while (-e $pid) { sysread($log, $l, 99) }
        do { $open = open($w, ">>", "/proc/self/fd/" . fileno($held)) } until $open || $! != ETXTBSY;
        print $open ? "opened: for writing" : "refused: $!", "\n"; close $w; sleep 100;"#;
    for entry in ["link", "script"] {
        let Some(bundle) = perl_for(runtime, attack) else { return };
        let path = bundle.rootfs().join("entry");
        match entry {
            "link" => symlink("/proc/self/exe", &path).unwrap(),
            _ => fs::write(&path, "#!/proc/self/exe\n").unwrap(),
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).ok();
        bundle.detached(&["run", "-d"]);
        wait_for_word(&bundle, "ready");
        let mut arguments = vec!["exec", "-e", "LD_PRELOAD=/evil.so", &bundle.id, "/entry"];
        arguments.extend(if entry == "link" { vec!["--log=/fifo", "state", "bogus"] } else { vec!["bogus"] });
        for _ in 0..500 {
            bundle.call(&arguments);
            if bundle.written().contains("held") {
                break;
            }
        }
        if entry == "script" && !bundle.written().contains("held") {
            println!("skipped: the script was never caught while it ran");
            continue;
        }
        wait_for_word(&bundle, "ed:");
        assert!(bundle.written().contains("refused: Read-only file system"), "{entry}: {}", bundle.written());
        assert!(fs::read(runtime).unwrap() == before);
    }
}

/// CVE-2019-5736: the same with the first process, whose file is held from outside: not even the host's root writes to it
/// through what was held.
#[test]
fn overwriting_the_runtime_through_proc_self_exe_by_create() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = copy_of_the_runtime(dir.path());
    let Some(bundle) = bundle_for(runtime, "sleep 1000") else { return };
    bundle.detached(&["create"]);
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let path = format!("/proc/{}/exe", pid(&bundle));
    let held = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap();
    assert_eq!(rustix::fs::fstat(&held).unwrap().st_ino, fs::metadata(runtime).unwrap().ino());
    assert!(bundle.call(&["delete", "-f", &bundle.id]).status.success());
    let error = fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", held.as_raw_fd())).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
}

/// CVE-2016-9962: the runtime's process that enters a container is looked into by what runs there.
#[test]
fn looking_into_the_process_that_enters() {
    // Reads what a process of the same user that may be looked into shows: its environment.
    let spy = r#"$| = 1; print "ready\n"; $end = time + 100;
        while (time < $end) {
            for $p (glob "/proc/[0-9]*") {
                next if $p eq "/proc/1";
                opendir($d, "$p/fd") or next; @names = map { readlink "$p/fd/$_" } readdir $d;
                print "seen: @names\n" if grep { /socket|^\/proc$/ } @names;
            }
        }"#;
    let Some(bundle) = perl(spy) else { return };
    bundle.detached(&["run", "-d"]);
    wait_for_word(&bundle, "ready");
    for _ in 0..50 {
        assert!(bundle.call(&["exec", &bundle.id, "true"]).status.success());
    }
    assert!(!bundle.written().contains("seen"), "{}", bundle.written());
}
