//! Carrying out a call.
//!
//! Each function is one command on one container's folder, which it holds locked while it changes it. A container in the
//! foreground is removed at its end, also when making it failed half-way.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use atoll_oci::runtime::{
    Capabilities, Linux, Mount, Namespace, NamespaceType, OCI_VERSION, Process, Root, Spec, Status,
};
use atoll_sys::pidfd::{self, Exit};

use super::args::{Call, Command, Enter, HELP, Make};
use super::console::{self, Signals};
use super::state::{Folder, Record};
use crate::{Creation, Execution, RootSource, StartHandle, StartMode, Stdio, Target, create, exec};

/// Most bytes of a `config.json` or `--process` file.
const CONFIG_MAX: u64 = 16 << 20;
/// How long `delete --force` waits for a killed process.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Does what was asked; gives the exit code.
pub(super) fn carry_out(call: &Call) -> anyhow::Result<u8> {
    let root = call.global.root.as_path();
    match &call.command {
        Command::Run(make) => run(root, make),
        Command::Create(make) => create_only(root, make),
        Command::Start(id) => start(root, id),
        Command::State(id) => state(root, id),
        Command::Kill { id, signal, all } => kill(root, id, signal, *all),
        Command::Delete { id, force } => delete(root, id, *force),
        Command::List { quiet, json } => list(root, *quiet, *json),
        Command::Exec(enter) => exec_in(root, enter),
        Command::Ps { id, json } => ps(root, id, *json),
        Command::Pause(id) => freeze(root, id, true),
        Command::Resume(id) => freeze(root, id, false),
        Command::Spec { bundle } => spec(bundle),
        Command::Help => print(HELP),
        Command::Version => {
            print(&format!("atoll-runtime version {}\nspec: {OCI_VERSION}\n", env!("CARGO_PKG_VERSION")))
        }
    }
}

fn print(text: &str) -> anyhow::Result<u8> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write the answer")?;
    Ok(0)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let what = || format!("cannot read {}", path.display());
    let size = fs::metadata(path).with_context(what)?.len();
    if size > CONFIG_MAX {
        bail!("{} has more than {CONFIG_MAX} bytes", path.display());
    }
    serde_json::from_slice(&fs::read(path).with_context(what)?).with_context(what)
}

/// Creates a container in a folder of its own; the folder is removed when that fails.
fn make(root: &Path, make: &Make, mode: &Mode) -> anyhow::Result<(Folder, Record, crate::Created)> {
    atoll_sys::exe::seal().context("cannot seal the program")?;
    let bundle = fs::canonicalize(&make.bundle).with_context(|| format!("no bundle {}", make.bundle.display()))?;
    let spec: Spec = read_json(&bundle.join("config.json"))?;
    let folder = Folder::create(root, &make.id)?;
    match make_in(&folder, make, mode, &bundle, &spec) {
        Ok((record, created)) => Ok((folder, record, created)),
        Err(error) => {
            // Nothing else refers to the folder yet.
            let _ = folder.remove();
            Err(error)
        }
    }
}

/// Who starts what is made.
enum Mode {
    Foreground,
    Detached,
    Created,
}

fn make_in(
    folder: &Folder,
    make: &Make,
    mode: &Mode,
    bundle: &Path,
    spec: &Spec,
) -> anyhow::Result<(Record, crate::Created)> {
    let process = spec.process.clone().unwrap_or_default();
    let stdio = streams(&process, make, matches!(mode, Mode::Foreground))?;
    let rootfs = spec.root.as_ref().map_or("rootfs", |root| root.path.as_str());
    let start = match mode {
        Mode::Created => StartMode::Listener(atoll_sys::fd::listen_seqpacket(&folder.socket())?),
        Mode::Foreground | Mode::Detached => StartMode::Caller,
    };
    let created = create(Creation {
        id: &make.id,
        spec,
        bundle,
        root: RootSource::Path(bundle.join(rootfs)),
        user: "",
        stdio,
        start,
        preserve_fds: make.preserve_fds,
    })?;
    let finish = || -> anyhow::Result<Record> {
        let record = Record::new(&make.id, created.pid, bundle, &created.cgroup, spec.clone())?;
        folder.write(&record)?;
        hand_over(make, created.pid, created.master.as_ref())?;
        Ok(record)
    };
    match finish() {
        Ok(record) => Ok((record, created)),
        Err(error) => {
            let _ = created.cgroup.kill();
            let _ = pidfd::wait(&created.pidfd);
            let _ = created.cgroup.remove();
            Err(error)
        }
    }
}

fn streams(process: &Process, make: &Make, foreground: bool) -> anyhow::Result<Stdio> {
    if !process.terminal {
        if make.console_socket.is_some() {
            bail!("--console-socket is for containers with process.terminal");
        }
        return Ok(Stdio::Inherit);
    }
    if !foreground && make.console_socket.is_none() {
        bail!("a detached container with a terminal needs --console-socket");
    }
    let size = process.console_size.unwrap_or_default();
    Ok(Stdio::Terminal { rows: size.height, cols: size.width })
}

/// Gives the caller what it asked for: the terminal's master and the file with the number.
fn hand_over(make: &Make, pid: i32, master: Option<&std::os::fd::OwnedFd>) -> anyhow::Result<()> {
    if let (Some(socket), Some(master)) = (&make.console_socket, master) {
        console::send_master(socket, master).with_context(|| format!("cannot reach {}", socket.display()))?;
    }
    if let Some(path) = &make.pid_file {
        let temporary = PathBuf::from(format!("{}.new", path.display()));
        fs::write(&temporary, pid.to_string()).with_context(|| format!("cannot write {}", temporary.display()))?;
        fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn run(root: &Path, options: &Make) -> anyhow::Result<u8> {
    let mode = if options.detach { Mode::Detached } else { Mode::Foreground };
    let (folder, _record, created) = make(root, options, &mode)?;
    let signals = if options.detach { None } else { Some(Signals::block().context("cannot wait for signals")?) };
    let start = created.start.context("the container has no start handle")?;
    if let Err(error) = start.start() {
        let _ = pidfd::wait(&created.pidfd);
        let _ = created.cgroup.kill();
        let _ = created.cgroup.remove();
        folder.remove()?;
        return Err(error.into());
    }
    let Some(signals) = signals else { return Ok(0) };
    // Others may look at it and signal it meanwhile.
    let path = folder.path.clone();
    drop(folder);
    use std::os::fd::AsFd;
    let master = created.master.as_ref().filter(|_| options.console_socket.is_none());
    let exit: Exit = console::wait(created.pidfd.as_fd(), master, &signals).context("cannot wait for the container")?;
    created.cgroup.kill()?;
    created.cgroup.remove()?;
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
        && let Ok(folder) = Folder::open(parent, &name.to_string_lossy())
    {
        folder.remove()?;
    }
    Ok(exit.status())
}

fn create_only(root: &Path, options: &Make) -> anyhow::Result<u8> {
    make(root, options, &Mode::Created)?;
    Ok(0)
}

fn start(root: &Path, id: &str) -> anyhow::Result<u8> {
    let folder = Folder::open(root, id)?;
    let record = folder.read()?;
    match record.status(&folder)? {
        Status::Created => {}
        status => bail!("container {id:?} cannot be started: it is {status}"),
    }
    let outcome = StartHandle::connect(&folder.socket()).and_then(StartHandle::start);
    // Started or failed: it is never started again.
    fs::remove_file(folder.socket()).context("cannot remove the start socket")?;
    outcome?;
    Ok(0)
}

fn state(root: &Path, id: &str) -> anyhow::Result<u8> {
    let folder = Folder::open(root, id)?;
    let state = folder.read()?.state(&folder)?;
    print(&(serde_json::to_string_pretty(&state)? + "\n"))
}

/// Signals by number or name, with SIG or without.
const SIGNALS: [(&str, i32); 29] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
];

fn signal_number(text: &str) -> anyhow::Result<i32> {
    if let Some(number) = text.parse::<i32>().ok().filter(|number| (0..=64).contains(number)) {
        return Ok(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let found = SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    found.with_context(|| format!("{text:?} is no signal"))
}

fn kill(root: &Path, id: &str, signal: &str, all: bool) -> anyhow::Result<u8> {
    let record = Folder::open(root, id)?.read()?;
    let signal = signal_number(signal)?;
    if all {
        let cgroup = record.cgroup()?;
        if signal == libc::SIGKILL {
            cgroup.kill()?;
        } else {
            for pid in cgroup.pids()? {
                // One that has just ended needs no signal.
                let _ = pidfd::open(pid).and_then(|process| pidfd::kill(process, signal));
            }
        }
        return Ok(0);
    }
    let process = record.process().with_context(|| format!("container {id:?} is not running"))?;
    pidfd::kill(process, signal).context("cannot signal the container")?;
    Ok(0)
}

fn delete(root: &Path, id: &str, force: bool) -> anyhow::Result<u8> {
    let folder = match Folder::open(root, id) {
        Err(_) if force && !root.join(id).exists() => return Ok(0),
        other => other?,
    };
    let record = match folder.read() {
        // A creation that was killed before it wrote anything.
        Err(_) if force => {
            folder.remove()?;
            return Ok(0);
        }
        other => other?,
    };
    let cgroup = record.cgroup()?;
    if let Some(process) = record.process() {
        let status = record.status(&folder)?;
        if !force && status != Status::Created {
            bail!("container {id:?} is {status}: kill it first or delete it with --force");
        }
        cgroup.kill()?;
        pidfd::kill(&process, libc::SIGKILL).or_else(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => Ok(()),
            _ => Err(error),
        })?;
        if !pidfd::poll(&process, Some(KILL_PATIENCE))? {
            bail!("container {id:?} does not end");
        }
    }
    cgroup.kill()?;
    cgroup.remove()?;
    folder.remove()?;
    Ok(0)
}

fn list(root: &Path, quiet: bool, json: bool) -> anyhow::Result<u8> {
    let mut states = Vec::new();
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.with_context(|| format!("cannot read {}", root.display()))?),
    };
    for entry in entries.into_iter().flatten() {
        let name = entry.context("cannot list containers")?.file_name();
        // One that is removed or half-made at this moment is none.
        if let Ok(folder) = Folder::open(root, &name.to_string_lossy())
            && let Ok(state) = folder.read().and_then(|record| record.state(&folder))
        {
            states.push(state);
        }
    }
    states.sort_by(|a, b| a.id.cmp(&b.id));
    if quiet {
        return print(&states.iter().map(|state| format!("{}\n", state.id)).collect::<String>());
    }
    if json {
        return print(&(serde_json::to_string(&states)? + "\n"));
    }
    let mut table = format!("{:<24} {:<8} {:<10} BUNDLE\n", "ID", "PID", "STATUS");
    for state in &states {
        table += &format!("{:<24} {:<8} {:<10} {}\n", state.id, state.pid, state.status, state.bundle);
    }
    print(&table)
}

fn exec_in(root: &Path, enter: &Enter) -> anyhow::Result<u8> {
    use std::os::fd::AsFd;
    atoll_sys::exe::seal().context("cannot seal the program")?;
    let id = &enter.make.id;
    let record = {
        let folder = Folder::open(root, id)?;
        let record = folder.read()?;
        match record.status(&folder)? {
            Status::Running | Status::Created => record,
            status => bail!("container {id:?} is {status}"),
        }
    };
    let process: Process = match &enter.process {
        Some(path) => read_json(path)?,
        None => {
            let mut process = record.spec.process.clone().unwrap_or_default();
            process.terminal = enter.tty;
            process.args.clone_from(&enter.args);
            process.env.extend(enter.env.iter().cloned());
            process.cwd = enter.cwd.clone().unwrap_or(process.cwd);
            process
        }
    };
    let first = record.process().with_context(|| format!("container {id:?} is not running"))?;
    let cgroup = record.cgroup()?;
    let stdio = streams(&process, &enter.make, !enter.make.detach)?;
    let target = Target { pidfd: first.as_fd(), cgroup: &cgroup, spec: &record.spec };
    let signals = if enter.make.detach { None } else { Some(Signals::block().context("cannot wait for signals")?) };
    let preserve_fds = enter.make.preserve_fds;
    let execed = exec(&target, Execution { process: &process, user: &enter.user, stdio, preserve_fds })?;
    hand_over(&enter.make, execed.pid, execed.master.as_ref())?;
    let Some(signals) = signals else { return Ok(0) };
    let master = execed.master.as_ref().filter(|_| enter.make.console_socket.is_none());
    Ok(console::wait(execed.pidfd.as_fd(), master, &signals).context("cannot wait for the process")?.status())
}

fn ps(root: &Path, id: &str, json: bool) -> anyhow::Result<u8> {
    let pids = Folder::open(root, id)?.read()?.cgroup()?.pids()?;
    if json {
        return print(&(serde_json::to_string(&pids)? + "\n"));
    }
    print(&pids.iter().fold("PID\n".to_owned(), |text, pid| text + &format!("{pid}\n")))
}

fn freeze(root: &Path, id: &str, frozen: bool) -> anyhow::Result<u8> {
    let folder = Folder::open(root, id)?;
    let record = folder.read()?;
    let status = record.status(&folder)?;
    match (frozen, status) {
        (true, Status::Running | Status::Created) | (false, Status::Paused) => {}
        _ => bail!("container {id:?} is {status}"),
    }
    record.cgroup()?.freeze(frozen)?;
    Ok(0)
}

/// The capabilities of runc's default configuration.
const SPEC_CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

fn spec(bundle: &Path) -> anyhow::Result<u8> {
    let path = bundle.join("config.json");
    let json = serde_json::to_string_pretty(&default_spec())?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(json.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(0)
}

fn default_spec() -> Spec {
    let text = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let mount = |destination: &str, typ: &str, options: &[&str]| Mount {
        destination: destination.into(),
        typ: typ.into(),
        source: typ.into(),
        options: text(options),
        ..Mount::default()
    };
    let capabilities = text(&SPEC_CAPABILITIES);
    let namespaces = [
        NamespaceType::Pid,
        NamespaceType::Network,
        NamespaceType::Ipc,
        NamespaceType::Uts,
        NamespaceType::Mount,
        NamespaceType::Cgroup,
    ];
    Spec {
        oci_version: OCI_VERSION.into(),
        process: Some(Process {
            args: text(&["sh"]),
            env: text(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]),
            cwd: "/".into(),
            capabilities: Some(Capabilities {
                bounding: capabilities.clone(),
                effective: capabilities.clone(),
                permitted: capabilities,
                ..Capabilities::default()
            }),
            no_new_privileges: true,
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".into(), readonly: true }),
        hostname: "atoll".into(),
        mounts: vec![
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        linux: Some(Linux {
            namespaces: namespaces.map(|typ| Namespace { typ, path: String::new() }).to_vec(),
            masked_paths: text(&[
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/proc/scsi",
                "/sys/firmware",
            ]),
            readonly_paths: text(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}
