//! Registries through the stock `docker` client and through `atoll`: pushing, logging in, looking, mirrors, proxies, and what is
//! taken away of images afterwards.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use atoll_testkit::{Distribution, Image, Layer, TempHost, make_certificates, own_name, require_programs};
use support::stock::{ok, run};
use support::{IMAGE, archive, atoll, docker, finish};

/// A host with the image, where the stock client and Debian's registry are there too.
fn host() -> Option<TempHost> {
    require_programs(&["docker-registry", "htpasswd", "openssl"]).then(support::stock::host).flatten()
}

/// A request as no client makes it: status and body.
fn raw(host: &TempHost, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = std::os::unix::net::UnixStream::connect(host.socket()).expect("the socket answers");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// Starts the daemon again with a configuration and further environment.
fn reconfigure(host: &mut TempHost, text: &str, environment: &[(&str, &str)]) {
    let file = host.root().with_file_name("config.toml");
    std::fs::write(&file, text).expect("it is written");
    host.kill_daemon().expect("it ran");
    let file = file.display().to_string();
    host.start_daemon_with(&["--config", &file], environment).expect("it starts again");
}

#[test]
fn images_are_pushed_and_come_back() {
    let Some(host) = host() else { return };
    let folder = atoll_testkit::tempdir();
    let registry = Distribution::start(folder.path(), "");
    let name = format!("127.0.0.1:{}/team/busybox", registry.port());
    let tagged = format!("{name}:1");
    ok(&host, &["tag", IMAGE, &tagged]);
    let said = ok(&host, &["push", &tagged]);
    assert!(said.contains(&format!("The push refers to repository [{name}]")), "{said}");
    assert!(said.contains(": Preparing") && said.contains(": Pushed"), "{said}");
    let last = said.lines().next_back().expect("a last line");
    assert!(last.starts_with("1: digest: sha256:") && last.contains(" size: "), "{last}");
    let digest = last.split(' ').nth(2).expect("a digest").to_owned();
    // Again: nothing travels, and the digest is the same.
    let said = ok(&host, &["push", &tagged]);
    assert!(said.contains(": Layer already exists") && said.contains(&digest) && !said.contains("Pushed"), "{said}");
    assert_eq!(ok(&host, &["push", "-q", &tagged]), tagged);
    // The digest that it has there is known here.
    assert!(ok(&host, &["inspect", "-f", "{{.RepoDigests}}", IMAGE]).contains(&format!("{name}@{digest}")));
    assert!(ok(&host, &["images", "--digests", &name]).contains(&digest));
    let id = ok(&host, &["inspect", "-f", "{{.Id}}", IMAGE]);
    assert_eq!(ok(&host, &["inspect", "-f", "{{.Id}}", &format!("{name}@{digest}")]), id);
    // It comes back as the same image, and is one.
    ok(&host, &["pull", &tagged]);
    assert_eq!(ok(&host, &["inspect", "-f", "{{.Id}}", &tagged]), id);
    assert_eq!(ok(&host, &["images", "-q", "--no-trunc"]).lines().filter(|line| **line == id).count(), 2);
    ok(&host, &["rmi", &tagged]);
    assert!(!ok(&host, &["inspect", "-f", "{{.RepoDigests}}", IMAGE]).contains(&name), "nothing of that name is left");
    ok(&host, &["rmi", IMAGE]);
    assert_eq!(ok(&host, &["run", "--rm", &tagged, "echo", "well"]), "well");
    // All tags, by both clients.
    for tag in ["2", "3"] {
        ok(&host, &["tag", &tagged, &format!("{name}:{tag}")]);
    }
    let said = ok(&host, &["push", "-a", &name]);
    assert!(["1: digest", "2: digest", "3: digest"].iter().all(|tag| said.contains(tag)), "{said}");
    assert_eq!(host.ok(&["push", "-a", &name]).lines().count(), 3);
    assert_eq!(host.ok(&["push", &tagged]), format!("{name}@{digest}"));
    // What is not here.
    let none = run(&host, &["push", &format!("{name}:9")]);
    assert!(none.code == Some(1) && none.err.contains(&format!("tag does not exist: {name}:9")), "{none:?}");
    let none = run(&host, &["push", "-a", &format!("{name}/none")]);
    assert!(none.err.contains("An image does not exist locally with the tag"), "{none:?}");
    let nobody = "127.0.0.1:1/x:1";
    ok(&host, &["tag", &tagged, nobody]);
    let nobody = run(&host, &["push", nobody]);
    assert!(nobody.code == Some(1) && nobody.err.contains("cannot be reached"), "{nobody:?}");
}

#[test]
fn logins_are_tried_and_kept() {
    let Some(host) = host() else { return };
    let folder = atoll_testkit::tempdir();
    let users = folder.path().join("users").display().to_string();
    let made =
        std::process::Command::new("htpasswd").args(["-Bbc", &users, "web", "secret"]).output().expect("htpasswd");
    assert!(made.status.success());
    let more = format!("http: {{addr: 127.0.0.1:PORT}}\nauth: {{htpasswd: {{realm: here, path: {users}}}}}\n");
    let registry = Distribution::start(folder.path(), &more);
    let server = format!("127.0.0.1:{}", registry.port());
    let tagged = format!("{server}/web:1");
    ok(&host, &["tag", IMAGE, &tagged]);
    let denied = run(&host, &["push", &tagged]);
    assert!(denied.code == Some(1) && denied.err.contains("denies access"), "{denied:?}");
    // The stock client.
    let wrong = finish(docker(&host, &["login", "-u", "web", "--password-stdin", &server]), "guess");
    assert!(wrong.code == Some(1) && wrong.err.contains("401 Unauthorized"), "{wrong:?}");
    let right = finish(docker(&host, &["login", "-u", "web", "--password-stdin", &server]), "secret").ok();
    assert!(right.contains("Login Succeeded"), "{right}");
    ok(&host, &["push", &tagged]);
    ok(&host, &["logout", &server]);
    assert_eq!(run(&host, &["push", &tagged]).code, Some(1));
    // Ours, into a file that holds other things.
    let config = folder.path().join("docker/config.json");
    std::fs::create_dir(config.parent().expect("a folder")).expect("a folder");
    std::fs::write(&config, r#"{"HttpHeaders":{"X":"y"},"auths":{"other.example":{"auth":"YTpi"}}}"#).expect("written");
    let own = |arguments: &[&str], input: &str, path: &str| {
        let mut command = atoll(&host, arguments);
        command.env("DOCKER_CONFIG", config.parent().expect("a folder")).env("PATH", path);
        finish(command, input)
    };
    let path = std::env::var("PATH").expect("a path");
    let login = ["login", "-u", "web", "--password-stdin", &server];
    assert!(own(&login, "guess", &path).err.contains("401 Unauthorized"));
    assert!(own(&login, "secret\n", &path).ok().contains("Login Succeeded"));
    assert_eq!(std::fs::metadata(&config).expect("the file").permissions().mode() & 0o777, 0o600);
    let kept = std::fs::read_to_string(&config).expect("the file");
    assert!(kept.contains("other.example") && kept.contains("HttpHeaders") && kept.contains(&server), "{kept}");
    assert!(own(&["login", &server], "", &path).ok().contains("Login Succeeded"), "what is kept is tried");
    own(&["push", "-q", &tagged], "", &path).ok();
    assert!(own(&["logout", &server], "", &path).ok().contains("Removing"));
    assert!(own(&["logout", &server], "", &path).ok().contains("Not logged in"));
    assert!(!std::fs::read_to_string(&config).expect("the file").contains(&server));
    assert!(own(&["push", &tagged], "", &path).err.contains("denies access"));
    // A helper keeps it, and the file says only that.
    let helper = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\ncase $1 in\nstore) cat > kept ;;\nerase) rm kept ;;\n\
        get) test -f kept && cat kept || { echo credentials not found in native keychain; exit 1; } ;;\nesac\n";
    let program = folder.path().join("docker-credential-test");
    std::fs::write(&program, helper).expect("it is written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it may run");
    std::fs::write(&config, r#"{"credsStore":"test"}"#).expect("it is written");
    let with_helper = format!("{}:{path}", folder.path().display());
    own(&login, "secret", &with_helper).ok();
    let kept = std::fs::read_to_string(&config).expect("the file");
    assert!(kept.contains(&server) && !kept.contains("auth\""), "{kept}");
    own(&["push", "-q", &tagged], "", &with_helper).ok();
    own(&["logout", &server], "", &with_helper).ok();
    assert!(own(&["push", &tagged], "", &with_helper).err.contains("denies access"));
}

#[test]
fn registries_are_looked_at() {
    let Some(host) = host() else { return };
    let folder = atoll_testkit::tempdir();
    let registry = Distribution::start(folder.path(), "");
    let name = format!("127.0.0.1:{}/web:1", registry.port());
    ok(&host, &["tag", IMAGE, &name]);
    let pushed = ok(&host, &["push", &name]);
    let (status, body) = raw(&host, "GET", &format!("/distribution/{name}/json"), "");
    let digest = pushed.lines().next_back().and_then(|line| line.split(' ').nth(2)).expect("a digest");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(digest) && body.contains(r#""os":"linux""#), "{body}");
    let (status, body) = raw(&host, "GET", &format!("/distribution/{name}2/json"), "");
    assert!(status == 404 && body.contains("is not on registry"), "{status} {body}");
    assert_eq!(raw(&host, "GET", "/distribution/UPPER/json", "").0, 400);
    let search = run(&host, &["search", "busybox"]);
    assert!(search.code == Some(1) && search.err.contains("searching is not supported"), "{search:?}");
    let auth = |body: &str| raw(&host, "POST", "/auth", body);
    let server = format!(r#"{{"username":"a","password":"b","serveraddress":"127.0.0.1:{}"}}"#, registry.port());
    let (status, body) = auth(&server);
    assert_eq!((status, body.as_str()), (200, r#"{"Status":"Login Succeeded","IdentityToken":""}"#));
    assert_eq!(auth(r#"{"username":"a","password":"b","serveraddress":"127.0.0.1:1"}"#).0, 500);
}

#[test]
fn images_are_filtered_and_pruned() {
    let Some(host) = host() else { return };
    let old = Image::new()
        .layer(Layer::new().file("old", 0o644, vec![1; 100_000]))
        .config("Labels", serde_json::json!({"a": "b"}));
    let load = |image: &Image, name: &str| {
        let file = host.root().with_file_name("image.tar");
        std::fs::write(&file, image.docker_archive(name)).expect("it is written");
        ok(&host, &["load", "-i", &file.display().to_string()]);
    };
    load(&old, "old:1");
    let id = ok(&host, &["inspect", "-f", "{{.Id}}", "old:1"]);
    load(&Image::new().layer(Layer::new().file("new", 0o644, "new")), "old:1");
    let list = |filter: &str| ok(&host, &["images", "-q", "--no-trunc", "--filter", filter]);
    assert_eq!(list("dangling=true"), id);
    assert_eq!(list("label=a=b"), id);
    assert_eq!(list("dangling=false").lines().count(), 2);
    assert_eq!(list("reference=old").lines().count(), 1);
    assert_eq!(list("reference=ol*:1").lines().count(), 1);
    assert_eq!(list("until=1h").lines().count(), 3, "they are of 2020");
    assert_eq!(list("until=2019-01-01T00:00:00Z"), "");
    assert_eq!(list(&format!("before={IMAGE}")), "", "they are of the same second");
    let refused = |filter: &str| run(&host, &["images", "--filter", filter]).err;
    assert!(refused("before=nobody").contains("No such image"));
    assert!(refused("dangling=maybe").contains("invalid filter 'dangling=maybe'"));
    assert!(refused("colour=red").contains("invalid filter 'colour'"));
    // Nothing that is younger, labelled otherwise, named or used goes.
    let prune = |arguments: &[&str]| ok(&host, &[&["image", "prune", "-f"], arguments].concat());
    assert!(prune(&["--filter", "label!=a"]).ends_with("Total reclaimed space: 0B"));
    assert!(prune(&["--filter", "until=2019-01-01T00:00:00Z"]).ends_with("Total reclaimed space: 0B"));
    let said = prune(&[]);
    assert!(said.contains(&format!("deleted: {id}")) && !said.ends_with(": 0B"), "{said}");
    assert_eq!(list("dangling=true"), "");
    ok(&host, &["create", "--name", "user", IMAGE, "true"]);
    let said = prune(&["-a"]);
    assert!(said.contains("untagged: old:1"), "{said}");
    assert_eq!(ok(&host, &["images", "--format", "{{.Repository}}:{{.Tag}}"]), IMAGE);
    ok(&host, &["rm", "user"]);
    assert!(host.ok(&["image", "prune", "-af"]).contains(&format!("Untagged: {IMAGE}")));
    assert_eq!(ok(&host, &["images", "-q"]), "");
    let blobs = std::fs::read_dir(host.root().join("store/blobs/sha256")).expect("a folder").count();
    assert_eq!(blobs, 0, "nothing is left");
    ok(&host, &["load", "-i", &archive(&host)]);
}

#[test]
fn mirrors_come_first_and_are_shown_no_credentials() {
    let Some(mut host) = host() else { return };
    let image = Image::new().layer(Layer::new().file("x", 0o644, "x")).config("Cmd", vec!["/x"]).published();
    let mirror = atoll_testkit::Registry::serve(&[("1", &image)], |_| None);
    let origin = atoll_testkit::Registry::serve(&[("1", &image), ("2", &image)], |_| None);
    let config = format!("[registry.mirrors]\n'{}' = ['127.0.0.1:1', '{}']\n", origin.name(), mirror.name());
    reconfigure(&mut host, &config, &[]);
    let folder = host.root().with_file_name("docker");
    std::fs::create_dir_all(&folder).expect("a folder");
    let auths =
        format!(r#"{{"auths": {{"{}": {{"auth": "dTpw"}}, "{}": {{"auth": "dTpw"}}}}}}"#, origin.name(), mirror.name());
    std::fs::write(folder.join("config.json"), auths).expect("it is written");
    let name = |tag: &str| format!("{}/team/web:{tag}", origin.name());
    ok(&host, &["pull", &name("1")]);
    assert!(origin.seen().is_empty(), "the mirror has it: {:?}", origin.seen());
    assert!(mirror.seen().len() >= 3 && mirror.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
    ok(&host, &["pull", &name("2")]);
    assert!(!origin.seen().is_empty(), "the mirror lacks it");
    assert_eq!(ok(&host, &["images", "-q", &name("2")]), ok(&host, &["images", "-q", &name("1")]));
}

/// A proxy that leads every connection to one place (RFC 9110, section 9.3.6, and absolute addresses); what it was asked.
fn proxy(to: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let log = Arc::clone(&log);
            // A connection that breaks off is the test's business.
            std::thread::spawn(move || drop(lead(&client, to, &log)));
        }
    });
    (port, asked)
}

fn lead(client: &TcpStream, to: u16, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line);
    }
    let Some(first) = lines.first().cloned() else { return Ok(()) };
    log.lock().expect("no panic").push(first.trim().to_owned());
    let mut server = TcpStream::connect(("127.0.0.1", to))?;
    if first.starts_with("CONNECT ") {
        let mut client = client;
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    } else {
        // One request a connection: the registry is asked for the path alone.
        let path = first.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
        let method = first.split(' ').next().unwrap_or_default().to_owned();
        lines[0] = format!("{method} /{path}");
        server.write_all((lines.concat() + "Connection: close\r\n\r\n").as_bytes())?;
    }
    let mut back = (server.try_clone()?, client.try_clone()?);
    let returning = std::thread::spawn(move || {
        drop(std::io::copy(&mut back.0, &mut back.1));
        back.1.shutdown(std::net::Shutdown::Both)
    });
    std::io::copy(&mut reader, &mut server)?;
    drop(server.shutdown(std::net::Shutdown::Write));
    drop(returning.join());
    Ok(())
}

#[test]
fn proxies_and_own_authorities() {
    let Some(mut host) = host() else { return };
    let Some(name) = own_name() else { return };
    let folder = atoll_testkit::tempdir();
    // TLS with an authority of our own, through a proxy, under a name that leads nowhere.
    make_certificates(folder.path(), "registry.invalid");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let more = format!(
        "http: {{addr: 127.0.0.1:PORT, tls: {{certificate: {}, key: {}}}}}\n",
        path("server.crt"),
        path("key.pem")
    );
    let registry = Distribution::start(folder.path(), &more);
    let (port, asked) = proxy(registry.port());
    let certificates: PathBuf = folder.path().join("certs.d");
    std::fs::create_dir_all(certificates.join("registry.invalid")).expect("a folder");
    std::fs::copy(path("ca.crt"), certificates.join("registry.invalid/ca.crt")).expect("it is copied");
    let config = format!("[registry]\ncertificates = '{}'\n", certificates.display());
    let address = format!("http://127.0.0.1:{port}");
    reconfigure(&mut host, &config, &[("HTTPS_PROXY", &address), ("NO_PROXY", &name)]);
    ok(&host, &["tag", IMAGE, "registry.invalid/web:1"]);
    ok(&host, &["push", "registry.invalid/web:1"]);
    assert!(asked.lock().expect("no panic").iter().all(|line| line.starts_with("CONNECT registry.invalid:443 ")));
    assert!(!asked.lock().expect("no panic").is_empty());
    // What NO_PROXY names, and what is on this host, is not asked there.
    let before = asked.lock().expect("no panic").len();
    for nobody in [format!("{name}:1/web:1"), "127.0.0.1:1/web:1".to_owned()] {
        assert_eq!(run(&host, &["pull", &nobody]).code, Some(1));
    }
    assert_eq!(asked.lock().expect("no panic").len(), before);
    // Plain HTTP, where that is allowed.
    let plain = atoll_testkit::tempdir();
    let registry = Distribution::start(plain.path(), "");
    let (port, asked) = proxy(registry.port());
    let address = format!("http://127.0.0.1:{port}");
    reconfigure(&mut host, "[registry]\ninsecure = ['plain.invalid']\n", &[("HTTP_PROXY", &address)]);
    ok(&host, &["tag", IMAGE, "plain.invalid/web:1"]);
    ok(&host, &["push", "plain.invalid/web:1"]);
    ok(&host, &["pull", "plain.invalid/web:1"]);
    assert!(
        asked
            .lock()
            .expect("no panic")
            .iter()
            .any(|line| line.starts_with("PUT http://plain.invalid/v2/web/manifests/1"))
    );
    assert!(Path::new(&path("ca.crt")).exists());
}

#[test]
fn attestations_are_shown_and_travel_along() {
    let Some(host) = host() else { return };
    // Its configuration is that of the image which is attested: they would be one.
    ok(&host, &["rmi", IMAGE]);
    let image = support::busybox().expect("the host has it").published();
    let blob = |text: String| (format!("sha256:{}", sha256(text.as_bytes())), text.into_bytes());
    let statement = blob(r#"{"_type":"https://in-toto.io/Statement/v0.1"}"#.to_owned());
    let config = blob(
        r#"{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#.to_owned(),
    );
    let described = |kind: &str, blob: &(String, Vec<u8>)| serde_json::json!({"mediaType": kind, "digest": blob.0, "size": blob.1.len()});
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let attestation = blob(
        serde_json::json!({"schemaVersion": 2, "mediaType": manifest_type,
            "config": described("application/vnd.oci.image.config.v1+json", &config),
            "layers": [described("application/vnd.in-toto+json", &statement)]})
        .to_string(),
    );
    let mut entry = image.manifest.clone();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
    let mut about = described(manifest_type, &attestation);
    about["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
    about["annotations"] = serde_json::json!({"vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image.manifest["digest"]});
    let index_type = "application/vnd.oci.image.index.v1+json";
    let index =
        blob(serde_json::json!({"schemaVersion": 2, "mediaType": index_type, "manifests": [entry, about]}).to_string());
    let folder = atoll_testkit::tempdir();
    let registry = Distribution::start(folder.path(), "");
    let name = format!("127.0.0.1:{}/attested:1", registry.port());
    let mut named = described(index_type, &index);
    named["annotations"] = serde_json::json!({"io.containerd.image.name": name});
    let top = serde_json::json!({"schemaVersion": 2, "mediaType": index_type, "manifests": [named]});
    let mut archive = Layer::new().file("oci-layout", 0o644, r#"{"imageLayoutVersion":"1.0.0"}"#);
    for (digest, content) in
        image.blobs.clone().into_iter().chain([statement, config, attestation.clone(), index.clone()])
    {
        archive = archive.file(&format!("blobs/{}", digest.replace(':', "/")), 0o644, content);
    }
    let file = host.root().with_file_name("attested.tar");
    std::fs::write(&file, archive.file("index.json", 0o644, top.to_string()).tar()).expect("it is written");
    ok(&host, &["load", "-i", &file.display().to_string()]);
    let tree = ok(&host, &["image", "ls", "--tree", &name]);
    assert!(tree.contains(&format!("linux/{architecture}")), "{tree}");
    let (status, body) = raw(&host, "GET", "/v1.47/images/json?manifests=1", "");
    let list: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, 200);
    let of = |name: &str| {
        list.as_array().expect("a list").iter().find(|image| image["RepoTags"][0] == name).expect("it is there").clone()
    };
    let manifests = of(&name)["Manifests"].as_array().expect("a list").clone();
    let kinds: Vec<_> =
        manifests.iter().map(|manifest| (manifest["Kind"].as_str(), manifest["Available"].as_bool())).collect();
    assert_eq!(kinds, [(Some("image"), Some(true)), (Some("attestation"), Some(true))]);
    assert_eq!(manifests[1]["AttestationData"]["For"], image.manifest["digest"]);
    // It is pushed as it is, index and all.
    let said = ok(&host, &["push", &name]);
    assert!(said.contains(&index.0), "{said}");
    let (_, body) = raw(&host, "GET", &format!("/distribution/{name}/json"), "");
    assert!(body.contains(&index.0) && body.contains("unknown"), "{body}");
    let (_, body) =
        raw(&host, "GET", &format!("/distribution/{}@{}/json", name.trim_end_matches(":1"), attestation.0), "");
    assert!(body.contains(&attestation.0), "{body}");
    // Or one platform's image alone.
    let said = ok(&host, &["push", "--platform", &format!("linux/{architecture}"), &name]);
    assert!(said.contains(image.manifest["digest"].as_str().expect("a digest")), "{said}");
}

fn sha256(bytes: &[u8]) -> String {
    atoll_oci::Digest::sha256(bytes).hex().to_owned()
}

#[test]
fn an_image_of_127_layers_runs() {
    let Some(host) = host() else { return };
    let folder = atoll_testkit::tempdir();
    let registry = Distribution::start(folder.path(), "");
    let name = format!("127.0.0.1:{}/many:1", registry.port());
    let mut image = support::busybox().expect("the host has it");
    for number in 1..127 {
        image = image.layer(Layer::new().file(&format!("layer/{number}"), 0o644, format!("{number}\n")));
    }
    let file = host.root().with_file_name("many.tar");
    std::fs::write(&file, image.docker_archive(&name)).expect("it is written");
    ok(&host, &["load", "-i", &file.display().to_string()]);
    ok(&host, &["push", "-q", &name]);
    ok(&host, &["rmi", &name]);
    ok(&host, &["pull", "-q", &name]);
    assert_eq!(ok(&host, &["inspect", "-f", "{{len .RootFS.Layers}}", &name]), "127");
    assert_eq!(ok(&host, &["run", "--rm", &name, "sh", "-c", "ls /layer | wc -l; cat /layer/126"]), "126\n126");
}
