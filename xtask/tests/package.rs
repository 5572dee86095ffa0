//! The Debian package: its programs find each other and take systemd's sockets; in a machine with systemd it is installed,
//! upgraded, removed and purged while containers run.

#![allow(clippy::print_stdout, reason = "a failure here is the test's")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use atoll_testkit::machine::Machine;
use atoll_testkit::{require_root, tempdir};

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// What dpkg and the package's scripts run.
const TOOLS: [&str; 8] = ["dpkg", "dpkg-deb", "dpkg-split", "tar", "diff", "groupadd", "groupdel", "getent"];
/// Networks, which the machine's kernel has as modules.
const MODULES: [&str; 6] = ["bridge", "veth", "nf_tables", "nft_chain_nat", "nft_masq", "nft_ct"];

/// Makes a package into `folder`.
fn package(folder: &Path, revision: &str) -> PathBuf {
    let mut release = Command::new(env!("CARGO_BIN_EXE_xtask"));
    release.args(["release", "--revision", revision, "--out"]).arg(folder).stdout(Stdio::null());
    assert!(release.env("SOURCE_DATE_EPOCH", "1577836800").status().expect("it starts").success());
    let ending = format!("-{revision}_amd64.deb");
    let mut files = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    files.find(|path| path.to_string_lossy().ends_with(&ending)).expect("a package was made")
}

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_unpacked_daemon_serves_every_socket_that_systemd_hands_over() {
    if !require_root() {
        return;
    }
    if ["dpkg-deb", "systemd-socket-activate"].iter().any(|tool| Command::new(tool).arg("--version").output().is_err())
    {
        return println!("skipped: needs dpkg-deb and systemd-socket-activate");
    }
    let folder = tempdir();
    let at = |name: &str| folder.path().join(name);
    let unpacked = Command::new("dpkg-deb").arg("-x").args([package(folder.path(), "7"), at("files")]).status();
    assert!(unpacked.expect("dpkg-deb runs").success());
    let sockets = [at("atoll.sock"), at("docker.sock")];
    let daemon = Command::new("systemd-socket-activate")
        .args(sockets.iter().flat_map(|socket| ["-l".as_ref(), socket.as_os_str()]))
        .arg(at("files/usr/bin/atolld"))
        .args(["-H", "fd://", "--config"])
        .arg(at("files/etc/atoll/config.toml"))
        .args(["--root".as_ref(), at("root").as_os_str(), "--run".as_ref(), at("run").as_os_str()])
        .stderr(Stdio::null())
        .spawn();
    let _daemon = Ends(daemon.expect("systemd-socket-activate runs"));
    let deadline = Instant::now() + PATIENCE;
    for socket in &sockets {
        let ask = || {
            let mut ask = Command::new(at("files/usr/bin/atoll"));
            ask.args(["--host", &format!("unix://{}", socket.display()), "info", "--format", "{{.DockerRootDir}}"]);
            ask.output().expect("atoll starts")
        };
        let mut said = ask();
        while !said.status.success() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            said = ask();
        }
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), at("root").display().to_string(), "{said:?}");
    }
}

/// What an administrator does, with what is seen of it.
const SCRIPT: &str = r#"
set -e
mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers
touch /var/lib/dpkg/status /var/lib/dpkg/available /var/log/dpkg.log
dpkg() { /usr/bin/dpkg --force-bad-path --force-depends "$@" || { echo "dpkg $* failed"; exit 1; }; }
say() { echo "$1: $(eval "$2" 2>&1 | tr '\n' ' ')"; }
pids() { atoll inspect -f '{{.State.Pid}}' always plain; }

dpkg -i /one.deb
say socket 'stat -c "%U:%G %a" /run/atoll/atoll.sock'
say enabled 'systemctl is-enabled atoll.socket atoll.service atoll-docker.socket'
say active 'systemctl is-active atoll.socket atoll.service atoll-docker.socket'

mkdir -p /image/bin && cp /usr/bin/busybox /image/bin && ln -s busybox /image/bin/sleep && ln -s busybox /image/bin/sh
tar -C /image -cf /image.tar . && atoll import /image.tar demo > /dev/null
atoll run -d --name always --restart always demo sleep 100000 > /dev/null
atoll run -d --name plain demo sleep 100000 > /dev/null
before=$(pids)

systemctl restart atoll.service
[ "$before" = "$(pids)" ] && echo 'restarted: the same processes'
daemon=$(systemctl show -P MainPID atoll.service)
dpkg -i /two.deb
[ "$before" = "$(pids)" ] && echo 'upgraded: the same processes'
[ "$daemon" != "$(systemctl show -P MainPID atoll.service)" ] && echo 'upgraded: another daemon'
say version 'dpkg-query --admindir=/var/lib/dpkg -W -f "\${Version} \${Status}" atoll'
say exec 'atoll exec plain sh -c "echo inside"'
dpkg -i --force-downgrade /one.deb
[ "$before" = "$(pids)" ] && echo 'rolled back: the same processes'

systemctl stop atoll.service
systemctl enable -q --now atoll-docker.socket
say docker 'atoll -H unix:///run/docker.sock ps -q | wc -l'
say docker-socket 'stat -c "%U:%G %a" /run/docker.sock'

# What a reboot does to us: everything ends, the run folder is gone, systemd starts what is enabled.
systemctl stop atoll-docker.socket atoll.socket atoll.service
systemctl kill --signal KILL atoll.service || true
kill -9 $before
sleep 1
rm -rf /run/atoll
systemctl start atoll.socket
systemctl start atoll.service
say rebooted 'atoll inspect -f "{{.Name}} {{.State.Status}}" always plain'
say fresh 'atoll inspect -f "{{.State.Pid}}" always | grep -v -x -F "'"$before"'" | wc -l'

dpkg --remove atoll
say removed 'ls /usr/bin/atoll* /run/atoll /run/docker.sock'
say processes 'pidof sleep atolld atoll-shim | wc -w'
say groups 'ls -d /sys/fs/cgroup/atoll-* | wc -l'
say bridges 'ls /sys/class/net | grep -c atl-'
say state 'ls /var/lib/atoll'
dpkg --purge atoll
say purged 'ls -d /var/lib/atoll /etc/atoll; getent group atoll; find /etc/systemd -name "*atoll*"'
say left 'systemctl list-units --all --no-legend "atoll*" | wc -l'
echo done
"#;

#[test]
#[ignore = "boots a machine: run by hand before a release"]
fn installed_upgraded_and_removed_while_containers_run() {
    let Some(machine) = Machine::full_host_with_kernel("6.12", &MODULES) else { return };
    let folder = tempdir();
    for (revision, name) in [("1", "one.deb"), ("2", "two.deb")] {
        machine.add(&package(folder.path(), revision), name).expect("the package is copied");
    }
    for tool in TOOLS {
        machine.add_program(tool).expect("the host has it");
    }
    let outcome = machine.run(SCRIPT).expect("the machine starts");
    println!("{}", outcome.output);
    assert_eq!(outcome.code, Some(0), "in the machine");
}
