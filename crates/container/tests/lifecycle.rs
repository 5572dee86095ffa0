//! The life cycle (runtime-spec runtime.md, "Lifecycle", "Operations"): every command in every phase of a container, on runc
//! first, then on `atoll-runtime`: the same exit codes, phases afterwards and messages.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failure here is the test's")]

mod common;

use std::fs;

use common::*;
use serde_json::{Value, json};

/// Where a container is when a command comes.
const PHASES: [&str; 5] = ["none", "created", "running", "paused", "stopped"];

/// A command (`ID` stands for the container, `BUNDLE` for its bundle), and for each of [`PHASES`] its exit code, the phase
/// afterwards and what the message has.
type Case = (&'static str, [(i32, &'static str, &'static str); 5]);

const ABSENT: (i32, &str, &str) = (1, "none", "container does not exist");
const EXISTS: &str = "container with given ID already exists";
const ENDED: &str = "not running";

const CASES: [Case; 19] = [
    (
        "create -b BUNDLE ID",
        [
            (0, "created", ""),
            (1, "created", EXISTS),
            (1, "running", EXISTS),
            (1, "paused", EXISTS),
            (1, "stopped", EXISTS),
        ],
    ),
    (
        "run -d -b BUNDLE ID",
        [
            (0, "running", ""),
            (1, "created", EXISTS),
            (1, "running", EXISTS),
            (1, "paused", EXISTS),
            (1, "stopped", EXISTS),
        ],
    ),
    (
        "start ID",
        [
            ABSENT,
            (0, "running", ""),
            (1, "running", "cannot start an already running container"),
            (1, "paused", "cannot start a container in the paused state"),
            (1, "stopped", "cannot start a container that has stopped"),
        ],
    ),
    ("state ID", [ABSENT, (0, "created", ""), (0, "running", ""), (0, "paused", ""), (0, "stopped", "")]),
    ("kill ID 0", [ABSENT, (0, "created", ""), (0, "running", ""), (0, "paused", ""), (1, "stopped", ENDED)]),
    // The program has no handler, and the first process of a pid namespace ignores the signal then.
    ("kill ID", [ABSENT, (0, "stopped", ""), (0, "running", ""), (0, "paused", ""), (1, "stopped", ENDED)]),
    ("kill ID WINCH", [ABSENT, (0, "created", ""), (0, "running", ""), (0, "paused", ""), (1, "stopped", ENDED)]),
    ("kill ID SIGKILL", [ABSENT, (0, "stopped", ""), (0, "stopped", ""), (0, "stopped", ""), (1, "stopped", ENDED)]),
    ("kill --all ID 9", [ABSENT, (0, "stopped", ""), (0, "stopped", ""), (0, "stopped", ""), (0, "stopped", "")]),
    (
        "delete ID",
        [
            ABSENT,
            (0, "none", ""),
            (1, "running", "that is not stopped: running"),
            (1, "paused", "that is not stopped: paused"),
            (0, "none", ""),
        ],
    ),
    ("delete --force ID", [(0, "none", ""); 5]),
    (
        "exec ID id",
        [
            (255, "none", "container does not exist"),
            (0, "created", ""),
            (0, "running", ""),
            (255, "paused", "cannot exec in a paused container"),
            (255, "stopped", "cannot exec in a stopped container"),
        ],
    ),
    (
        "exec -d ID id",
        [
            (255, "none", "container does not exist"),
            (0, "created", ""),
            (0, "running", ""),
            (255, "paused", "cannot exec in a paused container"),
            (255, "stopped", "cannot exec in a stopped container"),
        ],
    ),
    ("pause ID", [ABSENT, (0, "paused", ""), (0, "paused", ""), (1, "paused", ENDED), (1, "stopped", ENDED)]),
    (
        "resume ID",
        [
            ABSENT,
            (1, "created", "not paused"),
            (1, "running", "not paused"),
            (0, "running", ""),
            (1, "stopped", "not paused"),
        ],
    ),
    (
        "update --pids-limit 7 ID",
        [ABSENT, (0, "created", ""), (0, "running", ""), (0, "paused", ""), (1, "stopped", ENDED)],
    ),
    ("ps --format json ID", [ABSENT, (0, "created", ""), (0, "running", ""), (0, "paused", ""), (0, "stopped", "")]),
    ("list -q", [(0, "none", ""), (0, "created", ""), (0, "running", ""), (0, "paused", ""), (0, "stopped", "")]),
    ("events --stats ID", [ABSENT, (0, "created", ""), (0, "running", ""), (0, "paused", ""), (1, "stopped", ENDED)]),
];

/// The runtimes that a case runs on: the peer proves it.
fn runtimes() -> impl Iterator<Item = &'static str> {
    [PEER, RUNTIME].into_iter().filter(|runtime| *runtime == RUNTIME || has_peer())
}

fn bring(bundle: &Bundle, phase: &str) {
    match phase {
        "none" => {}
        "created" => bundle.detached(&["create"]),
        _ => bundle.detached(&["run", "-d"]),
    }
    match phase {
        "paused" => assert!(bundle.call(&["pause", &bundle.id]).status.success()),
        "stopped" => {
            assert!(bundle.call(&["kill", &bundle.id, "KILL"]).status.success());
            bundle.wait_for("stopped");
        }
        _ => {}
    }
}

fn state(bundle: &Bundle) -> Option<Value> {
    let output = bundle.call(&["state", &bundle.id]);
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

fn phase(bundle: &Bundle) -> String {
    state(bundle).map_or_else(|| "none".to_owned(), |state| state["status"].as_str().unwrap().to_owned())
}

/// Carries a command out; the descriptors of a container that it makes are a file.
fn carry_out(bundle: &Bundle, line: &str) -> (Option<i32>, String) {
    let path = bundle.path();
    let replace = |word: &str| word.replace("BUNDLE", path.to_str().unwrap()).replace("ID", &bundle.id);
    let words: Vec<String> = line.split(' ').map(replace).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let out = fs::File::create(path.join("said")).unwrap();
    let status = bundle.command(&words).stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
    (status.code(), fs::read_to_string(path.join("said")).unwrap())
}

#[test]
fn every_command_in_every_phase() {
    for runtime in runtimes() {
        for (line, expected) in CASES {
            for (before, (code, after, message)) in PHASES.into_iter().zip(expected) {
                let Some(bundle) = bundle_for(runtime, "sleep 1000") else { return };
                let what = format!("{runtime}: {line} of a container that is {before}");
                bring(&bundle, before);
                let (ended, said) = carry_out(&bundle, line);
                assert_eq!(ended, Some(code), "{what}: {said}");
                assert!(said.contains(message), "{what}: {said}");
                if after == "stopped" {
                    bundle.wait_for(after);
                }
                assert_eq!(phase(&bundle), after, "{what}: {said}");
                if before == "paused" && after == "paused" {
                    assert!(bundle.call(&["resume", &bundle.id]).status.success());
                }
            }
        }
    }
}

#[test]
fn states() {
    for runtime in runtimes() {
        let Some(bundle) = bundle_for(runtime, "sleep 1000") else { return };
        bundle.edit(|spec| spec["annotations"] = json!({"org.example": "x"}));
        let mut first = None;
        for phase in ["created", "running", "paused", "stopped"] {
            match phase {
                "created" => bundle.detached(&["create"]),
                "running" => assert_eq!(carry_out(&bundle, "start ID").0, Some(0)),
                "paused" => assert_eq!(carry_out(&bundle, "pause ID").0, Some(0)),
                _ => {
                    assert_eq!(carry_out(&bundle, "kill ID KILL").0, Some(0));
                    bundle.wait_for("stopped");
                }
            }
            let state = state(&bundle).unwrap();
            let what = format!("{runtime} {phase}: {state}");
            assert_eq!(state["status"], phase, "{what}");
            assert_eq!(state["id"], json!(bundle.id), "{what}");
            assert_eq!(state["bundle"], json!(bundle.path()), "{what}");
            assert_eq!(state["annotations"], json!({"org.example": "x"}), "{what}");
            let pid = state["pid"].as_i64().unwrap();
            if phase == "stopped" {
                assert_eq!(pid, 0, "{what}");
            } else {
                assert_eq!(*first.get_or_insert(pid), pid, "{what}");
                assert!(pid > 1, "{what}");
            }
            let (code, listed) = carry_out(&bundle, "list --format json");
            let listed: Value = serde_json::from_str(&listed).unwrap();
            assert_eq!(
                (code, &listed[0]["status"], &listed[0]["pid"]),
                (Some(0), &json!(phase), &json!(pid)),
                "{what}"
            );
        }
        assert_eq!(carry_out(&bundle, "delete ID").0, Some(0));
        assert_eq!(carry_out(&bundle, "list -q"), (Some(0), String::new()));
    }
}

#[test]
fn a_name_is_free_again_after_delete() {
    for runtime in runtimes() {
        let Some(bundle) = bundle_for(runtime, "exit 7") else { return };
        for _ in 0..2 {
            bundle.detached(&["create"]);
            assert_eq!(carry_out(&bundle, "start ID").0, Some(0), "{runtime}");
            bundle.wait_for("stopped");
            assert_eq!(carry_out(&bundle, "delete ID").0, Some(0), "{runtime}");
            assert_eq!(phase(&bundle), "none", "{runtime}");
        }
    }
}

#[test]
fn options_stand_before_and_after_the_name() {
    // runc takes them before the name alone.
    for line in ["run -d -b BUNDLE ID", "run ID -d -b BUNDLE", "run -d ID --bundle=BUNDLE", "create ID --bundle BUNDLE"]
    {
        let Some(bundle) = bundle("sleep 1000") else { return };
        assert_eq!(carry_out(&bundle, line), (Some(0), String::new()), "{line}");
        for line in ["kill ID KILL --all", "delete ID --force", "delete -f ID"] {
            assert_eq!(carry_out(&bundle, line).0, Some(0), "{line}");
        }
    }
}
