//! Files in and out of containers and images by the stock `docker` client: `cp`, `export`, `diff`, `commit`, `import`, `save`.

mod support;

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use atoll_testkit::{Image, Layer, TempHost};
use support::stock::{host, ok, run};
use support::{IMAGE, docker, finish, until};

/// Says what is wrong, and does nothing.
#[track_caller]
fn refused(host: &TempHost, arguments: &[&str], why: &str) {
    let ran = run(host, arguments);
    assert!(ran.code != Some(0) && ran.err.contains(why), "{arguments:?}: {ran:?}");
}

/// A folder beside the host's state.
fn beside(host: &TempHost, name: &str) -> PathBuf {
    let folder = host.root().with_file_name(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn text(path: impl AsRef<std::path::Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// The output of a command as bytes.
fn bytes(mut command: Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The names in an archive, by tar.
fn names(archive: &[u8]) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), archive).expect("written");
    let mut command = Command::new("tar");
    command.arg("-tf").arg(file.path());
    String::from_utf8(bytes(command)).expect("text").lines().map(str::to_owned).collect()
}

/// Runs `check` on a container in each state in which files can be copied: never started, running, paused, ended.
fn in_every_state(host: &TempHost, arguments: &[&str], check: impl Fn(&str, &str)) {
    for state in ["created", "running", "paused", "exited"] {
        let script = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
        let words = [&["create", "--name", state], arguments, &[IMAGE, "sh", "-c", script]].concat();
        ok(host, &words);
        if state != "created" {
            ok(host, &["start", state]);
        }
        match state {
            "paused" => drop(ok(host, &["pause", state])),
            "exited" => drop(ok(host, &["stop", state])),
            _ => {}
        }
        check(state, state);
        let is = ok(host, &["inspect", "-f", "{{.State.Status}}", state]);
        assert_eq!(is, state, "copying changes no state");
        ok(host, &["rm", "-f", state]);
    }
    until("nothing is left in the run folder", || {
        std::fs::read_dir(host.run().join("w")).map_or(0, std::iter::Iterator::count) == 0
    });
}

#[test]
fn files_are_copied_both_ways_in_every_state() {
    let Some(host) = host() else { return };
    let here = beside(&host, "here");
    std::fs::create_dir(here.join("tree")).expect("made");
    std::fs::write(here.join("tree/file"), "content").expect("written");
    std::fs::set_permissions(here.join("tree/file"), PermissionsExt::from_mode(0o640)).expect("set");
    symlink("file", here.join("tree/link")).expect("linked");
    let path = |name: &str| here.join(name).display().to_string();
    let bind = format!("{}:/bind", beside(&host, "bind").display());
    in_every_state(&host, &["-v", "data:/volume", "-v", &bind], |name, state| {
        let at = |path: &str| format!("{name}:{path}");
        for place in ["/tmp", "/volume", "/bind"] {
            ok(&host, &["cp", &path("tree"), &at(place)]);
            let back = here.join(format!("back-{state}{place}").replace('/', "-"));
            let back = back.display().to_string();
            ok(&host, &["cp", &at(&format!("{place}/tree")), &back]);
            assert_eq!(text(format!("{back}/link")), "content", "{state} {place}");
            let mode = std::fs::metadata(format!("{back}/file")).expect("there").mode() & 0o7777;
            assert_eq!(mode, 0o640, "{state} {place}");
        }
        assert_eq!(text(beside(&host, "bind").join("tree/file")), "content", "a bind is seen from both sides");
        // A file under another name, and over one that is there.
        ok(&host, &["cp", &path("tree/file"), &at("/tmp/renamed")]);
        std::fs::write(here.join("second"), state).expect("written");
        ok(&host, &["cp", &path("second"), &at("/tmp/renamed")]);
        ok(&host, &["cp", &at("/tmp/renamed"), &path("third")]);
        assert_eq!(text(here.join("third")), state);
        refused(&host, &["cp", &at("/nowhere"), &path("x")], "Could not find the file /nowhere in container");
        refused(&host, &["cp", &path("second"), &at("/no/where")], "Could not find the file /no in container");
    });
    ok(&host, &["volume", "rm", "data"]);
}

/// A container that has made files and links, and a folder here with a file `tree/one`.
fn with_files(host: &TempHost) -> PathBuf {
    let script = "mkdir -p /srv/real; echo yes > /srv/real/file; ln -s real /srv/link; ln -s /srv/real/file /abs; \
                  ln -s /nowhere /dangling; sleep 1000";
    ok(host, &["run", "-d", "--name", "web", IMAGE, "sh", "-c", script]);
    until("it has made its files", || run(host, &["exec", "web", "readlink", "/dangling"]).code == Some(0));
    let here = beside(host, "here");
    std::fs::create_dir(here.join("tree")).expect("made");
    std::fs::write(here.join("tree/one"), "1").expect("written");
    here
}

#[test]
fn streams_and_links_are_copied_as_the_client_expects() {
    let Some(host) = host() else { return };
    let here = with_files(&host);
    let path = |name: &str| here.join(name).display().to_string();
    // As a stream; with one, the client keeps the name of what a link leads to.
    let check = |arguments: &[&str], expected: &[&str]| {
        assert_eq!(names(&bytes(docker(&host, arguments))), expected, "{arguments:?}");
    };
    check(&["cp", "web:/srv", "-"], &["srv/", "srv/link", "srv/real/", "srv/real/file"]);
    check(&["cp", "web:/srv/.", "-"], &["./", "./link", "./real/", "./real/file"]);
    check(&["cp", "web:/srv/link", "-"], &["link"]);
    check(&["cp", "-L", "web:/srv/link", "-"], &["real/", "real/file"]);
    // A link as a link, and what it leads to.
    ok(&host, &["cp", "web:/abs", &path("abs")]);
    assert_eq!(std::fs::read_link(here.join("abs")).expect("a link"), PathBuf::from("/srv/real/file"));
    ok(&host, &["cp", "-L", "web:/abs", &path("followed")]);
    assert_eq!(text(here.join("followed")), "yes\n");
    // Through a link, by a folder's content, into what a link leads to.
    ok(&host, &["cp", &path("tree/."), "web:/srv/link"]);
    assert_eq!(ok(&host, &["exec", "web", "cat", "/srv/real/one"]), "1");
    ok(&host, &["cp", &path("tree/one"), "web:/abs"]);
    assert_eq!(ok(&host, &["exec", "web", "sh", "-c", "cat /srv/real/file; readlink /abs"]), "1/srv/real/file");
    refused(&host, &["cp", &path("tree"), "web:/abs"], "cannot copy directory");
    refused(&host, &["cp", "web:/proc/version", &path("x")], "Could not find the file");
    until("it is told", || {
        let told =
            ["events", "--since", "10m", "--until", "0s", "--filter", "container=web", "--format", "{{.Action}}"];
        let told = ok(&host, &told);
        told.contains("archive-path") && told.contains("extract-to-dir")
    });
}

#[test]
fn what_comes_in_is_packed_as_it_likes_and_belongs_to_whom_it_says() {
    let Some(host) = host() else { return };
    let here = with_files(&host);
    let path = |name: &str| here.join(name).display().to_string();
    for (packer, flag) in [("gzip", "-z"), ("xz", "-J"), ("zstd", "--zstd"), ("bzip2", "-j")] {
        if Command::new(packer).arg("--version").stdin(Stdio::null()).output().is_err() {
            continue;
        }
        std::fs::write(here.join("tree").join(packer), packer).expect("written");
        let client = format!("timeout 60 /usr/local/bin/docker -H {}", host.address());
        let script = format!("tar {flag} -c -C {} {packer} | {client} cp - web:/srv", path("tree"));
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        let ran = finish(command, "");
        if packer == "bzip2" {
            assert!(ran.code != Some(0) && ran.err.contains("bzip2"), "{ran:?}");
        } else {
            ran.ok();
            assert_eq!(ok(&host, &["exec", "web", "cat", &format!("/srv/{packer}")]), packer);
        }
    }
    std::os::unix::fs::chown(here.join("tree/one"), Some(12), Some(34)).expect("owned");
    ok(&host, &["cp", &path("tree/one"), "web:/srv/owned"]);
    assert_eq!(ok(&host, &["exec", "web", "stat", "-c", "%u:%g", "/srv/owned"]), "12:34");
    ok(&host, &["run", "-d", "--name", "user", "-u", "5:6", IMAGE, "sleep", "1000"]);
    ok(&host, &["cp", "-a", &path("tree/one"), "user:/tmp/owned"]);
    assert_eq!(ok(&host, &["exec", "user", "stat", "-c", "%u:%g", "/tmp/owned"]), "5:6");
}

#[test]
fn what_is_read_only_is_not_written_to() {
    let Some(host) = host() else { return };
    let here = beside(&host, "here");
    // Larger than what is on its way between client and daemon.
    std::fs::write(here.join("file"), vec![b'x'; 8 << 20]).expect("written");
    let file = here.join("file").display().to_string();
    in_every_state(&host, &["--read-only", "-v", "free:/free", "-v", "fixed:/fixed:ro"], |name, _| {
        let at = |path: &str| format!("{name}:{path}");
        refused(&host, &["cp", &file, &at("/tmp/")], "container rootfs is marked read-only");
        refused(&host, &["cp", &file, &at("/fixed/")], "mounted volume is marked read-only");
        ok(&host, &["cp", &file, &at("/free/")]);
        assert_eq!(names(&bytes(docker(&host, &["cp", &at("/free/file"), "-"]))), ["file"]);
        assert_eq!(names(&bytes(docker(&host, &["cp", &at("/fixed"), "-"]))), ["fixed/"]);
    });
}

#[test]
fn a_workload_that_exchanges_links_gets_nothing_of_the_host() {
    let Some(host) = host() else { return };
    let outside = beside(&host, "outside");
    std::fs::write(outside.join("secret"), "of the host").expect("written");
    let there = outside.display();
    // The path of the host's folder exists inside as well, so that a link to it is not dangling.
    let script = format!(
        "mkdir -p /victim {there}; echo mine > /victim/secret; echo mine > {there}/secret; echo ready; \
         while :; do mv /victim /aside; ln -s {there} /link; mv -T /link /victim; rm /victim; mv /aside /victim; done"
    );
    ok(&host, &["run", "-d", "--name", "evil", IMAGE, "sh", "-c", &script]);
    until("it attacks", || ok(&host, &["logs", "evil"]).contains("ready"));
    let here = beside(&host, "here");
    std::fs::write(here.join("new"), "new").expect("written");
    let new = here.join("new").display().to_string();
    let (mut read, mut written) = (0, 0);
    for _ in 0..40 {
        let mut archive = Vec::new();
        let mut child = docker(&host, &["cp", "evil:/victim/.", "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        child.stdout.take().expect("piped").read_to_end(&mut archive).expect("read");
        read += usize::from(child.wait().expect("it ends").success());
        assert!(!archive.windows(11).any(|window| window == b"of the host"), "a file of the host came out");
        written += usize::from(run(&host, &["cp", &new, "evil:/victim/"]).code == Some(0));
        let names: Vec<_> =
            std::fs::read_dir(&outside).expect("there").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["secret"], "something came to the host");
    }
    assert!(read > 0 && written > 0, "read {read}, written {written}");
    assert_eq!(text(outside.join("secret")), "of the host");
}

/// The changes of a container, one a line.
fn diff(host: &TempHost, name: &str) -> Vec<String> {
    ok(host, &["diff", name]).lines().map(str::to_owned).collect()
}

#[test]
fn changes_are_those_of_the_workload() {
    let Some(host) = host() else { return };
    let script = "mkdir /new; echo 1 > /new/file; chmod 700 /bin/busybox; rm /etc/group; rm -r /usr; mkdir /usr; echo 2 > /usr/x; touch -c /etc/passwd; sleep 1000";
    let here = beside(&host, "here");
    let rootfs = Image::new().layer(
        Layer::new()
            .folder("etc")
            .file("etc/group", 0o644, "x")
            .folder("usr")
            .file("usr/old", 0o644, "old")
            .folder("usr/deep")
            .file("usr/deep/er", 0o644, "x"),
    );
    std::fs::write(here.join("more.tar"), rootfs.docker_archive("more:1")).expect("written");
    ok(&host, &["run", "-d", "--name", "none", IMAGE, "sleep", "1000"]);
    assert_eq!(diff(&host, "none"), [""; 0], "starting changes nothing");
    ok(&host, &["rm", "-f", "none"]);
    // An image that has what the script removes.
    ok(&host, &["create", "--name", "base", IMAGE]);
    ok(&host, &["load", "-i", &here.join("more.tar").display().to_string()]);
    ok(&host, &["create", "--name", "more", "more:1", "x"]);
    let carried = bytes(docker(&host, &["cp", "more:/usr", "-"]));
    std::fs::write(here.join("usr.tar"), carried).expect("written");
    let mut put = Command::new("sh");
    put.args([
        "-c",
        &format!(
            "timeout 60 /usr/local/bin/docker -H {} cp - base:/ < {}",
            host.address(),
            here.join("usr.tar").display()
        ),
    ]);
    finish(put, "").ok();
    std::fs::write(here.join("group"), "x").expect("written");
    ok(&host, &["cp", &here.join("group").display().to_string(), "base:/etc/group"]);
    ok(&host, &["commit", "base", "based:1"]);
    ok(&host, &["run", "-d", "--name", "web", "based:1", "sh", "-c", script]);
    until("it has done everything", || diff(&host, "web").contains(&"A /usr/x".to_owned()));
    let changes = diff(&host, "web");
    for change in [
        "A /new",
        "A /new/file",
        "C /bin",
        "C /bin/busybox",
        "C /etc",
        "D /etc/group",
        "C /usr",
        "D /usr/deep",
        "D /usr/old",
        "A /usr/x",
    ] {
        assert!(changes.contains(&change.to_owned()), "{change}: {changes:?}");
    }
    for path in ["/etc/hosts", "/proc", "/dev", "/usr/deep/er"] {
        assert!(!changes.iter().any(|change| change.ends_with(path)), "{path}: {changes:?}");
    }
}

#[test]
fn a_container_becomes_an_image() {
    let Some(host) = host() else { return };
    let script = "echo mine > /tmp/file; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    ok(&host, &["run", "-d", "--name", "web", "-e", "OWN=1", "-l", "kept=yes", IMAGE, "sh", "-c", script]);
    until("it has written", || run(&host, &["exec", "web", "cat", "/tmp/file"]).out.trim() == "mine");
    let id = ok(
        &host,
        &[
            "commit",
            "-a",
            "somebody",
            "-m",
            "a remark",
            "-c",
            "CMD [\"cat\", \"/tmp/file\"]",
            "-c",
            "ENV A=$OWN B='x y'",
            "-c",
            "EXPOSE 80",
            "-c",
            "LABEL l=1",
            "-c",
            "WORKDIR /tmp",
            "-c",
            "VOLUME /data",
            "-c",
            "USER 0:0",
            "-c",
            "HEALTHCHECK NONE",
            "-c",
            "ONBUILD RUN x",
            "web",
            "site:1",
        ],
    );
    assert_eq!(ok(&host, &["inspect", "-f", "{{.State.Status}}", "web"]), "running");
    let looked = |format: &str| ok(&host, &["image", "inspect", "-f", format, "site:1"]);
    assert_eq!(looked("{{.Id}}"), id);
    assert_eq!(
        looked("{{.Author}} {{.Comment}} {{.Config.WorkingDir}} {{.Config.User}}"),
        "somebody a remark /tmp 0:0"
    );
    assert_eq!(looked("{{json .Config.Env}}"), r#"["PATH=/bin","OWN=1","A=1","B=x y"]"#);
    assert_eq!(looked("{{json .Config.Labels}}"), r#"{"kept":"yes","l":"1"}"#);
    assert_eq!(
        looked("{{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{json .Config.OnBuild}}"),
        r#"{"80/tcp":{}} {"/data":{}} ["RUN x"]"#
    );
    assert_eq!(ok(&host, &["run", "--rm", "site:1"]), "mine");
    assert!(ok(&host, &["history", "--format", "{{.Comment}}", "site:1"]).starts_with("a remark"));
    // What did not run, without a name, without freezing; nothing changed is no layer.
    ok(&host, &["stop", "web"]);
    let layers = |name: &str| ok(&host, &["image", "inspect", "-f", "{{len .RootFS.Layers}}", name]);
    ok(&host, &["create", "--name", "same", IMAGE, "true"]);
    let same = ok(&host, &["commit", "--pause=false", "same"]);
    assert_eq!(layers(&same), layers(IMAGE));
    assert_eq!(layers("site:1"), "2");
    refused(&host, &["commit", "-c", "RUN x", "web"], "run is not a valid change command");
    refused(&host, &["commit", "web", "Not:A:Name"], "");
    refused(&host, &["commit", "nobody"], "No such container");
    until("it is told", || {
        let told = ok(&host, &["events", "--since", "10m", "--until", "0s", "--format", "{{.Type}} {{.Action}}"]);
        ["container pause", "container commit", "container unpause"].iter().all(|event| told.contains(event))
    });
}

#[test]
fn an_exported_container_is_imported() {
    let Some(host) = host() else { return };
    let here = beside(&host, "here");
    let file = here.join("web.tar").display().to_string();
    ok(
        &host,
        &[
            "run",
            "--name",
            "web",
            "-v",
            "data:/data",
            IMAGE,
            "sh",
            "-c",
            "echo in > /data/volume; echo out > /tmp/file; mkfifo /tmp/pipe; ln /tmp/file /tmp/again",
        ],
    );
    ok(&host, &["export", "-o", &file, "web"]);
    let exported = names(&std::fs::read(&file).expect("read"));
    assert!(exported.contains(&"tmp/file".to_owned()) && exported.contains(&"tmp/pipe".to_owned()), "{exported:?}");
    assert!(!exported.contains(&"data/volume".to_owned()), "a volume is not the container's: {exported:?}");
    let id = ok(
        &host,
        &["import", "-m", "a remark", "-c", "CMD [\"cat\", \"/tmp/again\"]", "-c", "ENV PATH=/bin", &file, "flat:1"],
    );
    assert_eq!(
        ok(&host, &["image", "inspect", "-f", "{{.Id}} {{len .RootFS.Layers}} {{.Comment}}", "flat:1"]),
        format!("{id} 1 a remark")
    );
    assert_eq!(ok(&host, &["run", "--rm", "flat:1"]), "out");
    // What runs is exported alike; what is packed is imported alike.
    ok(&host, &["run", "-d", "--name", "live", "-v", "data:/data", IMAGE, "sleep", "1000"]);
    let live = names(&bytes(docker(&host, &["export", "live"])));
    assert!(live.contains(&"bin/busybox".to_owned()) && !live.contains(&"data/volume".to_owned()), "{live:?}");
    ok(&host, &["rm", "-f", "live"]);
    let script = format!(
        "gzip -c {file} | timeout 60 /usr/local/bin/docker -H {} import --platform linux/arm64 - packed:1",
        host.address()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    finish(command, "").ok();
    assert_eq!(ok(&host, &["image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", "packed:1"]), "linux/arm64");
    std::fs::write(here.join("bad"), "no archive at all, but longer than nothing").expect("written");
    refused(&host, &["import", &here.join("bad").display().to_string(), "bad:1"], "archive");
    refused(&host, &["import", "http://127.0.0.1:9/x.tar"], "not supported");
    assert!(!ok(&host, &["images", "--format", "{{.Repository}}"]).contains("bad"));
    until("it is told", || {
        let told = ok(&host, &["events", "--since", "10m", "--until", "0s", "--format", "{{.Type}} {{.Action}}"]);
        told.contains("container export") && told.contains("image import")
    });
}

#[test]
fn saved_images_come_back_the_same() {
    let Some(host) = host() else { return };
    let here = beside(&host, "here");
    ok(&host, &["tag", IMAGE, "busybox:second"]);
    ok(&host, &["create", "--name", "web", IMAGE, "true"]);
    std::fs::write(here.join("file"), "x").expect("written");
    ok(&host, &["cp", &here.join("file").display().to_string(), "web:/tmp/"]);
    ok(&host, &["commit", "web", "site:1"]);
    let saved = bytes(docker(&host, &["save", IMAGE, "site:1"]));
    assert_eq!(saved, bytes(docker(&host, &["save", IMAGE, "site:1"])), "the same images are the same bytes");
    let both = names(&saved);
    let layers = both.iter().filter(|name| name.starts_with("blobs/sha256/") && !name.ends_with('/')).count();
    // Two manifests, two configurations, the shared layer once, the new one.
    assert_eq!(layers, 6, "{both:?}");
    let list = |archive: &[u8]| {
        std::fs::write(here.join("list.tar"), archive).expect("written");
        let mut command = Command::new("tar");
        command.args(["-xOf", &here.join("list.tar").display().to_string(), "manifest.json"]);
        String::from_utf8(bytes(command)).expect("text")
    };
    assert!(list(&saved).contains(r#""RepoTags":["site:1"]"#));
    let all = list(&bytes(docker(&host, &["save", "busybox"])));
    assert!(all.contains(r#"["busybox:second","busybox:test"]"#), "{all}");
    let ids = ok(&host, &["images", "-q", "--no-trunc"]);
    std::fs::write(here.join("saved.tar"), &saved).expect("written");
    ok(&host, &["rm", "web"]);
    ok(&host, &["rmi", IMAGE, "busybox:second", "site:1"]);
    assert_eq!(ok(&host, &["images", "-q"]), "");
    ok(&host, &["load", "-i", &here.join("saved.tar").display().to_string()]);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines.dedup();
        lines
    };
    assert_eq!(sorted(&ok(&host, &["images", "-q", "--no-trunc"])), sorted(&ids));
    assert_eq!(ok(&host, &["run", "--rm", "site:1", "cat", "/tmp/file"]), "x");
    refused(&host, &["save", "-o", &here.join("none.tar").display().to_string(), "nobody:1"], "No such image");
    // Others read it too.
    for kind in ["docker-archive", "oci-archive"] {
        if !std::path::Path::new("/usr/bin/skopeo").is_file() {
            continue;
        }
        std::fs::write(here.join("one.tar"), bytes(docker(&host, &["save", "site:1"]))).expect("written");
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "-q", &format!("{kind}:{}", here.join("one.tar").display())]);
        command.arg(format!("dir:{}", here.join(kind).display()));
        finish(command, "").ok();
    }
}

#[test]
fn images_of_several_platforms_are_saved_and_loaded_by_platform() {
    let Some(host) = host() else { return };
    let here = beside(&host, "here");
    // One image for this host, one for another, under one index.
    ok(&host, &["create", "--name", "web", IMAGE, "true"]);
    let other = bytes(docker(&host, &["export", "web"]));
    std::fs::write(here.join("other.tar"), other).expect("written");
    ok(&host, &["import", "--platform", "linux/riscv64", &here.join("other.tar").display().to_string(), "other:1"]);
    let archive = |name: &str| bytes(docker(&host, &["save", name]));
    std::fs::write(here.join("host.tar"), archive(IMAGE)).expect("written");
    std::fs::write(here.join("foreign.tar"), archive("other:1")).expect("written");
    let script = r#"
import json, tarfile, hashlib, io, sys
out, blobs, entries = sys.argv[3], {}, []
for path, arch in ((sys.argv[1], None), (sys.argv[2], "riscv64")):
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.startswith("blobs/") and member.isfile():
                blobs[member.name] = tar.extractfile(member).read()
        entry = json.load(tar.extractfile("index.json"))["manifests"][0]
    config = json.loads(blobs["blobs/sha256/" + json.loads(blobs["blobs/" + entry["digest"].replace(":", "/")])["config"]["digest"][7:]])
    entry.pop("annotations", None)
    entry["platform"] = {"os": "linux", "architecture": config["architecture"]}
    entries.append(entry)
index = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}).encode()
digest = hashlib.sha256(index).hexdigest()
blobs["blobs/sha256/" + digest] = index
top = {"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": "sha256:" + digest, "size": len(index), "annotations": {"io.containerd.image.name": "docker.io/library/both:1"}}]}
blobs["index.json"] = json.dumps(top).encode()
blobs["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
with tarfile.open(out, "w") as tar:
    for name, data in blobs.items():
        info = tarfile.TarInfo(name); info.size = len(data); tar.addfile(info, io.BytesIO(data))
"#;
    let path = |name: &str| here.join(name).display().to_string();
    let mut command = Command::new("python3");
    command.args(["-c", script, &path("host.tar"), &path("foreign.tar"), &path("both.tar")]);
    finish(command, "").ok();
    ok(&host, &["rmi", "other:1"]);
    ok(&host, &["load", "-i", &path("both.tar")]);
    let platform = |name: &str| ok(&host, &["image", "inspect", "-f", "{{.Architecture}}", name]);
    let own = platform(IMAGE);
    assert_eq!(platform("both:1"), own);
    // Without a platform everything is saved, and comes back under the same digest.
    std::fs::write(here.join("again.tar"), archive("both:1")).expect("written");
    let digest = ok(&host, &["image", "inspect", "-f", "{{json .RepoDigests}}", "both:1"]);
    ok(&host, &["rmi", "both:1"]);
    ok(&host, &["load", "-i", &path("again.tar")]);
    assert_eq!(ok(&host, &["image", "inspect", "-f", "{{json .RepoDigests}}", "both:1"]), digest);
    // With one, only that.
    std::fs::write(here.join("part.tar"), bytes(docker(&host, &["save", "--platform", "linux/riscv64", "both:1"])))
        .expect("written");
    ok(&host, &["rmi", "both:1"]);
    ok(&host, &["load", "-i", &path("part.tar")]);
    assert_eq!(platform("both:1"), "riscv64");
    ok(&host, &["rmi", "both:1"]);
    ok(&host, &["load", "--platform", "linux/riscv64", "-i", &path("both.tar")]);
    assert_eq!(platform("both:1"), "riscv64");
    ok(&host, &["rmi", "both:1"]);
    refused(
        &host,
        &["load", "--platform", "linux/s390x", "-i", &path("both.tar")],
        "does not provide the specified platform",
    );
    assert!(!ok(&host, &["images", "--format", "{{.Repository}}"]).contains("both"));
    refused(
        &host,
        &["save", "--platform", "linux/s390x", "-o", &path("x"), IMAGE],
        "does not provide the specified platform",
    );
}

#[test]
fn the_own_client_does_the_same() {
    let Some(host) = support::host() else { return };
    let here = beside(&host, "here");
    let path = |name: &str| here.join(name).display().to_string();
    let refused = |arguments: &[&str], why: &str| {
        let ran = finish(support::atoll(&host, arguments), "");
        assert!(ran.code != Some(0) && ran.err.contains(why), "{arguments:?}: {ran:?}");
    };
    host.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        IMAGE,
        "sh",
        "-c",
        "mkdir -p /srv/real; echo yes > /srv/real/file; ln -s /srv/real /link; sleep 1000",
    ]);
    until("it has made its files", || {
        finish(support::atoll(&host, &["exec", "web", "readlink", "/link"]), "").code == Some(0)
    });
    std::fs::create_dir(here.join("tree")).expect("made");
    std::fs::write(here.join("tree/one"), "1").expect("written");
    host.ok(&["cp", &path("tree"), "web:/srv"]);
    host.ok(&["cp", &path("tree"), "web:/srv/renamed"]);
    host.ok(&["cp", &path("tree/."), "web:/link"]);
    host.ok(&["cp", &path("tree/one"), "web:/srv/real/two"]);
    assert_eq!(host.ok(&["exec", "web", "sh", "-c", "cd /srv; cat tree/one renamed/one real/one real/two"]), "1111");
    host.ok(&["cp", "web:/srv/real", &path("")]);
    host.ok(&["cp", "web:/srv/real", &path("new")]);
    host.ok(&["cp", "web:/srv/real/.", &path("inside")]);
    host.ok(&["cp", "web:/srv/real/file", &path("file")]);
    host.ok(&["cp", "-L", "web:/link", &path("followed")]);
    for name in ["real/file", "new/file", "inside/file", "file", "followed/file"] {
        assert_eq!(text(here.join(name)), "yes\n", "{name}");
    }
    let stream = bytes(support::atoll(&host, &["cp", "web:/srv/real", "-"]));
    assert_eq!(names(&stream), ["real/", "real/file", "real/one", "real/two"]);
    refused(&["cp", "web:/none", &path("x")], "Could not find the file /none in container web");
    refused(&["cp", &path("none"), "web:/srv"], "no such file or directory");
    refused(&["cp", &path("tree"), "web:/srv/real/file"], "cannot copy a directory");
    refused(&["cp", &path("tree"), &path("x")], "must specify at least one container source");

    assert!(host.ok(&["diff", "web"]).contains("A /srv/real/file"));
    host.ok(&["commit", "-m", "x", "-c", "CMD [\"cat\", \"/srv/real/file\"]", "web", "site:1"]);
    assert_eq!(host.ok(&["run", "--rm", "site:1"]), "yes");
    host.ok(&["export", "-o", &path("web.tar"), "web"]);
    host.ok(&["import", "-c", "CMD [\"cat\", \"/srv/real/file\"]", "-c", "ENV PATH=/bin", &path("web.tar"), "flat:1"]);
    assert_eq!(host.ok(&["run", "--rm", "flat:1"]), "yes");
    host.ok(&["save", "-o", &path("site.tar"), "site:1"]);
    host.ok(&["rmi", "-f", "site:1"]);
    host.ok(&["load", "-i", &path("site.tar")]);
    assert_eq!(host.ok(&["run", "--rm", "site:1"]), "yes");
    refused(&["save", "-o", &path("none.tar"), "nobody:1"], "No such image");
    assert!(!here.join("none.tar").exists(), "a file is there only when it is whole");
}
