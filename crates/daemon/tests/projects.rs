//! Projects, by the stock `docker` client run by two users and root: each sees its own, nothing reaches through the wall.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use atoll_testkit::TempHost;
use support::stock::{self, ok, run};
use support::{IMAGE, Ran, docker, finish, until};

/// Users without a name, which no machine has.
const ANN: u32 = 48_801;
const BEN: u32 = 48_802;
const OPS: u32 = 48_803;
const NOBODY: u32 = 48_804;

/// A host with two projects, one member each, and an administrator.
fn host() -> Option<TempHost> {
    let mut host = stock::host()?;
    let config = host.root().with_file_name("config.toml");
    let text = format!(
        "administrators = ['{OPS}']\n[projects.web]\nmembers = ['{ANN}']\n[projects.shop]\nmembers = ['@{BEN}']\n"
    );
    std::fs::write(&config, text).expect("it is written");
    let open = |path: &std::path::Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711));
    open(config.parent().expect("a folder")).and_then(|()| open(&host.run())).expect("users may pass");
    host.kill_daemon().expect("it ran");
    host.start_daemon_with(&["--config", &config.display().to_string()], &[]).expect("it starts");
    Some(host)
}

/// A command as a user.
fn by(user: u32, command: &Command) -> Command {
    let mut whole = Command::new("setpriv");
    whole.args(["--reuid", &user.to_string(), "--regid", &user.to_string(), "--clear-groups"]);
    whole.arg(command.get_program()).args(command.get_args());
    whole.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir("/");
    whole
}

fn run_by(host: &TempHost, user: u32, arguments: &[&str]) -> Ran {
    finish(by(user, &docker(host, arguments)), "")
}

#[track_caller]
fn ok_by(host: &TempHost, user: u32, arguments: &[&str]) -> String {
    run_by(host, user, arguments).ok()
}

/// The status and the body of a request.
fn ask(host: &TempHost, user: u32, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-o", "-", "-w", "\n%{http_code}", "-X", method, "-m", "5", "--unix-socket"]).arg(host.socket());
    if !body.is_empty() {
        curl.args(["-H", "Content-Type: application/json", "-d", body]);
    }
    curl.arg(format!("http://host{path}"));
    let out = finish(by(user, &curl), "").out;
    let (body, status) = out.rsplit_once('\n').expect("a status");
    (status.parse().expect("a status"), body.to_owned())
}

#[test]
fn members_see_only_their_own() {
    let Some(host) = host() else { return };
    ok(&host, &["run", "-d", "--name", "roots", IMAGE, "sleep", "600"]);
    ok_by(&host, ANN, &["run", "-d", "--name", "site", "-v", "pages:/pages", IMAGE, "sleep", "600"]);
    ok_by(
        &host,
        BEN,
        &["run", "-d", "--name", "till", "-v", "coins:/coins", IMAGE, "sh", "-c", "echo rich; sleep 600"],
    );
    let names = |user| ok_by(&host, user, &["ps", "-a", "--format", "{{.Names}}"]);
    assert_eq!((names(ANN).as_str(), names(BEN).as_str()), ("site", "till"));
    assert_eq!(names(OPS), "till\nsite\nroots");
    assert_eq!(ok(&host, &["ps", "-q"]).lines().count(), 3);
    assert_eq!(ok_by(&host, ANN, &["info", "-f", "{{.Containers}}"]), "1");
    let volumes = |user| ok_by(&host, user, &["volume", "ls", "-q"]);
    assert_eq!(
        (volumes(ANN).as_str(), volumes(BEN).as_str(), volumes(OPS).as_str()),
        ("pages", "coins", "coins\npages")
    );
    let networks = ask(&host, ANN, "GET", "/networks", "").1;
    let till = ok(&host, &["inspect", "-f", "{{.Id}}", "till"]);
    assert!(!networks.contains(&till) && ask(&host, OPS, "GET", "/networks", "").1.contains(&till), "{networks}");
    let usage = ask(&host, ANN, "GET", "/system/df", "").1;
    assert!(usage.contains("pages") && !usage.contains("coins") && !usage.contains(&till), "{usage}");
    let images = ask(&host, ANN, "GET", "/images/json?%6danifests=1", "").1;
    assert!(images.contains(IMAGE) && !images.contains(&till), "{images}");
    let now = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
    let events = |user| ok_by(&host, user, &["events", "--since", "1", "--until", &(now + 1).to_string()]);
    let (mine, all) = (events(ANN), events(OPS));
    assert!(mine.contains("site") && mine.contains("pages"), "{mine}");
    assert!(
        !mine.contains("till") && !mine.contains("coins") && !mine.contains("roots") && all.contains("coins"),
        "{mine}"
    );
    // Nobody else has anything.
    let refused = run_by(&host, NOBODY, &["ps"]);
    assert!(refused.code == Some(1) && refused.err.contains("is a member of no project"), "{refused:?}");

    // What is another's is what there is not, by name, id and its beginning.
    for name in ["till", &till, &till[..12], "roots", "t%69ll"] {
        for (method, path) in ROUTES {
            let path = path.replace("{}", name);
            let (status, body) = ask(&host, ANN, method, &path, "{\"Cmd\": [\"true\"]}");
            let head = *method == "HEAD";
            assert!(
                status == 404 && (head || body.contains("No such container: ")),
                "{method} {path}: {status} {body}"
            );
        }
    }
    let exec = ask(&host, BEN, "POST", "/containers/till/exec", "{\"Cmd\": [\"true\"]}").1;
    let exec = exec.split('"').nth(3).expect("an id").to_owned();
    for (method, path) in [("GET", "json"), ("POST", "start"), ("POST", "resize?h=1&w=1")] {
        assert_eq!(ask(&host, ANN, method, &format!("/exec/{exec}/{path}"), "{}").0, 404, "{path}");
    }
    assert_eq!(ask(&host, BEN, "GET", &format!("/exec/{exec}/json"), "").0, 200);
    for method in ["GET", "DELETE"] {
        assert_eq!(ask(&host, ANN, method, "/volumes/coins", "").0, 404, "{method}");
    }
    assert_eq!(ask(&host, ANN, "POST", "/volumes/create", "{\"Name\": \"coins\"}").0, 404);
    let filtered = ask(&host, ANN, "GET", "/containers/json?filters=%7B%22since%22%3A%5B%22till%22%5D%7D", "");
    assert_eq!(filtered.0, 404, "{}", filtered.1);

    // With one's own, everything works, and a prune takes nobody else's.
    assert_eq!(ok_by(&host, BEN, &["logs", "till"]), "rich");
    assert_eq!(ok_by(&host, ANN, &["exec", "site", "echo", "in"]), "in");
    ok_by(&host, ANN, &["stop", "-t", "0", "site"]);
    ok(&host, &["stop", "-t", "0", "roots"]);
    let pruned = ok_by(&host, ANN, &["container", "prune", "-f"]);
    assert_eq!(pruned.lines().filter(|line| line.len() == 64).count(), 1, "{pruned}");
    ok_by(&host, ANN, &["volume", "prune", "-a", "-f"]);
    assert_eq!((names(OPS).as_str(), volumes(OPS).as_str()), ("till\nroots", "coins"));
}

/// Everything that is done to one container.
const ROUTES: &[(&str, &str)] = &[
    ("GET", "/containers/{}/json"),
    ("GET", "/v1.40/containers/{}/json"),
    ("POST", "/containers/{}/start"),
    ("POST", "/containers/{}/stop"),
    ("POST", "/containers/{}/restart"),
    ("POST", "/containers/{}/kill"),
    ("POST", "/containers/{}/pause"),
    ("POST", "/containers/{}/unpause"),
    ("POST", "/containers/{}/rename?name=x"),
    ("POST", "/containers/{}/resize?h=1&w=1"),
    ("POST", "/containers/{}/wait"),
    ("POST", "/containers/{}/update"),
    ("POST", "/containers/{}/attach?logs=1"),
    ("GET", "/containers/{}/attach/ws"),
    ("GET", "/containers/{}/logs?stdout=1"),
    ("GET", "/containers/{}/stats?stream=0"),
    ("GET", "/containers/{}/top"),
    ("GET", "/containers/{}/changes"),
    ("GET", "/containers/{}/export"),
    ("GET", "/containers/{}/archive?path=/"),
    ("PUT", "/containers/{}/archive?path=/"),
    ("POST", "/containers/{}/exec"),
    ("DELETE", "/containers/{}?force=1"),
];

#[test]
fn nothing_reaches_through_the_wall() {
    let Some(mut host) = host() else { return };
    ok_by(
        &host,
        BEN,
        &["run", "-d", "--name", "till", "--ipc", "shareable", "-v", "coins:/coins", IMAGE, "sleep", "600"],
    );
    ok_by(&host, ANN, &["create", "--name", "site", IMAGE, "true"]);
    let check = |arguments: &[&str], message: &str| {
        let ran = run_by(&host, ANN, &[&["create"], arguments, &[IMAGE, "true"]].concat());
        assert!(ran.code == Some(1) && ran.err.contains(message), "{arguments:?}: {ran:?}");
    };
    check(&["--privileged"], "not for members of a project (you are one of web)");
    check(&["--cap-add", "SYS_ADMIN"], "more privileges than the default ones");
    check(&["--security-opt", "seccomp=unconfined"], "more privileges than the default ones");
    check(&["--security-opt", "systempaths=unconfined"], "other masked paths");
    check(&["--device", "/dev/fuse"], "devices of the host");
    check(&["--network", "host"], "namespaces of the host");
    check(&["--pid", "host"], "namespaces of the host");
    check(&["--ipc", "host"], "namespaces of the host");
    check(&["--uts", "host"], "namespaces of the host");
    check(&["--userns", "host"], "namespaces of the host");
    check(&["--cgroup-parent", "/x"], "a control group of the host");
    check(&["-v", "/etc:/etc2"], "mounts of paths of the host");
    check(&["-v", "/var/run/docker.sock:/s"], "mounts of paths of the host");
    check(&["--mount", "type=bind,src=/etc,dst=/e"], "mounts of paths of the host");
    check(&["--log-driver", "syslog"], "log drivers that send lines on");
    check(&["-v", "coins:/coins"], "no such volume");
    check(&["--volumes-from", "till"], "No such container: till");
    check(&["--network", "container:till"], "No such container: till");
    check(&["--pid", "container:till"], "No such container: till");
    check(&["--ipc", "container:till"], "No such container: till");
    let ran = run_by(&host, ANN, &["create", "--name", "till", IMAGE, "true"]);
    assert!(ran.code == Some(1) && ran.err.contains("already in use"), "{ran:?}");
    let refused = |method: &str, path: &str, body: &str| {
        let (status, answer) = ask(&host, ANN, method, path, body);
        assert!(status == 403 && answer.contains("not for members"), "{method} {path}: {status} {answer}");
    };
    ok_by(&host, ANN, &["start", "site"]);
    refused("POST", "/containers/site/exec", "{\"Cmd\": [\"true\"], \"Privileged\": true}");
    refused("POST", "/images/create?fromImage=x", "");
    refused("DELETE", "/images/busybox:test", "");
    refused("POST", "/images/busybox:test/tag?repo=x", "");
    refused("POST", "/images/prune", "");
    refused("POST", "/commit?container=site", "");
    refused("POST", "/build", "");
    refused("GET", "/metrics", "");
    refused("GET", "/nowhere", "");
    // Labels, of images too, are nobody's word for anything.
    ok(&host, &["run", "-d", "--name", "roots", "--label", "project=web", IMAGE, "sleep", "600"]);
    assert_eq!(ask(&host, ANN, "GET", "/containers/roots/json", "").0, 404);

    // Who owns what is in the record.
    host.kill_daemon().expect("it ran");
    let config = host.root().with_file_name("config.toml").display().to_string();
    host.start_daemon_with(&["--config", &config], &[]).expect("it starts");
    until("it answers", || run(&host, &["ps"]).code == Some(0));
    assert_eq!(ok_by(&host, BEN, &["ps", "--format", "{{.Names}}"]), "till");
    assert_eq!(ok_by(&host, BEN, &["volume", "ls", "-q"]), "coins");
    assert_eq!(ask(&host, ANN, "GET", "/containers/till/json", "").0, 404);
}
