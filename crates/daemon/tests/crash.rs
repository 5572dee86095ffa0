//! SIGKILL at every failpoint of the engine, and at those of the store that it reaches: afterwards each thing is wholly there or not at all.

mod support;

use std::collections::BTreeSet;

use atoll_testkit::{Image, Layer, Registry, TempHost};
use support::{IMAGE, archive, atoll, finish, host, until};

/// An image that only these tests have, and its archive beside the host's other one.
const OTHER: &str = "other:1";

/// The points of the store that a daemon reaches by pulling, loading, creating and removing; its sweeps are in its own tests.
const STORE: [&str; 12] = [
    "store.layer.extracted",
    "store.layer.synced",
    "store.layer.renamed",
    "store.layer.committed",
    "store.blob.written",
    "store.blob.renamed",
    "store.link.before",
    "store.link.committed",
    "store.import.spooled",
    "store.root.before",
    "store.root.renamed",
    "store.root.removing",
];

/// What is pushed.
fn pushed(registry: &Registry) -> String {
    // The registry of the tests knows tags alone.
    format!("{}/pushed:2", registry.name())
}

/// The image that is pulled.
fn remote(registry: &Registry) -> String {
    format!("{}/remote:1", registry.name())
}

fn other_archive(host: &TempHost) -> String {
    host.root().with_file_name("other.tar").display().to_string()
}

/// An archive of files.
fn plain_archive(host: &TempHost) -> String {
    let path = host.root().with_file_name("plain.tar");
    std::fs::write(&path, Layer::new().file("file", 0o644, "content").tar()).expect("written");
    path.display().to_string()
}

/// The commands that reach a failpoint, the last of them the one that does; `None` for one that needs more than a host.
fn commands(host: &TempHost, registry: &Registry, point: &str) -> Option<Vec<Vec<String>>> {
    let own = |commands: &[&[&str]]| {
        Some(commands.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect()).collect())
    };
    let (operation, _) = point.split_once('.').expect("operation.step");
    match (operation, point) {
        ("create", _) => own(&[&["create", "--name", "web", "-v", "data:/etc", IMAGE, "true"]]),
        ("start", "start.after-record") => {
            own(&[&["run", "-d", "--name", "web", "--restart", "always", IMAGE, "sleep", "9"]])
        }
        ("start", _) => own(&[&["create", "--name", "web", IMAGE, "sleep", "1000"], &["start", "web"]]),
        ("exit", _) => own(&[&["run", "-d", "--name", "web", IMAGE, "sh", "-c", "exit 5"]]),
        // Enough for several files; the daemon compresses what is closed a while later.
        ("log", _) => own(&[&[
            "run",
            "-d",
            "--name",
            "web",
            "--log-driver",
            "local",
            "--log-opt",
            "max-size=2k",
            "--log-opt",
            "max-file=9",
            IMAGE,
            "seq",
            "500",
        ]]),
        ("remove", _) => own(&[&["create", "--name", "web", IMAGE, "true"], &["rm", "web"]]),
        ("update", _) => own(&[&["create", "--name", "web", IMAGE, "true"], &["update", "--memory", "64m", "web"]]),
        ("tag", "tag.before-dangling") => own(&[&["tag", IMAGE, OTHER]]),
        ("tag", _) => own(&[&["tag", IMAGE, "tagged:1"]]),
        ("rmi", _) => own(&[&["rmi", OTHER]]),
        ("image-prune", _) => own(&[&["image", "prune", "-af"]]),
        ("commit", _) => own(&[
            &["run", "-d", "--name", "web", IMAGE, "sh", "-c", "echo x > /file; sleep 1000"],
            &["commit", "web", "committed:1"],
        ]),
        ("import", _) => own(&[&["import", &plain_archive(host), "imported:1"]]),
        ("load", _) => own(&[&["load", "-i", &other_archive(host)]]),
        ("store", "store.import.spooled") => own(&[&["load", "-i", &other_archive(host)]]),
        ("store", "store.root.before" | "store.root.renamed") => own(&[&["create", "--name", "web", IMAGE, "true"]]),
        ("store", "store.root.removing") => own(&[&["create", "--name", "web", IMAGE, "true"], &["rm", "web"]]),
        ("pull" | "store", _) => own(&[&["pull", &remote(registry)]]),
        ("push", _) => own(&[&["tag", OTHER, &pushed(registry)], &["push", &pushed(registry)]]),
        ("volume-remove", _) => own(&[&["volume", "create", "data"], &["volume", "rm", "data"]]),
        _ => None,
    }
}

/// The state a killed daemon must leave nothing in that no container of `ps -aq` owns.
fn folders(host: &TempHost) -> BTreeSet<String> {
    let places = [host.root().join("store/roots"), host.root().join("workloads"), host.run().join("w")];
    let entries = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn containers(host: &TempHost) -> BTreeSet<String> {
    host.ok(&["ps", "-aq", "--no-trunc"]).lines().map(str::to_owned).collect()
}

fn check(host: &mut TempHost, registry: &Registry, point: &str) -> bool {
    let Some(commands) = commands(host, registry, point) else { return false };
    host.ok(&["load", "-i", &other_archive(host)]);
    // It is not there but where the last point came after its name.
    drop(host.atoll(&["rmi", &remote(registry)]));
    drop(host.atoll(&["rmi", &pushed(registry)]));
    host.kill_daemon().expect("it ran");
    host.start_daemon(&[("ATOLL_FAILPOINT", point)]).expect("it starts with a failpoint");
    let daemon = host.daemon_pid().expect("it runs");
    let mut said = String::new();
    for command in commands {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        // The daemon dies below the last of them: its answer is nothing to rely on.
        said = finish(atoll(host, &words), "").err;
    }
    until(&format!("the daemon dies at {point}: {said}"), || {
        let stat = std::fs::read_to_string(format!("/proc/{daemon}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
    host.kill_daemon().expect("it is still to be waited for");
    host.start_daemon(&[]).expect("it starts after the crash");

    until(&format!("{point}: nothing is left of what is not there"), || folders(host).is_subset(&containers(host)));
    if point.starts_with("exit.") {
        assert_eq!(host.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web"]), "exited 5", "{point}");
    }
    if point.starts_with("commit.") {
        assert_eq!(
            host.ok(&["inspect", "-f", "{{.State.Status}}", "web"]),
            "running",
            "{point}: it is not left frozen"
        );
    }
    if point.starts_with("log.") {
        let text: String = (1..=500).map(|number| format!("{number}\n")).collect();
        assert_eq!(host.ok(&["logs", "web"]), text.trim(), "{point}");
    }
    for id in containers(host) {
        host.ok(&["inspect", &id]);
        host.ok(&["rm", "-f", &id]);
    }
    assert!(containers(host).is_empty(), "{point}");
    until(&format!("{point}: removal leaves nothing"), || folders(host).is_empty());
    host.ok(&["load", "-i", &archive(host)]);
    assert_eq!(host.ok(&["run", "--rm", IMAGE, "echo", "well"]), "well", "{point}");
    if host.ok(&["volume", "ls", "-q"]).contains("data") {
        host.ok(&["volume", "rm", "data"]);
    }
    true
}

#[test]
fn a_daemon_killed_at_any_point_leaves_everything_whole() {
    let Some(mut host) = host() else { return };
    let layer = Layer::new().file("file", 0o644, "content");
    let image = Image::new().layer(layer).config("Cmd", vec!["/file"]);
    std::fs::write(other_archive(&host), image.docker_archive(OTHER)).expect("the archive is written");
    let remote = Image::new().layer(Layer::new().file("remote", 0o644, "content")).config("Cmd", vec!["/remote"]);
    let registry = Registry::serve(&[("1", &remote.published())], |_| None);
    let mut checked = 0;
    for point in atoll_engine::FAILPOINTS {
        if check(&mut host, &registry, point) {
            checked += 1;
        } else {
            println!("skipped: {point} needs a Debian mirror");
        }
    }
    assert_eq!(checked, atoll_engine::FAILPOINTS.len() - 1, "only bootstrap needs more than a host");
    for point in STORE {
        assert!(check(&mut host, &registry, point), "{point}");
    }
}
