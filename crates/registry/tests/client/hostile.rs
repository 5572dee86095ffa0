//! Pulling from a registry on the loopback that lies, hangs up and asks for things: the right error, and nothing left.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use atoll_oci::{Platform, Reference};
use atoll_registry::{Credentials, Error, Phase, Pulled, Registries, pull};
use atoll_store::Store;
use atoll_testkit::{Answer, Image, Layer, Published, Registry, Seen};
use serde_json::{Value, json};

use super::store;

struct Bed {
    folder: tempfile::TempDir,
    store: Store,
    runtime: tokio::runtime::Runtime,
    phases: Arc<Mutex<Vec<Phase>>>,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(folder.path());
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        Self { folder, store, runtime, phases: Arc::default() }
    }

    fn pull_as(&self, registry: &Registry, name: &str, credentials: &Credentials) -> Result<Pulled, Error> {
        let reference: Reference = format!("{}/{name}", registry.name()).parse().expect("a name");
        let registries = Registries { certificates: PathBuf::from("/nonexistent"), ..Registries::default() };
        let lease = Arc::new(self.store.lease("test").expect("a lease"));
        let phases = Arc::clone(&self.phases);
        let progress = move |_: &atoll_oci::Digest, phase| phases.lock().expect("no panic").push(phase);
        let platform = (&Platform::host(), false);
        let store = (&self.store, Arc::clone(&lease));
        let pulled = self.runtime.block_on(pull(&registries, store, &reference, platform, credentials, &progress))?;
        // What an engine does under the lease.
        self.store.link(&reference.to_string(), &pulled.target).expect("it is there");
        Ok(pulled)
    }

    fn pull(&self, registry: &Registry, name: &str) -> Result<Pulled, Error> {
        self.pull_as(registry, name, &Credentials::Anonymous)
    }

    /// Nothing is left once the lease is gone: no blob, no layer, no temporary file. What unpacks another layer notices a
    /// moment later that nobody feeds it any more.
    fn is_clean(&self) {
        let left = || {
            self.store.sweep(&[]).expect("it sweeps");
            let usage = self.store.usage().expect("it counts");
            let session = std::fs::read_dir(self.folder.path().join("store/tmp")).expect("a folder").flatten().next();
            let temporary = std::fs::read_dir(session.expect("the session's folder").path()).expect("a folder").count();
            (usage.blobs, usage.layers, usage.links, temporary)
        };
        for _ in 0..200 {
            if left() == (0, 0, 0, 0) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("blobs, layers, names and temporary files are left: {:?}", left());
    }
}

fn image() -> Published {
    let big: Vec<u8> = (0..300_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let lower = Layer::new().folder("bin").file("bin/true", 0o755, "#!").file("big", 0o644, big);
    Image::new()
        .layer(lower)
        .layer(Layer::new().file("etc/upper", 0o644, "above"))
        .config("Cmd", vec!["true"])
        .published()
}

/// The digest of the image's largest blob.
fn big(image: &Published) -> String {
    image.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).expect("it has blobs").0.clone()
}

fn is_blob(seen: &Seen) -> bool {
    seen.path.contains("/blobs/")
}

fn is_manifest(seen: &Seen) -> bool {
    seen.path.contains("/manifests/")
}

/// Pulls with a script that must make it fail, with an error that says so, and nothing left.
fn fails(said: &str, script: impl Fn(&Seen, &Published) -> Option<Answer> + Send + Sync + 'static) {
    let bed = Bed::new();
    let published = image();
    let known = published.clone();
    let registry = Registry::serve(&[("1", &published)], move |seen| script(seen, &known));
    let error = bed.pull(&registry, "web:1").expect_err(said);
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    assert!(text.contains(said), "{text:?} does not say {said:?}");
    bed.is_clean();
}

/// Pulls with a script that must not keep it from succeeding.
fn succeeds(script: impl Fn(&Seen, &Published) -> Option<Answer> + Send + Sync + 'static) -> Vec<Seen> {
    let bed = Bed::new();
    let published = image();
    let known = published.clone();
    let registry = Registry::serve(&[("1", &published)], move |seen| script(seen, &known));
    let pulled = bed.pull(&registry, "web:1").expect("it is pulled");
    let image = bed.store.image(&pulled.manifest.digest).expect("it is an image");
    assert_eq!(image.layers.len(), 2);
    assert_eq!(std::fs::read(image.layers[1].path.join("etc/upper")).expect("a file"), b"above");
    registry.seen()
}

#[test]
fn an_honest_registry() {
    let bed = Bed::new();
    let published = image();
    let registry = Registry::serve(&[("1", &published)], |_| None);
    let pulled = bed.pull(&registry, "web:1").expect("it is pulled");
    assert_eq!(pulled.target, pulled.manifest);
    let requests = registry.seen().len();
    assert!(bed.phases.lock().expect("no panic").contains(&Phase::Complete));
    bed.phases.lock().expect("no panic").clear();
    // A second time, by digest: no layer travels again.
    let again = bed.pull(&registry, &format!("web@{}", pulled.target.digest)).expect("it is pulled");
    assert_eq!(again, pulled);
    let blobs = registry.seen()[requests..].iter().filter(|seen| is_blob(seen)).count();
    assert_eq!(blobs, 1, "the configuration alone");
    let phases = bed.phases.lock().expect("no panic").clone();
    assert_eq!(phases.iter().filter(|phase| **phase == Phase::Exists).count(), 2);
    assert!(matches!(bed.pull(&registry, "web:2"), Err(Error::NotFound { .. })));
}

#[test]
fn an_index_is_searched_for_the_platform() {
    let bed = Bed::new();
    let mut published = image();
    let index = |platform: &str, entry: &Value| {
        let mut entry = entry.clone();
        entry["platform"] = json!({"os": "linux", "architecture": platform});
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]})
    };
    let inner = published.manifest.clone();
    let serve = |published: &Published, index: &Value| {
        let text = index.to_string();
        Registry::serve(&[("1", published)], move |seen| {
            let answer =
                || Answer::new(200, text.clone()).header("Content-Type", "application/vnd.oci.image.index.v1+json");
            seen.path.ends_with("/manifests/list").then(answer)
        })
    };
    let host = Platform::host().architecture;
    let registry = serve(&published, &index(&host, &inner));
    let pulled = bed.pull(&registry, "web:list").expect("it is pulled");
    assert_ne!(pulled.target, pulled.manifest);
    assert_eq!(
        bed.store.select(&pulled.target, &Platform::host()).expect("it is there").digest,
        pulled.manifest.digest
    );
    let registry = serve(&published, &index("s390x", &inner));
    let error = Bed::new().pull(&registry, "web:list").expect_err("another platform");
    assert!(error.to_string().contains("has no image for linux/"), "{error}");
    // An index whose entry has another digest than it says.
    published.manifest["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    let registry = serve(&image(), &index(&host, &published.manifest));
    assert!(matches!(Bed::new().pull(&registry, "web:list"), Err(Error::NotFound { .. })));
}

#[test]
fn lies_about_manifests() {
    fails("digest", |seen, _| {
        is_manifest(seen)
            .then(|| Answer::new(200, "{}").header("Docker-Content-Digest", format!("sha256:{}", "1".repeat(64))))
    });
    fails("limit", |seen, _| is_manifest(seen).then(|| Answer::new(200, vec![b' '; 5 << 20])));
    fails("limit", |seen, _| {
        is_manifest(seen).then(|| Answer { endless: true, ..Answer::new(200, vec![b' '; 1 << 16]) })
    });
    fails("cannot be read", |seen, _| is_manifest(seen).then(|| Answer::new(200, "<html>login</html>")));
    fails("schema 1", |seen, _| is_manifest(seen).then(|| Answer::new(200, r#"{"schemaVersion":1,"fsLayers":[]}"#)));
    fails("announced", |seen, known| {
        is_manifest(seen).then(|| {
            Answer::new(200, known.manifest_bytes()).header("Content-Type", "application/vnd.oci.image.index.v1+json")
        })
    });
    fails("both manifests and layers", |seen, _| {
        is_manifest(seen).then(|| Answer::new(200, r#"{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}"#))
    });
    let changed = |change: fn(&mut Value)| {
        move |seen: &Seen, known: &Published| {
            let mut manifest: Value = serde_json::from_slice(&known.manifest_bytes()).expect("JSON");
            change(&mut manifest);
            is_manifest(seen).then(|| Answer::new(200, manifest.to_string()))
        }
    };
    fails("must lie on the registry", changed(|m| m["layers"][0]["urls"] = json!(["http://169.254.169.254/"])));
    fails("kind", changed(|m| m["layers"][0]["mediaType"] = json!("application/vnd.oci.empty.v1+json")));
    fails("names 1 layers, its configuration 2", changed(|m| drop(m["layers"].as_array_mut().expect("a list").pop())));
    fails("limit", changed(|m| m["config"]["size"] = json!(1u64 << 40)));
    fails("stored", changed(|m| m["layers"][0]["size"] = json!(7)));
    fails("stored", changed(|m| m["layers"].as_array_mut().expect("a list").reverse()));
}

#[test]
fn lies_about_blobs() {
    fails("stored", |seen, _| is_blob(seen).then(|| Answer::new(200, "other content")));
    fails("stored", |seen, known| {
        seen.path.contains(&big(known)).then(|| Answer::new(200, known.blobs[&big(known)][1..].to_vec()))
    });
    fails("stored", |seen, known| {
        seen.path
            .contains(&big(known))
            .then(|| Answer { endless: true, ..Answer::new(200, known.blobs[&big(known)].clone()) })
    });
    fails("stored", |seen, known| seen.path.contains(&big(known)).then(|| Answer::new(200, "<html>")));
    fails("404", |seen, known| seen.path.contains(&big(known)).then(|| Answer::new(404, "")));
    // It hangs up each time before anything new has come.
    fails("cannot be reached", |seen, known| {
        seen.path
            .contains(&big(known))
            .then(|| Answer { hang_up_after: Some(0), ..Answer::new(200, known.blobs[&big(known)].clone()) })
    });
    fails("500", |seen, _| is_blob(seen).then(|| Answer::new(500, "")));
}

#[test]
fn troubles_that_pass() {
    let seen = succeeds(|seen, known| {
        (seen.path.contains(&big(known)) && seen.before == 0)
            .then(|| Answer { hang_up_after: Some(100_000), ..Answer::new(200, known.blobs[&big(known)].clone()) })
    });
    assert!(seen.iter().any(|seen| seen.headers.contains_key("range")), "it goes on where it was");
    // A server that knows no ranges.
    succeeds(|seen, known| {
        seen.path.contains(&big(known)).then(|| {
            let hang_up_after = (seen.before == 0).then_some(100_000);
            Answer { hang_up_after, ..Answer::new(200, known.blobs[&big(known)].clone()) }
        })
    });
    succeeds(|seen, _| (is_blob(seen) && seen.before < 2).then(|| Answer::new(503, "")));
    succeeds(|seen, _| {
        (is_manifest(seen) && seen.before == 0).then(|| Answer::new(429, "").header("Retry-After", "0"))
    });
}

#[test]
fn a_pull_goes_on_where_the_last_one_ended() {
    let big_layer: Vec<u8> =
        (0..1_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes()).collect();
    let published = Image::new().layer(Layer::new().file("big", 0o644, big_layer)).published();
    let known = published.clone();
    let dead = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_dead = Arc::clone(&dead);
    let half = published.blobs[&big(&published)].len() / 2;
    let registry = Registry::serve(&[("1", &published)], move |seen| {
        // It breaks off in the middle, and gives nothing more.
        let (is_big, dead) = (seen.path.contains(&big(&known)), is_dead.load(std::sync::atomic::Ordering::SeqCst));
        let hang_up_after = if seen.headers.contains_key("range") { 0 } else { half };
        (is_big && dead).then(|| Answer {
            hang_up_after: Some(hang_up_after),
            ..Answer::new(200, known.blobs[&big(&known)].clone())
        })
    });
    let bed = Bed::new();
    assert!(matches!(bed.pull(&registry, "web:1"), Err(Error::Unreachable { .. })));
    let kept = |bed: &Bed| {
        let entries = std::fs::read_dir(bed.folder.path().join("store/partial")).expect("a folder").flatten();
        entries.map(|entry| entry.metadata().expect("metadata").len()).collect::<Vec<_>>()
    };
    assert!(kept(&bed)[0] as usize <= half && kept(&bed)[0] > 1 << 20, "{:?}", kept(&bed));
    let length = kept(&bed)[0];
    dead.store(false, std::sync::atomic::Ordering::SeqCst);
    let before = registry.seen().len();
    let pulled = bed.pull(&registry, "web:1").expect("it goes on");
    bed.store.image(&pulled.manifest.digest).expect("an image");
    let ranges: Vec<_> =
        registry.seen()[before..].iter().filter_map(|seen| seen.headers.get("range").cloned()).collect();
    assert_eq!(ranges, [format!("bytes={length}-")]);
    assert_eq!(kept(&bed), [0u64; 0]);
    // What was kept is as hostile as a network.
    let digest = big(&published).replace(':', "-");
    let other = Bed::new();
    std::fs::write(other.folder.path().join("store/partial").join(&digest), vec![7; 2 << 20]).expect("it is written");
    let pulled = other.pull(&registry, "web:1").expect("it begins anew");
    other.store.image(&pulled.manifest.digest).expect("an image");
}

#[test]
fn redirects_carry_no_credentials() {
    let elsewhere = Registry::serve(&[("1", &image())], |_| None);
    let target = format!("http://{}", elsewhere.name());
    let published = image();
    let registry = Registry::serve(&[("1", &published)], move |seen| {
        if seen.headers.get("authorization").is_none_or(|value| value != "Basic YTpi") {
            return Some(Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""));
        }
        is_blob(seen).then(|| Answer::new(307, "").header("Location", format!("{target}{}", seen.path)))
    });
    let bed = Bed::new();
    let credentials = Credentials::Password { username: "a".to_owned(), password: "b".to_owned() };
    bed.pull_as(&registry, "web:1", &credentials).expect("it is pulled");
    assert!(elsewhere.seen().len() >= 3);
    assert!(elsewhere.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
    fails("too often", |seen, _| is_blob(seen).then(|| Answer::new(302, "").header("Location", seen.path.clone())));
    fails("not https", |seen, _| is_blob(seen).then(|| Answer::new(302, "").header("Location", "file:///etc/passwd")));
}

#[test]
fn tokens() {
    let denies = |seen: &Seen, header: String| {
        let known = seen.headers.get("authorization").is_some_and(|value| value == "Bearer sesame");
        (!known).then(|| Answer::new(401, "").header("WWW-Authenticate", header))
    };
    let script = move |seen: &Seen| {
        let host = &seen.headers["host"];
        match (seen.path.starts_with("/token"), seen.method.as_str()) {
            (true, "POST") => {
                let known = seen.body.contains("grant_type=refresh_token") && seen.body.contains("refresh_token=again");
                Some(Answer::new(if known { 200 } else { 401 }, r#"{"access_token":"sesame"}"#))
            }
            (true, _) => {
                let known = seen.headers.get("authorization").is_some_and(|value| value == "Basic YTpi");
                Some(Answer::new(if known { 200 } else { 401 }, r#"{"token":"sesame"}"#))
            }
            _ => denies(seen, format!("Bearer realm=\"http://{host}/token\",service=\"here\"")),
        }
    };
    let published = image();
    let serve = || Registry::serve(&[("1", &published)], script);
    let password = |password: &str| Credentials::Password { username: "a".to_owned(), password: password.to_owned() };
    let registry = serve();
    Bed::new().pull_as(&registry, "team/web:1", &password("b")).expect("it is pulled");
    let asked = registry.seen().into_iter().find(|seen| seen.path.starts_with("/token")).expect("it asked");
    assert!(asked.path.contains("scope=repository%3Ateam%2Fweb%3Apull") && asked.path.contains("service=here"));
    Bed::new().pull_as(&serve(), "web:1", &Credentials::IdentityToken("again".to_owned())).expect("it is pulled");
    Bed::new().pull_as(&serve(), "web:1", &Credentials::RegistryToken("sesame".to_owned())).expect("it is pulled");
    for wrong in [Credentials::Anonymous, password("c"), Credentials::IdentityToken("other".to_owned())] {
        let error = Bed::new().pull_as(&serve(), "web:1", &wrong).expect_err("no token");
        assert!(matches!(error, Error::Token { .. }), "{error}");
    }
    let wrong = Credentials::RegistryToken("other".to_owned());
    assert!(matches!(Bed::new().pull_as(&serve(), "web:1", &wrong), Err(Error::Denied { .. })));
    for header in ["Bearer realm=\"http://registry.example/token\"", "Bearer realm=\"ftp://x/\"", "Bearer realm=\"\""] {
        let registry = Registry::serve(&[("1", &published)], move |seen| denies(seen, header.to_owned()));
        let error = Bed::new().pull_as(&registry, "web:1", &password("b")).expect_err(header);
        assert!(matches!(error, Error::Token { .. }), "{error}");
    }
    let registry = Registry::serve(&[("1", &published)], move |seen| denies(seen, "garbage \"".to_owned()));
    assert!(matches!(Bed::new().pull(&registry, "web:1"), Err(Error::Denied { .. })));
}

#[test]
fn nobody_is_there() {
    let reference: Reference = "127.0.0.1:1/web".parse().expect("a name");
    let bed = Bed::new();
    let lease = Arc::new(bed.store.lease("test").expect("a lease"));
    let registries = Registries::default();
    let platform = (&Platform::host(), false);
    let work = pull(&registries, (&bed.store, lease), &reference, platform, &Credentials::Anonymous, &|_, _| {});
    assert!(matches!(bed.runtime.block_on(work), Err(Error::Unreachable { .. })));
}
