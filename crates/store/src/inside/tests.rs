//! A folder plays the root file system; a thread plays the workload that exchanges names.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;
use crate::tar::{Entry, EntryKind, Reader};

/// What must neither be read nor touched lies in `outside`, the root file system in `root`.
fn world() -> (TempDir, Inside) {
    let dir = tempfile::tempdir().expect("a folder");
    for folder in ["root/etc", "root/data", "outside/data"] {
        fs::create_dir_all(dir.path().join(folder)).expect("made");
    }
    fs::write(dir.path().join("outside/secret"), "outside").expect("written");
    fs::write(dir.path().join("outside/data/secret"), "outside").expect("written");
    let inside = open(&dir.path().join("root"));
    (dir, inside)
}

fn open(path: &Path) -> Inside {
    Inside::new(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("opened"))
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(archive);
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().expect("readable") {
        names.push(String::from_utf8(entry.path).expect("text"));
    }
    names
}

fn packed(inside: &Inside, path: &str) -> Result<Vec<u8>, InsideError> {
    let mut archive = Vec::new();
    inside.find(path)?.pack(&mut archive)?;
    Ok(archive)
}

fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.append_bytes(entry, data).expect("written");
    }
    writer.finish().expect("finished")
}

fn file(path: &str, content: &'static str) -> (Entry, &'static [u8]) {
    (Entry::file(path, 0o640, 0), content.as_bytes())
}

#[test]
fn archives_have_names_as_docker_has_them() {
    let (dir, inside) = world();
    fs::write(dir.path().join("root/etc/passwd"), "x").expect("written");
    let check = |path: &str, expected: &[&str]| {
        assert_eq!(names(&packed(&inside, path).expect(path)), expected, "{path}");
    };
    check("/etc/passwd", &["passwd"]);
    check("/etc", &["etc/", "etc/passwd"]);
    check("etc/", &["etc/", "etc/passwd"]);
    check("/etc/.", &["./", "./passwd"]);
    check("/", &["/", "/data/", "/etc/", "/etc/passwd"]);
    check("/../../etc/passwd", &["passwd"]);
    let missing = inside.find("/etc/none").expect_err("it is not there");
    assert!(matches!(missing, InsideError::NotFound(_)), "{missing}");
    assert!(inside.find("/etc/passwd/").is_err());
}

#[test]
fn links_lead_to_what_is_inside() {
    let (dir, inside) = world();
    let root = dir.path().join("root");
    fs::write(root.join("secret"), "inside").expect("written");
    symlink("/secret", root.join("absolute")).expect("linked");
    symlink("../../../secret", root.join("etc/up")).expect("linked");
    symlink(dir.path().join("outside"), root.join("out")).expect("linked");
    let stat = inside.find("/absolute").expect("found").stat;
    assert_eq!((stat.name.as_str(), stat.link_target.as_str()), ("absolute", "/secret"));
    assert_eq!(inside.find("/etc/up").expect("found").stat.link_target, "/secret");
    // The way outside does not exist inside.
    assert!(inside.find("/out/secret").is_err());
    let up = packed(&inside, "/etc/up").expect("a link");
    let entry = Reader::new(up.as_slice()).next_entry().expect("readable").expect("one");
    assert_eq!(entry.kind, EntryKind::Symlink(b"../../../secret".to_vec()));

    inside.unpack("/", archive(&[file("absolute", "new")]).as_slice(), Placement::default()).expect("unpacked");
    assert_eq!(fs::read_to_string(root.join("secret")).expect("there"), "inside", "a link is replaced, not followed");
    assert_eq!(fs::read_to_string(root.join("absolute")).expect("there"), "new");
    symlink("/data", root.join("etc/link")).expect("linked");
    inside.unpack("/etc/link", archive(&[file("x", "1")]).as_slice(), Placement::default()).expect("unpacked");
    inside.unpack("/etc", archive(&[file("link/y", "2")]).as_slice(), Placement::default()).expect("unpacked");
    assert_eq!(fs::read_to_string(root.join("data/x")).expect("there"), "1");
    assert_eq!(fs::read_to_string(root.join("data/y")).expect("there"), "2");
    let out = inside.unpack("/out", archive(&[file("secret", "new")]).as_slice(), Placement::default());
    assert!(matches!(out, Err(InsideError::NotFound(_))), "{out:?}");
    let out = inside.unpack("/", archive(&[file("out/secret", "new")]).as_slice(), Placement::default());
    assert!(out.is_err(), "a link to nowhere is no folder");
    assert_eq!(fs::read_to_string(dir.path().join("outside/secret")).expect("there"), "outside");
}

#[test]
fn things_are_put_where_and_as_the_archive_says() {
    let (dir, inside) = world();
    let root = dir.path().join("root");
    fs::write(root.join("data/old"), "old").expect("written");
    let mut folder = Entry::new("new", EntryKind::Directory, 0o750);
    folder.mtime = 1000;
    let mut program = Entry::file("new/program", 0o755, 0);
    program.mtime = 2000;
    let all = archive(&[
        (Entry::new("./", EntryKind::Directory, 0o700), b""),
        (folder, b""),
        (program, b"run"),
        (Entry::new("new/again", EntryKind::HardLink(b"new/program".to_vec()), 0o755), b""),
        (Entry::new("new/link", EntryKind::Symlink(b"program".to_vec()), 0o777), b""),
        (Entry::new("new/pipe", EntryKind::Fifo, 0o622), b""),
        file("deep/er/file", "deep"),
        file("old", "new"),
    ]);
    let before = fs::metadata(root.join("data")).expect("there").mode();
    inside.unpack("/data", all.as_slice(), Placement::default()).expect("unpacked");
    let data = root.join("data");
    let mode = |path: &str| fs::symlink_metadata(data.join(path)).expect(path).permissions().mode() & 0o7777;
    assert_eq!(fs::metadata(&data).expect("there").mode(), before, "the place itself stays as it is");
    assert_eq!((mode("new"), mode("new/program"), mode("new/pipe"), mode("deep")), (0o750, 0o755, 0o622, 0o755));
    assert_eq!(fs::metadata(data.join("new")).expect("there").mtime(), 1000);
    assert_eq!(fs::metadata(data.join("new/program")).expect("there").nlink(), 2);
    assert_eq!(fs::read_to_string(data.join("new/link")).expect("a link"), "run");
    assert_eq!(fs::read_to_string(data.join("old")).expect("there"), "new");
    let left = fs::read_dir(data.join("new")).expect("there").count();
    assert_eq!(left, 4, "nothing under a name of ours stays");

    let placement = Placement { name: Some(b"other"), ..Placement::default() };
    let one = archive(&[
        (Entry::new("new/", EntryKind::Directory, 0o750), b""),
        file("new/program", "run"),
        (Entry::new("new/again", EntryKind::HardLink(b"new/program".to_vec()), 0o755), b""),
    ]);
    inside.unpack("/data", one.as_slice(), placement).expect("unpacked");
    assert_eq!(fs::metadata(data.join("other/again")).expect("under another name").nlink(), 2);

    let owner = Some((7, 8));
    if rustix::process::geteuid().is_root() {
        let placement = Placement { owner, ..Placement::default() };
        inside.unpack("/data", archive(&[file("owned/file", "")]).as_slice(), placement).expect("unpacked");
        for path in ["owned", "owned/file"] {
            let meta = fs::metadata(data.join(path)).expect(path);
            assert_eq!((meta.uid(), meta.gid()), (7, 8), "{path}");
        }
    }
}

#[test]
fn kinds_are_kept_where_that_is_asked_for() {
    let (dir, inside) = world();
    let root = dir.path().join("root");
    fs::create_dir(root.join("data/folder")).expect("made");
    fs::write(root.join("data/folder/x"), "x").expect("written");
    fs::write(root.join("data/file"), "file").expect("written");
    let keep = Placement { keep_kinds: true, ..Placement::default() };
    let check = |entry: (Entry, &[u8]), expected: &str| {
        let refused = inside.unpack("/data", archive(&[entry]).as_slice(), keep).expect_err("refused");
        assert_eq!(refused.to_string(), expected);
    };
    check(file("folder", "x"), "cannot overwrite directory \"/data/folder\" with non-directory");
    let folder = (Entry::new("file", EntryKind::Directory, 0o755), b"".as_slice());
    check(folder.clone(), "cannot overwrite non-directory \"/data/file\" with directory");
    assert_eq!(fs::read_to_string(root.join("data/file")).expect("there"), "file");
    let both = archive(&[file("folder", "x"), folder]);
    inside.unpack("/data", both.as_slice(), Placement::default()).expect("unpacked");
    assert!(root.join("data/folder").is_file() && root.join("data/file").is_dir());
}

#[test]
fn bad_archives_lose_nothing() {
    let (dir, inside) = world();
    let path = dir.path().join("root/data/old");
    fs::write(&path, "old").expect("written");
    let whole = archive(&[(Entry::file("old", 0o644, 0), &[b'x'; 4096])]);
    let check = |bytes: &[u8], to: &str| {
        assert!(inside.unpack(to, bytes, Placement::default()).is_err());
        assert_eq!(fs::read_to_string(&path).expect("there"), "old");
        assert_eq!(fs::read_dir(dir.path().join("root/data")).expect("there").count(), 1);
    };
    check(&whole[..1024], "/data");
    check(b"this is no archive, and long enough to be one", "/data");
    check(&archive(&[file("../data/old", "new")]), "/etc");
    check(&archive(&[file("x/../../old", "new")]), "/data/");
    check(&archive(&[(Entry::new("hard", EntryKind::HardLink(b"../outside/secret".to_vec()), 0o644), b"")]), "/data");
    check(&whole, "/data/old");
    check(&whole, "/none");
}

#[test]
fn files_of_the_kernel_are_not_there() {
    // The host's own root: what a workload has at /proc and /sys.
    let inside = open(Path::new("/"));
    for path in ["/proc", "/proc/version", "/proc/self/root/etc/passwd", "/sys/kernel"] {
        assert!(matches!(inside.find(path), Err(InsideError::NotFound(_) | InsideError::Refused { .. })), "{path}");
    }
    let (dir, inside) = world();
    symlink("/proc/sys/kernel", dir.path().join("root/data/kernel")).expect("linked");
    assert!(inside.find("/data/kernel/").is_err());
    let inside = open(Path::new("/"));
    let place = dir.path().join("root/data/kernel");
    let refused =
        inside.unpack(place.to_str().expect("text"), archive(&[file("x", "")]).as_slice(), Placement::default());
    assert!(refused.is_err(), "a link into /proc is no place to put things");
}

/// Exchanges the folder `data` for a link to the folder outside and back, until it is told to stop.
fn exchange(world: &Path, stop: &AtomicBool) {
    let root = world.join("root");
    let (data, aside, link) = (root.join("data"), root.join("aside"), root.join("link"));
    while !stop.load(Ordering::Relaxed) {
        fs::rename(&data, &aside).expect("aside");
        symlink(world.join("outside/data"), &link).expect("linked");
        fs::rename(&link, &data).expect("a link in its place");
        fs::remove_file(&data).expect("gone");
        fs::rename(&aside, &data).expect("back");
    }
}

/// Runs `attempt` against a workload that exchanges names until it says that it has seen enough, or often enough.
fn under_attack(world: &Path, tries: usize, mut attempt: impl FnMut(usize) -> bool) -> bool {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| exchange(world, &stop));
        let seen = (0..tries).any(&mut attempt);
        stop.store(true, Ordering::Relaxed);
        seen
    })
}

#[test]
fn exchanged_links_never_lead_outside() {
    const TRIES: usize = 20_000;
    let (dir, inside) = world();
    let root = dir.path().join("root");
    fs::write(root.join("data/secret"), "inside").expect("written");
    let naive = |_| fs::read_to_string(root.join("data/secret")).is_ok_and(|content| content == "outside");
    assert!(under_attack(dir.path(), 100 * TRIES, naive), "the attack does not work at all");

    let mut read = 0;
    let leaked = under_attack(dir.path(), TRIES, |_| {
        let archive = ["/data/secret", "/data/", "/data/."].map(|path| packed(&inside, path));
        read += archive.iter().filter(|archive| archive.is_ok()).count();
        archive.into_iter().flatten().any(|archive| archive.windows(7).any(|window| window == b"outside"))
    });
    assert!(!leaked && read > 0, "read {read}");

    let mut written = 0;
    let all = archive(&[
        (Entry::new("sub", EntryKind::Directory, 0o777), b""),
        file("sub/new", "new"),
        file("secret", "new"),
        (Entry::new("hard", EntryKind::HardLink(b"secret".to_vec()), 0o644), b""),
        (Entry::new("pipe", EntryKind::Fifo, 0o777), b""),
    ]);
    let escaped = under_attack(dir.path(), TRIES / 10, |_| {
        written += usize::from(inside.unpack("/data", all.as_slice(), Placement::default()).is_ok());
        written += usize::from(inside.unpack("/", all.as_slice(), Placement::default()).is_ok());
        let outside = fs::read_dir(dir.path().join("outside/data")).expect("there").count();
        outside != 1 || fs::read_to_string(dir.path().join("outside/data/secret")).expect("there") != "outside"
    });
    assert!(!escaped && written > 0, "written {written}");
}
