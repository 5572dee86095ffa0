//! The library as a supervisor uses it: one thread, a sealed program, an overlay of many layers, exec, a terminal.
//!
//! It has no test harness: that one has threads, and a program with threads may not create containers.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: failures panic and are printed")]

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use atoll_container::{
    CreateError, Created, Creation, ExecError, Execution, GroupPolicy, RootSource, StartError, StartHandle, StartMode,
    Stdio, Target, create, exec,
};
use atoll_oci::runtime::{Linux, Mount, Namespace, NamespaceType, Process, Spec};
use atoll_sys::overlay::{Overlay, Writable};
use atoll_sys::pidfd::{self, Exit};

/// As many layers as images may have.
const LAYERS: usize = 127;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("library: test");
        return;
    }
    if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
        println!("skipped: needs root and /bin/busybox (apt-get install busybox-static)");
        return;
    }
    an_unsealed_program_is_refused();
    atoll_sys::exe::seal().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let root = overlay(dir.path());
    for (name, test) in [
        ("layers_and_output", layers_and_output as fn(&RootSource)),
        ("users_are_looked_up_inside", users_are_looked_up_inside),
        ("start_survives_as_a_descriptor", start_survives_as_a_descriptor),
        ("programs_are_looked_for_before_the_start", programs_are_looked_for_before_the_start),
        ("a_dropped_handle_ends_the_container", a_dropped_handle_ends_the_container),
        ("exec_and_terminal", exec_and_terminal),
        ("threads_are_refused", threads_are_refused),
        ("a_wrong_layer_leaves_nothing", a_wrong_layer_leaves_nothing),
    ] {
        test(&root);
        println!("test {name} ... ok");
    }
    println!("test result: ok. 7 passed; 0 failed");
}

/// Before this process seals itself (which executes it again), it is refused.
fn an_unsealed_program_is_refused() {
    if atoll_sys::exe::is_sealed().unwrap() {
        return;
    }
    let spec = spec("true");
    let error = create(creation(&spec, &RootSource::Path("/nonexistent".into()), Stdio::Inherit)).unwrap_err();
    assert!(matches!(error, CreateError::Unsealed), "{error}");
}

/// Layer 0 holds busybox, each other one file, the topmost overrides a file of the one below.
fn overlay(dir: &Path) -> RootSource {
    let names: Vec<String> = (0..LAYERS).map(|index| format!("l{index}")).collect();
    for (index, name) in names.iter().enumerate() {
        let layer = dir.join(name);
        fs::create_dir_all(layer.join("etc")).unwrap();
        fs::write(layer.join(format!("file{index}")), "").unwrap();
        fs::write(layer.join("etc/top"), name).unwrap();
    }
    let bin = dir.join("l0/bin");
    fs::create_dir(&bin).unwrap();
    fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    for applet in ["sh", "cat", "ls", "id", "sleep", "tty", "stty", "wc", "true"] {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    fs::write(dir.join("l0/etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n").unwrap();
    fs::write(dir.join("l0/etc/group"), "root:x:0:\nweb:x:34:\nextra:x:77:web\n").unwrap();
    for name in ["upper", "work"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    let writable = Writable { upper: dir.join("upper"), work: dir.join("work"), volatile: true };
    let lowers = names.into_iter().rev().collect();
    RootSource::Overlay(Overlay { base: dir.to_owned(), lowers, writable: Some(writable) })
}

fn spec(script: &str) -> Spec {
    let kinds =
        [NamespaceType::Pid, NamespaceType::Network, NamespaceType::Ipc, NamespaceType::Uts, NamespaceType::Mount];
    let mount = |destination: &str, typ: &str| Mount {
        destination: destination.into(),
        typ: typ.into(),
        source: typ.into(),
        ..Mount::default()
    };
    Spec {
        oci_version: "1.2.0".into(),
        process: Some(process(script)),
        mounts: vec![mount("/proc", "proc"), mount("/dev", "tmpfs"), mount("/dev/pts", "devpts")],
        linux: Some(Linux {
            namespaces: kinds.map(|typ| Namespace { typ, path: String::new() }).to_vec(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

fn process(script: &str) -> Process {
    Process {
        args: vec!["sh".into(), "-c".into(), script.into()],
        env: vec!["PATH=/bin".into()],
        cwd: "/".into(),
        ..Process::default()
    }
}

fn creation<'a>(spec: &'a Spec, root: &RootSource, stdio: Stdio) -> Creation<'a> {
    // A volatile overlay refuses a work folder that was used before (kernel, overlayfs.rst, "Volatile mount").
    if let RootSource::Overlay(Overlay { writable: Some(Writable { work, .. }), .. }) = root {
        fs::remove_dir_all(work).unwrap();
        fs::create_dir(work).unwrap();
    }
    Creation {
        id: "atoll-library-test",
        spec,
        bundle: Path::new("/"),
        root: root.clone(),
        user: "",
        more_groups: &[],
        stdio,
        start: StartMode::Caller,
        preserve_fds: 0,
        keyring: true,
        pivot: true,
        groups: GroupPolicy::default(),
    }
}

/// Streams into one pipe.
fn streams() -> (OwnedFd, Stdio) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdin = fs::File::open("/dev/null").unwrap().into();
    (reader, Stdio::Fds { stdin, stdout: writer.try_clone().unwrap(), stderr: writer })
}

fn read(reader: OwnedFd) -> String {
    let mut text = String::new();
    fs::File::from(reader).read_to_string(&mut text).unwrap();
    text
}

fn end(created: &Created, expected: Exit) {
    assert_eq!(pidfd::wait(&created.pidfd).unwrap(), expected);
    created.cgroup.kill().unwrap();
    created.cgroup.remove().unwrap();
}

fn layers_and_output(root: &RootSource) {
    let spec = spec("ls / | wc -l; cat /etc/top; echo; echo new > /made; exit 9");
    let (reader, stdio) = streams();
    let mut created = create(creation(&spec, root, stdio)).unwrap();
    // The root can be looked into from outside before the start.
    assert!(rustix::fs::statat(&created.root, "etc/top", rustix::fs::AtFlags::empty()).is_ok());
    assert!(!pidfd::poll(&created.pidfd, Some(Duration::from_millis(20))).unwrap());
    created.start.take().unwrap().start().unwrap();
    let text = read(reader);
    // The files, and bin, dev, etc, proc.
    assert_eq!(text, format!("{}\nl{}\n", LAYERS + 4, LAYERS - 1));
    end(&created, Exit::Code(9));
    let RootSource::Overlay(Overlay { writable: Some(Writable { upper, .. }), .. }) = root else { return };
    assert_eq!(fs::read_to_string(upper.join("made")).unwrap(), "new\n");
}

fn users_are_looked_up_inside(root: &RootSource) {
    let spec = spec("id -u; id -g; id -G; echo $HOME");
    for (user, expected) in [("web", "33\n34\n34 77\n/srv\n"), ("5:web", "5\n34\n34\n/\n"), ("", "0\n0\n0\n/root\n")] {
        let (reader, stdio) = streams();
        let mut created = create(Creation { user, ..creation(&spec, root, stdio) }).unwrap();
        created.start.take().unwrap().start().unwrap();
        assert_eq!(read(reader), expected);
        end(&created, Exit::Code(0));
    }
    let error = create(Creation { user: "nobody-here", ..creation(&spec, root, Stdio::Inherit) }).unwrap_err();
    assert!(error.to_string().contains("unable to find user nobody-here"), "{error}");
}

fn programs_are_looked_for_before_the_start(root: &RootSource) {
    let mut spec = spec("");
    for (program, code) in [("/bin/nothing", 127), ("nothing", 127), ("/etc/top", 126), ("/bin", 126)] {
        spec.process.as_mut().unwrap().args = vec![program.into()];
        let Err(CreateError::Program(error)) = create(creation(&spec, root, Stdio::Inherit)) else {
            panic!("{program} was found");
        };
        assert_eq!(error.exit_code(), code, "{program}: {error}");
    }
}

fn start_survives_as_a_descriptor(root: &RootSource) {
    let spec = spec("exit 7");
    let mut created = create(creation(&spec, root, Stdio::Inherit)).unwrap();
    let fd = created.start.take().unwrap().into_fd();
    StartHandle::from_fd(fd).start().unwrap();
    end(&created, Exit::Code(7));
}

fn a_dropped_handle_ends_the_container(root: &RootSource) {
    let spec = spec("echo never");
    let (reader, stdio) = streams();
    let mut created = create(creation(&spec, root, stdio)).unwrap();
    drop(created.start.take());
    assert_eq!(read(reader), "");
    end(&created, Exit::Code(125));
}

fn exec_and_terminal(root: &RootSource) {
    let spec = spec("sleep 1000");
    let mut created = create(creation(&spec, root, streams().1)).unwrap();
    created.start.take().unwrap().start().unwrap();
    let target = Target { pidfd: created.pidfd.as_fd(), cgroup: &created.cgroup, spec: &spec, state: None };
    let run = |process: &Process, user: &str, stdio: Stdio| {
        exec(&target, Execution { process, user, more_groups: &[], stdio, preserve_fds: 0 })
    };
    let (reader, stdio) = streams();
    let execed = run(&process("id -u; echo $HOME; exit 4"), "web", stdio).unwrap();
    assert!(created.cgroup.pids().unwrap().len() >= 2 || pidfd::poll(&execed.pidfd, None).unwrap());
    assert_eq!(read(reader), "33\n/srv\n");
    assert_eq!(pidfd::wait(&execed.pidfd).unwrap(), Exit::Code(4));

    let terminal = Process { terminal: true, ..process("tty; stty size") };
    let execed = run(&terminal, "", Stdio::Terminal { rows: 33, cols: 99 }).unwrap();
    assert_eq!(pidfd::wait(&execed.pidfd).unwrap(), Exit::Code(0));
    let mut text = [0; 64];
    let length = rustix::io::read(execed.master.unwrap(), &mut text).unwrap();
    assert_eq!(String::from_utf8_lossy(&text[..length]).replace('\r', ""), "/dev/pts/0\n33 99\n");

    let missing = Process { args: vec!["nothing".into()], ..process("") };
    let error = run(&missing, "", Stdio::Inherit).unwrap_err();
    assert!(matches!(error, ExecError::Start(StartError::NotFound { .. })), "{error}");
    pidfd::kill(&created.pidfd, 9).unwrap();
    end(&created, Exit::Signal(9));
    assert!(run(&process("true"), "", Stdio::Inherit).is_err());
}

fn threads_are_refused(root: &RootSource) {
    let spec = spec("true");
    std::thread::scope(|scope| {
        let outcome = scope.spawn(|| create(creation(&spec, root, Stdio::Inherit))).join().unwrap();
        assert!(matches!(outcome, Err(CreateError::Threads)));
    });
}

fn a_wrong_layer_leaves_nothing(root: &RootSource) {
    let RootSource::Overlay(overlay) = root.clone() else { return };
    let wrong = RootSource::Overlay(Overlay { lowers: vec!["not-there".into()], ..overlay });
    let spec = spec("true");
    let error = create(creation(&spec, &wrong, Stdio::Inherit)).unwrap_err();
    assert!(matches!(&error, CreateError::Step { step, .. } if step == "root file system"), "{error}");
    assert!(!Path::new("/sys/fs/cgroup/pids/atoll-library-test").exists());
}
