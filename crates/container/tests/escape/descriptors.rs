//! Case 2: descriptors of the host.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};

use super::*;

/// More descriptors than the runtime ever has open.
const NUMBERS: std::ops::Range<u32> = 3..18;

/// Calls the runtime with the host's root open as descriptors 3 and 9, which an exec inherits.
fn call_with_leaks(bundle: &Bundle, arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3</ 9</; exec \"$@\"", "sh", RUNTIME, "--root"]).arg(bundle.path().join("state"));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn run_with_leaks(bundle: &Bundle, options: &[&str]) -> Output {
    let path = bundle.path();
    let arguments = [&["run", "-b", path.to_str().unwrap()], options, &[bundle.id.as_str()]].concat();
    call_with_leaks(bundle, &arguments)
}

/// CVE-2024-21626: the working folder is a descriptor of the host's, by its number or by a link of the image.
#[test]
fn a_leaked_descriptor_as_working_folder() {
    let Some(bundle) = bundle("echo escaped; ls") else { return };
    for (number, tail) in NUMBERS.flat_map(|number| [(number, ""), (number, "/tmp"), (number, "/../..")]) {
        let link = bundle.rootfs().join("way");
        let _ = fs::remove_file(&link);
        symlink(format!("/proc/self/fd/{number}{tail}"), &link).unwrap();
        for cwd in [format!("/proc/self/fd/{number}{tail}"), "/way".into(), "/proc/self/cwd".into()] {
            bundle.edit(|spec| spec["process"]["cwd"] = json!(cwd));
            let said = text(&run_with_leaks(&bundle, &[]));
            assert!(!said.contains("escaped"), "{cwd}: {said}");
        }
    }
}

/// CVE-2024-21626, by `exec --cwd`.
#[test]
fn a_leaked_descriptor_as_working_folder_of_exec() {
    let Some(bundle) = bundle("sleep 1000") else { return };
    symlink("/proc/self/fd/9", bundle.rootfs().join("way")).unwrap();
    bundle.detached(&["run", "-d"]);
    for cwd in NUMBERS.map(|number| format!("/proc/self/fd/{number}")).chain(["/way".into(), "/proc/1/root".into()]) {
        let said = text(&call_with_leaks(&bundle, &["exec", "--cwd", &cwd, &bundle.id, "sh", "-c", "echo escaped"]));
        assert!(!said.contains("escaped"), "{cwd}: {said}");
    }
    let said = text(&call_with_leaks(&bundle, &["exec", "--cwd", "/bin", &bundle.id, "pwd"]));
    assert_eq!(said, "/bin\n");
}

/// A process of the host's root without capabilities: a container's root may look into such a one, were it in reach.
struct Bystander(Child);

impl Bystander {
    fn new() -> Option<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "sleep", "600"]);
        match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => Some(Self(child)),
            Err(_) => {
                println!("skipped: needs setpriv (util-linux)");
                None
            }
        }
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As CVE-2024-21626, at the last moment: `execve` follows the image's link while the runtime still has descriptors, and
/// closes them only then. A program of the host that a container runs is one that it can overwrite.
#[test]
fn a_program_of_the_host_through_a_descriptor_of_the_runtime() {
    let Some(bundle) = bundle("sleep 1000") else { return };
    let Some(bystander) = Bystander::new() else { return };
    let host = folder(&bundle, "host");
    fs::copy(BUSYBOX, host.join("busybox")).unwrap();
    fs::write(host.join("script"), "#!/bin/sh\necho escaped\n").unwrap();
    fs::set_permissions(host.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in [bundle.path(), host.clone()] {
        fs::set_permissions(name, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let up = "/..".repeat(host.components().count() + 3);
    let host = host.display();
    let ways: Vec<String> = NUMBERS
        .flat_map(|number| {
            let fd = format!("/proc/self/fd/{number}");
            let pid = bystander.0.id();
            [
                format!("{fd}{host}"),
                format!("{fd}/{pid}/root{host}"),
                format!("{fd}{up}{host}"),
                format!("{fd}/self/root{host}"),
            ]
        })
        .collect();
    let check = |way: &str, preserve: &str, said: &str| {
        assert!(!said.contains("escaped"), "{way} with --preserve-fds {preserve}: {said}");
    };
    bundle.detached(&["run", "-d"]);
    let script = ["/sh", "-c", "echo escaped"];
    let Some(other) = super::bundle("") else { return };
    other.edit(|spec| {
        spec["root"]["path"] = json!(bundle.rootfs());
        spec["process"]["args"] = json!(script);
    });
    for (way, preserve) in ways.iter().flat_map(|way| [(way, "0"), (way, "5")]) {
        let link = bundle.rootfs().join("sh");
        let _ = fs::remove_file(&link);
        symlink(format!("{way}/busybox"), &link).unwrap();
        // Descriptor 3 is then the caller's wish, what is below it the caller's to answer for.
        if preserve == "5" && way.starts_with("/proc/self/fd/3/") {
            continue;
        }
        check(way, preserve, &text(&run_with_leaks(&other, &["--preserve-fds", preserve])));
        let arguments = [&["exec", "--preserve-fds", preserve, &bundle.id], script.as_slice()].concat();
        check(way, preserve, &text(&call_with_leaks(&bundle, &arguments)));
        let path = format!("PATH={way}");
        let arguments = ["exec", "-e", &path, "--preserve-fds", preserve, &bundle.id, "script"];
        check(way, preserve, &text(&call_with_leaks(&bundle, &arguments)));
    }
}

/// Descriptors that the caller has open stay behind, but for those that it names; those that the runtime itself has on such
/// numbers are not among them.
#[test]
fn descriptors_that_were_not_asked_for() {
    let Some(bundle) = bundle("ls /proc/self/fd; [ -e /proc/self/fd/3/bin/busybox ] && echo three") else { return };
    // The last one is the folder that ls reads.
    assert_eq!(text(&run_with_leaks(&bundle, &[])), "0\n1\n2\n3\n");
    assert_eq!(text(&run_with_leaks(&bundle, &["--preserve-fds", "1"])), "0\n1\n2\n3\n4\nthree\n");
    assert_eq!(text(&run_with_leaks(&bundle, &["--preserve-fds", "5"])), "0\n1\n2\n3\n4\nthree\n");
    assert_eq!(text(&run_with_leaks(&bundle, &["--preserve-fds", "7"])), "0\n1\n2\n3\n4\n9\nthree\n");
    let path = bundle.path();
    // More than there can be: what a program of this test inherits, and nothing else.
    let mut inherited = Command::new(BUSYBOX);
    let inherited = inherited.args(["ls", "/proc/self/fd"]).stdin(Stdio::null()).output().unwrap();
    let all = bundle.call(&["run", "--preserve-fds", "4000000000", "-b", path.to_str().unwrap(), &bundle.id]);
    assert_eq!(text(&all), text(&inherited));
}
