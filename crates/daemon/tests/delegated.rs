//! An ordinary user to whom control groups of version 2 are delegated, in a machine with Debian's kernel: limits are kept and
//! workloads are paused. The user has no subordinate ids there.

mod support;

use atoll_testkit::machine::Machine;
use atoll_testkit::{Layer, program};

/// What root prepares: a user, and a part of the hierarchy that belongs to it, as systemd's user manager has one.
const PREPARE: &str = "
echo user:x:1000:1000::/home/user:/bin/sh >> /etc/passwd
echo user:x:1000: >> /etc/group
mkdir -p /home/user /run/user
chown 1000:1000 /home/user /run/user
cd /sys/fs/cgroup
echo '+memory +pids +cpu' > cgroup.subtree_control
mkdir -p user/daemon
echo '+memory +pids +cpu' > user/cgroup.subtree_control
for file in . cgroup.procs cgroup.subtree_control cgroup.threads; do chown 1000:1000 user/$file user/daemon/$file; done
echo $$ > user/daemon/cgroup.procs
cd /
exec su user -c 'sh /as-user'
";

/// What the user does.
const USE: &str = r#"
set -e
export XDG_RUNTIME_DIR=/run/user HOME=/home/user PATH=/bin:/programs
atoll load -i /plain.tar
echo "driver $(atoll info --format '{{.CgroupDriver}} {{.MemoryLimit}} {{.CgroupVersion}}')"
atoll info | grep -c 'WARNING: no control groups' || echo 'not warned'
atoll run --rm --network none -m 64m --pids-limit 20 plain:test sh -c \
    'echo "limits $(cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max | tr "\n" " ")"; cat /proc/self/cgroup'
atoll run -d --name long --network none plain:test sleep 1000
atoll pause long
echo "paused $(atoll inspect -f '{{.State.Status}}' long)"
kill -9 $(cat /run/user/atoll/atolld.pid)
echo "adopted $(atoll inspect -f '{{.State.Status}}' long)"
atoll unpause long
echo "exec $(atoll exec long id -u)"
atoll rm -f long
echo "left $(find /sys/fs/cgroup/user/atoll-* -mindepth 1 -type d | wc -l)"
echo done
"#;

#[test]
fn limits_are_kept_where_groups_are_delegated() {
    if !atoll_testkit::require_root() {
        return;
    }
    let Some(image) = support::busybox() else { return };
    let Some(machine) = Machine::new("cgroup_no_v1=all") else { return };
    for name in ["atoll", "atolld", "atoll-shim"] {
        machine.add(&program(name), &format!("programs/{name}")).expect("the program is copied");
    }
    let files = atoll_testkit::tempdir();
    let archive = image.layer(Layer::new().folder("srv")).docker_archive("plain:test");
    for (name, content) in [("plain.tar", archive), ("as-user", USE.as_bytes().to_vec())] {
        let path = files.path().join(name);
        std::fs::write(&path, content).expect("a file");
        machine.add(&path, name).expect("the file is copied");
    }
    let outcome = machine.run(PREPARE).expect("the machine starts");
    println!("{}", outcome.output);
    assert_eq!(outcome.code, Some(0), "in the machine");
    for line in [
        "driver cgroupfs true 2",
        "not warned",
        "limits 67108864 20",
        "0::/",
        "paused paused",
        "adopted paused",
        "exec 0",
        "left 0",
        "done",
    ] {
        assert!(outcome.output.lines().any(|said| said.trim() == line), "{line:?} is missing");
    }
}
