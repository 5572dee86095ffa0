//! The specification for every field of a workload.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atoll_model::{
    Command, ImageRef, Isolation, LifeCycle, Network, Propagation, Resources, Timestamp, Ulimit, WorkloadId,
};
use atoll_oci::digest::Digest;
use atoll_oci::runtime::NamespaceType;
use atoll_wall::launch::{LogFormat, LogPlan, Root as WallRoot};
use atoll_wall::message::Attach;

use super::*;
use crate::{ResolvedMount, ResolvedSource};

fn workload(change: impl FnOnce(&mut Workload)) -> Workload {
    let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().expect("digest");
    let mut workload = Workload {
        id: WorkloadId::from_bytes([0xab; 32]),
        name: "test".to_owned(),
        created: Timestamp(1),
        isolation: Isolation::Container,
        image: ImageRef { name: "x".to_owned(), manifest: digest.clone(), id: digest, layers: Vec::new() },
        command: Command { cmd: vec!["true".to_owned()], ..Command::default() },
        host: atoll_model::Host { hostname: "abababababab".to_owned(), ..atoll_model::Host::default() },
        security: Security::default(),
        resources: Resources::default(),
        mounts: Vec::new(),
        life: LifeCycle::default(),
        labels: BTreeMap::new(),
    };
    change(&mut workload);
    workload
}

fn plan(workload: Workload, mounts: Vec<ResolvedMount>) -> Plan {
    Plan {
        streams: Streams {
            terminal: workload.command.terminal.then_some(Size { rows: 24, columns: 80 }),
            stdin: false,
            stdin_once: false,
        },
        workload: Arc::new(workload),
        root: WallRoot::Folder { path: PathBuf::from("/rootfs") },
        mounts,
        network: None,
        helper: None,
        joins: Vec::new(),
        log: LogPlan {
            folder: PathBuf::from("/log"),
            file_bytes: 1,
            files: 1,
            format: LogFormat::Records,
            buffer: None,
        },
        restarts: 0,
        run: PathBuf::from("/run"),
    }
}

fn host() -> Host {
    Host {
        cgroup_parent: "/atoll-x/".to_owned(),
        shim: PathBuf::from("/usr/bin/atoll-shim"),
        bounding: Bounding::FULL,
        kernel: KernelVersion { major: 6, minor: 1 },
        thermal: vec!["/sys/t".to_owned()],
        protected: true,
        groups: u32::MAX,
    }
}

fn built(change: impl FnOnce(&mut Workload)) -> Result<Spec, Error> {
    build(&plan(workload(change), Vec::new()), &host(), Devices::default())
}

fn linux_of(change: impl FnOnce(&mut Workload)) -> Linux {
    built(change).expect("valid").linux.expect("linux")
}

#[test]
fn the_defaults() {
    let spec = built(|_| {}).expect("valid");
    assert_eq!(spec.hostname, "abababababab");
    let process = spec.process.expect("process");
    assert_eq!((process.args, process.cwd.as_str(), process.oom_score_adj), (vec!["true".to_owned()], "/", Some(0)));
    assert_eq!(process.env[1], "HOSTNAME=abababababab");
    let sets = process.capabilities.expect("capabilities");
    assert_eq!((sets.bounding.len(), sets.inheritable.len(), sets.ambient.len()), (14, 0, 0));
    let linux = spec.linux.expect("linux");
    assert_eq!(linux.cgroups_path, format!("/atoll-x/{}", "ab".repeat(32)));
    assert_eq!(linux.namespaces.len(), 6);
    assert!(linux.seccomp.is_some());
    assert!(
        linux.masked_paths.contains(&"/proc/kcore".to_owned()) && linux.masked_paths.contains(&"/sys/t".to_owned())
    );
    assert!(!linux.resources.expect("resources").devices[0].allow);
    assert_eq!(linux.rootfs_propagation, "rprivate");
    assert_eq!(linux.sysctl.len(), 2);
}

#[test]
fn privileged() {
    let linux = linux_of(|workload| workload.security.privileged = true);
    assert!(linux.seccomp.is_none() && linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
    assert!(linux.resources.expect("resources").devices.iter().all(|rule| rule.allow));
}

#[test]
fn groups_that_there_are_not_are_not_named() {
    let of = |groups: u32| {
        let host = Host { groups, ..host() };
        let spec = build(&plan(workload(|_| {}), Vec::new()), &host, Devices::default()).expect("valid");
        let terminals = spec.mounts.iter().find(|mount| mount.typ == "devpts").expect("there is one");
        let range = spec.linux.expect("linux").sysctl["net.ipv4.ping_group_range"].clone();
        (terminals.options.contains(&"gid=5".to_owned()), range)
    };
    assert_eq!(of(u32::MAX), (true, "0 2147483647".to_owned()));
    assert_eq!(of(65537), (true, "0 65536".to_owned()));
    assert_eq!(of(1), (false, "0 0".to_owned()));
}

#[test]
fn networks() {
    let of = |network: Network| built(|workload| workload.host.network = network);
    let linux = of(Network::Host).expect("valid").linux.expect("linux");
    assert!(linux.namespace(NamespaceType::Network).is_none() && linux.sysctl.is_empty());
    assert!(of(Network::Bridge("b".to_owned())).is_err(), "nobody gave it an interface");
}

#[test]
fn seccomp_policies() {
    let of = |seccomp: Seccomp| linux_of(|workload| workload.security.seccomp = seccomp).seccomp;
    assert_eq!(of(Seccomp::Unconfined), None);
    let own = of(Seccomp::Profile(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.to_owned())).expect("a filter");
    assert!(own.syscalls.is_empty());
    let limited = linux_of(|workload| {
        workload.security.seccomp = Seccomp::Unconfined;
        workload.resources.storage = Some(1 << 20);
    });
    assert!(limited.seccomp.is_some(), "files could leave the limit");
}

#[test]
fn environment() {
    let check = |env: &[&str], terminal: bool, expected: &[&str]| {
        let spec = built(|workload| {
            workload.command.env = env.iter().map(|text| (*text).to_owned()).collect();
            workload.command.terminal = terminal;
        });
        assert_eq!(spec.expect("valid").process.expect("process").env, expected, "{env:?}");
    };
    check(&["PATH=/x"], false, &["PATH=/x", "HOSTNAME=abababababab"]);
    check(&["HOSTNAME=y", "A"], false, &["HOSTNAME=y", "A", PATH]);
    check(&["PATH="], true, &["PATH=", "HOSTNAME=abababababab", "TERM=xterm"]);
}

#[test]
fn commands() {
    assert_eq!(built(|workload| workload.command.cmd.clear()), Err(Error::NoCommand));
    let cwd = Error::NotAbsolute { what: "working directory", path: "x".to_owned() };
    assert_eq!(built(|workload| workload.command.working_dir = "x".to_owned()), Err(cwd));
    let spec = built(|workload| workload.life.init = true).expect("valid");
    assert_eq!(spec.process.expect("process").args, [INIT, "init", "--", "true"]);
    let mount = spec.mounts.last().expect("mounts");
    assert_eq!((mount.destination.as_str(), mount.source.as_str()), (INIT, "/usr/bin/atoll-shim"));
    assert!(mount.options.contains(&"ro".to_owned()));
}

fn limits_of(change: impl FnOnce(&mut Resources)) -> Result<atoll_oci::runtime::Resources, Error> {
    let mut resources = Resources::default();
    change(&mut resources);
    limits::resources(&resources)
}

#[test]
fn memory() {
    let check = |memory: u64, swap: Option<i64>, expected: Option<(Option<i64>, Option<i64>)>| {
        let result = limits_of(|resources| {
            resources.memory = Some(memory);
            resources.memory_swap = swap;
        });
        let got =
            result.ok().map(|resources| resources.memory.unwrap_or_default()).map(|memory| (memory.limit, memory.swap));
        assert_eq!(got, expected, "memory {memory} swap {swap:?}");
    };
    const M: i64 = 1 << 20;
    check(64 << 20, None, Some((Some(64 * M), Some(128 * M))));
    check(64 << 20, Some(0), Some((Some(64 * M), Some(128 * M))));
    check(64 << 20, Some(-1), Some((Some(64 * M), Some(-1))));
    check(64 << 20, Some(64 * M), Some((Some(64 * M), Some(64 * M))));
    check(64 << 20, Some(63 * M), None);
    check(64 << 20, Some(-2), None);
    check(6 << 20, None, Some((Some(6 * M), Some(12 * M))));
    check((6 << 20) - 1, None, None);
    check(0, None, Some((None, None)));
    check(0, Some(M), None);
    check(u64::MAX, None, Some((Some(i64::MAX), Some(i64::MAX))));
}

#[test]
fn processors() {
    let check = |nanos: u64, expected: Option<(i64, u64)>| {
        let cpu = limits_of(|resources| resources.nano_cpus = Some(nanos)).ok().and_then(|resources| resources.cpu);
        assert_eq!(cpu.map(|cpu| (cpu.quota.expect("quota"), cpu.period.expect("period"))), expected, "{nanos}");
    };
    check(1_500_000_000, Some((150_000, 100_000)));
    check(10_000_000, Some((1000, 100_000)));
    check(9_999_999, None);
    check(u64::MAX, Some((1_844_674_407_370_955, 100_000)));
    assert!(
        limits_of(|resources| {
            resources.nano_cpus = Some(1_000_000_000);
            resources.cpu_quota = Some(5000);
        })
        .is_err()
    );
    assert!(limits_of(|resources| resources.cpu_shares = Some(1)).is_err());
    assert_eq!(limits_of(|resources| resources.cpu_shares = Some(0)), limits_of(|_| {}));
    assert_eq!(limits_of(|resources| resources.pids = Some(-1)).expect("valid").pids, None);
    assert_eq!(limits_of(|resources| resources.pids = Some(9)).expect("valid").pids.map(|pids| pids.limit), Some(9));
}

#[test]
fn ulimits() {
    let check = |name: &str, soft: i64, hard: i64, expected: Option<(&str, u64, u64)>| {
        let ulimit = Ulimit { name: name.to_owned(), soft, hard };
        let got = limits::rlimits(&[ulimit]).ok().map(|mut limits| limits.remove(0));
        assert_eq!(got.as_ref().map(|limit| (limit.typ.as_str(), limit.soft, limit.hard)), expected, "{name}");
    };
    check("nofile", 10, 20, Some(("RLIMIT_NOFILE", 10, 20)));
    check("core", -1, -1, Some(("RLIMIT_CORE", u64::MAX, u64::MAX)));
    check("nproc", 5, -1, Some(("RLIMIT_NPROC", 5, u64::MAX)));
    check("nproc", -1, 5, None);
    check("nproc", 6, 5, None);
    check("nproc", -2, 5, None);
    check("files", 1, 1, None);
    check("", 1, 1, None);
}

fn bind(target: &str, propagation: Propagation, read_only: bool) -> ResolvedMount {
    let source = ResolvedSource::Bind { path: PathBuf::from("/src"), propagation, recursive: true };
    ResolvedMount { source, target: target.to_owned(), read_only }
}

fn tmpfs(target: &str, options: &[&str]) -> ResolvedMount {
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    let source = ResolvedSource::Tmpfs { size: Some(4096), mode: None, options };
    ResolvedMount { source, target: target.to_owned(), read_only: false }
}

fn destinations(mounts: &[ResolvedMount]) -> Vec<String> {
    let mounts = mounts::all(&workload(|_| {}), u32::MAX, mounts).expect("valid");
    mounts.into_iter().map(|mount| mount.destination).collect()
}

const DEFAULTS: [&str; 7] = ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"];

#[test]
fn parents_come_before_children() {
    let deep = bind("/a/b/c", Propagation::Private, false);
    let shallow = bind("/a//", Propagation::Private, false);
    let got = destinations(&[deep, shallow]);
    assert_eq!(got[..7], DEFAULTS);
    assert_eq!(got[7..], ["/a", "/a/b/c"]);
}

#[test]
fn what_is_asked_for_replaces_defaults() {
    assert!(destinations(&[tmpfs("/dev/shm/", &[])]).iter().filter(|path| *path == "/dev/shm").count() == 1);
    assert_eq!(destinations(&[bind("/dev", Propagation::Private, false)]), ["/proc", "/sys", "/sys/fs/cgroup", "/dev"]);
}

#[test]
fn mount_options() {
    let check = |mount: ResolvedMount, expected: &str| {
        let mounts = mounts::all(&workload(|_| {}), u32::MAX, &[mount]).expect("valid");
        assert_eq!(mounts.last().expect("mounts").options.join(","), expected);
    };
    check(bind("/a", Propagation::Private, true), "rbind,ro,rprivate");
    check(bind("/a", Propagation::Slave, false), "rbind,rw,rslave");
    check(tmpfs("/t", &[]), "nosuid,nodev,rw,mode=1777,size=4096,noexec");
    check(tmpfs("/t", &["exec,uid=5", "size=1m"]), "nosuid,nodev,rw,mode=1777,size=4096,exec,uid=5,size=1m");
}

#[test]
fn mounts_that_are_refused() {
    let check = |mount: ResolvedMount| assert!(mounts::all(&workload(|_| {}), u32::MAX, &[mount]).is_err());
    check(bind("a", Propagation::Private, false));
    check(bind("/", Propagation::Private, false));
    check(bind("/./", Propagation::Private, false));
    check(tmpfs("/t", &["lowerdir=/"]));
    check(tmpfs("/t", &["bind"]));
    let source = ResolvedSource::Bind { path: PathBuf::from("x"), propagation: Propagation::Private, recursive: false };
    check(ResolvedMount { source, target: "/a".to_owned(), read_only: false });
    assert!(mounts::init(Path::new("/x")).is_ok());
}

#[test]
fn exec_sessions() {
    let plan = |args: &[&str]| ExecPlan {
        id: "e".to_owned(),
        workload: Arc::new(workload(|workload| {
            workload.command.env = vec!["A=1".to_owned(), "B=2".to_owned()];
            workload.command.user = "daemon".to_owned();
            workload.command.working_dir = "/w".to_owned();
        })),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec!["A=3".to_owned()],
        working_dir: String::new(),
        user: String::new(),
        privileged: false,
        terminal: None,
        attach: Attach { stdin: true, stdout: true, stderr: true },
    };
    assert!(matches!(exec(plan(&[])), Err(Error::NoCommand)));
    let exec = exec(plan(&["sh"])).expect("valid");
    assert_eq!(exec.process.env[..2], ["B=2", "A=3"]);
    assert_eq!((exec.user.as_str(), exec.process.cwd.as_str(), exec.streams.stdin), ("daemon", "/w", true));
}

#[test]
fn what_is_shared_is_not_made() {
    use atoll_model::{Ipc, Share};
    use atoll_oci::runtime::NamespaceType::{Cgroup, Ipc as IpcKind, Network as NetworkKind, Pid, User, Uts};
    let linux = linux_of(|workload| {
        let shared = &mut workload.host.namespaces;
        (shared.pid, shared.ipc, shared.host_uts, shared.host_cgroup) = (Share::Host, Ipc::Host, true, true);
    });
    for typ in [Pid, IpcKind, Uts, Cgroup, User] {
        assert!(linux.namespace(typ).is_none(), "{typ}");
    }
    assert!(linux.namespace(NetworkKind).is_some());
    let spec = built(|workload| workload.host.namespaces.host_uts = true).expect("valid");
    assert!(spec.hostname.is_empty());
    let joined = built(|workload| workload.host.namespaces.pid = Share::Workload("x".to_owned())).expect("valid");
    assert!(joined.linux.expect("linux").namespace(Pid).is_some());
    assert!(built(|workload| workload.host.network = Network::Workload("x".to_owned())).is_err(), "nobody gave it one");
}

#[test]
fn shared_memory_goes_with_the_objects() {
    use atoll_model::Ipc;
    let of = |ipc: Ipc| {
        let spec = built(|workload| workload.host.namespaces.ipc = ipc).expect("valid");
        spec.mounts.into_iter().find(|mount| mount.destination == "/dev/shm").map(|mount| mount.typ)
    };
    assert_eq!(of(Ipc::Private).as_deref(), Some("tmpfs"));
    assert_eq!(of(Ipc::Shareable).as_deref(), Some("tmpfs"));
    assert_eq!(of(Ipc::Host).as_deref(), Some("bind"));
    assert_eq!(of(Ipc::Workload("x".to_owned())).as_deref(), Some("bind"));
    assert_eq!(of(Ipc::None), None);
}

#[test]
fn parameters_paths_and_groups_of_its_own() {
    let linux = linux_of(|workload| {
        workload.host.sysctls.insert("net.ipv4.ping_group_range".to_owned(), "1 2".to_owned());
        workload.security.masked_paths = Some(vec!["/a".to_owned()]);
        workload.resources.cgroup_parent = Some("/limits/web/".to_owned());
    });
    assert_eq!((linux.sysctl.len(), linux.sysctl["net.ipv4.ping_group_range"].as_str()), (2, "1 2"));
    assert_eq!(linux.masked_paths, ["/a"]);
    assert!(linux.readonly_paths.contains(&"/proc/sys".to_owned()));
    assert_eq!(linux.cgroups_path, format!("/limits/web/{}", "ab".repeat(32)));
    let process = built(|workload| workload.resources.oom.score_adj = -7).expect("valid").process.expect("a process");
    assert_eq!(process.oom_score_adj, Some(-7));
}

#[test]
fn limits_that_are_gone_are_lifted() {
    let before = Resources { pids: Some(5), nano_cpus: Some(500_000_000), ..Resources::default() };
    let change = change_of_limits(&before, &Resources::default()).expect("valid");
    assert_eq!(change.pids.map(|pids| pids.limit), Some(-1));
    assert_eq!(change.cpu.and_then(|cpu| cpu.quota), Some(-1));
    let after = Resources { pids: Some(7), cpu_quota: Some(9000), ..Resources::default() };
    let change = change_of_limits(&before, &after).expect("valid");
    assert_eq!((change.pids.map(|pids| pids.limit), change.cpu.and_then(|cpu| cpu.quota)), (Some(7), Some(9000)));
    assert!(change.devices.is_empty() && change.block_io.is_none());
    let few = Resources { memory: Some(1), ..Resources::default() };
    assert!(change_of_limits(&Resources::default(), &few).is_err());
}
