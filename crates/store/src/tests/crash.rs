//! SIGKILL at every failpoint: this test binary runs itself with a point armed, then the store is opened again.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use super::{Bed, image, open};
use crate::failpoint;

const DIR: &str = "ATOLL_STORE_CRASH_DIR";

/// What the child does until it is killed: every durable step of the store.
fn work(dir: &Path) {
    let store = open(dir);
    let lease = store.lease("crash").unwrap();
    let second = image(&store, &lease, "second", b"second");
    let layers: Vec<_> = store.image(&second.digest).unwrap().layers.into_iter().map(|l| l.diff_id).collect();
    store.create_root("w", &layers, is_limited(&store).then_some(64 << 20)).unwrap();
    let mut files = super::import::files();
    store.import_archive(&lease, &mut files.as_slice(), &|_| ()).unwrap();
    files.clear();
    drop(lease);
    store.unlink("second").unwrap();
    store.remove_root("w").unwrap();
    store.sweep(&[]).unwrap();
}

/// Whether the disk has project quota; the daemon's tests go through those points in a machine whose disk has.
fn is_limited(store: &crate::Store) -> bool {
    store.check_limits().is_ok()
}

/// Runs only in the child.
#[test]
fn child() {
    match std::env::var_os(DIR) {
        Some(dir) => work(Path::new(&dir)),
        None => println!("skipped: runs only as the child of the test beside it"),
    }
}

#[test]
fn a_kill_at_any_point_loses_nothing() {
    let exe = std::env::current_exe().unwrap();
    let mut untouched = Vec::new();
    let limited = is_limited(&Bed::new().store);
    if !limited {
        println!("skipped: the points of projects, this disk has no project quota");
    }
    for name in failpoint::NAMES.iter().filter(|name| limited || !name.starts_with("store.project.")) {
        let mut killed = 0;
        for count in 1..=20 {
            let bed = Bed::new();
            let lease = bed.store.lease("before").unwrap();
            let first = image(&bed.store, &lease, "first", b"first");
            drop(lease);
            let Bed { dir, store } = bed;
            drop(store);
            let status = Command::new(&exe)
                .args(["--exact", "tests::crash::child", "--nocapture", "--test-threads=1"])
                .env(DIR, dir.path())
                .env(failpoint::VARIABLE, format!("{name}:{count}"))
                .output()
                .unwrap()
                .status;
            if status.signal() != Some(9) {
                assert!(status.success(), "{name}:{count}: {status}");
                break;
            }
            killed += 1;
            let store = open(dir.path());
            let bed = Bed { dir, store };
            check(&bed, &first, &format!("{name}:{count}"));
        }
        if killed == 0 {
            untouched.push(name);
        }
    }
    assert!(untouched.is_empty(), "never reached: {untouched:?}");
}

fn check(bed: &Bed, first: &atoll_oci::Descriptor, at: &str) {
    let image = bed.store.image(&first.digest).unwrap();
    assert_eq!(std::fs::read(image.layers[0].path.join("file")).unwrap(), b"first", "{at}");
    // Every name leads to a complete image.
    for (name, target) in bed.store.links().unwrap() {
        let image = bed.store.image(&target.digest).unwrap_or_else(|e| panic!("{at}: {name}: {e}"));
        for layer in image.manifest.layers {
            assert_eq!(bed.store.stat(&layer.digest).unwrap(), Some(layer.size), "{at}");
        }
    }
    // Nothing half-made: only our own session and what has a record; leases of the dead are gone.
    assert_eq!((bed.count("tmp"), bed.count("leases")), (1, 0), "{at}");
    assert_eq!(bed.count("layers") as u64, bed.store.usage().unwrap().layers, "{at}");
    for root in bed.store.roots().unwrap() {
        assert!(bed.store.root(&root).unwrap().lower[0].is_dir(), "{at}");
        bed.store.remove_root(&root).unwrap();
    }
    // And the same work succeeds afterwards.
    bed.store.sweep(&[]).unwrap();
    let lease = bed.store.lease("after").unwrap();
    super::image(&bed.store, &lease, "second", b"second");
    let mut files = &*super::import::files();
    bed.store.import_archive(&lease, &mut files, &|_| ()).unwrap();
}
