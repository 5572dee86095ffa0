//! Pulling from Debian's `docker-registry`, into which `skopeo` pushed: plain HTTP, then TLS with an authority of our own and
//! a password.

use std::path::Path;
use std::sync::Arc;

use atoll_oci::{Platform, Reference};
use atoll_registry::{Credentials, Error, Registries, pull};
use atoll_store::Store;
use atoll_testkit::{Distribution, Image, Layer, make_certificates, own_name, require_programs};

use super::{run, store};

fn pull_into(folder: &Path, name: &str, certificates: &Path, credentials: &Credentials) -> Result<Store, Error> {
    let store = store(folder);
    let lease = Arc::new(store.lease("test").expect("a lease"));
    let reference: Reference = name.parse().expect("a name");
    let registries = Registries { certificates: certificates.to_owned(), ..Registries::default() };
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
    if !require_programs(&["docker-registry", "skopeo"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let running = Distribution::start(folder.path(), "");
    let port = running.port();
    let target = format!("docker://127.0.0.1:{port}/team/web:1");
    run("skopeo", &["copy", "--insecure-policy", "--dest-tls-verify=false", &archive(folder.path()), &target]);
    let name = format!("127.0.0.1:{port}/team/web:1");
    pull_into(folder.path(), &name, Path::new("/nonexistent"), &Credentials::Anonymous).expect("it is pulled");
}

#[test]
fn tls_with_an_own_authority_and_a_password() {
    if !require_programs(&["docker-registry", "skopeo", "openssl", "htpasswd"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let Some(name) = own_name() else { return };
    make_certificates(folder.path(), &name);
    run("htpasswd", &["-Bbc", &path("users"), "web", "secret"]);
    let more = format!(
        "http: {{addr: \":PORT\", tls: {{certificate: {}, key: {}}}}}\nauth: {{htpasswd: {{realm: here, path: {}}}}}\n",
        path("server.crt"),
        path("key.pem"),
        path("users")
    );
    let running = Distribution::start(folder.path(), &more);
    let port = running.port();
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
