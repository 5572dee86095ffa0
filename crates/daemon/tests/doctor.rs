//! `atoll system doctor`, with a daemon and without.

mod support;

use std::path::Path;
use std::process::Command;

use atoll_testkit::TempHost;
use serde_json::Value;
use support::{IMAGE, empty_host, host};

/// What the doctor says, and its exit code, which must fit.
fn examine(mut command: Command) -> Vec<Value> {
    let output = command.args(["system", "doctor", "--json"]).output().expect("atoll starts");
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("JSON in {output:?}"));
    let findings = findings.as_array().expect("a list").clone();
    let has = |level: &str| findings.iter().any(|finding| finding["level"] == level);
    let code = if has("problem") { 2 } else { i32::from(has("warning")) };
    assert_eq!(output.status.code(), Some(code), "{findings:?}");
    for finding in &findings {
        assert!(!finding["found"].as_str().unwrap_or_default().is_empty(), "{finding}");
    }
    findings
}

fn of<'a>(findings: &'a [Value], check: &str) -> Vec<&'a Value> {
    findings.iter().filter(|finding| finding["check"] == check).collect()
}

/// Whether something is left over whose sentence has this in it, with this advice.
fn is_left(host: &TempHost, what: &str, advice: &str) -> bool {
    let findings = examine(host.command());
    let has = |finding: &&Value, field: &str, text: &str| finding[field].as_str().is_some_and(|all| all.contains(text));
    of(&findings, "leftovers").iter().any(|finding| has(finding, "found", what) && has(finding, "advice", advice))
}

#[test]
fn a_host_is_examined_without_a_daemon_and_none_is_started() {
    if !atoll_testkit::require_root() {
        return;
    }
    let dir = atoll_testkit::tempdir();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let mut command = Command::new(atoll_testkit::program("atoll"));
    command.env_remove("DOCKER_HOST").env_remove("ATOLL_HOST");
    command.args(["--root", &at("root"), "--run", &at("run")]);
    let findings = examine(command);
    assert_eq!(of(&findings, "containers")[0]["level"], "fine", "these tests run containers: {findings:?}");
    assert_eq!(of(&findings, "network")[0]["level"], "fine", "and networks: {findings:?}");
    assert_eq!(of(&findings, "daemon")[0]["level"], "note");
    assert!(!Path::new(&at("root")).exists() && !Path::new(&at("run/atoll.sock")).exists(), "it looks only");

    let mut named = Command::new(atoll_testkit::program("atoll"));
    named.args(["--host", &format!("unix://{}", at("nobody.sock")), "system", "doctor"]);
    assert_eq!(
        named.output().expect("atoll starts").status.code(),
        Some(125),
        "that daemon is somebody else's business"
    );
}

#[test]
fn what_no_record_knows_is_found_with_what_to_do() {
    let Some(mut host) = host() else { return };
    host.ok(&["run", "-d", "--name", "web", "-v", "data:/data", IMAGE, "sleep", "1000"]);
    host.ok(&["create", "--name", "idle", IMAGE, "true"]);
    let findings = examine(host.command());
    let ours = |finding: &&Value| finding["level"] != "note" && finding["check"] == "leftovers";
    let left: Vec<_> = findings.iter().filter(ours).collect();
    assert!(left.len() == 1 && left[0]["level"] == "fine" || left.is_empty(), "{left:?}");

    let strays = ["workloads/stray", "store/roots/stray", "volumes/stray"].map(|path| host.root().join(path));
    for stray in &strays {
        std::fs::create_dir(stray).expect("a folder");
        assert!(is_left(&host, &stray.display().to_string(), "restart the daemon"), "{}", stray.display());
    }
    let point = host.run().join("mnt");
    std::fs::create_dir(&point).expect("a folder");
    let run = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).arg(&point).status().expect("it starts");
        assert!(status.success(), "{program}");
    };
    run("mount", &["-t", "tmpfs", "tmpfs"]);
    let is_found = is_left(&host, &point.display().to_string(), "umount");
    run("umount", &[]);
    assert!(is_found, "a mount");

    host.kill_daemon().expect("it ran");
    let mut alone = Command::new(atoll_testkit::program("atoll"));
    alone.env_remove("DOCKER_HOST").env_remove("ATOLL_HOST");
    alone.arg("--root").arg(host.root()).arg("--run").arg(host.run());
    let findings = examine(alone);
    let said = of(&findings, "daemon")[0]["found"].as_str().unwrap_or_default().to_owned();
    assert!(said.contains("1 containers run without one"), "{said}");
    host.start_daemon(&[]).expect("it starts");
    assert!(strays.iter().all(|stray| !stray.exists()), "as it was advised");
}

#[test]
fn an_ordinary_user_is_told_what_it_lacks() {
    if !atoll_testkit::require_root() {
        return;
    }
    for (subordinate, worst) in [(true, "fine"), (false, "warning")] {
        let user = atoll_testkit::TestUser::new(subordinate).expect("a user can be made");
        let findings = examine(user.command(atoll_testkit::program("atoll")));
        let found = of(&findings, "user namespaces");
        assert_eq!(found[0]["level"], worst, "{found:?}");
        assert_eq!(of(&findings, "network")[0]["level"], "fine", "pasta is there: {findings:?}");
    }
}

#[test]
fn people_read_it_too() {
    let Some(host) = empty_host() else { return };
    let output = host.atoll(&["system", "doctor"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("fine     daemon: the daemon answers") && text.contains(" notes"), "{text}");
}
