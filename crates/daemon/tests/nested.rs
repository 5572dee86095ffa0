//! Atoll in a container of Atoll: the programs are static, so that any image can carry them.

mod support;

use atoll_testkit::program;
use support::{archive, docker, finish, stock};

/// What runs inside: a daemon of its own, an image, containers with a network, with limits and with a restart policy.
const INSIDE: &str = "set -e
export PATH=/opt/atoll:/bin
atoll load -q -i /busybox.tar > /dev/null
atoll run --rm busybox:test echo hello
atoll run --rm --network none --memory 64m --pids-limit 20 busybox:test sh -c 'echo \"pid $$\"'
atoll run -d --name again --restart always busybox:test sh -c 'echo tick; sleep 0.1' > /dev/null
until [ \"$(atoll logs again | grep -c tick)\" -ge 2 ]; do sleep 0.1; done
atoll rm -f again
atoll run --rm --privileged busybox:test sh -c 'mkdir /m && mount -t tmpfs none /m && echo mounted'";

#[test]
fn a_daemon_in_a_container_has_containers_of_its_own() {
    let Some(host) = stock::host() else { return };
    let programs = program("atoll").parent().expect("programs lie in a folder").display().to_string();
    let programs = format!("{programs}:/opt/atoll:ro");
    let image = format!("{}:/busybox.tar:ro", archive(&host));
    let run = ["run", "-d", "--privileged", "--name", "outer", "-v", &programs, "-v", &image, "-v", "/var/lib/atoll"];
    stock::ok(&host, &[&run[..], &[support::IMAGE, "/opt/atoll/atolld"]].concat());
    let ran = finish(docker(&host, &["exec", "-i", "outer", "sh"]), INSIDE);
    let log = stock::run(&host, &["logs", "outer"]);
    assert_eq!(ran.code, Some(0), "{ran:?}\n{log:?}");
    let said: Vec<&str> = ran.out.lines().collect();
    assert!(said.starts_with(&["hello", "pid 1"]) && said.ends_with(&["again", "mounted"]), "{ran:?}");
    stock::ok(&host, &["rm", "-f", "-v", "outer"]);
}
