//! `atoll-runtime` beside crun and runc with the configuration that Docker gives a container: `run` of a bundle, `exec` in a
//! running one, and a trace of the first. In one private mount namespace with cgroup v1 alone: crun takes no hybrid layout.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use atoll_container::seccomp::{Arch, default_profile};
use atoll_sys::pidfd;
use atoll_sys::process::{CloneFlags, CloneOptions, clone};
use atoll_testkit::program;
use serde_json::json;

use super::measure::{Candidate, Table, in_turn, once};
use super::peers::find;
use super::trace;

/// Set in a process that this one starts: what it is to do there.
const PART: &str = "ATOLL_BENCH_PART";
/// That is: only to clone.
const FLOOR: &str = "floor";

/// `what` is `runtime` for whole lives, `exec` for processes in a running container, `trace` for where the time goes, `peak` for memory. Done by
/// the same program again, where `/sys/fs/cgroup/unified` is not.
pub(super) fn bench(what: &str, rounds: u32) -> Result<Table> {
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" bench --rounds \"$1\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe()?)
        .arg(rounds.to_string())
        .env(PART, what)
        .output()
        .context("unshare (package util-linux)")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the benchmark inside printed no table")
}

/// Does its part and tells its table, in a process that [`bench`] or a benchmark of it started; false in others.
pub(super) fn take_part(rounds: u32) -> Result<bool> {
    let Ok(what) = std::env::var(PART) else { return Ok(false) };
    if what == FLOOR {
        floor()?;
    } else {
        println!("{}", serde_json::to_string(&measure(&what, rounds)?)?);
    }
    Ok(true)
}

/// The kernel's floor: a clone3 with a container's namespaces, whose process ends at once.
fn floor() -> Result<()> {
    let flags = CloneFlags::NEWNS | CloneFlags::NEWPID | CloneFlags::NEWNET;
    let flags = flags | CloneFlags::NEWIPC | CloneFlags::NEWUTS | CloneFlags::NEWCGROUP;
    let process = clone(CloneOptions { flags, cgroup: None }, || 0)?;
    pidfd::wait(&process.pidfd)?;
    Ok(())
}

fn measure(what: &str, rounds: u32) -> Result<Table> {
    let bundle = tempfile::tempdir()?;
    prepare(bundle.path(), if what == "exec" { "sleep" } else { "true" })?;
    let state = tempfile::tempdir()?;
    let runtimes = [Some(program("atoll-runtime")), find("crun"), find("runc")].into_iter().flatten();
    let runtimes: Vec<Runtime> = runtimes.map(|path| Runtime::new(path, state.path(), bundle.path())).collect();
    if what == "trace" {
        return trace::bench(|| runtimes[0].command(&["run"]), rounds);
    }
    if what == "peak" {
        return peaks(&runtimes, rounds);
    }
    if what == "exec" {
        for runtime in &runtimes {
            // The container keeps what its maker had: no pipe of ours.
            let mut command = runtime.command(&["run", "--detach"]);
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
            ensure!(status.success(), "{} cannot run the bundle", runtime.name);
        }
        let candidates: Vec<_> = runtimes.iter().map(|runtime| runtime.candidate(&["exec"], &["/bin/true"])).collect();
        let table = in_turn("`exec` of busybox `true` in a running container", &candidates, rounds);
        runtimes.iter().try_for_each(|runtime| once(runtime.call(&["delete", "--force"], &[])).map(drop))?;
        return table;
    }
    let own = std::env::current_exe()?;
    let mut candidates: Vec<_> = runtimes.iter().map(|runtime| runtime.candidate(&["run"], &[])).collect();
    candidates.push(Candidate::new("a program that only calls clone3 for the same namespaces", || {
        let mut command = Command::new(&own);
        command.arg("bench").env(PART, FLOOR);
        command
    }));
    in_turn("`run` of a bundle (busybox `true`) with Docker's defaults, cgroup v1", &candidates, rounds)
}

/// The most memory that any process of a `run` had resident, by time(1).
fn peaks(runtimes: &[Runtime], rounds: u32) -> Result<Table> {
    let written = tempfile::NamedTempFile::new()?;
    let mut rows: Vec<(String, Vec<f64>)> = runtimes.iter().map(|one| (one.name.clone(), Vec::new())).collect();
    for _ in 0..rounds {
        for (runtime, (_, peaks)) in runtimes.iter().zip(&mut rows) {
            let run = runtime.command(&["run"]);
            let mut command = Command::new(find("time").context("time (package time)")?);
            command.args(["-f", "%M", "-o"]).arg(written.path()).arg(run.get_program()).args(run.get_args());
            once(command)?;
            peaks.push(std::fs::read_to_string(written.path())?.trim().parse()?);
        }
    }
    let title = "Peak resident memory of `run`".to_owned();
    Ok(Table { title, unit: "KiB".to_owned(), rows, notes: vec![format!("{rounds} rounds, in turn")] })
}

/// A runtime with its own records.
struct Runtime {
    name: String,
    path: PathBuf,
    state: PathBuf,
    bundle: PathBuf,
}

impl Runtime {
    fn new(path: PathBuf, state: &Path, bundle: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { state: state.join(&name), name, path, bundle: bundle.to_owned() }
    }

    fn call(&self, verb: &[&str], rest: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("--root").arg(&self.state).args(verb).arg(format!("bench-{}", self.name)).args(rest);
        command
    }

    fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("--root").arg(&self.state).args(verb).arg("--bundle").arg(&self.bundle);
        command.arg(format!("bench-{}", self.name));
        command
    }

    fn candidate<'a>(&'a self, verb: &'a [&str], rest: &'a [&str]) -> Candidate<'a> {
        Candidate::new(
            self.name.clone(),
            move || {
                if verb == ["run"] { self.command(verb) } else { self.call(verb, rest) }
            },
        )
    }
}

/// Capabilities of Docker's default.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Ten mounts, capabilities, filter, limits and masks as Docker's.
fn prepare(bundle: &Path, applet: &str) -> Result<()> {
    let bin = bundle.join("rootfs/bin");
    std::fs::create_dir_all(&bin)?;
    std::fs::copy("/bin/busybox", bin.join("busybox"))?;
    for applet in ["true", "sleep"] {
        symlink("busybox", bin.join(applet))?;
    }
    for folder in ["proc", "sys", "dev", "etc"] {
        std::fs::create_dir(bundle.join("rootfs").join(folder))?;
    }
    let made = Command::new(program("atoll-runtime")).args(["spec", "--bundle"]).arg(bundle).output()?;
    ensure!(made.status.success(), "atoll-runtime spec: {}", String::from_utf8_lossy(&made.stderr));
    let file = bundle.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    // The newest that Debian's crun and runc know.
    spec["ociVersion"] = "1.0.2".into();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = json!([format!("/bin/{applet}"), "1000"]);
    spec["process"]["capabilities"] =
        json!({"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES});
    for name in ["hosts", "hostname", "resolv.conf"] {
        let source = bundle.join(name);
        std::fs::write(&source, "")?;
        let mount = json!({"destination": format!("/etc/{name}"), "type": "bind", "source": source, "options": ["rbind", "rprivate"]});
        spec["mounts"].as_array_mut().context("a list of mounts")?.push(mount);
    }
    let profile = default_profile(&CAPABILITIES, Arch::HOST);
    spec["linux"]["seccomp"] = serde_json::to_value(profile)?;
    spec["linux"]["resources"] = json!({
        "memory": {"limit": 512 << 20}, "cpu": {"shares": 512}, "pids": {"limit": 100},
        "devices": [{"allow": false, "access": "rwm"}]
    });
    std::fs::write(&file, serde_json::to_vec(&spec)?)?;
    Ok(())
}
