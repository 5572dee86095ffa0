//! The jail, seen from inside: this program is jailed and tells what it finds.
//!
//! It has no test harness: that one has threads, and a program with threads may not create containers.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: failures panic and are printed")]

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use atoll_container::seccomp::{Arch, default_profile};
use atoll_container::{CreateError, Jail, Loan, Stdio};
use atoll_oci::runtime::{Memory, Pids, Resources, SeccompAction, SeccompSyscall};
use atoll_sys::pidfd::{self, Exit};

/// Argument that tells this program what to do in the jail.
const LOOK: &str = "look";
const EAT: &str = "eat";
/// Who it is on the host: nobody that the host knows.
const ID: u32 = 61_234;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(LOOK) => return look(),
        Some(EAT) => return eat(),
        Some("--list") => return println!("jail: test"),
        _ => {}
    }
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root");
    }
    atoll_sys::exe::seal().unwrap();
    let own = fs::canonicalize(&arguments[0]).unwrap();
    for (name, test) in [
        ("a_jail_holds_nothing_but_what_is_lent", a_jail_holds_nothing_but_what_is_lent as fn(&Path)),
        ("limits_hold", limits_hold),
        ("what_is_not_there_cannot_be_lent", what_is_not_there_cannot_be_lent),
    ] {
        test(&own);
        println!("test {name} ... ok");
    }
}

/// What the jailed program tells, a line each.
fn look() {
    let names = |path: &str| {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort_unstable();
        names.join(" ")
    };
    let error = |result: std::io::Result<()>| result.map_or_else(|error| error.raw_os_error().unwrap(), |()| 0);
    let capabilities = rustix::thread::capabilities(None).unwrap();
    let bounding = rustix::thread::capability_is_in_bounding_set(rustix::thread::CapabilitySet::SYS_ADMIN).unwrap();
    println!("ids {} {}", rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    println!("process {}", std::process::id());
    println!("capabilities {} {} {bounding}", capabilities.permitted.bits(), capabilities.inheritable.bits());
    println!("no new privileges {}", rustix::thread::no_new_privs().unwrap());
    println!("root {}", names("/"));
    println!("write to the root {}", error(fs::write("/file", "")));
    println!("write to a loan {}", error(fs::write("/loan/file", "")));
    println!("write to a lent folder {}", error(fs::write("/folder/made", "x")));
    println!("change the program {}", error(fs::set_permissions("/program", PermissionsExt::from_mode(0o777))));
    println!("execute a loan {}", error(std::process::Command::new("/loan/tool").status().map(drop)));
    println!("device {}", error(fs::write("/zero", "x")));
    println!("descriptor {:?}", rustix::io::read(inherited(), &mut [0; 8]).map_err(|error| error.raw_os_error()));
    println!("network {}", error(std::net::TcpListener::bind("127.0.0.1:0").map(drop)));
    println!("environment {}", std::env::vars_os().count());
    println!("host {}", rustix::system::uname().nodename().to_str().unwrap());
}

fn inherited() -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: the maker of the jail leaves a pipe there, which stays open.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(3) }
}

fn eat() {
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1_u8; 1 << 20]);
    }
}

fn jail<'a>(program: &'a Path, argument: &str, loans: Vec<Loan>) -> Jail<'a> {
    let mut filter = default_profile::<&str>(&[], Arch::HOST);
    // No sockets at all.
    let refused = SeccompSyscall {
        names: vec!["socket".into()],
        action: SeccompAction::Errno,
        errno_ret: Some(libc::EAFNOSUPPORT.cast_unsigned()),
        args: Vec::new(),
    };
    for rule in &mut filter.syscalls {
        rule.names.retain(|name| name != "socket");
    }
    filter.syscalls.push(refused);
    Jail {
        id: "atoll-jail-test",
        program,
        arguments: vec![argument.into()],
        ids: (ID, ID),
        loans,
        cgroups_path: String::new(),
        resources: Resources {
            memory: Some(Memory { limit: Some(64 << 20), swap: Some(64 << 20), ..Memory::default() }),
            pids: Some(Pids { limit: 8 }),
            ..Resources::default()
        },
        filter,
    }
}

fn run(jail: &Jail<'_>, preserve_fds: u32) -> (String, Exit) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdin: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    let stdio = Stdio::Fds { stdin, stdout: writer.try_clone().unwrap(), stderr: writer };
    let mut created = jail.create(stdio, preserve_fds).unwrap();
    created.start.take().unwrap().start().unwrap();
    let mut text = String::new();
    fs::File::from(reader).read_to_string(&mut text).unwrap();
    let exit = pidfd::wait(&created.pidfd).unwrap();
    created.cgroup.kill().unwrap();
    created.cgroup.remove().unwrap();
    (text, exit)
}

fn a_jail_holds_nothing_but_what_is_lent(own: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let (lent, folder) = (dir.path().join("lent"), dir.path().join("folder"));
    for path in [&lent, &folder] {
        fs::create_dir(path).unwrap();
    }
    fs::copy("/bin/true", lent.join("tool")).unwrap();
    chown(&folder, Some(ID), Some(ID)).unwrap();
    let loan = |source: PathBuf, inside: &str, writable| Loan { source, inside: inside.into(), writable };
    let loans = vec![
        loan(lent, "/loan", false),
        loan(folder.clone(), "/folder", true),
        loan("/dev/zero".into(), "/zero", true),
    ];
    // The program is the jailed user's own to change, were it not for the jail.
    let program = dir.path().join("program");
    fs::copy(own, &program).unwrap();
    chown(&program, Some(ID), Some(ID)).unwrap();
    // Descriptor 3 is handed down.
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    rustix::io::write(&writer, b"lent").unwrap();
    // SAFETY: nobody else in this program owns a descriptor 3 that is still needed.
    let mut three = unsafe { std::mem::ManuallyDrop::new(<OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(3)) };
    if std::os::fd::AsRawFd::as_raw_fd(&reader) != 3 {
        rustix::io::dup2(&reader, &mut three).unwrap();
    }
    rustix::io::fcntl_setfd(&*three, rustix::io::FdFlags::empty()).unwrap();
    let (text, exit) = run(&jail(&program, LOOK, loans), 1);
    let expected = [
        "ids 0 0",
        "process 1",
        "capabilities 0 0 false",
        "no new privileges true",
        "root folder loan program zero",
        &format!("write to the root {}", libc::EROFS),
        &format!("write to a loan {}", libc::EROFS),
        "write to a lent folder 0",
        &format!("change the program {}", libc::EROFS),
        &format!("execute a loan {}", libc::EACCES),
        "device 0",
        "descriptor Ok(4)",
        &format!("network {}", libc::EAFNOSUPPORT),
        "environment 1",
        "host jail",
    ];
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..expected.len()], expected, "{text}");
    assert_eq!(exit, Exit::Code(0));
    let made = fs::metadata(folder.join("made")).unwrap();
    assert_eq!(made.uid(), ID);
}

fn limits_hold(own: &Path) {
    let (_, exit) = run(&jail(own, EAT, Vec::new()), 0);
    assert_eq!(exit, Exit::Signal(9));
}

fn what_is_not_there_cannot_be_lent(own: &Path) {
    let nothing = Loan { source: "/nonexistent".into(), inside: "/x".into(), writable: false };
    let error = jail(own, LOOK, vec![nothing]).create(Stdio::Inherit, 0).unwrap_err();
    assert!(matches!(error, CreateError::System { .. }) && error.to_string().contains("/nonexistent"), "{error}");
    let relative = Loan { source: "relative".into(), inside: "/x".into(), writable: false };
    assert!(jail(own, LOOK, vec![relative]).create(Stdio::Inherit, 0).is_err());
}
