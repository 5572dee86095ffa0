//! Other people's engines on `atoll-runtime`, unmodified: dockerd, podman and containerd from Debian's packages.
//!
//! Every case is a line of shell with the engine's own client, `$R` being the runtime. It runs on runc first, which proves
//! the case, then on ours: both print what is expected. An engine that is not installed is skipped aloud.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests: a failure here is the test's")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use atoll_testkit::TestUser;

const RUNTIME: &str = env!("CARGO_BIN_EXE_atoll-runtime");
const APPLETS: [&str; 15] =
    ["sh", "cat", "id", "echo", "sleep", "ps", "env", "tty", "stty", "head", "dd", "touch", "readlink", "true", "ls"];

/// An engine with a folder of its own, and what its clients need in their environment.
struct Engine {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
    environment: Vec<(&'static str, String)>,
    /// Whose clients they are, when not root's.
    user: Option<TestUser>,
    /// How the engine calls runc, and us.
    runtimes: [String; 2],
}

impl Engine {
    /// `None`, said aloud, where a program is missing or the caller is not root.
    fn new(programs: &[&str], runtimes: [&str; 2]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        for program in programs.iter().chain(&["runc", "/bin/busybox"]) {
            let found =
                Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
            if !found.unwrap().success() {
                println!("skipped: needs {program}");
                return None;
            }
        }
        let dir = tempfile::Builder::new().prefix("atoll-engine-").tempdir().unwrap();
        let bin = dir.path().join("root/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        Some(Self { dir, daemon: None, environment: Vec::new(), user: None, runtimes: runtimes.map(str::to_owned) })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Starts the engine's daemon and waits until `ready` succeeds.
    fn start(&mut self, program: &str, arguments: &[&str], ready: &str) {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        for _ in 0..300 {
            if self.shell(ready, "").1 == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{program} does not answer: {}", fs::read_to_string(self.path("log")).unwrap());
    }

    /// Runs a line; gives what it printed and its exit code.
    fn shell(&self, line: &str, runtime: &str) -> (String, i32) {
        let mut command = match &self.user {
            Some(user) => user.command("timeout"),
            None => Command::new("timeout"),
        };
        command.args(["120", "sh", "-c", line]).stdin(Stdio::null());
        if self.user.is_none() {
            command.current_dir(self.dir.path());
        }
        command.env("R", runtime).env("ROOT", self.path("root")).env_remove("DOCKER_HOST");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        if !output.stderr.is_empty() {
            println!("{line}\n{}", String::from_utf8_lossy(&output.stderr));
        }
        (text.trim().to_owned(), output.status.code().unwrap_or(-1))
    }

    /// `line` prints `expected`, on runc and on ours.
    #[track_caller]
    fn check(&self, line: &str, expected: &str) {
        for runtime in &self.runtimes {
            let (printed, _) = self.shell(line, runtime);
            assert_eq!(printed, expected, "with {runtime}: {line}");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let pid = i32::try_from(daemon.id()).unwrap();
            rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM)
                .unwrap();
            let _ = daemon.wait();
        }
    }
}

/// A client on a terminal: util-linux' script makes one, and here feeds it nothing.
const TERMINAL: &str = "on_terminal() { sleep 5 | script -qec \"$*\" /dev/null; };";
/// The client's terminal gets another size while the program waits; then the program tells its own.
const RESIZE: &str =
    "resized() { sleep 6 | script -qec \"(sleep 2; stty -F /dev/tty rows 33 cols 99) & $*\" /dev/null; };";

#[test]
fn dockerd() {
    let Some(mut engine) = Engine::new(&["dockerd", "docker", "script"], ["runc", "atoll"]) else { return };
    engine.environment.push(("DOCKER_HOST", format!("unix://{}", engine.text("docker.sock"))));
    let host = engine.environment[0].1.clone();
    let (data, exec, pid) = (engine.text("data"), engine.text("exec"), engine.text("pid"));
    let runtime = format!("atoll={RUNTIME}");
    let arguments = [
        "--data-root",
        &data,
        "--exec-root",
        &exec,
        "--pidfile",
        &pid,
        "-H",
        &host,
        "--bridge",
        "none",
        "--iptables=false",
        "--storage-driver",
        "vfs",
        "--add-runtime",
        &runtime,
    ];
    engine.start("dockerd", &arguments, "docker version");
    assert_eq!(engine.shell("tar -C $ROOT -c . | docker import - bb", "").1, 0);
    let run = |rest: &str| format!("docker run --rm --runtime $R --network none {rest}");
    engine.check(&run("bb echo hi"), "hi");
    engine.check(&(run("bb sh -c 'exit 7'") + "; echo $?"), "7");
    engine.check(&(run("bb nothing") + " 2>&-; echo $?"), "127");
    engine.check(&(run("bb /bin") + " 2>&-; echo $?"), "126");
    engine.check(&run("--user 7:8 --group-add 9 bb id"), "uid=7 gid=8 groups=8,9");
    engine.check(&run("--read-only --tmpfs /t bb sh -c 'touch /x 2>&- || touch /t/x && echo kept'"), "kept");
    engine.check(
        &run("--cap-drop ALL --cap-add CHOWN bb cat /proc/self/status | grep CapEff"),
        "CapEff:\t0000000000000001",
    );
    engine.check(&run("--security-opt no-new-privileges bb cat /proc/self/status | grep NoNewPrivs"), "NoNewPrivs:\t1");
    engine.check(&run("--ulimit nofile=100:200 bb sh -c 'ulimit -n; ulimit -Hn'"), "100\n200");
    engine.check(&run("--sysctl kernel.shmmax=65536 bb cat /proc/sys/kernel/shmmax"), "65536");
    engine.check(&run("-m 64m --cpus .5 --pids-limit 50 bb sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max'"), "67108864\n50");
    engine.check(&run("-v $ROOT:/m:ro bb ls /m/bin/busybox"), "/m/bin/busybox");
    engine.check(&run("--init bb cat /proc/1/comm"), "docker-init");
    engine.check(
        &run("--pid host bb readlink /proc/self/ns/pid"),
        &fs::read_link("/proc/self/ns/pid").unwrap().to_string_lossy(),
    );
    // runc insists on capabilities that this host's root may lack.
    assert_eq!(engine.shell(&run("--privileged bb ls -d /dev/loop-control"), "atoll").0, "/dev/loop-control");
    engine.check(
        &(TERMINAL.to_owned() + "on_terminal docker run --rm --runtime $R --network none -it bb tty"),
        "/dev/pts/0",
    );
    let alive = |rest: &str| {
        format!(
            "docker run -d --name live --runtime $R --network none bb sleep 1000 >&-; {rest}; docker rm -f live >&-"
        )
    };
    engine.check(&alive("docker exec live echo in; docker exec live sh -c 'exit 9'; echo $?"), "in\n9");
    engine.check(&alive("docker exec -u 5 -e A=b live sh -c 'id -u; echo $A'"), "5\nb");
    engine.check(&(TERMINAL.to_owned() + &alive("on_terminal docker exec -it live tty")), "/dev/pts/0");
    let resized = "resized docker run --rm --runtime $R --network none -it bb sh -c \\'sleep 4\\; stty size\\'";
    engine.check(&(RESIZE.to_owned() + resized), "33 99");
    engine.check(
        &alive("docker pause live; docker inspect -f {{.State.Status}} live; docker unpause live"),
        "live\npaused\nlive",
    );
    engine.check(&alive("docker update -m 100m --memory-swap 200m --pids-limit 30 live; docker exec live cat /sys/fs/cgroup/memory/memory.limit_in_bytes"), "live\n104857600");
    engine.check(&alive("docker stats --no-stream --format {{.PIDs}} live; docker top live -o pid,cmd | tail -1 | cut -d' ' -f2- | tr -d ' 0-9'"), "1\nsleep");
    engine.check(&alive("docker kill -s KILL live >&-; docker wait live; docker start live; docker restart -t 0 live; docker stop -t 0 live"), "137\nlive\nlive\nlive");
    engine.check("docker run --name oom --runtime $R --network none -m 20m bb dd if=/dev/zero of=/dev/null bs=100M count=1; docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' oom; docker rm oom >&-", "true 137");
}

#[test]
fn podman() {
    let Some(mut engine) = Engine::new(&["podman", "conmon", "script"], ["runc", RUNTIME]) else { return };
    let options = format!(
        "--root {} --runroot {} --cgroup-manager cgroupfs --events-backend file --storage-driver vfs",
        engine.text("storage"),
        engine.text("run")
    );
    // Its own defaults are above the hard limits of a caller without CAP_SYS_RESOURCE.
    let config = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
    fs::write(engine.path("containers.conf"), config).unwrap();
    engine.environment.push(("CONTAINERS_CONF", engine.text("containers.conf")));
    engine.environment.push(("P", format!("podman {options} --runtime ")));
    assert_eq!(engine.shell("tar -C $ROOT -c . | ${P}runc import - bb", "").1, 0);
    let run = |rest: &str| format!("$P$R run --rm --network none --log-driver k8s-file {rest}");
    engine.check(&run("bb echo hi"), "hi");
    engine.check(&(run("bb sh -c 'exit 7'") + "; echo $?"), "7");
    engine.check(&(run("bb nothing") + " 2>&-; echo $?"), "127");
    engine.check(&(run("bb /bin") + " 2>&-; echo $?"), "126");
    engine.check(&run("--user 7:8 bb id -u"), "7");
    engine.check(&run("--read-only --tmpfs /t bb sh -c 'touch /x 2>&- || touch /t/x && echo kept'"), "kept");
    engine.check(&run("--cap-drop ALL bb cat /proc/self/status | grep CapEff"), "CapEff:\t0000000000000000");
    engine.check(&run("-m 64m --pids-limit 50 bb sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max'"), "67108864\n50");
    let resized = "resized $P$R run --rm --network none -it bb sh -c \\'sleep 4\\; stty size\\'";
    engine.check(&(RESIZE.to_owned() + resized), "33 99");
    engine.check(&run("--uidmap 0:100000:1000 --gidmap 0:100000:1000 bb sh -c 'id -u; cat /proc/self/uid_map | tr -s \" \"' | tr -s ' '"), "0\n 0 100000 1000");
    engine.check(&(TERMINAL.to_owned() + "on_terminal $P$R run --rm --network none -it bb tty"), "/dev/pts/0");
    let alive = |rest: &str| {
        format!("$P$R run -d --name live --network none bb sleep 1000 >&-; {rest}; $P$R rm -ft 0 live >&-")
    };
    engine.check(&alive("$P$R exec live echo in; $P$R exec live sh -c 'exit 9'; echo $?"), "in\n9");
    engine.check(
        &alive(
            "$P$R pause live >&-; $P$R inspect -f '{{.State.Status}}' live; $P$R unpause live >&-; $P$R inspect -f '{{.State.Status}}' live",
        ),
        "paused\nrunning",
    );
    engine.check(&alive("$P$R kill -s KILL live >&-; $P$R wait live"), "137");
}

#[test]
fn podman_of_an_ordinary_user() {
    let programs = ["podman", "conmon", "newuidmap", "useradd"];
    let Some(mut engine) = Engine::new(&programs, ["runc", RUNTIME]) else { return };
    let user = TestUser::new(true).unwrap();
    fs::set_permissions(engine.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(user.runtime_folder()).unwrap();
    let config = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
    fs::write(user.home().join("containers.conf"), config).unwrap();
    user.own(user.home()).unwrap();
    engine.environment.push(("CONTAINERS_CONF", user.home().join("containers.conf").to_str().unwrap().to_owned()));
    let podman = "podman --cgroup-manager cgroupfs --events-backend file --storage-driver vfs --runtime ";
    engine.environment.push(("P", podman.to_owned()));
    let ids = format!("0 {} 1\n1 {}", user.uid, user.subordinate.unwrap());
    engine.user = Some(user);
    assert_eq!(engine.shell("tar -C $ROOT -c . | ${P}runc import - bb", "").1, 0);
    let run = |rest: &str| format!("$P$R run --rm --network none --log-driver k8s-file {rest}");
    engine.check(&run("bb sh -c 'echo hi; exit 7'; echo $?"), "hi\n7");
    engine.check(&(run("bb cat /proc/self/uid_map | tr -s ' ' | sed 's/^ //; s/ 65536$//'")), &ids);
    engine.check(&run("--user 7:8 bb id"), "uid=7 gid=8 groups=8");
    engine.check(&run("bb sh -c 'touch /x; echo x > /dev/null; ls -ld /x | head -c 10'"), "-rw-r--r--");
    let alive = |rest: &str| {
        format!("$P$R run -d --name live --network none bb sleep 1000 >&-; {rest}; $P$R rm -ft 0 live >&-")
    };
    engine.check(&alive("$P$R exec live echo in; $P$R exec live sh -c 'exit 9'; echo $?"), "in\n9");
    engine.check(&alive("$P$R kill -s KILL live >&-; $P$R wait live"), "137");
}

#[test]
fn containerd() {
    let Some(mut engine) = Engine::new(&["containerd", "ctr", "script"], ["runc", RUNTIME]) else { return };
    let socket = engine.text("containerd.sock");
    let config = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
        engine.path("data"),
        engine.path("state")
    );
    fs::write(engine.path("config.toml"), config).unwrap();
    engine.environment.push(("C", format!("ctr -a {socket}")));
    let config = engine.text("config.toml");
    engine.start("containerd", &["-c", &config], "$C version");
    let run = |rest: &str| format!("$C run --rm --runc-binary $R {rest}");
    let program = "--env PATH=/bin --rootfs $ROOT one";
    engine.check(&run(&format!("{program} sh -c 'echo hi; exit 5'; echo $?")), "hi\n5");
    let limited = "$C run -d --runc-binary $R --memory-limit 33554432 --env PATH=/bin --rootfs $ROOT one sleep 1000
        pid=$($C t ls | grep one | tr -s ' ' | cut -d' ' -f2); group=$(grep :memory: /proc/$pid/cgroup | cut -d: -f3)
        cat /sys/fs/cgroup/memory$group/memory.limit_in_bytes
        $C t kill -s KILL one; sleep .5; $C t rm one 2>&-; $C c rm one";
    engine.check(limited, "33554432");
    engine.check(
        &(TERMINAL.to_owned() + "on_terminal $C run -t --rm --runc-binary $R " + program + " tty"),
        "/dev/pts/0",
    );
    let alive = |rest: &str| {
        format!(
            "$C run -d --runc-binary $R {program} sleep 1000; {rest}; $C t kill -s KILL one; sleep .5; $C t rm one 2>&-; $C c rm one"
        )
    };
    engine.check(&alive("$C t exec --exec-id e one sh -c 'echo in; exit 3'; echo $?"), "in\n3");
    engine.check(&alive("$C t pause one; $C t ls | tail -1 | tr -s ' ' | cut -d' ' -f1,3; $C t resume one; $C t ls | tail -1 | tr -s ' ' | cut -d' ' -f1,3"), "one PAUSED\none RUNNING");
    engine.check(&alive("$C t metrics one | grep pids.current | tr -s ' '"), "pids.current 1");
    let resized = "resized $C run -t --rm --runc-binary $R ".to_owned() + program + " sh -c \\'sleep 4\\; stty size\\'";
    engine.check(&(RESIZE.to_owned() + &resized), "33 99");
}
