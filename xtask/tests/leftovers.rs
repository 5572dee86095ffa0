//! What a command leaves on purpose is named, and nothing is where it cleans up.

use std::path::Path;
use std::process::{Command, Output};

/// What everybody can leave: a file and a process, whose number is told.
const ANYBODY: &str = "echo x > $TMPDIR/forgotten; exec sleep 1000 > /dev/null 2>&1 & echo pid $!";
/// What only root can: a group, a mount, an interface, a packet filter, and a process that nothing but its mounts tells of.
const ROOT: &str = "mkdir $GROUP $TMPDIR/mounted && mount -t tmpfs tmpfs $TMPDIR/mounted
    ip link add atl-left type bridge; nft add table inet atoll-left
    unshare --mount sh -c 'exec env -i sleep 1000' > /dev/null 2>&1 & echo pid $!";

/// `cargo xtask leftovers` for a line of shell: root's in mount and network namespaces of its own.
fn leftovers(root: bool, script: &str, group: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_xtask");
    let mut command = Command::new(if root { "unshare" } else { program });
    if root {
        command.args(["--mount", "--net", program]);
    }
    command.args(["leftovers", "--", "sh", "-c", script]).env("GROUP", group).output().expect("it runs")
}

/// One case after the other: each would see the other's processes, which are of this repository's programs too.
#[test]
fn what_is_left_is_named() {
    nothing_is_left();
    all_is_named();
}

fn nothing_is_left() {
    let output = leftovers(false, "echo x > $TMPDIR/file; sleep 0.1 & rm $TMPDIR/file", "");
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert_eq!(leftovers(false, "exit 7", "").status.code(), Some(7));
}

fn all_is_named() {
    let root = atoll_testkit::require_root();
    let hierarchy = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new).into_iter().find(|path| path.is_dir());
    let group = hierarchy.expect("there are groups").join(format!("atoll-left-{}", std::process::id()));
    let script = if root { format!("{ANYBODY}\n{ROOT}") } else { ANYBODY.to_owned() };
    let output = leftovers(root, &script, group.to_str().expect("text"));
    let said = String::from_utf8_lossy(&output.stdout);
    let processes: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("pid ")).collect();
    let killed = Command::new("kill").args(&processes).status().expect("kill is there");
    let _ = std::fs::remove_dir(&group);
    let folder = said.trim_end().rsplit_once("is kept: ").expect("it is said").1;
    std::fs::remove_dir_all(folder).expect("it is there");

    assert!(killed.success() && output.status.code() == Some(1), "{said}");
    let has = |trace: &str| assert!(said.contains(&format!(": {trace}")), "{trace}: {said}");
    processes.iter().for_each(|pid| has(&format!("process {pid} (sleep, started at ")));
    has(&format!("file {folder}/forgotten\n"));
    if root {
        has(&format!("control group {}\n", group.display()));
        assert!(said.lines().any(|line| line.starts_with("left over: mount ") && line.contains("/mounted ")), "{said}");
        for (program, trace) in [("ip", "interface atl-left\n"), ("nft", "packet filter table inet atoll-left\n")] {
            if Command::new(program).arg("--version").output().is_ok() {
                has(trace);
            }
        }
    }
}
