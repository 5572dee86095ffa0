//! What things take on the disk, as `du` says; taking away what nothing uses, by hand and above a watermark.

#![allow(clippy::print_stdout, reason = "a test that skips says so")]

mod support;

use std::path::Path;
use std::process::Command;

use atoll_testkit::{Image, Layer, TempHost};
use serde_json::Value;
use support::stock::{host, ok, run};
use support::{IMAGE, busybox};

/// What `du` says of folders, each alone; of one that is not there yet, nothing.
fn du(folders: &[&Path]) -> u64 {
    let of = |folder: &Path| -> u64 {
        let output = Command::new("du").args(["-s", "-B1", "-D"]).arg(folder).output().expect("du is there");
        let text = String::from_utf8(output.stdout).expect("text");
        text.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number of bytes")
    };
    folders.iter().filter(|folder| folder.exists()).map(|folder| of(folder)).sum()
}

/// The answer of an endpoint.
fn get(host: &TempHost, path: &str) -> Value {
    let output = Command::new("curl")
        .args(["-sS", "--unix-socket"])
        .arg(host.socket())
        .arg(format!("http://atoll{path}"))
        .output()
        .expect("curl is there");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number of bytes"))
}

/// Loads an image whose lowest layer is busybox' and whose upper one holds `bytes` bytes of its own.
fn load_above_busybox(host: &TempHost, name: &str, bytes: usize) -> bool {
    let Some(image) = busybox() else { return false };
    let content: Vec<u8> = (0..bytes).map(|at| u8::try_from((at * 7919) % 251).expect("a byte")).collect();
    let archive = host.root().with_file_name("above.tar");
    let image: Image = image.layer(Layer::new().file(name, 0o644, content));
    std::fs::write(&archive, image.docker_archive(&format!("{name}:1"))).expect("written");
    host.ok(&["load", "-q", "-i", &archive.display().to_string()]);
    true
}

/// The sums of `GET /system/df` and of its kinds, each held against `du`.
#[track_caller]
fn check_against_du(host: &TempHost, when: &str) {
    let (root, usage, rest) = (host.root(), get(host, "/system/df"), get(host, "/atoll/v1/system/df"));
    let mut sum = number(&usage["LayersSize"]);
    let images = [root.join("store/layers"), root.join("store/blobs")];
    assert_eq!(sum, du(&images.each_ref().map(|path| path.as_path())), "{when}: images");
    for container in usage["Containers"].as_array().expect("a list") {
        let upper = root.join("store/roots").join(container["Id"].as_str().expect("an id")).join("upper");
        assert_eq!(number(&container["SizeRw"]), du(&[&upper]), "{when}: {container}");
        sum += number(&container["SizeRw"]);
    }
    for volume in usage["Volumes"].as_array().expect("a list") {
        let folder = root.join("volumes").join(volume["Name"].as_str().expect("a name")).join("_data");
        assert_eq!(number(&volume["UsageData"]["Size"]), du(&[&folder]), "{when}: {volume}");
        sum += number(&volume["UsageData"]["Size"]);
    }
    assert_eq!(number(&rest["logs"]), du(&[&root.join("workloads")]), "{when}: logs");
    let transfers = [root.join("store/tmp"), root.join("store/partial")];
    assert_eq!(number(&rest["transfers"]), du(&transfers.each_ref().map(|path| path.as_path())), "{when}: transfers");
    sum += number(&rest["logs"]) + number(&rest["transfers"]) + number(&rest["other"]);
    assert_eq!(sum, du(&[&root]), "{when}: everything");
}

#[test]
fn disk_usage_is_what_du_says() {
    let Some(host) = host() else { return };
    check_against_du(&host, "one image");
    if !load_above_busybox(&host, "big", 3_000_000) || !load_above_busybox(&host, "small", 10) {
        return;
    }
    check_against_du(&host, "three images that share a layer");
    let write = "dd if=/dev/zero of=/own bs=1k count=700 2>/dev/null; dd if=/dev/zero of=/data/it bs=1k count=300 2>/dev/null; ln /data/it /data/again; echo said";
    ok(&host, &["run", "--name", "writer", "-v", "data:/data", "big:1", "sh", "-c", write]);
    ok(&host, &["create", "--name", "idle", "small:1", "true"]);
    ok(&host, &["volume", "create", "empty"]);
    check_against_du(&host, "containers and volumes");

    let usage = get(&host, "/system/df");
    let image = |name: &str| {
        let images = usage["Images"].as_array().expect("a list").clone();
        let name = Value::from(format!("{name}:1"));
        images.into_iter().find(|image| image["RepoTags"][0] == name).expect("it is here")
    };
    let (big, small) = (image("big"), image("small"));
    assert_eq!(big["SharedSize"], small["SharedSize"], "what all share is the lowest layer");
    let own = |image: &Value| number(&image["Size"]) - number(&image["SharedSize"]);
    assert!(own(&big) > 6_000_000, "its layer, unpacked and as it came: {big}");
    assert!(own(&small) < 100_000, "{small}");
    let volume = usage["Volumes"].as_array().and_then(|list| list.iter().find(|one| one["Name"] == "data")).cloned();
    let size = number(&volume.expect("it is there")["UsageData"]["Size"]);
    assert!((300 << 10..400 << 10).contains(&size), "hard links are counted once: {size}");

    let only = get(&host, "/system/df?type=volume&type=container");
    assert_eq!((&only["Images"], &only["BuildCache"], &only["LayersSize"]), (&Value::Null, &Value::Null, &0.into()));
    assert_eq!(only["Containers"].as_array().map(Vec::len), Some(2));
    let listed = get(&host, "/images/json?shared-size=1");
    assert!(
        listed.as_array().is_some_and(|list| list.iter().all(|one| one["SharedSize"].as_i64() > Some(0))),
        "{listed}"
    );

    ok(&host, &["rm", "writer"]);
    ok(&host, &["rmi", "big:1"]);
    ok(&host, &["volume", "rm", "data"]);
    support::until("the files are deleted", || {
        std::fs::read_dir(host.root().join("store/roots")).is_ok_and(|roots| roots.count() == 1)
            && std::fs::read_dir(host.root().join("store/tmp")).is_ok_and(|mut sessions| {
                sessions
                    .all(|one| one.is_ok_and(|one| std::fs::read_dir(one.path()).is_ok_and(|in_it| in_it.count() == 0)))
            })
    });
    check_against_du(&host, "after removals");
}

#[test]
fn both_clients_show_it() {
    let Some(host) = host() else { return };
    ok(&host, &["run", "--name", "writer", "-v", "data:/data", IMAGE, "sh", "-c", "echo x > /own"]);
    // Sizes are left out: Docker prints one digit more.
    let counts = ["system", "df", "--format", "{{.Type}}: {{.TotalCount}} {{.Active}}"];
    let (stock, own) = (ok(&host, &counts), host.ok(&counts));
    let own: Vec<&str> = own.lines().map(str::trim_end).collect();
    assert_eq!(stock.lines().collect::<Vec<_>>(), own[..4]);
    assert_eq!(own[..3], ["Images: 1 1", "Containers: 1 0", "Local Volumes: 1 1"]);
    assert_eq!(own[4..], ["Logs:", "Transfers:", "Other:"]);
    for listing in [ok(&host, &["system", "df", "-v"]), host.ok(&["system", "df", "-v"])] {
        for part in ["Images space usage:", "SHARED SIZE", "UNIQUE SIZE", "writer", "data", "Build cache usage: 0B"] {
            assert!(listing.contains(part), "{part} in {listing}");
        }
    }
    let json: Value = serde_json::from_str(&host.ok(&["system", "df", "-v", "--format", "json"])).expect("JSON");
    assert_eq!(json["Volumes"][0]["Links"], "1");
}

/// What there is, by kind.
fn counts(host: &TempHost) -> [usize; 3] {
    let lines = |arguments: &[&str]| host.ok(arguments).lines().filter(|line| !line.is_empty()).count();
    [lines(&["ps", "-aq"]), lines(&["images", "-q"]), lines(&["volume", "ls", "-q"])]
}

#[test]
fn prune_takes_what_nothing_uses() {
    let Some(host) = host() else { return };
    let fill = || {
        host.ok(&[
            "run",
            "--name",
            "over",
            "-v",
            "/anonymous",
            IMAGE,
            "sh",
            "-c",
            "dd if=/dev/zero of=/big bs=1M count=2 2>/dev/null",
        ]);
        host.ok(&["create", "--name", "labelled", "--label", "keep=yes", IMAGE, "true"]);
        host.ok(&["volume", "create", "named"]);
    };
    fill();
    // Without a terminal nobody can agree.
    let refused = host.atoll(&["system", "prune"]);
    assert_eq!((refused.status.success(), counts(&host)), (false, [2, 1, 2]));
    let refused = host.atoll(&["system", "prune", "-f", "--volumes", "--filter", "until=1h"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("until"), "{refused:?}");
    host.ok(&["system", "prune", "-f", "--filter", "label!=keep", "--filter", "until=0s"]);
    assert_eq!(counts(&host), [1, 1, 2], "an image that is used stays, and so do volumes");
    let said = host.ok(&["system", "prune", "-af", "--volumes"]);
    assert_eq!(counts(&host), [0, 0, 1], "a volume with a name stays: {said}");
    assert!(said.contains("Deleted Volumes:") && said.contains("Deleted Images:\nUntagged: busybox:test"), "{said}");
    assert!(!said.ends_with(" 0B"), "{said}");

    host.ok(&["load", "-i", &support::archive(&host)]);
    host.ok(&["volume", "rm", "named"]);
    fill();
    let before = du(&[&host.root()]);
    let said = run(&host, &["system", "prune", "-af", "--volumes"]).ok();
    assert_eq!(counts(&host), [0, 0, 1], "{said}");
    assert!(said.contains("Deleted Containers:") && said.contains("Total reclaimed space:"), "{said}");
    support::until("the disk has it back", || du(&[&host.root()]) + (4 << 20) < before);
}

/// A file system of its own, in a file; unmounted when dropped.
struct Disk {
    dir: atoll_testkit::TempDir,
}

impl Disk {
    /// `None` (said) where this machine has no loop devices.
    fn make(bytes: u64) -> Option<Self> {
        let dir = atoll_testkit::tempdir();
        let image = dir.path().join("image");
        std::fs::File::create(&image).and_then(|file| file.set_len(bytes)).expect("a sparse file");
        std::fs::create_dir(dir.path().join("mnt")).expect("a folder");
        let disk = Self { dir };
        let succeeds = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let there = succeeds(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))
            && succeeds(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.folder()));
        if !there {
            println!("skipped: needs mkfs.ext4 and loop devices");
        }
        there.then_some(disk)
    }

    fn folder(&self) -> std::path::PathBuf {
        self.dir.path().join("mnt")
    }

    fn used(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.folder()).expect("it is mounted");
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder()).status();
    }
}

#[test]
fn above_the_watermark_images_go_that_nothing_uses() {
    const MIB: u64 = 1 << 20;
    // Before the host, which goes first then.
    let Some(disk) = Disk::make(400 * MIB) else { return };
    let Some(mut host) = host() else { return };
    host.kill_daemon().expect("it ran");
    // The state lies on another disk, and `--root` is a link to it.
    std::fs::remove_dir_all(host.root()).expect("removed");
    std::os::unix::fs::symlink(disk.folder(), host.root()).expect("a link");
    host.start_daemon(&[]).expect("it starts on an empty disk");
    host.ok(&["load", "-q", "-i", &support::archive(&host)]);
    for name in ["used", "pinned", "nameless", "old", "new"] {
        assert!(load_above_busybox(&host, name, 8 << 20));
    }
    host.ok(&["tag", "new:1", "nameless:1"]);
    host.ok(&["create", "--name", "holder", "-v", "data:/data", "used:1", "true"]);
    check_against_du(&host, "on a link");
    host.kill_daemon().expect("it ran");

    let used = disk.used();
    let (high, low) = (used + 20 * MIB, used + 40 * MIB - 24 * MIB);
    let config = host.root().with_file_name("config.toml");
    std::fs::write(&config, format!("[disk]\nhigh = {high}\nlow = {low}\ngrace_minutes = 0\nkeep = ['pinned']\n"))
        .expect("written");
    host.start_daemon_with(&["--config", &config.display().to_string()], &[]).expect("it starts with a watermark");
    for name in ["old:1", "new:1"] {
        host.ok(&["run", "--rm", name, "true"]);
    }
    let names = |host: &TempHost| {
        let text = host.ok(&["images", "--format", "{{.Repository}}"]);
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    host.ok(&["tag", "old:1", "old:2"]);
    let all = ["<none>", "busybox", "nameless", "new", "old", "old", "pinned", "used"];
    assert_eq!(names(&host), all, "nothing goes below the watermark");

    let filler = std::fs::File::create(disk.folder().join("filler")).expect("a file");
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, 40 * MIB).expect("the disk has room");
    assert!(disk.used() > high);
    // Any image that comes has the disk looked at.
    host.ok(&["tag", "new:1", "new:2"]);
    support::until("there is room", || disk.used() <= low);
    // Without a name first, then what was used longest ago; one that is used, one that is pinned and the newest stay.
    support::until("all is told", || host.daemon_log().contains("made room on the disk"));
    assert_eq!(names(&host), ["nameless", "new", "new", "pinned", "used"]);
    let events = host.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "type=image"]);
    let reasons = events.lines().filter(|line| line.contains("reason=the disk is above its watermark"));
    let (gone, untagged): (Vec<_>, Vec<_>) = reasons.partition(|line| line.contains(" delete "));
    assert_eq!((gone.len(), untagged.len()), (3, 3), "{events}");
    host.ok(&["start", "holder"]);
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "data");
    assert_eq!(host.ok(&["run", "--rm", "pinned:1", "echo", "well"]), "well");
    // This root is another than the one that its host cleans up after.
    let mut reset = std::process::Command::new(atoll_testkit::program("atoll"));
    reset.arg("--root").arg(host.root()).arg("--run").arg(host.run()).args(["system", "reset", "-f", "--keep-state"]);
    assert!(reset.status().expect("it starts").success());
}
