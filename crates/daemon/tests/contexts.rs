//! The stock client where the daemon is somewhere else: contexts, `system dial-stdio`, and over ssh.

mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use atoll_testkit::TempHost;
use support::stock::host;
use support::{IMAGE, Ran, finish, until};

/// Clients: the present one, and Debian 12's.
const CLIENTS: [&str; 2] = ["/usr/local/bin/docker", "/usr/bin/docker"];
const SSHD: &str = "/usr/sbin/sshd";
/// Where `sshd` wants an empty folder.
const SSHD_FOLDER: &str = "/run/sshd";

/// A client that knows nothing but its configuration.
fn client(program: &str, config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "60", program]).args(arguments);
    command.env("DOCKER_CONFIG", config).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
    command
}

/// Debian's client is not everywhere.
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
fn clients() -> impl Iterator<Item = &'static str> {
    CLIENTS.into_iter().filter(|program| {
        let there = Path::new(program).is_file();
        if !there {
            println!("skipped: needs a docker client at {program}");
        }
        there
    })
}

#[test]
fn a_context_stands_for_the_host() {
    let Some(host) = host() else { return };
    for program in clients() {
        let config = atoll_testkit::tempdir();
        let run = |arguments: &[&str]| finish(client(program, config.path(), arguments), "");
        let ok = |arguments: &[&str]| run(arguments).ok();
        ok(&["context", "create", "atoll", "--description", "ours", "--docker", &format!("host={}", host.address())]);
        assert_eq!(ok(&["context", "inspect", "-f", "{{.Endpoints.docker.Host}}", "atoll"]), host.address());
        assert_eq!(ok(&["--context", "atoll", "run", "--rm", IMAGE, "echo", "once"]), "once");
        ok(&["context", "use", "atoll"]);
        assert_eq!(ok(&["context", "ls", "-q"]), "atoll\ndefault");
        ok(&["run", "-d", "--name", "web", IMAGE, "sleep", "1000"]);
        assert_eq!(ok(&["ps", "--format", "{{.Names}}"]), "web");
        assert_eq!(ok(&["exec", "web", "echo", "inside"]), "inside");
        ok(&["rm", "-f", "web"]);
        let used = run(&["context", "rm", "atoll"]);
        assert!(used.code == Some(1) && used.err.contains("in use"), "{used:?}");
        ok(&["context", "use", "default"]);
        ok(&["context", "rm", "atoll"]);
        assert_ne!(run(&["--context", "atoll", "ps"]).code, Some(0));
    }
}

#[test]
fn a_connection_is_carried_over_standard_input_and_output() {
    let Some(host) = host() else { return };
    let request = "GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let check = |mut command: Command| {
        command.env("DOCKER_HOST", host.address()).env("ATOLL_HOST", host.address());
        let said = finish(command, request);
        assert!(said.out.starts_with("HTTP/1.1 200 OK\r\n") && said.out.ends_with("\r\nOK"), "{said:?}");
    };
    let config = atoll_testkit::tempdir();
    let words = ["system", "dial-stdio"];
    clients().for_each(|program| check(client(program, config.path(), &words)));
    check(client(&atoll_testkit::program("atoll").display().to_string(), config.path(), &words));
}

/// An ssh server of one's own on loopback, for one key.
struct Server {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Whoever comes in finds `programs` before all others, and the host's daemon by `environment`.
    #[expect(clippy::print_stdout, reason = "a test that skips says so")]
    fn start(environment: &str, programs: &Path) -> Option<Self> {
        if !Path::new(SSHD).is_file() {
            println!("skipped: needs {SSHD} (openssh-server)");
            return None;
        }
        std::fs::create_dir_all(SSHD_FOLDER).expect("a folder");
        let folder = atoll_testkit::tempdir();
        let path = |name: &str| folder.path().join(name);
        for key in ["host", "own"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(key)).status();
            assert!(made.expect("ssh-keygen runs").success());
        }
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let shown = |name: &str| path(name).display().to_string();
        let server = format!(
            "Port {free}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPermitRootLogin yes\nStrictModes no\n\
             UsePAM no\nPidFile none\nSetEnv {environment} PATH={}:/usr/local/bin:/usr/bin:/bin\n",
            shown("host"),
            shown("own.pub"),
            programs.display()
        );
        std::fs::write(path("sshd_config"), server).expect("written");
        // The client reads no configuration but this; `docker` runs the `ssh` that it finds first.
        let client = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n",
            shown("own")
        );
        std::fs::write(path("ssh_config"), client).expect("written");
        let ssh = path("bin");
        std::fs::create_dir(&ssh).expect("a folder");
        script(&ssh.join("ssh"), &format!("exec /usr/bin/ssh -F {} \"$@\"", shown("ssh_config")));
        let mut command = Command::new(SSHD);
        command.args(["-D", "-e", "-f"]).arg(path("sshd_config"));
        let process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("sshd starts");
        let server = Self { process, folder, port: free };
        until("sshd listens", || std::net::TcpStream::connect(("127.0.0.1", free)).is_ok());
        Some(server)
    }

    fn address(&self) -> String {
        format!("ssh://root@127.0.0.1:{}", self.port)
    }

    /// The stock client, from afar.
    fn docker(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = client(CLIENTS[0], &self.folder.path().join("docker"), arguments);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.folder.path().join("bin").display()));
        command.env("DOCKER_HOST", self.address());
        finish(command, input)
    }
}

fn script(path: &PathBuf, line: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("#!/bin/sh\n{line}\n")).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// What a user does from afar.
fn afternoon(server: &Server) {
    let ok = |arguments: &[&str]| server.docker(arguments, "").ok();
    assert!(ok(&["version", "-f", "{{.Server.APIVersion}}"]).starts_with("1."));
    assert_eq!(ok(&["ps", "-q"]), "");
    assert_eq!(ok(&["run", "--rm", IMAGE, "echo", "from afar"]), "from afar");
    assert_eq!(server.docker(&["run", "--rm", "-i", IMAGE, "cat"], "there and back").ok(), "there and back");
    assert_eq!(server.docker(&["run", "--rm", IMAGE, "sh", "-c", "exit 7"], "").code, Some(7));
    ok(&["run", "-d", "--name", "web", IMAGE, "sh", "-c", "echo said; sleep 1000"]);
    until("the output is there", || ok(&["logs", "web"]) == "said");
    assert_eq!(ok(&["exec", "web", "echo", "inside"]), "inside");
    assert_eq!(server.docker(&["exec", "-i", "web", "cat"], "in and out").ok(), "in and out");
    assert_eq!(ok(&["ps", "--format", "{{.Names}}"]), "web");
    ok(&["rm", "-f", "web"]);
}

fn over_ssh(host: &TempHost, programs: &Path) -> Option<Server> {
    let address = host.address();
    Server::start(&format!("DOCKER_HOST={address} ATOLL_HOST={address}"), programs)
}

#[test]
fn over_ssh_to_a_host_with_the_stock_client() {
    let Some(host) = host() else { return };
    let none = atoll_testkit::tempdir();
    let Some(server) = over_ssh(&host, none.path()) else { return };
    afternoon(&server);
}

#[test]
fn over_ssh_to_a_host_where_atoll_goes_by_the_name_of_docker() {
    let Some(host) = host() else { return };
    let programs = atoll_testkit::tempdir();
    let link = programs.path().join("docker");
    std::os::unix::fs::symlink(atoll_testkit::program("atoll"), link).expect("a link");
    let Some(server) = over_ssh(&host, programs.path()) else { return };
    assert_eq!(server.docker(&["ps", "-q"], "").ok(), "");
    assert_eq!(server.docker(&["run", "--rm", "-i", IMAGE, "cat"], "there and back").ok(), "there and back");
}
