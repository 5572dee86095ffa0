//! Who may come, and what is known of those who came: mutual TLS, loopback, systemd's sockets, ssh, the audit log, metrics.

mod raw;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use atoll_testkit::TempDir;
use raw::{ask, get, parse, read_all};
use serde_json::Value;
use support::{Ran, docker, empty_host, finish, has_docker, host, until};

/// A daemon with a configuration of its own.
struct Configured {
    folder: TempDir,
    child: Child,
}

impl Configured {
    fn start(folder: TempDir, config: &str, arguments: &[&str]) -> Self {
        std::fs::write(folder.path().join("config.toml"), config).expect("it is written");
        let child = Self::command(&folder, arguments).spawn().expect("the daemon starts");
        Self { folder, child }
    }

    fn command(folder: &TempDir, arguments: &[&str]) -> Command {
        let at = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new(atoll_testkit::program("atolld"));
        command.args(["--root", &at("root"), "--run", &at("run"), "--config", &at("config.toml")]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(at("log")).expect("a log"));
        command
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.at("log")).unwrap_or_default()
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        let _ = self.child.wait();
    }
}

/// A port of a loopback address that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// Runs openssl; `false` where it is not installed.
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
fn openssl(folder: &Path, line: &str) -> bool {
    let ran = Command::new("openssl").args(line.split(' ')).current_dir(folder).stderr(Stdio::null()).output();
    match ran {
        Ok(ran) => {
            assert!(ran.status.success(), "openssl {line}");
            true
        }
        Err(_) => {
            println!("skipped: needs openssl");
            false
        }
    }
}

/// An authority, and what it signed for the daemon and for alice; a certificate of mallory's own.
fn certificates(folder: &Path) -> bool {
    std::fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").expect("it is written");
    std::fs::write(folder.join("client"), "extendedKeyUsage=clientAuth\n").expect("it is written");
    let new = "req -x509 -newkey rsa:2048 -nodes -days 2";
    let signed = |name: &str, subject: &str, more: &str| {
        openssl(folder, &format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj {subject}"))
            && openssl(
                folder,
                &format!(
                    "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem{more}"
                ),
            )
    };
    openssl(folder, &format!("{new} -keyout ca.key -out ca.pem -subj /CN=authority"))
        && openssl(folder, &format!("{new} -keyout mallory.key -out mallory.pem -subj /CN=mallory"))
        && signed("daemon", "/CN=daemon", " -extfile san")
        && signed("alice", "/O=team/CN=alice", " -extfile client")
}

/// The stock client over TCP, with the certificate of `who`.
fn over_tls(folder: &Path, port: u16, who: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "60", "docker", "-H", &format!("tcp://127.0.0.1:{port}"), "--tlsverify"]);
    command.args(["--tlscacert", &folder.join("ca.pem").display().to_string()]);
    command.args(["--tlscert", &folder.join(format!("{who}.pem")).display().to_string()]);
    command.args(["--tlskey", &folder.join(format!("{who}.key")).display().to_string()]);
    command.args(arguments).env_remove("DOCKER_HOST");
    finish(command, "")
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn over_tcp_come_those_with_a_certificate_and_are_known_by_it() {
    if !atoll_testkit::require_root() || !has_docker() {
        return;
    }
    let folder = atoll_testkit::tempdir();
    if !certificates(folder.path()) {
        return;
    }
    let port = free_port();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let config = format!("[audit]\nfile = {:?}\n", at("audit.log"));
    let arguments = [
        "-H",
        &format!("tcp://127.0.0.1:{port}"),
        "--tlsverify",
        "--tlscacert",
        &at("ca.pem"),
        "--tlscert",
        &at("daemon.pem"),
        "--tlskey",
        &at("daemon.key"),
    ];
    let arguments = arguments.map(str::to_owned);
    let daemon = Configured::start(folder, &config, &arguments.each_ref().map(String::as_str));
    let folder = daemon.folder.path();
    until("it answers over TLS", || over_tls(folder, port, "alice", &["version"]).code == Some(0));
    assert_eq!(over_tls(folder, port, "alice", &["volume", "create", "data"]).ok(), "data");
    let stranger = over_tls(folder, port, "mallory", &["volume", "create", "other"]);
    assert_ne!(stranger.code, Some(0), "{stranger:?}");
    // In plain text, nobody is answered.
    let mut plain = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    plain.write_all(b"POST /volumes/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}").expect("it is sent");
    let said = String::from_utf8_lossy(&read_all(&mut plain)).into_owned();
    assert!(!said.contains("HTTP/1.1"), "{said}");
    let volumes = over_tls(folder, port, "alice", &["volume", "ls", "-q"]).ok();
    assert_eq!(volumes, "data");
    until("it is in the audit log", || !lines(&daemon.at("audit.log")).is_empty());
    let told = lines(&daemon.at("audit.log"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["who"]["subject"], &told[0]["status"]), (&"CN=alice,O=team".into(), &201.into()));
    let mode = std::fs::metadata(daemon.at("audit.log")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn without_tls_tcp_is_refused() {
    if !atoll_testkit::require_root() {
        return;
    }
    for address in ["tcp://0.0.0.0:2375", "tcp://127.0.0.1:2375"] {
        let mut daemon = Configured::start(atoll_testkit::tempdir(), "", &["-H", address]);
        assert!(!daemon.child.wait().expect("it ends").success());
        assert!(daemon.log().contains("without mutual TLS"), "{}", daemon.log());
    }
}

#[test]
fn loopback_is_open_where_asked_for_and_shut_to_browsers() {
    if !atoll_testkit::require_root() {
        return;
    }
    let (port, metrics) = (free_port(), free_port());
    let config = format!(
        "[tcp]\nlisten = '127.0.0.1:{port}'\nloopback_without_tls = true\n[metrics]\nlisten = '127.0.0.1:{metrics}'"
    );
    let daemon = Configured::start(atoll_testkit::tempdir(), &config, &[]);
    until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let ask = |port: u16, request: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        write!(stream, "{request}\r\nConnection: close\r\n\r\n").expect("it is sent");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("an answer");
        parse(&said)
    };
    let info = ask(port, "GET /info HTTP/1.1\r\nHost: localhost:2375");
    assert_eq!(info.status, 200, "{}", daemon.log());
    assert!(info.json()["Warnings"].to_string().contains("without encryption"), "{:?}", info.json()["Warnings"]);
    for headers in
        ["Host: evil.example", "Host: localhost\r\nOrigin: http://evil.example", "Host: localhost\r\nOrigin: null"]
    {
        assert_eq!(ask(port, &format!("POST /volumes/create HTTP/1.1\r\n{headers}")).status, 403, "{headers}");
    }
    // The metrics' own address has nothing else.
    assert_eq!(ask(metrics, "GET /metrics HTTP/1.1\r\nHost: localhost").status, 200);
    assert_eq!(ask(metrics, "GET /info HTTP/1.1\r\nHost: localhost").status, 404);
    assert_eq!(ask(metrics, "POST /volumes/create HTTP/1.1\r\nHost: localhost").status, 404);
}

#[test]
fn systemd_hands_over_its_socket() {
    if !atoll_testkit::require_root() {
        return;
    }
    let folder = atoll_testkit::tempdir();
    std::fs::write(folder.path().join("config.toml"), "").expect("it is written");
    let socket = folder.path().join("handed.sock");
    let daemon = Configured::command(&folder, &["-H", "fd://"]);
    let mut activate = Command::new("systemd-socket-activate");
    activate.arg("-l").arg(&socket).arg(daemon.get_program()).args(daemon.get_args());
    activate.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(child) = activate.spawn() else {
        println!("skipped: needs systemd-socket-activate");
        return;
    };
    let mut daemon = Configured { folder, child };
    until("somebody listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let mut command = Command::new(atoll_testkit::program("atoll"));
    command.args(["--host", &format!("unix://{}", socket.display()), "info", "--format", "{{.OSType}}"]);
    assert_eq!(finish(command, "").ok(), "linux", "{}", daemon.log());
    assert!(!daemon.at("run/atoll.sock").exists(), "its own socket is not needed");
    let pid = i32::try_from(daemon.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is asked to end");
    daemon.child.wait().expect("it ends");
    assert!(socket.exists(), "systemd's socket is not the daemon's to remove");
}

#[test]
fn docker_comes_over_ssh() {
    let Some(host) = empty_host().filter(|_| has_docker()) else { return };
    // A stand-in for ssh: the far end is this host, and its docker is atoll.
    let folder = atoll_testkit::tempdir();
    let atoll = atoll_testkit::program("atoll");
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\nset -- $*\nshift\nexec {} --host {} \"$@\"\n",
        atoll.display(),
        host.address()
    );
    let ssh = folder.path().join("ssh");
    std::fs::write(&ssh, script).expect("it is written");
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a path"));
    let run = |arguments: &[&str]| {
        let mut command = docker(&host, arguments);
        command.env("DOCKER_HOST", "ssh://somebody@far").env("PATH", &path);
        finish(command, "")
    };
    assert_eq!(run(&["volume", "create", "data"]).ok(), "data");
    assert_eq!(run(&["volume", "ls", "-q"]).ok(), "data");
    assert_eq!(run(&["info", "-f", "{{.OSType}}"]).ok(), "linux");
}

/// Samples by name and labels, each of a family that was announced; as strict as the format's description.
fn samples(text: &str) -> Vec<(String, f64)> {
    let mut families: Vec<&str> = Vec::new();
    let mut samples = Vec::new();
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(is_name(name) && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(!families.contains(&name), "twice: {line}");
            families.push(name);
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            let bare = name.split('{').next().expect("a name");
            let family = families.last().expect("a family");
            let part = bare.strip_prefix(family).expect("of its family");
            assert!(is_name(bare) && ["", "_bucket", "_sum", "_count"].contains(&part), "{line}");
            assert!(samples.iter().all(|(known, _)| known != name), "twice: {line}");
            samples.push((name.to_owned(), value.parse().expect("a number")));
        }
    }
    samples
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let Some(host) = host() else { return };
    get(&host, "/info");
    ask(&host, "GET", "/containers/nobody/json", "");
    ask(&host, "GET", "/containers/somebody/json", "");
    let body = format!(r#"{{"Image":"{}","Cmd":["true"]}}"#, support::IMAGE);
    assert_eq!(ask(&host, "POST", "/containers/create?name=web", &body).status, 201);
    let answer = ask(&host, "GET", "/metrics", "");
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    let text = String::from_utf8(answer.body).expect("text");
    let samples = samples(&text);
    let value = |name: &str| samples.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
    assert_eq!(value("atoll_workloads{phase=\"created\"}"), Some(1.0), "{text}");
    assert_eq!(value("atoll_workloads{phase=\"running\"}"), Some(0.0));
    assert_eq!(value("atoll_images"), Some(1.0));
    assert!(value("atoll_store_bytes{kind=\"layers\"}").is_some_and(|bytes| bytes > 0.0));
    assert_eq!(
        value("atoll_requests_total{route=\"/containers/{name}/json\",method=\"GET\",status=\"404\"}"),
        Some(2.0),
        "{text}"
    );
    let count = value("atoll_request_seconds_count{route=\"/containers/{name}/json\",method=\"GET\"}");
    let all = value("atoll_request_seconds_bucket{route=\"/containers/{name}/json\",method=\"GET\",le=\"+Inf\"}");
    assert_eq!((count, all), (Some(2.0), Some(2.0)));
    assert!(!text.contains("nobody"), "names of containers are no labels");
}

#[test]
fn the_stock_client_finds_all_it_shows() {
    let Some(host) = empty_host().filter(|_| has_docker()) else { return };
    let info = finish(docker(&host, &["info"]), "").ok();
    for line in ["Swarm: inactive", "Storage Driver: overlay2", "Cgroup Driver:", "Kernel Version:", "Docker Root Dir:"]
    {
        assert!(info.contains(line), "{line} in {info}");
    }
    let version = finish(docker(&host, &["version"]), "").ok();
    assert!(version.contains("API version:      1.50 (minimum version 1.24)"), "{version}");
    assert_eq!(finish(docker(&host, &["plugin", "ls", "-q"]), "").ok(), "");
    let swarm = finish(docker(&host, &["node", "ls"]), "");
    assert!(swarm.code == Some(1) && swarm.err.contains("This node is not a swarm manager"), "{swarm:?}");
    let init = finish(docker(&host, &["swarm", "init"]), "");
    assert!(init.code == Some(1) && init.err.contains("not supported by Atoll"), "{init:?}");
}
