//! What things take on the disk, as `du` says; taking away what nothing uses.

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
    let stock =
        ok(&host, &["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}"]);
    let own =
        host.ok(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}"]);
    let own: Vec<&str> = own.lines().collect();
    let of_docker: Vec<&str> = own.iter().take(4).copied().collect();
    // Docker's numbers have four digits, ours three: the units and counts are what is compared.
    let counts = |line: &str| line.split_whitespace().take_while(|word| word.parse::<f64>().is_err()).count();
    for (left, right) in stock.lines().zip(&of_docker) {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let upto = counts(left) + 2;
        assert_eq!(words(left)[..upto], words(right)[..upto], "{left:?} and {right:?}");
    }
    assert_eq!(of_docker.len(), stock.lines().count());
    assert_eq!(
        own[4..].iter().map(|line| line.split(' ').next().unwrap_or_default()).collect::<Vec<_>>(),
        ["Logs", "Transfers", "Other"]
    );
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
