//! A check of the state finds what is wrong and changes nothing; a repair mends what can be mended.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use atoll_testkit::{TempHost, program};
use support::{IMAGE, Ran, host};

fn fsck(host: &TempHost, flags: &[&str]) -> Ran {
    let output = Command::new(program("atoll"))
        .args(["--root".as_ref(), host.root().as_os_str(), "--run".as_ref(), host.run().as_os_str()])
        .args(["system", "fsck"])
        .args(flags)
        .stdin(Stdio::null())
        .output()
        .expect("atoll starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// What is in a folder, largest first.
fn largest(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).expect("a folder").flatten().map(|it| it.path()).collect();
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().expect("it is there").len()));
    found
}

#[track_caller]
fn says(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    let mut lines: Vec<&str> = ran.out.lines().collect();
    for part in parts {
        let at = lines.iter().position(|line| line.contains(part));
        lines.remove(at.unwrap_or_else(|| panic!("{part:?} is not in {ran:?}")));
    }
    assert!(lines.is_empty(), "more is said: {lines:?}");
}

#[test]
fn each_damage_is_named_and_what_can_be_is_mended() {
    let Some(mut host) = host() else { return };
    host.ok(&["run", "--name", "one", "-v", "data:/data", IMAGE, "true"]);
    let busy = fsck(&host, &[]);
    assert!(busy.code == Some(8) && busy.err.contains("a daemon works on this state"), "{busy:?}");
    host.kill_daemon().expect("it ran");
    let clean = fsck(&host, &["--repair"]);
    assert!(clean.code == Some(1) && clean.out.lines().all(|line| line.contains("leftover")), "{clean:?}");
    says(&fsck(&host, &[]), 0, &[]);

    let store = host.root().join("store");
    // A layer's folder is lost: its blob brings it back.
    let layer = &largest(&store.join("layers"))[0];
    std::fs::remove_dir_all(layer).expect("a folder");
    std::fs::create_dir(store.join("layers/zz")).expect("a folder");
    std::fs::create_dir(host.root().join("volumes/nobodys")).expect("a folder");
    let parts = [": its folder is gone", "leftover", "leftover"];
    let before = std::fs::read(host.root().join("atoll.redb")).expect("metadata");
    says(&fsck(&host, &[]), 4, &parts);
    says(&fsck(&host, &[]), 4, &parts);
    assert_eq!(std::fs::read(host.root().join("atoll.redb")).expect("metadata"), before, "looking changes nothing");
    says(&fsck(&host, &["--repair"]), 1, &parts);
    says(&fsck(&host, &[]), 0, &[]);
    host.start_daemon(&[]).expect("it starts again");
    assert_eq!(host.ok(&["run", "--rm", IMAGE, "echo", "whole"]), "whole");

    // A blob changes on the disk: it goes, and the image says what it lacks.
    host.kill_daemon().expect("it ran");
    fsck(&host, &["--repair"]);
    let configuration = largest(&store.join("blobs/sha256")).pop().expect("blobs");
    std::fs::write(&configuration, "not what it was").expect("written");
    let lost = configuration.file_name().expect("a name").to_string_lossy().into_owned();
    let seen = fsck(&host, &[]);
    assert!(seen.code == Some(4) && seen.out.contains(&format!("{lost}: its content is not")), "{seen:?}");
    let mended = fsck(&host, &["--repair"]);
    assert!(
        mended.code == Some(4) && mended.out.contains("(mended)") && mended.out.contains("is missing"),
        "{mended:?}"
    );
    assert!(!configuration.exists());
}

#[test]
fn truncated_metadata_is_told_and_left_alone() {
    let Some(mut host) = host() else { return };
    host.kill_daemon().expect("it ran");
    let file = host.root().join("atoll.redb");
    let whole = std::fs::read(&file).expect("metadata");
    for length in [0, 1000, whole.len() / 2] {
        std::fs::write(&file, &whole[..length]).expect("written");
        let seen = fsck(&host, &[]);
        assert!(seen.code == Some(4) && seen.out.contains("atoll.redb"), "{length}: {seen:?}");
        assert_eq!(std::fs::read(&file).expect("metadata").len(), length, "it is left alone");
    }
    std::fs::write(&file, &whole).expect("written");
    host.start_daemon(&[]).expect("it starts again");
    assert_eq!(host.ok(&["run", "--rm", IMAGE, "echo", "whole"]), "whole");
}
