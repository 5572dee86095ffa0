//! Health checks through the stock `docker` client: what they come to, what is shown and told, and what follows.

mod support;

use atoll_testkit::TempHost;
use support::stock::{host, ok, run};
use support::{IMAGE, atoll, finish, until};

/// Checks come quickly in these tests.
const QUICK: [&str; 2] = ["--health-interval", "100ms"];

/// Starts a shell's script in the background, checked by `check`.
#[track_caller]
fn start(host: &TempHost, name: &str, check: &str, more: &[&str], script: &str) {
    let front = ["run", "-d", "--name", name, "--health-cmd", check];
    ok(host, &[&front[..], &QUICK, more, &[IMAGE, "sh", "-c", script]].concat());
}

fn look(host: &TempHost, name: &str, template: &str) -> String {
    ok(host, &["inspect", "-f", template, name])
}

fn health(host: &TempHost, name: &str) -> String {
    look(host, name, "{{.State.Health.Status}}")
}

fn seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs()
}

#[test]
fn from_starting_to_healthy_to_unhealthy_and_back() {
    let Some(host) = host() else { return };
    let since = seconds().to_string();
    start(
        &host,
        "web",
        "cat /ok",
        &["--health-retries", "2", "--health-start-period", "60s", "--health-start-interval", "100ms"],
        "sleep 1000",
    );
    assert_eq!(health(&host, "web"), "starting");
    let line = |filter: &str| ok(&host, &["ps", "--filter", filter, "--format", "{{.Names}} {{.Status}}"]);
    assert!(line("health=starting").ends_with("(health: starting)"));
    until("a check has failed", || look(&host, "web", "{{len .State.Health.Log}}") != "0");
    assert_eq!(
        look(&host, "web", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"),
        "starting 0",
        "in the start period"
    );
    ok(&host, &["exec", "web", "sh", "-c", "echo fine > /ok"]);
    until("it is healthy", || health(&host, "web") == "healthy");
    assert!(line("health=healthy").ends_with("(healthy)"));
    ok(&host, &["exec", "web", "rm", "/ok"]);
    until("it is unhealthy", || health(&host, "web") == "unhealthy");
    assert!(line("health=unhealthy").ends_with("(unhealthy)"));
    assert_eq!(line("health=none"), "");
    until("the log is full", || look(&host, "web", "{{len .State.Health.Log}}") == "5");
    let last = look(&host, "web", "{{with index .State.Health.Log 4}}{{.ExitCode}} {{.Output}}{{end}}");
    assert_eq!(last, "1 cat: can't open '/ok': No such file or directory");
    ok(&host, &["exec", "web", "touch", "/ok"]);
    until("it is healthy again", || {
        look(&host, "web", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}") == "healthy 0"
    });
    let check = "{{json .Config.Healthcheck}}";
    assert_eq!(
        look(&host, "web", check),
        r#"{"Test":["CMD-SHELL","cat /ok"],"Interval":100000000,"StartPeriod":60000000000,"StartInterval":100000000,"Retries":2}"#
    );
    assert_eq!(look(&host, "web", "{{json .ExecIDs}}"), "null", "checks are nobody's sessions");

    ok(&host, &["stop", "-t", "0", "web"]);
    assert_eq!(health(&host, "web"), "unhealthy", "as Docker has it");
    let until_now = (seconds() + 1).to_string();
    let told = [
        "events",
        "--since",
        &since,
        "--until",
        &until_now,
        "--filter",
        "event=health_status",
        "--format",
        "{{.Action}}",
    ];
    assert_eq!(
        ok(&host, &told).lines().collect::<Vec<_>>(),
        ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]
    );
    ok(&host, &["start", "web"]);
    until("it is checked anew", || health(&host, "web") == "healthy");
}

#[test]
fn checks_that_hang_fail_or_say_too_much() {
    let Some(host) = host() else { return };
    let retry = ["--health-retries", "1"];
    let last = |name: &str| look(&host, name, "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}");
    start(
        &host,
        "hangs",
        "echo part; exec sleep 1000",
        &[&retry[..], &["--health-timeout", "300ms"]].concat(),
        "sleep 1000",
    );
    start(&host, "talks", "yes | head -c 10000; exit 7", &retry, "sleep 1000");
    let body = r#"{"Image": "busybox:test", "Cmd": ["sleep", "1000"], "Healthcheck": {"Test": ["CMD", "/nowhere"], "Interval": 100000000, "Retries": 1}}"#;
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sS", "--unix-socket"]).arg(host.socket()).args(["-H", "Content-Type: application/json", "-d", body]);
    curl.arg("http://x/containers/create?name=missing");
    finish(curl, "").ok();
    ok(&host, &["start", "missing"]);
    for name in ["hangs", "talks", "missing"] {
        until(name, || health(&host, name) == "unhealthy");
    }
    assert_eq!(last("hangs"), "-1 Health check exceeded timeout (300ms): part");
    let said = last("talks");
    assert!(
        said.starts_with("7 y\ny\n") && said.ends_with("...") && said.len() == "7 ".len() + 4096 + "...".len(),
        "{}",
        said.len()
    );
    let said = last("missing");
    assert!(said.starts_with("-1 ") && said.contains("/nowhere"), "{said}");
    // None of the killed is left: the program, its shell, and the check that goes on at most.
    until("there were further checks", || look(&host, "hangs", "{{len .State.Health.Log}}") == "5");
    let top = ok(&host, &["top", "hangs"]);
    assert!(top.lines().filter(|line| line.contains("sleep 1000")).count() <= 3, "{top}");
}

#[test]
fn an_images_check_is_taken_changed_or_left_out() {
    let Some(host) = host() else { return };
    let Some(image) = support::busybox() else { return };
    let check =
        serde_json::json!({"Test": ["CMD-SHELL", "echo from the image"], "Interval": 100_000_000, "Retries": 9});
    let image = image.config("Healthcheck", check);
    let archive = host.root().with_file_name("checked.tar").display().to_string();
    std::fs::write(&archive, image.docker_archive("checked:1")).expect("it is written");
    ok(&host, &["load", "-i", &archive]);
    assert_eq!(look(&host, "checked:1", "{{.Config.Healthcheck.Retries}}"), "9");
    let start = |name: &str, more: &[&str]| {
        ok(&host, &[&["run", "-d", "--name", name], more, &["checked:1", "sleep", "1000"]].concat());
    };
    start("plain", &[]);
    until("the image's check", || health(&host, "plain") == "healthy");
    assert_eq!(look(&host, "plain", "{{with index .State.Health.Log 0}}{{.Output}}{{end}}"), "from the image");
    start("changed", &["--health-cmd", "echo mine", "--health-retries", "2"]);
    until("the caller's check", || health(&host, "changed") == "healthy");
    assert_eq!(look(&host, "changed", "{{with index .State.Health.Log 0}}{{.Output}}{{end}}"), "mine");
    assert_eq!(look(&host, "changed", "{{.Config.Healthcheck.Retries}} {{.Config.Healthcheck.Interval}}"), "2 100ms");
    start("none", &["--no-healthcheck"]);
    assert_eq!(look(&host, "none", "{{json .State.Health}} {{json .Config.Healthcheck.Test}}"), r#"null ["NONE"]"#);
    assert_eq!(ok(&host, &["ps", "--filter", "health=none", "--format", "{{.Names}}"]), "none");
    let refused = run(&host, &["ps", "--filter", "health=foo"]);
    assert!(refused.code == Some(1) && refused.err.contains("health"), "{refused:?}");
    let refused = run(&host, &["create", "--health-retries", "-1", "--health-cmd", "x", IMAGE]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
}

#[test]
fn nothing_is_checked_while_it_is_paused() {
    let Some(host) = host() else { return };
    start(&host, "web", "echo >> /checks", &[], "sleep 1000");
    until("it is healthy", || health(&host, "web") == "healthy");
    ok(&host, &["pause", "web"]);
    let ends = || look(&host, "web", "{{range .State.Health.Log}}{{.End}} {{end}}");
    let before = ends();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(ends(), before);
    assert!(ok(&host, &["ps", "--format", "{{.Status}}"]).ends_with("(Paused)"));
    ok(&host, &["unpause", "web"]);
    until("it is checked again", || ends() != before);
    assert_eq!(health(&host, "web"), "healthy");
}

#[test]
fn what_is_unhealthy_is_started_again_with_the_daemon_dead_too() {
    let Some(mut host) = host() else { return };
    let script = "echo run; touch /ok; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let create = |host: &TempHost, name: &str, policy: &str, script: &str, more: &[&str]| {
        let front =
            ["run", "-d", "--name", name, "--restart", policy, "--health-cmd", "test -e /ok", "--health-retries", "2"];
        finish(atoll(host, &[&front[..], &QUICK, more, &[IMAGE, "sh", "-c", script]].concat()), "")
    };
    create(&host, "web", "on-unhealthy", script, &[]).ok();
    // One that does not listen is killed.
    let deaf = "echo run; touch /ok; trap '' TERM; while :; do sleep 0.05; done";
    create(&host, "deaf", "on-unhealthy:1", deaf, &["--stop-timeout", "1"]).ok();
    create(&host, "always", "always", script, &[]).ok();
    for name in ["web", "deaf", "always"] {
        until(name, || health(&host, name) == "healthy");
    }
    for name in ["web", "deaf", "always"] {
        ok(&host, &["exec", name, "rm", "/ok"]);
    }
    let count =
        |host: &TempHost, name: &str| look(host, name, "{{.RestartCount}} {{.State.Status}} {{.State.Health.Status}}");
    for name in ["web", "deaf"] {
        until(name, || count(&host, name) == "1 running healthy");
        assert_eq!(ok(&host, &["logs", name]).lines().count(), 2);
    }
    until("the other policies leave it", || count(&host, "always") == "0 running unhealthy");

    let log = look(&host, "web", "{{.LogPath}}");
    ok(&host, &["exec", "-d", "web", "sh", "-c", "sleep 0.5; rm /ok"]);
    host.kill_daemon().expect("it ran");
    let before = std::fs::metadata(&log).expect("a log").len();
    until("it runs again without a daemon", || std::fs::metadata(&log).is_ok_and(|meta| meta.len() > before));
    host.start_daemon(&[]).expect("it starts again");
    until("it is found healthy", || count(&host, "web") == "2 running healthy");
    ok(&host, &["rm", "-f", "web", "deaf", "always"]);

    let refused = finish(atoll(&host, &["create", "--restart", "on-unhealthy", IMAGE]), "");
    assert!(refused.code == Some(125) && refused.err.contains("needs a health check"), "{refused:?}");
}
