//! The stock `docker` client against `atolld`: what people type must do what they are used to.

mod support;

use std::process::{Command, Stdio};

use atoll_testkit::{Answer, Layer, Registry, TempHost};
use support::stock::{host, ok, run};
use support::{IMAGE, archive, busybox, docker, finish, until};

/// A container that runs until it is stopped, and ends at once on SIGTERM.
fn sleeper(host: &TempHost, name: &str) -> String {
    ok(host, &["run", "-d", "--name", name, IMAGE, "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done"])
}

fn state(host: &TempHost, name: &str) -> String {
    ok(host, &["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name])
}

#[test]
fn version_and_info() {
    let Some(host) = host() else { return };
    assert!(ok(&host, &["version", "-f", "{{.Server.APIVersion}}"]).starts_with("1."));
    assert_eq!(ok(&host, &["info", "-f", "{{.OSType}} {{.Images}} {{.Containers}}"]), "linux 1 0");
}

#[test]
fn images_are_loaded_tagged_and_removed() {
    let Some(host) = host() else { return };
    let names = || {
        let mut names: Vec<String> =
            ok(&host, &["images", "--format", "{{.Repository}}:{{.Tag}}"]).lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(names(), [IMAGE]);
    ok(&host, &["tag", IMAGE, "other:1"]);
    assert_eq!(names(), [IMAGE, "other:1"]);
    assert_eq!(ok(&host, &["inspect", "-f", "{{.Id}}", IMAGE]), ok(&host, &["inspect", "-f", "{{.Id}}", "other:1"]));
    ok(&host, &["rmi", IMAGE]);
    assert_eq!(names(), ["other:1"]);
    assert_eq!(ok(&host, &["run", "--rm", "other:1", "echo", "there"]), "there");
    ok(&host, &["rmi", "other:1"]);
    assert_eq!(names(), [""; 0]);
    assert!(ok(&host, &["load", "-i", &archive(&host)]).contains(IMAGE));
    assert_eq!(names(), [IMAGE]);
    assert_eq!(run(&host, &["rmi", "nobody:1"]).code, Some(1));
}

#[test]
fn run_answers_with_the_exit_code() {
    let Some(host) = host() else { return };
    let check = |command: &[&str], code: i32| {
        let ran = run(&host, &[&["run", "--rm", IMAGE], command].concat());
        assert_eq!(ran.code, Some(code), "{command:?}: {ran:?}");
    };
    check(&["true"], 0);
    check(&["sh", "-c", "exit 7"], 7);
    check(&["/etc/passwd"], 126);
    check(&["/nowhere"], 127);
    until("all are removed", || ok(&host, &["ps", "-aq"]).is_empty());
}

#[test]
fn output_goes_where_it_was_written() {
    let Some(host) = host() else { return };
    let ran = run(&host, &["run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("out\n", "err\n"));
    let big = run(&host, &["run", "--rm", IMAGE, "sh", "-c", "yes | head -c 3000000"]);
    assert_eq!((big.code, big.out.len()), (Some(0), 3_000_000));
}

#[test]
fn detached_containers_are_listed_followed_awaited_and_removed() {
    let Some(host) = host() else { return };
    let id = ok(
        &host,
        &["run", "-d", "--name", "web", IMAGE, "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done; exit 4"],
    );
    assert_eq!(ok(&host, &["ps", "-q", "--no-trunc"]), id);
    assert_eq!(ok(&host, &["logs", "-f", "web"]), "1\n2\n3");
    assert_eq!(ok(&host, &["wait", "web"]), "4");
    assert_eq!(state(&host, "web"), "exited 4");
    assert_eq!(ok(&host, &["logs", "--tail", "1", "web"]), "3");
    assert_eq!(ok(&host, &["ps", "-q"]), "");
    ok(&host, &["rm", "web"]);
    assert_eq!(ok(&host, &["ps", "-aq"]), "");
    assert_eq!(run(&host, &["inspect", "web"]).code, Some(1));
}

#[test]
fn standard_input_reaches_the_program_and_ends() {
    let Some(host) = host() else { return };
    let ran = finish(docker(&host, &["run", "--rm", "-i", IMAGE, "wc", "-c"]), "twelve bytes");
    assert_eq!(ran.ok(), "12");
    let big = "0123456789abcde\n".repeat(1 << 16);
    let ran = finish(docker(&host, &["run", "--rm", "-i", IMAGE, "cat"]), &big);
    assert!(ran.code == Some(0) && ran.out == big, "{:?}, {} bytes, {}", ran.code, ran.out.len(), ran.err);
}

#[test]
fn a_terminal_is_a_terminal() {
    let Some(host) = host() else { return };
    let line = format!("docker run --rm -it {IMAGE} sh -c 'tty; test -t 0 && test -t 1 && exit 9'");
    let mut script = Command::new("timeout");
    script.args(["60", "script", "-qec", &line, "/dev/null"]).env("DOCKER_HOST", host.address());
    // An open input that says nothing: at the end of one, `script` would type ^D.
    let output = script.stdin(Stdio::null()).output().expect("script runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(9), "{text}");
    assert!(text.contains("/dev/pts/0") || text.contains("/dev/console"), "{text}");
}

#[test]
fn exec_runs_beside() {
    let Some(host) = host() else { return };
    sleeper(&host, "web");
    assert_eq!(run(&host, &["exec", "web", "sh", "-c", "exit 6"]).code, Some(6));
    assert_eq!(ok(&host, &["exec", "-e", "A=b c", "-w", "/tmp", "web", "sh", "-c", "echo $A; pwd"]), "b c\n/tmp");
    assert_eq!(finish(docker(&host, &["exec", "-i", "web", "cat"]), "in and out").ok(), "in and out");
    assert_eq!(run(&host, &["exec", "web", "/nowhere"]).code, Some(127));
    ok(&host, &["rm", "-f", "web"]);
    assert_eq!(run(&host, &["exec", "web", "true"]).code, Some(1));
}

#[test]
fn attach_follows_to_the_end() {
    let Some(host) = host() else { return };
    ok(&host, &["create", "-i", "--name", "web", IMAGE, "sh", "-c", "read line; echo got $line; exit 5"]);
    ok(&host, &["start", "web"]);
    let ran = finish(docker(&host, &["attach", "web"]), "this\n");
    assert_eq!((ran.code, ran.out.as_str()), (Some(5), "got this\n"), "{ran:?}");
    ok(&host, &["create", "--name", "two", IMAGE, "sh", "-c", "echo hello; exit 2"]);
    let ran = run(&host, &["start", "-a", "two"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), "hello\n"), "{ran:?}");
}

#[test]
fn stop_kill_pause_rename_restart() {
    let Some(host) = host() else { return };
    sleeper(&host, "web");
    let marker = "until a trap is set";
    until(marker, || state(&host, "web") == "running 0");
    ok(&host, &["pause", "web"]);
    assert_eq!(state(&host, "web"), "paused 0");
    ok(&host, &["unpause", "web"]);
    assert_eq!(state(&host, "web"), "running 0");
    ok(&host, &["rename", "web", "net"]);
    assert_eq!(run(&host, &["inspect", "web"]).code, Some(1));
    let pid = |host: &TempHost| ok(host, &["inspect", "-f", "{{.State.Pid}}", "net"]);
    let before = pid(&host);
    ok(&host, &["restart", "net"]);
    assert_ne!(pid(&host), before);
    // The shell sets its trap a moment after it starts; the clients take longer than that.
    std::thread::sleep(std::time::Duration::from_millis(200));
    ok(&host, &["stop", "net"]);
    assert_eq!(state(&host, "net"), "exited 3");
    ok(&host, &["start", "net"]);
    ok(&host, &["kill", "net"]);
    assert_eq!(ok(&host, &["wait", "net"]), "137");
    assert_eq!(state(&host, "net"), "exited 137");
}

#[test]
fn events_tell_a_life() {
    let Some(host) = host() else { return };
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let since = now().to_string();
    ok(&host, &["run", "--name", "web", IMAGE, "sh", "-c", "exit 0"]);
    ok(&host, &["rm", "web"]);
    let until = (now() + 1).to_string();
    let events = ok(
        &host,
        &["events", "--since", &since, "--until", &until, "--filter", "type=container", "--format", "{{.Action}}"],
    );
    let seen: Vec<&str> = events.lines().filter(|line| *line != "attach").collect();
    assert_eq!(seen, ["create", "start", "die", "destroy"]);
}

#[test]
fn volumes_outlive_containers() {
    let Some(host) = host() else { return };
    assert_eq!(ok(&host, &["volume", "create", "data"]), "data");
    assert_eq!(ok(&host, &["volume", "ls", "-q"]), "data");
    ok(&host, &["run", "--rm", "-v", "data:/data", IMAGE, "sh", "-c", "echo kept > /data/file"]);
    assert_eq!(ok(&host, &["run", "--rm", "-v", "data:/data:ro", IMAGE, "cat", "/data/file"]), "kept");
    let written = run(&host, &["run", "--rm", "-v", "data:/data:ro", IMAGE, "touch", "/data/file"]);
    assert_eq!(written.code, Some(1), "{written:?}");
    assert_eq!(ok(&host, &["volume", "inspect", "-f", "{{.Name}} {{.Driver}}", "data"]), "data local");
    ok(&host, &["create", "--name", "user", "-v", "data:/data", IMAGE]);
    assert_eq!(run(&host, &["volume", "rm", "data"]).code, Some(1), "it is in use");
    ok(&host, &["rm", "user"]);
    ok(&host, &["volume", "rm", "data"]);
    assert_eq!(ok(&host, &["volume", "ls", "-q"]), "");
}

#[test]
fn images_are_pulled() {
    let Some(host) = host() else { return };
    let Some(image) = busybox() else { return };
    let published = image.published();
    let registry = Registry::serve(&[("1", &published)], |seen| {
        let known = seen.path != "/v2/" && seen.path.contains("/closed/");
        let denied = known && seen.headers.get("authorization").is_none_or(|value| value != "Basic dTpw");
        denied.then(|| Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""))
    });
    let name = format!("{}/team/web:1", registry.name());
    let said = ok(&host, &["pull", &name]);
    assert!(said.contains("Status: Downloaded newer image for"), "{said}");
    assert!(ok(&host, &["pull", &name]).contains("Image is up to date"));
    let digest = published.manifest["digest"].as_str().expect("text");
    let repository = name.trim_end_matches(":1");
    // It is the image that is here already, with one more name.
    let names = ok(&host, &["inspect", "-f", "{{.RepoTags}} {{.RepoDigests}}", &name]);
    assert!(names.contains(&format!("[{name} ")) && names.contains(&format!("[{repository}@{digest} ")), "{names}");
    assert_eq!(ok(&host, &["run", "--rm", &name, "echo", "pulled"]), "pulled");
    ok(&host, &["rmi", &name]);
    assert_eq!(ok(&host, &["run", "--rm", &format!("{repository}@{digest}"), "echo", "by digest"]), "by digest");
    ok(&host, &["rmi", &format!("{repository}@{digest}")]);
    // Not there, denied, and allowed with what the client keeps.
    let missing = run(&host, &["pull", &format!("{repository}:2")]);
    assert!(missing.code == Some(1) && missing.err.contains("is not on registry"), "{missing:?}");
    let closed = format!("{}/closed/web:1", registry.name());
    let denied = run(&host, &["pull", &closed]);
    assert!(denied.code == Some(1) && denied.err.contains("denies access"), "{denied:?}");
    let folder = host.root().with_file_name("docker");
    std::fs::create_dir_all(&folder).expect("a folder");
    let config = format!(r#"{{"auths": {{"{}": {{"auth": "dTpw"}}}}}}"#, registry.name());
    std::fs::write(folder.join("config.json"), config).expect("it is written");
    ok(&host, &["pull", &closed]);
    ok(&host, &["rmi", &closed]);
    let own = finish(
        {
            let mut command = support::atoll(&host, &["run", "--rm", &closed, "echo", "ours too"]);
            command.env("DOCKER_CONFIG", &folder);
            command
        },
        "",
    );
    assert_eq!(own.ok(), "ours too");
}

#[test]
fn workloads_are_on_a_network() {
    let Some(host) = host() else { return };
    sleeper(&host, "server");
    let address = ok(&host, &["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "server"]);
    assert!(address.starts_with("10."), "{address}");
    ok(&host, &["exec", "server", "ping", "-c", "1", "-W", "5", &address]);
    ok(&host, &["run", "--rm", IMAGE, "ping", "-c", "1", "-W", "5", &address]);
    assert!(ok(&host, &["network", "inspect", "bridge"]).contains(&address));
    assert!(ok(&host, &["run", "--rm", IMAGE, "cat", "/etc/hosts"]).contains("10."));
    let none = run(&host, &["run", "--rm", "--network", "none", IMAGE, "ping", "-c", "1", "-W", "1", &address]);
    assert_ne!(none.code, Some(0));
    let unknown = run(&host, &["run", "--rm", "--network", "nowhere", IMAGE, "true"]);
    assert!(unknown.code == Some(125) && unknown.err.contains("network nowhere not found"), "{unknown:?}");
    ok(&host, &["restart", "-t", "1", "server"]);
    let after = ok(&host, &["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "server"]);
    ok(&host, &["run", "--rm", IMAGE, "ping", "-c", "1", "-W", "5", &after]);
}

#[test]
fn an_empty_volume_is_filled_from_the_image() {
    let Some(host) = host() else { return };
    let Some(image) = busybox() else { return };
    let image = image.layer(Layer::new().folder("data").file("data/file", 0o640, "from the image"));
    let archive = host.root().with_file_name("data.tar").display().to_string();
    std::fs::write(&archive, image.docker_archive("data:1")).expect("it is written");
    ok(&host, &["load", "-i", &archive]);
    let read = |volume: &str| run(&host, &["run", "--rm", "-v", volume, "data:1", "cat", "/data/file"]);
    assert_eq!(read("full:/data").ok(), "from the image");
    ok(&host, &["run", "--rm", "-v", "full:/data", "data:1", "sh", "-c", "echo changed > /data/file"]);
    assert_eq!(read("full:/data").ok(), "changed");
    ok(&host, &["run", "--rm", "-v", "full:/elsewhere", "data:1", "cat", "/elsewhere/file"]);
    assert_eq!(read("empty:/data:nocopy").code, Some(1));
    assert_eq!(read("/data").ok(), "from the image");
}
