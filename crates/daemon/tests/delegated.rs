//! A machine with Debian's kernel, for what the hosts of other tests lack. An ordinary user to whom control groups of version 2
//! are delegated: limits are kept and workloads are paused; the user has no subordinate ids there. Before that, root's daemon on
//! a disk with project quota: what containers write is limited, and no limit is left behind by a daemon that is killed.

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
sh /as-root || exit 1
exec su user -c 'sh /as-user'
";

/// What root does on a disk of its own.
const LIMIT: &str = r#"
set -e
export PATH=/bin:/programs ATOLL_HOST=unix:///run/limited/atoll.sock
truncate -s 400M /disk
mkfs.xfs -q /disk
mkdir /limited
mount -t xfs -o loop,prjquota /disk /limited
start() {
    ATOLL_FAILPOINT=$1 atolld --root /limited/atoll --run /run/limited 2>> /daemon.log &
    daemon=$!
    until atoll version > /dev/null 2>&1; do kill -0 $daemon; done
}
limits() { xfs_quota -x -c 'report -p -b -n -N' /limited | awk '$4 > 0' | wc -l; }
fill='dd if=/dev/zero of=/srv/file bs=1M count=30 2>&1 | grep -o "No space left" || echo fits'

start ''
atoll load -i /plain.tar
echo "limited $(atoll run --name one --network none --storage-opt size=20m plain:test sh -c "$fill; df -k / | tail -n 1")"
echo "free $(atoll run --rm --network none plain:test sh -c "$fill")"
echo "shown $(atoll inspect -f '{{.HostConfig.StorageOpt.size}}' one), $(limits) has one"
atoll create --name two --network none --storage-opt size=8m plain:test sh -c "$fill" > /dev/null
echo "two have $(limits) limits, under $(xfs_quota -x -c 'report -p -b -n -N' /limited | awk '$4 > 0 { print $1 }' | uniq | wc -l) numbers"
# Whoever owns a file can move it out of its project, but for what the limit takes away.
tools='-v /bin/chattr:/bin/chattr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro'
leave="chattr -p 0 /srv; chattr -P /srv; $fill"
for trust in --cap-add=CHOWN --security-opt=seccomp=unconfined --privileged; do
    echo "$trust $(atoll run --rm --network none --storage-opt size=20m $trust $tools plain:test sh -c "$leave" 2>&1 | tail -n 1)"
done
atoll rm one two > /dev/null
until [ $(limits) = 0 ]; do :; done
kill -9 $daemon

for point in store.project.recorded store.project.limited store.root.renamed; do
    start $point
    atoll create --name made --network none --storage-opt size=20m plain:test sh -c "$fill" > /dev/null 2>&1 || true
    wait $daemon || true
    start ''
    echo "$point: $(atoll start -a made), $(limits) limit"
    atoll rm made > /dev/null
    until [ $(limits) = 0 ]; do :; done
    kill -9 $daemon
done
for point in remove.after-record store.root.removing store.project.unlimited; do
    start $point
    atoll create --name made --network none --storage-opt size=20m plain:test true > /dev/null
    atoll rm made > /dev/null 2>&1 || true
    wait $daemon || true
    start ''
    echo "$point: $(atoll ps -aq | wc -l) containers, $(limits) limits"
    kill -9 $daemon
done

wait $daemon || true
umount /limited
mount -t xfs -o loop /disk /limited
start ''
atoll create --storage-opt size=20m plain:test true 2>&1 | grep -o 'mount it with prjquota'
kill -9 $daemon
wait $daemon || true
umount /limited
"#;
/// What that says.
const LIMITED: [&str; 14] = [
    "limited No space left",
    "free fits",
    "shown 20971520, 1 has one",
    "two have 2 limits, under 2 numbers",
    "--cap-add=CHOWN No space left",
    "--security-opt=seccomp=unconfined No space left",
    "--privileged fits",
    "store.project.recorded: No space left, 1 limit",
    "store.project.limited: No space left, 1 limit",
    "store.root.renamed: No space left, 1 limit",
    "remove.after-record: 0 containers, 0 limits",
    "store.root.removing: 0 containers, 0 limits",
    "store.project.unlimited: 0 containers, 0 limits",
    "mount it with prjquota",
];

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
fn limits_are_kept_where_groups_are_delegated_and_disks_have_quota() {
    if !atoll_testkit::require_root() {
        return;
    }
    let Some(image) = support::busybox() else { return };
    let Some(machine) = Machine::with_kernel("6.12", &["loop", "xfs"], "cgroup_no_v1=all") else { return };
    for name in ["mkfs.xfs", "xfs_quota", "chattr"] {
        machine.add_program(name).expect("xfsprogs and e2fsprogs are installed");
    }
    for name in ["atoll", "atolld", "atoll-shim"] {
        machine.add(&program(name), &format!("programs/{name}")).expect("the program is copied");
    }
    let files = atoll_testkit::tempdir();
    let archive = image.layer(Layer::new().folder("srv")).docker_archive("plain:test");
    let scripts = [("as-root", LIMIT.into()), ("as-user", USE.into())];
    for (name, content) in [("plain.tar", archive)].into_iter().chain(scripts) {
        let path = files.path().join(name);
        std::fs::write(&path, content).expect("a file");
        machine.add(&path, name).expect("the file is copied");
    }
    let outcome = machine.run(PREPARE).expect("the machine starts");
    println!("{}", outcome.output);
    assert_eq!(outcome.code, Some(0), "in the machine");
    let size = |line: &str| line.split_whitespace().nth(1) == Some("20480");
    assert!(
        outcome.output.lines().any(|line| line.ends_with(" /") && size(line)),
        "df shows another size than the limit"
    );
    for line in LIMITED.into_iter().chain([
        "driver cgroupfs true 2",
        "not warned",
        "limits 67108864 20",
        "0::/",
        "paused paused",
        "adopted paused",
        "exec 0",
        "left 0",
        "done",
    ]) {
        assert!(outcome.output.lines().any(|said| said.trim() == line), "{line:?} is missing");
    }
}
