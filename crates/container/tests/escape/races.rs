//! Cases 3, 4 and 12: a second container that shares a volume exchanges names while the runtime works.

use super::*;

/// Containers that are started against each neighbour.
const ROUNDS: u32 = 25;

/// A container that exchanges two names of a volume as fast as it can, until dropped.
fn swapper(volume: &Path, first: &str, second: &str) -> Option<Bundle> {
    let program = format!(
        r#"$| = 1; ($a, $b, $n) = ("/vol/{first}", "/vol/{second}", 0);
           while (1) {{ syscall({}, -100, $a, -100, $b, 2) == 0 or die "$!"; print "swapped\n" if $n++ == 1000; }}"#,
        libc::SYS_renameat2
    );
    let bundle = perl(&program)?;
    add_bind(&bundle, volume, "/vol", "rw");
    bundle.detached(&["run", "-d"]);
    wait_for_word(&bundle, "swapped");
    Some(bundle)
}

/// Runs a container again and again; what each said, whether it started or was refused.
fn rounds(bundle: &Bundle, neighbour: &Bundle, mut check: impl FnMut(&str)) {
    for _ in 0..ROUNDS {
        check(&text(&bundle.run()));
    }
    assert_eq!(neighbour.status(), "running", "{}", neighbour.written());
}

/// CVE-2021-30465, CVE-2024-45310: folders of a mount's destination become links to the host while they are made and mounted
/// on. Nothing is made on the host, and the container sees its mounts below its own root or does not start.
#[test]
fn exchanging_the_destination_of_a_mount() {
    for absolute in [true, false] {
        let script =
            "while read a b c d e f; do echo $e; done < /proc/self/mountinfo | grep -e made -e outside; echo up";
        let Some(bundle) = bundle(script) else { return };
        let (volume, outside) = (folder(&bundle, "volume"), folder(&bundle, "outside"));
        fs::create_dir(volume.join("way")).unwrap();
        let up = if absolute { String::new() } else { "../".repeat(20) };
        symlink(format!("{up}{}", outside.display()), volume.join("link")).unwrap();
        fs::write(bundle.path().join("file"), "").unwrap();
        add_bind(&bundle, &volume, "/vol", "rw");
        for (index, name) in ["made", "made/deep/er", "made-too"].iter().enumerate() {
            let destination = format!("/vol/way/{name}");
            match index {
                2 => add_bind(&bundle, &bundle.path().join("file"), &destination, "ro"),
                _ => bundle.edit(|spec| {
                    let mount = json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"});
                    spec["mounts"].as_array_mut().unwrap().push(mount);
                }),
            }
        }
        let cwd = "/vol/way/working/folder";
        bundle.edit(|spec| {
            spec["process"]["cwd"] = json!(cwd);
            let fifo = json!([{"path": "/vol/way/fifo", "type": "p"}]);
            spec["linux"]["devices"] = fifo;
        });
        let Some(neighbour) = swapper(&volume, "way", "link") else { return };
        rounds(&bundle, &neighbour, |said| {
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made on the host: {said}");
            let inside =
                |line: &str| line.starts_with("/vol/") || line.starts_with(outside.to_str().unwrap()) || line == "up";
            assert!(!said.contains("up\n") || said.lines().all(inside), "{said}");
            // The copies that the link led to inside of the root.
            let _ = fs::remove_dir_all(bundle.rootfs().join(outside.strip_prefix("/").unwrap()));
        });
    }
}

/// CVE-2025-31133, CVE-2025-62161: a shared `/dev/null` becomes a link to a kernel parameter while files are hidden with it.
#[test]
fn exchanging_the_null_device_while_masking() {
    let masked = ["/proc/timer_list", "/proc/keys", "/proc/interrupts"];
    let script = format!("stat -c %t:%T {0}; cat {0} | wc -c", masked.join(" "));
    let Some(bundle) = bundle(&script) else { return };
    let volume = folder(&bundle, "volume");
    fs::create_dir(volume.join("pts")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        volume.join("null"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    symlink("/proc/sys/kernel/core_pattern", volume.join("link")).unwrap();
    bundle.edit(|spec| {
        spec["linux"]["maskedPaths"] = json!(masked);
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    });
    add_bind(&bundle, &volume, "/dev", "rw");
    let Some(neighbour) = swapper(&volume, "null", "link") else { return };
    rounds(&bundle, &neighbour, |said| assert_eq!(said, "1:3\n1:3\n1:3\n0\n"));
}

/// CVE-2025-52565: `/dev/pts` and `/dev/console` become links while the terminal is made.
#[test]
fn exchanging_the_places_of_a_terminal() {
    for name in ["pts", "console"] {
        let script = "while read a b c d e f; do case $f in *devpts*) echo at $e;; esac; done < /proc/self/mountinfo; \
                      [ -t 0 ] && echo terminal";
        let Some(bundle) = bundle(script) else { return };
        let (volume, outside) = (folder(&bundle, "volume"), folder(&bundle, "outside"));
        match name {
            "pts" => fs::create_dir(volume.join(name)).unwrap(),
            _ => fs::write(volume.join(name), "").unwrap(),
        }
        // There inside of the root too: a link that is followed leads somewhere in any case.
        let inside = bundle.rootfs().join(outside.strip_prefix("/").unwrap());
        fs::create_dir_all(&inside).unwrap();
        symlink(&outside, volume.join("link")).unwrap();
        bundle.edit(|spec| {
            spec["process"]["terminal"] = json!(true);
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] == "/proc" || mount["destination"] == "/dev/pts");
            let bind = json!({"destination": "/dev", "type": "bind", "source": volume, "options": ["rbind"]});
            mounts.insert(1, bind);
        });
        let Some(neighbour) = swapper(&volume, name, "link") else { return };
        rounds(&bundle, &neighbour, |said| {
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made on the host: {said}");
            let said = said.replace('\r', "");
            // The folder that is mounted on may have the other name by now.
            let started = ["/dev/pts", "/dev/link"].map(|place| format!("at {place}\nterminal\n"));
            assert!(started.contains(&said) || said.contains("atoll-runtime: mount point"), "{name}: {said}");
        });
        assert_eq!(fs::read_dir(inside).unwrap().count(), 0, "a link was followed");
    }
}
