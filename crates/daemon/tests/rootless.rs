//! The daemon of an ordinary user, whom the test makes: with subordinate ids and without, with the network by pasta or
//! slirp4netns, its death with workloads running, and the stock client.

mod support;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_testkit::{Layer, TestUser, program};
use support::{IMAGE, Ran, finish, until};

/// An image in which nothing belongs to anybody but root.
const PLAIN: &str = "plain:test";
/// Who owns some files of [`IMAGE`].
const OWNER: (u32, u32) = (33, 34);
const SIGKILL: &str = "-KILL";

/// A user, on whose behalf a daemon is started when it is first needed.
struct UserHost {
    user: TestUser,
}

/// A user with [`IMAGE`] and [`PLAIN`] as archives; `None` (said aloud) where there can be none.
fn host(subordinate: bool) -> Option<UserHost> {
    if !atoll_testkit::require_root() {
        return None;
    }
    let plain = support::busybox()?.layer(Layer::new().folder("www").file("www/index.html", 0o644, "hello"));
    let user = TestUser::new(subordinate).expect("a user can be made");
    std::fs::create_dir(user.runtime_folder()).expect("a folder");
    std::fs::write(user.home().join("plain.tar"), plain.docker_archive(PLAIN)).expect("an archive");
    let owned = Layer::new().folder("srv").owned_by(OWNER.0, OWNER.1).file("srv/own", 0o640, "x");
    let image = plain.layer(owned.owned_by(OWNER.0, OWNER.1));
    std::fs::write(user.home().join("image.tar"), image.docker_archive(IMAGE)).expect("an archive");
    user.own(user.home()).expect("its home is its own");
    Some(UserHost { user })
}

/// The same with subordinate ids and the image loaded.
fn loaded() -> Option<UserHost> {
    let host = host(true)?;
    host.ok(&["load", "-i", "image.tar"]);
    Some(host)
}

impl UserHost {
    fn atoll(&self, arguments: &[&str]) -> Ran {
        let mut command = self.user.command("timeout");
        command.args(["-k", "5", "60"]).arg(program("atoll")).args(arguments);
        finish(command, "")
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.atoll(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}\n{}", self.log());
        ran.out.trim().to_owned()
    }

    fn run_folder(&self) -> PathBuf {
        self.user.runtime_folder().join("atoll")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.run_folder().join("atolld.log")).unwrap_or_default()
    }

    fn daemon(&self) -> String {
        let pid = std::fs::read_to_string(self.run_folder().join("atolld.pid")).expect("a daemon runs");
        pid.trim().to_owned()
    }

    fn kill_daemon(&self) {
        let daemon = self.daemon();
        kill(&daemon);
        until("the daemon is gone", || !runs(&daemon));
    }

    /// Command lines of the user's processes.
    fn commands(&self) -> Vec<(i32, String)> {
        let line = |pid: i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, String::from_utf8_lossy(&line).replace('\0', " "))
        };
        self.user.processes().into_iter().map(line).collect()
    }

    fn has(&self, program: &str) -> bool {
        self.commands().iter().any(|(_, line)| line.contains(program))
    }

    /// The port of the host on which a container's port answers.
    #[track_caller]
    fn port(&self, name: &str, inside: &str) -> u16 {
        let ports = self.ok(&["inspect", "-f", "{{json .NetworkSettings.Ports}}", name]);
        let ports: serde_json::Value = serde_json::from_str(&ports).expect("JSON");
        let port = ports[inside][0]["HostPort"].as_str().unwrap_or_else(|| panic!("{inside} is not in {ports}"));
        port.parse().expect("a number")
    }
}

fn kill(pid: &str) {
    let killed = std::process::Command::new("kill").args([SIGKILL, pid]).status().expect("kill is there");
    assert!(killed.success(), "{pid}");
}

fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// What the web server of a container says on a port of the host.
fn fetch(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[track_caller]
fn answers(port: u16) {
    until("the published port answers", || fetch(port).is_ok_and(|answer| answer.ends_with("hello")));
}

/// Whether a program of the host is there; says so where not.
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
fn has_program(path: &str, package: &str) -> bool {
    let there = Path::new(path).is_file();
    if !there {
        println!("skipped: needs {path} (apt-get install {package})");
    }
    there
}

#[test]
fn files_have_their_owners_inside_and_are_the_users_outside() {
    let Some(host) = loaded() else { return };
    let first = host.user.subordinate.expect("it has subordinate ids");
    let run = |network: &str, script: &str| host.ok(&["run", "--rm", "--network", network, IMAGE, "sh", "-c", script]);
    assert_eq!(run("none", "id -u; id -g; stat -c '%u:%g' /srv /srv/own /bin/busybox"), "0\n0\n33:34\n33:34\n0:0");
    let map = run("none", "cat /proc/self/uid_map");
    assert_eq!(map.split_ascii_whitespace().nth(1), Some(host.user.uid.to_string().as_str()), "{map}");
    // What a container may not do as the host's root either, it may not do here.
    assert_eq!(run("none", "mount -t tmpfs x /tmp 2>&1 >/dev/null | grep -c denied; cat /proc/kcore | wc -c"), "1\n0");
    assert_eq!(run("host", "[ -d /sys/class/net/lo ] && echo sysfs; ls /sys/fs/cgroup | wc -l"), "sysfs\n0");
    assert_eq!(
        run("none", "echo x > /dev/null; head -c 4 /dev/zero | wc -c; test -c /dev/urandom && echo node"),
        "4\nnode"
    );

    let share = host.user.home().join("share");
    std::fs::create_dir(&share).expect("a folder");
    host.user.own(&share).expect("it is the user's");
    let volume = format!("{}:/share", share.display());
    host.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        &volume,
        IMAGE,
        "sh",
        "-c",
        "touch /share/a /share/b; chown 33:34 /share/b",
    ]);
    let owner =
        |name: &str| std::fs::metadata(share.join(name)).map(|file| (file.uid(), file.gid())).expect("it is there");
    assert_eq!(owner("a"), (host.user.uid, host.user.gid));
    assert_eq!(owner("b"), (first + OWNER.0 - 1, first + OWNER.1 - 1));
}

#[test]
fn a_life_without_control_groups() {
    let Some(host) = loaded() else { return };
    let ran = host.atoll(&[
        "run",
        "-d",
        "--name",
        "life",
        "--network",
        "none",
        "-m",
        "64m",
        IMAGE,
        "sh",
        "-c",
        "echo hi; exec sleep 1000",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // This machine delegates nothing to an ordinary user; on one that does, the limit is kept.
    let limited = host.ok(&["info", "--format", "{{.CgroupDriver}}"]) != "none";
    assert_eq!(ran.err.contains("WARNING: the limit of memory is discarded"), !limited, "{ran:?}");
    assert_eq!(host.ok(&["info"]).contains("no control groups are delegated"), !limited);
    assert!(host.ok(&["info", "--format", "{{json .SecurityOptions}}"]).contains("name=rootless"));
    let user = format!("{}:{}", OWNER.0, OWNER.1);
    assert_eq!(host.ok(&["exec", "--user", &user, "life", "sh", "-c", "id -u; id -g; cat /srv/own"]), "33\n34\nx");
    until("it has said hi", || host.ok(&["logs", "life"]) == "hi");
    let paused = host.atoll(&["pause", "life"]);
    assert_eq!(paused.code == Some(0), limited, "{paused:?}");
    assert!(limited || paused.err.contains("no control groups are delegated"), "{paused:?}");
    if limited {
        host.ok(&["unpause", "life"]);
    }
    host.ok(&["stop", "-t", "0", "life"]);
    assert_eq!(host.ok(&["inspect", "-f", "{{.State.ExitCode}}", "life"]), "137");
    host.ok(&["rm", "life"]);
    host.ok(&["run", "-d", "--name", "forced", "--network", "none", IMAGE, "sleep", "1000"]);
    host.ok(&["rm", "-f", "forced"]);
    assert!(!host.has("sleep 1000"), "{:?}", host.commands());
}

/// A server named `web`, published on the port of loopback that comes with it; `None` (said aloud) where no network can be had.
fn with_server() -> Option<(UserHost, u16)> {
    let host = loaded()?;
    if !has_program("/usr/bin/pasta", "passt") {
        return None;
    }
    host.ok(&["run", "-d", "--name", "web", "-p", "127.0.0.1::80", IMAGE, "httpd", "-f", "-p", "80", "-h", "/www"]);
    let port = host.port("web", "80/tcp");
    answers(port);
    Some((host, port))
}

#[test]
fn workloads_outlive_the_daemon_and_the_next_one_has_rights_over_them() {
    let Some((host, port)) = with_server() else { return };
    assert_eq!(host.ok(&["ps", "--format", "{{.Ports}}"]), format!("127.0.0.1:{port}->80/tcp"));
    let before = host.ok(&["inspect", "-f", "{{.State.Pid}}", "web"]);
    host.kill_daemon();
    answers(port);
    assert_eq!(host.ok(&["exec", "--user", "33", "web", "id", "-u"]), "33", "another daemon has it");
    assert!(host.log().contains("entering the user namespace of the workloads that run"), "{}", host.log());
    assert_eq!(host.ok(&["inspect", "-f", "{{.State.Pid}}", "web"]), before);
    assert_eq!(host.port("web", "80/tcp"), port);
    answers(port);
    host.ok(&["stop", "-t", "0", "web"]);
    assert!(fetch(port).is_err(), "nobody answers any more");
    assert!(!host.has("pasta"), "{:?}", host.commands());
    host.ok(&["rm", "web"]);

    // Nothing lives any more: the next daemon makes a new namespace, and has the same files.
    host.kill_daemon();
    assert_eq!(host.ok(&["run", "--rm", "--network", "none", IMAGE, "stat", "-c", "%u", "/srv/own"]), "33");
}

#[test]
fn a_dead_supervisor_takes_the_workload_and_its_network_along() {
    let Some((host, port)) = with_server() else { return };
    let pid = host.ok(&["inspect", "-f", "{{.State.Pid}}", "web"]);
    let commands = host.commands();
    let shim = commands.iter().find(|(_, line)| line.starts_with("atoll-shim monitor")).expect("it has a supervisor");
    kill(&shim.0.to_string());
    until("its end is known", || {
        host.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web"]) == "exited 137"
    });
    assert!(!runs(&pid), "the workload is gone");
    until("its helper is gone", || !host.has("pasta"));
    assert!(fetch(port).is_err());
    // The port is free again.
    host.ok(&["rm", "web"]);
}

/// Sends back what comes to port 7 of the network of a container's process; busybox has no program for that.
fn echo_inside(pid: &str) -> std::io::Result<()> {
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
    let socket = atoll_sys::netns::enter(namespace.as_fd(), || UdpSocket::bind("0.0.0.0:7"))??;
    std::thread::spawn(move || {
        let mut block = [0; 16];
        while let Ok((count, from)) = socket.recv_from(&mut block) {
            let _ = socket.send_to(&block[..count], from);
        }
    });
    Ok(())
}

/// Datagrams come back from a published port, by an address of the host other than the loopback's: there slirp4netns 1.2 does
/// not take them in, and pasta of 2023 does not bring the answers back.
#[track_caller]
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
fn check_datagrams(port: u16) {
    let here = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // Nothing is sent by this: it only finds out which address leads elsewhere.
    let Some(own) = here.connect("192.0.2.1:9").and_then(|()| here.local_addr()).ok().map(|address| address.ip())
    else {
        println!("skipped datagrams: the host has no address but the loopback's");
        return;
    };
    here.connect((own, port)).expect("an address of our own");
    here.set_read_timeout(Some(Duration::from_millis(500))).expect("a time-out");
    until("datagrams come back", || {
        let mut block = [0; 16];
        here.send(b"ping").is_ok() && here.recv(&mut block).is_ok_and(|count| &block[..count] == b"ping")
    });
}

#[track_caller]
fn check_network(host: &UserHost) {
    let server = ["httpd", "-f", "-p", "80", "-h", "/www"];
    let start = |name: &str, ports: &[&str]| {
        let mut words = vec!["run", "-d", "--name", name];
        words.extend(ports.iter().flat_map(|port| ["-p", port]));
        words.push(IMAGE);
        words.extend(server);
        host.ok(&words);
    };
    start("web", &["127.0.0.1::80", "7/udp"]);
    let port = host.port("web", "80/tcp");
    answers(port);
    echo_inside(&host.ok(&["inspect", "-f", "{{.State.Pid}}", "web"])).expect("a socket in the container's network");
    check_datagrams(host.port("web", "7/udp"));
    let addresses = host.ok(&["exec", "web", "ip", "-4", "-o", "addr", "show", "dev", "eth0"]);
    let address = host.ok(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]);
    assert!(addresses.contains(&format!("inet {address}/24 ")), "{addresses}: {address}");
    // The host's loopback is out of reach, by whichever address.
    let gateway = host.ok(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", "web"]);
    let url = format!("http://{gateway}:{port}/index.html");
    let inside = host.atoll(&["exec", "web", "timeout", "5", "wget", "-T", "2", "-qO-", &url]);
    assert_ne!(inside.code, Some(0), "{inside:?}");
    let map = format!("127.0.0.1:{port}:80");
    let second = host.atoll(&["run", "-d", "--name", "second", "-p", &map, IMAGE, "sleep", "1000"]);
    assert!(second.code != Some(0) && second.err.contains("did not connect the workload"), "{second:?}");
    host.ok(&["rm", "-f", "web", "second"]);
    assert!(fetch(port).is_err());
    start("third", &[&map]);
    answers(port);
    host.ok(&["rm", "-f", "third"]);
}

#[test]
fn pasta_connects() {
    let Some(host) = loaded() else { return };
    if has_program("/usr/bin/pasta", "passt") {
        check_network(&host);
    }
}

#[test]
fn slirp4netns_connects_where_there_is_no_pasta() {
    let Some(mut host) = host(true) else { return };
    if !has_program("/usr/bin/slirp4netns", "slirp4netns") {
        return;
    }
    hide(&mut host, "/usr/bin/pasta");
    host.ok(&["load", "-i", "image.tar"]);
    check_network(&host);
}

/// Takes a program of the host away from the user.
fn hide(host: &mut UserHost, program: &str) {
    if Path::new(program).exists() {
        host.user.bind(PathBuf::from("/dev/null"), program);
    }
}

#[test]
fn without_either_the_packages_are_named() {
    let Some(mut host) = host(true) else { return };
    hide(&mut host, "/usr/bin/pasta");
    hide(&mut host, "/usr/bin/slirp4netns");
    host.ok(&["load", "-i", "image.tar"]);
    let refused = host.atoll(&["run", "--rm", IMAGE, "true"]);
    assert!(
        refused.code != Some(0) && refused.err.contains("passt") && refused.err.contains("slirp4netns"),
        "{refused:?}"
    );
    assert!(refused.err.contains("--network none or host"), "{refused:?}");
    for network in ["none", "host"] {
        assert_eq!(host.ok(&["run", "--rm", "--network", network, IMAGE, "echo", "runs"]), "runs");
    }
    let ran = host.atoll(&["run", "--rm", "--network", "host", "-p", "80", IMAGE, "echo", "runs"]);
    assert!(ran.code == Some(0) && ran.err.contains("Published ports are discarded"), "{ran:?}");
}

/// Answers every question for an address with 192.0.2.77, as long as the test runs.
fn name_server(address: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind((address, 53))?;
    std::thread::spawn(move || {
        let mut block = [0; 1500];
        while let Ok((count, from)) = socket.recv_from(&mut block) {
            // RFC 1035: 12 bytes of header, the name up to its empty label, type and class.
            let end = block[12..count].iter().position(|byte| *byte == 0).map_or(count, |at| 12 + at + 5);
            let is_address = block[..count].get(end - 3) == Some(&1);
            let mut answer = block[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
            answer.extend(&block[12..end]);
            if is_address {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    Ok(())
}

#[test]
fn names_are_resolved_though_the_hosts_resolver_is_on_its_loopback() {
    for (number, hidden) in [(1, None), (2, Some("/usr/bin/pasta"))] {
        let Some(mut host) = host(true) else { return };
        let server = format!("127.{}.{}.53", number, host.user.uid % 250 + 1);
        name_server(&server).expect("a name server on the loopback");
        let resolvers = host.user.home().join("resolv.conf");
        std::fs::write(&resolvers, format!("nameserver {server}\n")).expect("a file");
        host.user.bind(resolvers, "/etc/resolv.conf");
        if let Some(hidden) = hidden {
            hide(&mut host, hidden);
        }
        host.ok(&["load", "-i", "image.tar"]);
        let found = host.ok(&["run", "--rm", IMAGE, "nslookup", "name.example"]);
        assert!(found.contains("192.0.2.77"), "{hidden:?}: {found}");
    }
}

#[test]
fn a_user_without_subordinate_ids_runs_what_is_roots() {
    let Some(host) = host(false) else { return };
    host.ok(&["load", "-i", "plain.tar"]);
    assert!(host.ok(&["info"]).contains("WARNING: this user has no subordinate ids"));
    let script = "cat /proc/self/uid_map; tty < /dev/console; ls /dev/pts | grep -c ptmx";
    let said = host.ok(&["run", "--rm", "-t", "--network", "none", PLAIN, "sh", "-c", script]);
    let map: Vec<&str> = said.split_ascii_whitespace().take(3).collect();
    assert_eq!(map, ["0", &host.user.uid.to_string(), "1"], "{said}");
    host.ok(&["run", "-d", "--name", "stays", "--network", "none", PLAIN, "sleep", "1000"]);
    host.kill_daemon();
    assert_eq!(host.ok(&["exec", "stays", "id", "-u"]), "0");
    host.ok(&["rm", "-f", "stays"]);
    let refused = host.atoll(&["load", "-i", "image.tar"]);
    assert!(refused.code != Some(0) && refused.err.contains("--add-subuids"), "{refused:?}");
    assert_eq!(host.ok(&["images", "-q"]).lines().count(), 1, "nothing of it is left");
}

#[test]
fn the_stock_client_speaks_to_it() {
    let Some(host) = loaded() else { return };
    if !support::has_docker() || !has_program("/usr/bin/pasta", "passt") {
        return;
    }
    let docker = |arguments: &[&str]| {
        let mut command = host.user.command("timeout");
        command.args(["-k", "5", "60", "/usr/local/bin/docker"]).args(arguments);
        command.env("DOCKER_HOST", format!("unix://{}", host.run_folder().join("atoll.sock").display()));
        finish(command, "").ok()
    };
    assert_eq!(docker(&["run", "--rm", IMAGE, "id", "-u"]), "0");
    docker(&["run", "-d", "--name", "web", "-p", "127.0.0.1::80", IMAGE, "httpd", "-f", "-p", "80", "-h", "/www"]);
    let place = docker(&["port", "web", "80"]);
    let port: u16 = place.strip_prefix("127.0.0.1:").expect("an address").parse().expect("a number");
    answers(port);
    assert!(docker(&["ps"]).contains(&format!("127.0.0.1:{port}->80/tcp")));
    assert_eq!(docker(&["exec", "-u", "33", "web", "id", "-u"]), "33");
    assert!(docker(&["info", "--format", "{{json .SecurityOptions}}"]).contains("name=rootless"));
    docker(&["rm", "-f", "web"]);
}

#[test]
fn ports_of_roots_daemon_are_refused_by_name() {
    let Some(host) = support::host() else { return };
    let refused = finish(support::atoll(&host, &["run", "--rm", "-p", "8080:80", IMAGE, "true"]), "");
    assert!(refused.code != Some(0) && refused.err.contains("HostConfig.PortBindings"), "{refused:?}");
    assert_eq!(host.ok(&["ps", "-aq"]), "");
}
