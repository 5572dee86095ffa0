//! Pulling from Debian's `docker-registry`, into which `skopeo` pushed: plain HTTP, then TLS with an authority of our own and
//! a password.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use atoll_oci::{Platform, Reference};
use atoll_registry::{Credentials, Error, Registries, pull};
use atoll_store::Store;
use atoll_testkit::{Image, Layer};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Whether a program is installed; says so where it is not.
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
fn has(program: &str) -> bool {
    let found = ["/usr/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(program).exists());
    if !found {
        println!("skipped: {program} is not installed (apt-get install docker-registry skopeo openssl apache2-utils)");
    }
    found
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Starts a registry below `folder`; `more` is added to its configuration.
fn start(folder: &Path, more: &str) -> (Running, u16) {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
    let file = folder.join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n{}",
        folder.join("data").display(),
        more.replace("PORT", &port.to_string())
    );
    std::fs::write(&file, text).expect("it is written");
    let child =
        Command::new("docker-registry").arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let running = Running(child.expect("it starts"));
    for _ in 0..200 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return (running, port);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the registry does not answer");
}

fn pull_into(folder: &Path, name: &str, certificates: &Path, credentials: &Credentials) -> Result<Store, Error> {
    let db = Arc::new(redb::Database::create(folder.join("db")).expect("a database"));
    let store = Store::open(&folder.join("store"), db).expect("a store");
    let lease = Arc::new(store.lease("test").expect("a lease"));
    let reference: Reference = name.parse().expect("a name");
    let registries = Registries { insecure: Vec::new(), certificates: certificates.to_owned() };
    let platform = (&Platform::host(), true);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let work = pull(&registries, (&store, lease), &reference, platform, credentials, &|_, _| {});
    let pulled = runtime.block_on(work)?;
    assert_eq!(store.image(&pulled.manifest.digest).expect("an image").layers.len(), 2);
    Ok(store)
}

fn archive(folder: &Path) -> String {
    let image = Image::new()
        .layer(Layer::new().file("a", 0o644, "lower"))
        .layer(Layer::new().file("b", 0o644, vec![7; 3 << 20]))
        .docker_archive("web:1");
    let path = folder.join("web.tar");
    std::fs::write(&path, image).expect("it is written");
    format!("docker-archive:{}", path.display())
}

#[test]
fn plain_http_on_the_loopback() {
    if !has("docker-registry") || !has("skopeo") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (_running, port) = start(folder.path(), "http: {addr: 127.0.0.1:PORT}\n");
    let target = format!("docker://127.0.0.1:{port}/team/web:1");
    run("skopeo", &["copy", "--insecure-policy", "--dest-tls-verify=false", &archive(folder.path()), &target]);
    let name = format!("127.0.0.1:{port}/team/web:1");
    pull_into(folder.path(), &name, Path::new("/nonexistent"), &Credentials::Anonymous).expect("it is pulled");
}

/// An authority (`ca.crt`), and a certificate for `name` that it vouches for (`server.crt`, `key.pem`).
fn make_certificates(folder: &Path, name: &str) {
    let names = format!("subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n");
    std::fs::write(folder.join("names"), names).expect("it is written");
    let openssl = |line: &str| {
        let args: Vec<&str> = line.split(' ').collect();
        let output = Command::new("openssl").current_dir(folder).args(&args).output().expect("openssl");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.pem -out ca.crt");
    openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout key.pem -out request"));
    openssl("x509 -req -in request -days 2 -CA ca.crt -CAkey ca.pem -CAcreateserial -extfile names -out server.crt");
}

#[test]
fn tls_with_an_own_authority_and_a_password() {
    if !["docker-registry", "skopeo", "openssl", "htpasswd"].iter().all(|program| has(program)) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    // Not on the loopback by name, so that the certificate counts: the name is resolved by the hosts file of no one else.
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let resolves =
        std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), 0)).is_ok_and(|mut found| found.next().is_some());
    if !resolves || name == "localhost" {
        println!("skipped: this host's name {name} does not resolve");
        return;
    }
    make_certificates(folder.path(), &name);
    run("htpasswd", &["-Bbc", &path("users"), "web", "secret"]);
    let more = format!(
        "http: {{addr: \":PORT\", tls: {{certificate: {}, key: {}}}}}\nauth: {{htpasswd: {{realm: here, path: {}}}}}\n",
        path("server.crt"),
        path("key.pem"),
        path("users")
    );
    let (_running, port) = start(folder.path(), &more);
    let registry = format!("{name}:{port}");
    let target = format!("docker://{registry}/web:1");
    run(
        "skopeo",
        &[
            "copy",
            "--insecure-policy",
            "--dest-tls-verify=false",
            "--dest-creds",
            "web:secret",
            &archive(folder.path()),
            &target,
        ],
    );
    let certificates = folder.path().join("certs.d");
    std::fs::create_dir_all(certificates.join(&registry)).expect("a folder");
    let credentials =
        |password: &str| Credentials::Password { username: "web".to_owned(), password: password.to_owned() };
    let attempt = |name: &str, certificates: &Path, password: &str| {
        let below = folder.path().join(name);
        std::fs::create_dir(&below).expect("a folder");
        pull_into(&below, &format!("{registry}/web:1"), certificates, &credentials(password))
    };
    assert!(
        matches!(attempt("unknown", &certificates, "secret"), Err(Error::Unreachable { .. })),
        "nobody vouches for it"
    );
    std::fs::copy(path("ca.crt"), certificates.join(&registry).join("ca.crt")).expect("it is copied");
    assert!(matches!(attempt("wrong", &certificates, "guess"), Err(Error::Denied { .. })));
    attempt("right", &certificates, "secret").expect("it is pulled");
}
