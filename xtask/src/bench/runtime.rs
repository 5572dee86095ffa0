//! `atoll-runtime` beside crun and runc with the configuration that Docker gives a container: `run` of a bundle, and `exec`
//! in a running one. In one private mount namespace with cgroup v1 alone: crun takes no hybrid layout.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use atoll_container::seccomp::{Arch, default_profile};
use atoll_testkit::program;
use serde_json::json;

use super::measure::{Candidate, Table, in_turn, once};
use super::peers::find;

/// Set in the process that is in the namespace already.
const INSIDE: &str = "ATOLL_BENCH_INSIDE";

/// `what` is `runtime` for whole lives, `exec` for processes in a running container.
pub(super) fn bench(what: &str, rounds: u32) -> Result<Table> {
    if std::env::var_os(INSIDE).is_none() {
        return outside(what, rounds);
    }
    let bundle = tempfile::tempdir()?;
    prepare(bundle.path(), if what == "exec" { "sleep" } else { "true" })?;
    let state = tempfile::tempdir()?;
    let runtimes = [Some(program("atoll-runtime")), find("crun"), find("runc")].into_iter().flatten();
    let runtimes: Vec<Runtime> = runtimes.map(|path| Runtime::new(path, state.path(), bundle.path())).collect();
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
    let mut candidates: Vec<_> = runtimes.iter().map(|runtime| runtime.candidate(&["run"], &[])).collect();
    candidates.push(Candidate::new("new namespaces alone (`unshare -mpiunC --fork true`)", || {
        let mut command = Command::new("unshare");
        command.args(["-mpiunC", "--fork", "/bin/true"]);
        command
    }));
    in_turn("`run` of a bundle (busybox `true`) with Docker's defaults, cgroup v1", &candidates, rounds)
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

/// The same program again, where `/sys/fs/cgroup/unified` is not.
fn outside(what: &str, rounds: u32) -> Result<Table> {
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" bench \"$1\" --rounds \"$2\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe()?)
        .args([what, &rounds.to_string()])
        .env(INSIDE, "1")
        .output()
        .context("unshare (package util-linux)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    read(&text).context("the benchmark inside printed no table")
}

/// The table that the inner process printed, as far as it is needed: its rows come back as they are.
fn read(text: &str) -> Option<Table> {
    let title = text.lines().find_map(|line| line.strip_prefix("### "))?.to_owned();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split('|').map(str::trim).collect();
        let values: Vec<f64> = cells.get(1..4)?.iter().filter_map(|cell| cell.parse().ok()).collect();
        (values.len() == 3).then(|| (cells[0].to_owned(), values))
    });
    let rows = rows.collect();
    let notes =
        text.lines().rev().find(|line| line.ends_with("in turn.")).map(|line| line.trim_end_matches('.').to_owned());
    Some(Table { title, unit: "ms", rows, notes: notes.into_iter().collect() })
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

#[cfg(test)]
#[test]
fn a_printed_table_is_read_back() {
    let table = Table {
        title: "t".to_owned(),
        unit: "ms",
        rows: vec![("a".to_owned(), vec![1.0, 2.0, 3.0]), ("b".to_owned(), vec![2.0, 4.0, 6.0])],
        notes: vec!["9 rounds, in turn".to_owned()],
    };
    let read = read(&format!("machine\n\n{table}")).expect("a table");
    assert_eq!((&read.title, &read.rows, &read.notes), (&table.title, &table.rows, &table.notes));
}
