//! The extractor against real archives (GNU tar, Python) and hostile ones; nothing may appear outside the root.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Extracted, extract};
use crate::error::Error;
use crate::tar::{Entry, EntryKind, Reader, Writer};

struct Bed {
    dir: tempfile::TempDir,
    root: PathBuf,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/file"), "untouched").unwrap();
        Self { dir, root }
    }

    fn extract(&self, bytes: &[u8]) -> Result<Extracted, Error> {
        let root = crate::tree::open_folder(&self.root).unwrap();
        let result = extract(&mut Reader::new(bytes), root);
        let mut outside: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        outside.sort();
        assert_eq!(outside, ["outside", "root"], "something appeared outside");
        let inside: Vec<_> = fs::read_dir(self.dir.path().join("outside")).unwrap().collect();
        assert_eq!(inside.len(), 1, "something appeared outside");
        assert_eq!(fs::read(self.dir.path().join("outside/file")).unwrap(), b"untouched");
        assert_eq!(fs::metadata(self.dir.path().join("outside/file")).unwrap().nlink(), 1);
        result
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for entry in entries {
        let data = if entry.kind == EntryKind::File { entry.path.clone() } else { Vec::new() };
        writer.append_bytes(entry, &data).unwrap();
    }
    writer.finish().unwrap()
}

fn file(path: &str) -> Entry {
    Entry::file(path, 0o644, 0)
}
fn dir(path: &str) -> Entry {
    Entry::new(path, EntryKind::Directory, 0o755)
}
fn link(path: &str, target: &str) -> Entry {
    Entry::new(path, EntryKind::Symlink(target.into()), 0o777)
}
fn hard(path: &str, target: &str) -> Entry {
    Entry::new(path, EntryKind::HardLink(target.into()), 0o644)
}

fn root() -> bool {
    let is = rustix::process::geteuid().is_root();
    if !is {
        println!("skipped: needs root to make devices and set owners");
    }
    is
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 1000];
    let len = rustix::fs::getxattr(path, name, &mut buffer[..]).ok()?;
    buffer.truncate(len);
    Some(buffer)
}

fn is_opaque(path: &Path) -> bool {
    xattr(path, "user.overlay.opaque").as_deref() == Some(b"y")
}

#[test]
fn hostile_archives_stay_inside() {
    #[track_caller]
    fn refused(entries: &[Entry], part: &str) {
        let bed = Bed::new();
        let error = bed.extract(&archive(entries)).expect_err("hostile").to_string();
        assert!(error.contains(part), "{error}");
    }
    refused(&[file("../outside/new")], "\"..\"");
    refused(&[file("a/../../outside/new")], "\"..\"");
    refused(&[dir("..")], "\"..\"");
    refused(&[hard("h", "../outside/file")], "\"..\"");
    refused(&[file(".wh...")], "whiteout of no name");
    refused(&[file("a/.wh.")], "whiteout of no name");
    refused(&[file("../.wh.outside")], "\"..\"");
    refused(&[file(".wh.x/y")], "inside a whiteout");
    refused(&[hard("h", "/outside/file")], "does not have");
    refused(&[link("l", "../outside"), hard("h", "l/file")], "does not have");
    refused(&[link("l", "/proc/self/cwd"), hard("h", "l/Cargo.toml")], "does not have");
    refused(&[dir("d"), hard("h", "d")], "no file");
    refused(&[file("a"), file("a/b")], "a/b");
    refused(&[link("loop", "loop"), file("loop/x")], "loop/x");
    refused(&[link("/", "x")], "root of the layer");
    refused(&[file(&"d/".repeat(300))], "depth");
    refused(&[file(&format!("{}x", "d/".repeat(256)))], "depth");
    refused(&[file(&"n".repeat(256))], "too long");
    let mut wide = file("a");
    wide.uid = u64::from(u32::MAX);
    refused(&[wide], "owner");
}

#[test]
fn links_resolve_inside_the_root() {
    let bed = Bed::new();
    let entries = [
        link("up", "../outside"),
        file("up/new"),
        link("abs", "/made/here"),
        file("abs/new"),
        dir("usr"),
        dir("usr/lib"),
        link("lib", "usr/lib"),
        file("lib/x"),
        link("self", "/proc/self/root"),
        file("self/y"),
        file("/etc/absolute"),
        hard("to-link", "lib"),
    ];
    bed.extract(&archive(&entries)).unwrap();
    assert_eq!(bed.text("outside/new"), "up/new");
    assert_eq!(bed.text("made/here/new"), "abs/new");
    assert_eq!(bed.text("usr/lib/x"), "lib/x");
    assert_eq!(bed.text("proc/self/root/y"), "self/y");
    assert_eq!(bed.text("etc/absolute"), "/etc/absolute");
    assert_eq!(fs::read_link(bed.at("to-link")).unwrap(), Path::new("usr/lib"));
}

#[test]
fn a_link_swapped_in_for_a_parent_is_not_followed_outside() {
    let bed = Bed::new();
    // First the parent is opened (and remembered) as a folder, then it becomes a link.
    bed.extract(&archive(&[dir("a"), file("a/one"), link("a", "../outside"), file("a/two")])).unwrap();
    assert!(bed.at("a").is_symlink());
    assert_eq!(bed.text("outside/two"), "a/two");
}

#[test]
fn later_entries_replace_earlier_ones() {
    let bed = Bed::new();
    let entries = [
        file("a"),
        link("a", "b"),
        dir("d"),
        file("d/x"),
        file("d"),
        link("s", "elsewhere"),
        dir("s"),
        file("s/in"),
        file("f"),
        hard("g", "f"),
        hard("g", "f"),
        hard("f", "f"),
        file("g"),
    ];
    bed.extract(&archive(&entries)).unwrap();
    assert!(bed.at("a").is_symlink());
    assert_eq!(bed.text("d"), "d");
    assert!(bed.at("s").symlink_metadata().unwrap().is_dir() && !bed.at("elsewhere").exists());
    assert_eq!(bed.text("f"), "f");
    assert_eq!(bed.text("g"), "g");
}

#[test]
fn whiteouts_and_opaque_folders() {
    if !root() {
        return;
    }
    let bed = Bed::new();
    let entries = [
        file(".wh.gone"),
        file("d/.wh.gone"),
        file("o/.wh..wh..opq"),
        file("o/new"),
        // The same layer brings the name: it wins in either order, and a folder hides the lower one.
        file("f1"),
        file(".wh.f1"),
        file(".wh.f2"),
        file("f2"),
        dir("d1"),
        file(".wh.d1"),
        file(".wh.d2"),
        dir("d2"),
        file(".wh.d3"),
        file("d3/in"),
        file(".wh..wh.plnk/x"),
        file(".wh..wh.aufs"),
        Entry::new("forged", EntryKind::CharDevice { major: 0, minor: 0 }, 0o666),
    ];
    bed.extract(&archive(&entries)).unwrap();
    assert!(is_whiteout(&bed.at("gone")) && is_whiteout(&bed.at("d/gone")));
    assert!(is_opaque(&bed.at("o")) && bed.at("o/new").exists());
    assert_eq!((bed.text("f1"), bed.text("f2")), ("f1".into(), "f2".into()));
    for name in ["d1", "d2", "d3"] {
        assert!(is_opaque(&bed.at(name)), "{name}");
    }
    assert!(!is_opaque(&bed.at("d")));
    let mut names: Vec<_> = fs::read_dir(&bed.root).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["d", "d1", "d2", "d3", "f1", "f2", "gone", "o"]);
}

#[test]
fn attributes_are_kept() {
    if !root() {
        return;
    }
    let bed = Bed::new();
    let mut suid = file("suid");
    (suid.mode, suid.uid, suid.gid, suid.mtime, suid.mtime_nsec) = (0o6755, 1000, 1001, 1_234_567_890, 5);
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    suid.xattrs = vec![
        (b"security.capability".to_vec(), capability.clone()),
        (b"user.kept".to_vec(), b"v".to_vec()),
        (b"user.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"security.selinux".to_vec(), b"x".to_vec()),
    ];
    let mut folder = dir("folder");
    (folder.mode, folder.uid, folder.mtime) = (0o2750, 7, 1000);
    folder.xattrs = vec![(b"user.overlay.opaque".to_vec(), b"y".to_vec())];
    let mut sym = link("sym", "nowhere");
    (sym.uid, sym.mtime) = (9, 77);
    let mut top = dir("./");
    (top.mode, top.gid) = (0o711, 3);
    let null = Entry::new("null", EntryKind::CharDevice { major: 1, minor: 3 }, 0o666);
    let fifo = Entry::new("fifo", EntryKind::Fifo, 0o622);
    let done = bed.extract(&archive(&[top, folder, file("folder/x"), suid, sym, null, fifo])).unwrap();
    assert_eq!((done.entries, done.dropped_xattrs, done.skipped_devices), (7, 4, 0));
    let meta = fs::metadata(bed.at("suid")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o6755, 1000, 1001));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_234_567_890, 5));
    assert_eq!(xattr(&bed.at("suid"), "security.capability"), Some(capability));
    assert_eq!(xattr(&bed.at("suid"), "user.kept"), Some(b"v".to_vec()));
    assert_eq!(xattr(&bed.at("suid"), "trusted.overlay.opaque"), None);
    assert!(!is_opaque(&bed.at("suid")) && !is_opaque(&bed.at("folder")));
    let meta = fs::metadata(bed.at("folder")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.mtime()), (0o2750, 7, 1000));
    assert_eq!(fs::metadata(bed.at("folder/x")).unwrap().gid(), 0);
    let meta = fs::symlink_metadata(bed.at("sym")).unwrap();
    assert_eq!((meta.uid(), meta.mtime()), (9, 77));
    let meta = fs::metadata(&bed.root).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o711, 3));
    let meta = fs::metadata(bed.at("null")).unwrap();
    assert_eq!((meta.rdev(), meta.mode() & 0o777), (rustix::fs::makedev(1, 3), 0o666));
    let meta = fs::metadata(bed.at("fifo")).unwrap();
    assert!(meta.file_type().is_fifo() && meta.mode() & 0o777 == 0o622);
}

#[test]
fn a_root_without_an_entry_is_plain() {
    let bed = Bed::new();
    fs::set_permissions(&bed.root, fs::Permissions::from_mode(0o700)).unwrap();
    bed.extract(&archive(&[file("a/b")])).unwrap();
    assert_eq!(fs::metadata(&bed.root).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(bed.at("a")).unwrap().mode() & 0o7777, 0o755);
}

/// A tree with what formats differ in: long names, links, holes, numbers.
fn sample(dir: &Path) {
    fs::create_dir_all(dir.join("d/".to_owned() + &"long".repeat(30))).unwrap();
    fs::write(dir.join("plain"), "plain").unwrap();
    fs::write(dir.join(format!("d/{}/{}", "long".repeat(30), "name".repeat(40))), "deep").unwrap();
    fs::hard_link(dir.join("plain"), dir.join("again")).unwrap();
    std::os::unix::fs::symlink("x".repeat(150), dir.join("sym")).unwrap();
    fs::write(dir.join("unicode-é"), "u").unwrap();
    let holes = fs::File::create(dir.join("holes")).unwrap();
    holes.set_len(9 << 20).unwrap();
    for at in 0..40u64 {
        std::os::unix::fs::FileExt::write_at(&holes, &[b'0' + at as u8; 4096], at * 200 * 1024).unwrap();
    }
}

fn same_tree(a: &Path, b: &Path) {
    let diff = Command::new("diff").args(["-r", "--no-dereference"]).args([a, b]).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
}

#[test]
fn what_gnu_tar_writes() {
    let bed = Bed::new();
    let source = tempfile::tempdir().unwrap();
    sample(source.path());
    for options in [
        &["--format=gnu"][..],
        &["--format=pax"],
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
        &["--format=gnu", "--mtime=2300-01-01"],
    ] {
        let made = Command::new("tar").args(options).args(["-cf", "-", "-C"]).arg(source.path()).arg(".").output();
        let made = made.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        crate::tree::empty(&crate::tree::open_folder(&bed.root).unwrap()).unwrap();
        bed.extract(&made.stdout).unwrap();
        same_tree(source.path(), &bed.root);
        let (plain, again) = (fs::metadata(bed.at("plain")).unwrap(), fs::metadata(bed.at("again")).unwrap());
        assert_eq!((plain.ino(), plain.nlink()), (again.ino(), 2), "{options:?}");
        let holes = fs::metadata(bed.at("holes")).unwrap();
        assert_eq!(holes.len(), 9 << 20);
        if options.contains(&"--sparse") {
            assert!(holes.blocks() * 512 < 1 << 20, "{options:?}: {} blocks", holes.blocks());
        }
    }
}

#[test]
fn what_python_writes() {
    let bed = Bed::new();
    let source = tempfile::tempdir().unwrap();
    sample(source.path());
    let script = "import sys,tarfile\nt=tarfile.open(fileobj=sys.stdout.buffer,mode='w|',format=getattr(tarfile,sys.argv[2]))\nt.add(sys.argv[1],arcname='.')\nt.close()";
    for format in ["GNU_FORMAT", "PAX_FORMAT"] {
        let made = Command::new("python3").args(["-c", script]).arg(source.path()).arg(format).output();
        let Ok(made) = made.inspect_err(|e| println!("skipped: python3 does not start: {e}")) else { return };
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        crate::tree::empty(&crate::tree::open_folder(&bed.root).unwrap()).unwrap();
        bed.extract(&made.stdout).unwrap();
        same_tree(source.path(), &bed.root);
    }
}

#[test]
fn deep_trees_are_deleted_by_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "x").unwrap();
    let top = dir.path().join("top");
    fs::create_dir(&top).unwrap();
    let mut current = crate::tree::open_folder(&top).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&current, "d", rustix::fs::Mode::RWXU).unwrap();
        rustix::fs::symlinkat(&outside, &current, "l").unwrap();
        current = rustix::fs::openat(&current, "d", crate::tree::FOLDER, rustix::fs::Mode::empty()).unwrap();
    }
    crate::tree::delete(&top).unwrap();
    assert!(!top.exists() && outside.join("file").exists());
}
