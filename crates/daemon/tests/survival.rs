//! A daemon that is killed stops nothing: what runs goes on, what ends meanwhile is known afterwards.

mod support;

use std::time::Duration;

use atoll_testkit::TempHost;
use support::{IMAGE, atoll, finish, host, until};

/// Containers that log while the daemon is away.
const CLOCKS: [&str; 5] = ["c0", "c1", "c2", "c3", "c4"];
/// Logs one number every 50 ms.
const CLOCK: &str = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done";

fn pid(host: &TempHost, name: &str) -> String {
    host.ok(&["inspect", "-f", "{{.State.Pid}}", name])
}

fn runs(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

/// The log is 0, 1, 2, … without a hole or a repetition; how many lines it has.
#[track_caller]
fn counted(host: &TempHost, name: &str) -> usize {
    let log = host.ok(&["logs", name]);
    let lines: Vec<usize> = log.lines().map(|line| line.parse().expect("a number")).collect();
    let count = lines.len();
    assert_eq!(lines, (0..count).collect::<Vec<_>>(), "{name}");
    count
}

#[test]
fn nothing_stops_and_nothing_is_lost_when_the_daemon_is_killed() {
    let Some(mut host) = host() else { return };
    for name in CLOCKS {
        host.ok(&["run", "-d", "--name", name, IMAGE, "sh", "-c", CLOCK]);
    }
    host.ok(&["run", "-d", "--name", "ends", IMAGE, "sh", "-c", "sleep 1.5; echo bye; exit 5"]);
    let gone = host.ok(&["run", "-d", "--rm", "--name", "gone", IMAGE, "sleep", "1.5"]);
    let before = CLOCKS.map(|name| pid(&host, name));
    let ending = ["ends", "gone"].map(|name| pid(&host, name));
    assert!(ending.iter().all(|pid| runs(pid)), "they still run when the daemon is killed");
    host.kill_daemon().expect("it ran");
    until("both end without a daemon", || !ending.iter().any(|pid| runs(pid)));
    assert!(before.iter().all(|pid| runs(pid)), "a container stopped");

    host.start_daemon(&[]).expect("it starts again");
    assert_eq!(CLOCKS.map(|name| pid(&host, name)), before);
    assert_eq!(host.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "ends"]), "exited 5");
    assert_eq!(host.ok(&["logs", "ends"]), "bye");
    until("the one with --rm is gone", || !host.ok(&["ps", "-aq", "--no-trunc"]).contains(&gone));

    let counts = CLOCKS.map(|name| counted(&host, name));
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
    // They can still be talked to, and go on logging.
    until("they log on", || CLOCKS.iter().zip(counts).all(|(name, count)| counted(&host, name) > count));
    assert_eq!(finish(atoll(&host, &["exec", "c0", "echo", "there"]), "").ok(), "there");
    for name in CLOCKS {
        host.ok(&["kill", name]);
        assert_eq!(host.ok(&["wait", name]), "137");
    }
}

#[test]
fn a_daemon_may_be_killed_again_and_again() {
    let Some(mut host) = host() else { return };
    host.ok(&["run", "-d", "--name", "clock", IMAGE, "sh", "-c", CLOCK]);
    let before = pid(&host, "clock");
    for round in 0..10 {
        host.kill_daemon().expect("it ran");
        host.start_daemon(&[]).expect("it starts again");
        // At another moment of its start each time.
        std::thread::sleep(Duration::from_millis(round * 7));
    }
    assert_eq!(pid(&host, "clock"), before);
    counted(&host, "clock");
    host.ok(&["stop", "-t", "0", "clock"]);
    counted(&host, "clock");
    host.ok(&["rm", "clock"]);
}
