//! Pushing: to Debian's `docker-registry`, from which `skopeo` and we ourselves get the image back, and to a registry on the
//! loopback that lies, hangs up and loses things.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use atoll_oci::{Descriptor, Digest, Platform, Reference};
use atoll_registry::{Credentials, Error, LoginError, PushPhase, Registries, login, pull, push};
use atoll_store::Store;
use atoll_testkit::{Answer, Distribution, Image, Layer, Registry, Seen};
use atoll_testkit::{make_certificates, own_name, require_programs};

use super::{run, store};

struct Bed {
    folder: tempfile::TempDir,
    store: Store,
    runtime: tokio::runtime::Runtime,
    registries: Registries,
    phases: Arc<Mutex<Vec<PushPhase>>>,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(folder.path());
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let registries = Registries { certificates: PathBuf::from("/nonexistent"), ..Registries::default() };
        Self { folder, store, runtime, registries, phases: Arc::default() }
    }

    /// Loads an archive; what the image is.
    fn load(&self, archive: &[u8]) -> Descriptor {
        let lease = self.store.lease("test").expect("a lease");
        let loaded = self.store.import_archive(&lease, &mut &*archive, &|_| {}).expect("it is loaded");
        self.store.link(&loaded[0].names[0], &loaded[0].manifest).expect("it is there");
        loaded[0].manifest.clone()
    }

    fn push_as(&self, name: &str, target: &Descriptor, credentials: &Credentials) -> Result<Descriptor, Error> {
        let reference: Reference = name.parse().expect("a name");
        self.phases.lock().expect("no panic").clear();
        let phases = Arc::clone(&self.phases);
        let progress = move |_: &Digest, phase| phases.lock().expect("no panic").push(phase);
        self.runtime.block_on(push(&self.registries, (&self.store, target), &reference, credentials, &progress))
    }

    fn push(&self, name: &str, target: &Descriptor) -> Result<Descriptor, Error> {
        self.push_as(name, target, &Credentials::Anonymous)
    }

    fn count(&self, phase: &PushPhase) -> usize {
        self.phases.lock().expect("no panic").iter().filter(|seen| *seen == phase).count()
    }

    /// Gets an image into a store of its own; the digests of its layers' plain archives.
    fn pulled(&self, name: &str, credentials: &Credentials) -> Vec<String> {
        let other = Bed { registries: self.registries.clone(), ..Bed::new() };
        let reference: Reference = name.parse().expect("a name");
        let lease = Arc::new(other.store.lease("test").expect("a lease"));
        let (host, store) = (Platform::host(), (&other.store, lease));
        let work = pull(&other.registries, store, &reference, (&host, false), credentials, &|_, _| {});
        let pulled = other.runtime.block_on(work).expect("it is pulled");
        let image = other.store.image(&pulled.manifest.digest).expect("an image");
        image.layers.iter().map(|layer| layer.diff_id.to_string()).collect()
    }

    fn layers(&self, target: &Descriptor) -> Vec<String> {
        let image = self.store.image(&target.digest).expect("an image");
        image.layers.iter().map(|layer| layer.diff_id.to_string()).collect()
    }
}

/// Bytes that do not pack well.
fn noise(count: u32) -> Vec<u8> {
    (0..count).flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes()).collect()
}

fn image() -> Image {
    Image::new()
        .layer(Layer::new().file("a", 0o644, "lower"))
        .layer(Layer::new().file("b", 0o644, noise(1_000_000)))
        .config("Cmd", vec!["/a"])
}

#[test]
fn to_the_real_one_on_the_loopback() {
    if !require_programs(&["docker-registry", "skopeo"]) {
        return;
    }
    let bed = Bed::new();
    let running = Distribution::start(bed.folder.path(), "");
    let port = running.port();
    let name = format!("127.0.0.1:{port}/team/web:1");
    // Plain archives are packed on the way, what is packed goes as it is.
    for (archive, packed) in [(image().docker_archive("web:1"), false), (image().oci_layout("packed:1"), true)] {
        let target = bed.load(&archive);
        let there = bed.push(&name, &target).expect("it is pushed");
        assert_eq!(there.digest == target.digest, packed);
        assert_eq!((bed.count(&PushPhase::Preparing), bed.count(&PushPhase::Pushed)), (2, 2));
        assert_eq!(bed.pulled(&name, &Credentials::Anonymous), bed.layers(&target));
        // A second time nothing is sent; a second packing is not even made.
        assert_eq!(bed.push(&name, &target).expect("it is pushed again"), there);
        assert_eq!((bed.count(&PushPhase::Exists), bed.count(&PushPhase::Pushed)), (2, 0));
    }
    // Another repository of the same registry gives its blobs.
    let target = bed.load(&image().oci_layout(&name));
    bed.push(&format!("127.0.0.1:{port}/other:1"), &target).expect("it is pushed");
    assert_eq!(bed.count(&PushPhase::Mounted("team/web".to_owned())), 2);
    let copy = bed.folder.path().join("copy");
    let from = format!("docker://127.0.0.1:{port}/other:1");
    run("skopeo", &["copy", "--insecure-policy", "--src-tls-verify=false", &from, &format!("dir:{}", copy.display())]);
    // By digest too.
    let by_digest = format!("127.0.0.1:{port}/pinned@{}", target.digest);
    bed.push(&by_digest, &target).expect("it is pushed");
    assert_eq!(bed.pulled(&by_digest, &Credentials::Anonymous), bed.layers(&target));
}

#[test]
fn to_the_real_one_with_tls_and_a_password() {
    if !require_programs(&["docker-registry", "skopeo", "openssl", "htpasswd"]) {
        return;
    }
    let Some(name) = own_name() else { return };
    let mut bed = Bed::new();
    let path = |name: &str| bed.folder.path().join(name).display().to_string();
    make_certificates(bed.folder.path(), &name);
    run("htpasswd", &["-Bbc", &path("users"), "web", "secret"]);
    let more = format!(
        "http: {{addr: \":PORT\", tls: {{certificate: {}, key: {}, clientcas: [{}]}}}}\nauth: {{htpasswd: {{realm: here, path: {}}}}}\n",
        path("server.crt"),
        path("key.pem"),
        path("ca.crt"),
        path("users")
    );
    let running = Distribution::start(bed.folder.path(), &more);
    let port = running.port();
    let registry = format!("{name}:{port}");
    let certificates = bed.folder.path().join("certs.d");
    let own = certificates.join(&registry);
    std::fs::create_dir_all(&own).expect("a folder");
    std::fs::copy(path("ca.crt"), own.join("ca.crt")).expect("it is copied");
    let password = |password: &str| Credentials::Password { username: "web".to_owned(), password: password.to_owned() };
    let target = bed.load(&image().docker_archive("web:1"));
    let remote = format!("{registry}/web:1");
    let try_push = |bed: &mut Bed, secret: &str| {
        bed.registries.certificates.clone_from(&certificates);
        bed.push_as(&remote, &target, &password(secret))
    };
    // It wants to know its clients: a certificate without its key is an error with its name.
    assert!(matches!(try_push(&mut bed, "secret"), Err(Error::Unreachable { .. })));
    std::fs::copy(bed.folder.path().join("server.crt"), own.join("client.cert")).expect("it is copied");
    assert!(
        matches!(try_push(&mut bed, "secret"), Err(Error::Certificate { path, .. }) if path.ends_with("client.key"))
    );
    std::fs::copy(bed.folder.path().join("key.pem"), own.join("client.key")).expect("it is copied");
    assert!(matches!(try_push(&mut bed, "guess"), Err(Error::Denied { .. })));
    try_push(&mut bed, "secret").expect("it is pushed");
    assert_eq!(bed.pulled(&remote, &password("secret")), bed.layers(&target));
    let sign_in =
        |bed: &Bed, credentials: &Credentials| bed.runtime.block_on(login(&bed.registries, &registry, credentials));
    assert!(matches!(sign_in(&bed, &password("secret")), Ok(None)));
    assert!(matches!(sign_in(&bed, &password("guess")), Err(LoginError::Refused { .. })));
    assert!(matches!(sign_in(&bed, &Credentials::Anonymous), Err(LoginError::Refused { .. })));
}

/// Pushes to a registry with a script; what came of it, and what it was asked.
fn told(
    archive: &[u8],
    script: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static,
) -> (Result<Descriptor, Error>, Vec<Seen>) {
    let bed = Bed::new();
    let target = bed.load(archive);
    let registry = Registry::serve(&[], script);
    let name = format!("{}/web:1", registry.name());
    let pushed = bed.push(&name, &target);
    if pushed.is_ok() {
        assert_eq!(bed.pulled(&name, &Credentials::Anonymous), bed.layers(&target), "it came as it is");
    }
    (pushed, registry.seen())
}

fn is_data(seen: &Seen) -> bool {
    seen.path.contains("/blobs/uploads/") && seen.bytes.len() > 1000
}

#[test]
fn troubles_that_pass() {
    for archive in [image().docker_archive("web:1"), image().oci_layout("web:1")] {
        let (pushed, _) = told(&archive, |_| None);
        pushed.expect("an honest registry");
        // It is too busy, for each of its addresses once.
        let (pushed, _) = told(&archive, |seen| {
            (seen.before == 0 && seen.path != "/v2/").then(|| Answer::new(503, "").header("Retry-After", "0"))
        });
        pushed.expect("it is tried again");
        // It takes no large bodies.
        let (pushed, seen) = told(&archive, |seen| (seen.bytes.len() > 9 << 20).then(|| Answer::new(413, "")));
        pushed.expect("it is sent in pieces");
        assert!(seen.iter().all(|seen| seen.bytes.len() < 10 << 20));
    }
}

#[test]
fn an_upload_goes_on_where_the_registry_got() {
    // It loses the connection after it has taken a part, and says how much that is when asked.
    let archive = Image::new().layer(Layer::new().file("b", 0o644, noise(3_000_000))).docker_archive("web:1");
    let lost = Mutex::new(false);
    let (pushed, seen) = told(&archive, move |seen| {
        let mut lost = lost.lock().expect("no panic");
        let piece = seen.headers.contains_key("content-range");
        if is_data(seen) && !piece {
            return Some(Answer::new(413, ""));
        }
        let again = piece && !*lost && seen.headers["content-range"].starts_with("8");
        *lost |= again;
        again.then(|| Answer::new(502, ""))
    });
    pushed.expect("it goes on");
    assert!(
        seen.iter().any(|seen| seen.method == "GET" && seen.path.contains("/blobs/uploads/")),
        "it asked how far it is"
    );
    let starts: Vec<_> = seen.iter().filter_map(|seen| seen.headers.get("content-range")).collect();
    assert_eq!(starts.iter().filter(|range| range.starts_with("0-")).count(), 1, "it did not begin anew: {starts:?}");
}

#[test]
fn lies() {
    let archives = [image().docker_archive("web:1"), image().oci_layout("web:1")];
    let fails = |said: &str, script: fn(&Seen) -> Option<Answer>| {
        for archive in &archives {
            let (pushed, seen) = told(archive, script);
            let error = pushed.expect_err(said).to_string();
            assert!(error.contains(said), "{error:?} does not say {said:?}");
            assert!(seen.len() < 200, "it is not tried without end: {}", seen.len());
        }
    };
    fails("begins an upload nowhere", |seen| (seen.method == "POST").then(|| Answer::new(202, "")));
    fails("malformed", |seen| (seen.method == "POST").then(|| Answer::new(202, "").header("Location", "http://[")));
    fails("not https", |seen| {
        (seen.method == "POST").then(|| Answer::new(202, "").header("Location", "file:///etc/passwd"))
    });
    // Uploads that never end.
    fails("does not finish", |seen| {
        (seen.method == "PUT" && !seen.path.contains("manifests"))
            .then(|| Answer::new(202, "").header("Location", seen.path.clone()))
    });
    fails("other bytes", |seen| match seen.method.as_str() {
        "PATCH" => Some(Answer::new(202, "").header("Location", seen.path.clone()).header("Range", "0-7")),
        "PUT" if seen.bytes.len() > 1000 => Some(Answer::new(413, "")),
        _ => None,
    });
    fails("calls a blob otherwise", |seen| {
        (seen.method == "PUT" && seen.path.contains("/blobs/"))
            .then(|| Answer::new(201, "").header("Docker-Content-Digest", format!("sha256:{}", "0".repeat(64))))
    });
    fails("digest", |seen| {
        (seen.method == "PUT" && seen.path.contains("/manifests/"))
            .then(|| Answer::new(201, "").header("Docker-Content-Digest", format!("sha256:{}", "0".repeat(64))))
    });
    fails("redirects what is sent", |seen| {
        (is_data(seen)).then(|| Answer::new(307, "").header("Location", seen.path.clone()))
    });
    fails("denies access", |seen| (seen.method == "POST").then(|| Answer::new(403, "")));
    fails("429", |seen| (seen.method == "POST").then(|| Answer::new(429, "").header("Retry-After", "0")));
}

#[test]
fn a_registry_that_claims_to_have_more_than_there_is() {
    for archive in [image().docker_archive("web:1"), image().oci_layout("web:1")] {
        let (pushed, seen) =
            told(&archive, |seen| match (seen.method.as_str(), seen.path.contains("/blobs/uploads/")) {
                ("GET", true) => Some(Answer::new(204, "").header("Range", "0-99999999999")),
                ("PUT" | "PATCH", true) => Some(Answer::new(503, "").header("Retry-After", "0")),
                _ => None,
            });
        let error = pushed.expect_err("it cannot go well").to_string();
        assert!(error.contains("503") || error.contains("has more of a blob than there is"), "{error}");
        assert!(seen.len() < 200, "it is not tried without end: {}", seen.len());
    }
}

#[test]
fn credentials_stay_where_they_are_for() {
    let elsewhere = Registry::serve(&[], |seen| {
        Some(Answer::new(if seen.method == "PUT" { 201 } else { 202 }, "").header("Location", seen.path.clone()))
    });
    let target = format!("http://{}/upload", elsewhere.name());
    let registry = Registry::serve(&[], move |seen| {
        if seen.headers.get("authorization").is_none_or(|value| value != "Basic YTpi") {
            return Some(Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""));
        }
        (seen.method == "POST").then(|| Answer::new(202, "").header("Location", target.clone()))
    });
    let bed = Bed::new();
    let credentials = Credentials::Password { username: "a".to_owned(), password: "b".to_owned() };
    for archive in [image().docker_archive("web:1"), image().oci_layout("web:1")] {
        let image = bed.load(&archive);
        bed.push_as(&format!("{}/web:1", registry.name()), &image, &credentials).expect("it is pushed");
    }
    assert!(elsewhere.seen().len() >= 6, "the blobs went there");
    assert!(elsewhere.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[test]
fn tokens_ask_for_what_is_done() {
    let registry = Registry::serve(&[], |seen| {
        let host = &seen.headers["host"];
        if seen.path.starts_with("/token") {
            let known = seen.headers.get("authorization").is_some_and(|value| value == "Basic YTpi");
            return Some(Answer::new(if known { 200 } else { 401 }, r#"{"token":"sesame","refresh_token":"again"}"#));
        }
        let header = format!("Bearer realm=\"http://{host}/token\",service=\"here\"");
        let known = seen.headers.get("authorization").is_some_and(|value| value == "Bearer sesame");
        (!known).then(|| Answer::new(401, "").header("WWW-Authenticate", header))
    });
    let bed = Bed::new();
    let image = bed.load(&image().docker_archive("web:1"));
    let password = |password: &str| Credentials::Password { username: "a".to_owned(), password: password.to_owned() };
    bed.push_as(&format!("{}/team/web:1", registry.name()), &image, &password("b")).expect("it is pushed");
    let asked = registry.seen().into_iter().find(|seen| seen.path.starts_with("/token")).expect("it asked");
    assert!(asked.path.contains("scope=repository%3Ateam%2Fweb%3Apull%2Cpush"), "{}", asked.path);
    let sign_in = |secret: &str| bed.runtime.block_on(login(&bed.registries, &registry.name(), &password(secret)));
    assert!(matches!(sign_in("b"), Ok(Some(token)) if token == "again"));
    assert!(
        registry.seen().iter().any(|seen| seen.path.contains("offline_token=true") && !seen.path.contains("scope="))
    );
    assert!(matches!(sign_in("c"), Err(LoginError::Refused { .. })));
}

#[test]
fn what_is_not_here_is_not_pushed() {
    let bed = Bed::new();
    let registry = Registry::serve(&[], |_| None);
    let nothing = Descriptor::of_bytes("application/vnd.oci.image.manifest.v1+json", b"{}");
    let error = bed.push(&format!("{}/web:1", registry.name()), &nothing).expect_err("it is not here");
    assert!(matches!(error, Error::Store { source: atoll_store::Error::MissingBlob(_), .. }), "{error}");
    assert!(!Path::new("/nonexistent").exists());
}
