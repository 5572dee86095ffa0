//! A reset leaves nothing, whatever state it finds.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use atoll_engine::RESET_FAILPOINTS;
use atoll_testkit::{TempHost, program};
use support::{IMAGE, archive, host};

/// Supervisors and first processes of what runs.
fn supervised(host: &TempHost) -> Vec<u64> {
    let mut pids = Vec::new();
    for folder in std::fs::read_dir(host.run().join("w")).expect("run folders").flatten() {
        let Ok(text) = std::fs::read(folder.path().join("shim.json")) else { continue };
        let record: serde_json::Value = serde_json::from_slice(&text).expect("a record");
        pids.extend(["shim", "init"].iter().filter_map(|process| record[process]["pid"].as_u64()));
    }
    pids
}

fn runs(pid: u64) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

/// What a root has on its host: each of these is there before a reset, and nothing of them afterwards.
#[derive(Debug, Default, PartialEq, Eq)]
struct Traces {
    processes: Vec<String>,
    cgroups: Vec<PathBuf>,
    bridge: bool,
    filter: bool,
    mounts: Vec<String>,
    files: Vec<PathBuf>,
}

impl Traces {
    fn of(host: &TempHost, id: &str) -> Self {
        let mut cgroups = Vec::new();
        find(Path::new("/sys/fs/cgroup"), &format!("atoll-{id}"), 5, &mut cgroups);
        let own = host.root().parent().expect("a folder").display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        Self {
            processes: processes(&own),
            cgroups,
            bridge: Path::new("/sys/class/net").join(format!("atl-{id}")).exists(),
            filter: succeeds("nft", &["list", "table", "inet", &format!("atoll-{id}")]),
            mounts: mounts.lines().filter(|line| line.contains(&own)).map(str::to_owned).collect(),
            files: [host.root(), host.run()].into_iter().filter(|folder| folder.exists()).collect(),
        }
    }
}

fn find(folder: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name() == name {
            found.push(entry.path());
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&entry.path(), name, depth - 1, found);
        }
    }
}

/// Processes with a path among their arguments, but for those that have ended.
fn processes(path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("processes").flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(path) {
            found.push(line);
        }
    }
    found
}

fn succeeds(name: &str, arguments: &[&str]) -> bool {
    Command::new(name).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|it| it.success())
}

/// Containers of every kind: one that stops when it is asked to, one that does not, one that is frozen, one between two runs,
/// one that has ended; and a volume.
fn busy(host: &TempHost) -> String {
    let polite = "trap 'echo asked > /data/asked; exit 0' TERM; while :; do sleep 0.05; done";
    host.ok(&["run", "-d", "-v", "data:/data", "--name", "polite", IMAGE, "sh", "-c", polite]);
    host.ok(&["run", "-d", "--name", "deaf", "--stop-timeout", "1", IMAGE, "sh", "-c", "trap '' TERM; sleep 1000"]);
    host.ok(&["run", "-d", "--name", "frozen", "--stop-timeout", "1", IMAGE, "sleep", "1000"]);
    host.ok(&["pause", "frozen"]);
    host.ok(&["run", "-d", "--name", "resting", "--restart", "always", IMAGE, "false"]);
    host.ok(&["run", "--name", "ended", IMAGE, "true"]);
    host.ok(&["info", "--format", "{{.ID}}"])
}

fn reset(host: &TempHost, flags: &[&str], point: &str) -> Output {
    Command::new(program("atoll"))
        .args(["--root".as_ref(), host.root().as_os_str(), "--run".as_ref(), host.run().as_os_str()])
        .args(["system", "reset"])
        .args(flags)
        .env("ATOLL_FAILPOINT", point)
        .stdin(Stdio::null())
        .output()
        .expect("atoll starts")
}

#[track_caller]
fn done(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn nothing_is_left_of_a_busy_root() {
    let Some(host) = host() else { return };
    let id = busy(&host);
    let before = Traces::of(&host, &id);
    assert!(before.processes.len() == 1 && !before.cgroups.is_empty() && before.bridge && before.filter, "{before:?}");
    let supervised = supervised(&host);
    assert!(supervised.iter().filter(|pid| runs(**pid)).count() >= 7, "{supervised:?}");

    let refused = reset(&host, &[], "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nobody to ask"), "{refused:?}");
    assert_eq!(host.ok(&["ps", "-q"]).lines().count(), 4, "nothing was done");

    done(&reset(&host, &["-f"], ""));
    assert_eq!(Traces::of(&host, &id), Traces::default());
    assert!(!supervised.iter().any(|pid| runs(*pid)), "{supervised:?}");
    // Once more, on nothing.
    done(&reset(&host, &["-f"], ""));
    assert_eq!(Traces::of(&host, &id), Traces::default());
}

#[test]
fn broken_metadata_without_a_daemon_is_no_obstacle() {
    let Some(mut host) = host() else { return };
    let id = busy(&host);
    host.kill_daemon().expect("it ran");
    std::fs::write(host.root().join("atoll.redb"), "nonsense").expect("written");
    assert!(host.start_daemon(&[]).is_err(), "the metadata is broken");
    std::fs::write(host.root().join("mine"), "not Atoll's").expect("written");

    let output = reset(&host, &["-f"], "");
    done(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("mine is not Atoll's"), "{output:?}");
    let left = Traces::of(&host, &id);
    assert_eq!(left, Traces { files: vec![host.root()], ..Traces::default() });
    assert_eq!(std::fs::read_to_string(host.root().join("mine")).expect("it stays"), "not Atoll's");
}

#[test]
fn a_reset_that_was_killed_is_finished_by_the_next() {
    let Some(mut host) = host() else { return };
    let mut id = busy(&host);
    for point in RESET_FAILPOINTS {
        let killed = reset(&host, &["-f"], point);
        assert!(!killed.status.success(), "{point}: {killed:?}");
        done(&reset(&host, &["-f"], ""));
        assert_eq!(Traces::of(&host, &id), Traces::default(), "{point}");
        host.start_daemon(&[]).expect("on nothing");
        host.ok(&["load", "-i", &archive(&host)]);
        host.ok(&["run", "-d", "--stop-timeout", "0", IMAGE, "sleep", "1000"]);
        id = host.ok(&["info", "--format", "{{.ID}}"]);
    }
    done(&reset(&host, &["-f"], ""));
    assert_eq!(Traces::of(&host, &id), Traces::default());
}

#[test]
fn what_is_kept_can_be_started_again() {
    let Some(mut host) = host() else { return };
    let id = busy(&host);
    done(&reset(&host, &["-f", "--keep-state"], ""));
    assert_eq!(Traces::of(&host, &id), Traces { files: vec![host.root()], ..Traces::default() });

    host.start_daemon(&[]).expect("it starts again");
    assert_eq!(host.ok(&["ps", "-aq"]).lines().count(), 5);
    assert_eq!(host.ok(&["run", "--rm", "-v", "data:/data", IMAGE, "ls", "/data"]), "asked");
    host.ok(&["start", "polite"]);
    assert_eq!(host.ok(&["inspect", "-f", "{{.State.Status}}", "polite"]), "running");
    done(&reset(&host, &["-f"], ""));
}
