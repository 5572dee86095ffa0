//! Debian's `docker-registry`, on a port and a folder of its own, with certificates where wanted.

use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How often it is looked whether the registry answers.
const POLL: Duration = Duration::from_millis(50);
/// How often that is done.
const POLLS: u32 = 200;

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub struct Distribution {
    child: Child,
    port: u16,
}

impl Distribution {
    /// Starts one that keeps its content below `folder`. `more` is added to its configuration, where `PORT` becomes the port;
    /// nothing is plain HTTP on the loopback.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start(folder: &Path, more: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
        let file = folder.join("config.yml");
        let more = if more.is_empty() { "http: {addr: 127.0.0.1:PORT}\n" } else { more };
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n{}",
            folder.join("data").display(),
            more.replace("PORT", &port.to_string())
        );
        std::fs::write(&file, text).expect("it is written");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Self { child: command.spawn().expect("it starts"), port };
        for _ in 0..POLLS {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return running;
            }
            std::thread::sleep(POLL);
        }
        panic!("docker-registry does not answer");
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether programs are installed; says so where one is not.
#[must_use]
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
pub fn require_programs(programs: &[&str]) -> bool {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
    let there = |program: &str| folders.iter().any(|folder| Path::new(folder).join(program).exists());
    let missing: Vec<&str> = programs.iter().copied().filter(|program| !there(program)).collect();
    if !missing.is_empty() {
        println!("skipped: needs {}", missing.join(", "));
    }
    missing.is_empty()
}

/// This host's name, where it resolves: a registry of that name is not on the loopback, so that its certificate counts. Says
/// that the test is skipped where it does not.
#[must_use]
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
pub fn own_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let resolves = (name.as_str(), 0).to_socket_addrs().is_ok_and(|mut found| found.next().is_some());
    if !resolves || name == "localhost" {
        println!("skipped: this host's name {name} does not resolve");
        return None;
    }
    Some(name)
}

/// Makes an authority (`ca.crt`) in a folder, and a certificate for `name` that it vouches for (`server.crt`, `key.pem`).
///
/// # Panics
/// Where `openssl` fails.
pub fn make_certificates(folder: &Path, name: &str) {
    let names = format!("subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n");
    std::fs::write(folder.join("names"), names).expect("it is written");
    let openssl = |line: &str| {
        let output = Command::new("openssl").current_dir(folder).args(line.split(' ')).output().expect("openssl");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.pem -out ca.crt");
    openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout key.pem -out request"));
    openssl("x509 -req -in request -days 2 -CA ca.crt -CAkey ca.pem -CAcreateserial -extfile names -out server.crt");
}
