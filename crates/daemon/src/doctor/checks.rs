//! The checks: what is true of the host in, verdicts out.

use atoll_api::atoll::{Finding, Level};
use atoll_api::docker::size;

use super::host::Host;

/// Controllers of control groups without which limits are missing that everybody uses.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
/// Parts of a disk, in percent.
const FULL: u64 = 95;
const FILLING: u64 = 85;
/// When this was written: a clock before that is wrong.
const WRITTEN: i64 = 1_764_000_000;
const DESCRIPTORS_MIN: u64 = 4096;
const PROCESSES_MIN: u64 = 32_768;
const INOTIFY_INSTANCES_MIN: u64 = 512;
const INOTIFY_WATCHES_MIN: u64 = 65_536;

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    level: Level,
    found: String,
    advice: String,
}

type Check = fn(&Host) -> Vec<Verdict>;

/// Every check, by its name.
pub(super) const CHECKS: [(&str, Check); 13] = [
    ("containers", containers),
    ("control groups", control_groups),
    ("system call filter", seccomp),
    ("network", network),
    ("forwarding", forwarding),
    ("user namespaces", user_namespaces),
    ("disk", disk),
    ("project quotas", quotas),
    ("checkpoint", checkpoint),
    ("virtual machines", machines),
    ("tunnels", tunnels),
    ("limits", limits),
    ("clock", clock),
];

impl Verdict {
    pub(super) fn fine(found: impl Into<String>) -> Self {
        Self { level: Level::Fine, found: found.into(), advice: String::new() }
    }

    /// Something that only matters to who wants it.
    pub(super) fn note(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Note, found: found.into(), advice: advice.into() }
    }

    /// Something that works less well than it could.
    pub(super) fn warning(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warning, found: found.into(), advice: advice.into() }
    }

    /// Something that does not work, or soon will not.
    fn problem(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Problem, found: found.into(), advice: advice.into() }
    }

    /// As the answer of a check.
    pub(super) fn of(self, check: &str) -> Finding {
        Finding { check: check.to_owned(), level: self.level, found: self.found, advice: self.advice }
    }
}

/// The one verdict that all is well, where there is no other.
fn or_fine(verdicts: Vec<Verdict>, fine: &str) -> Vec<Verdict> {
    if verdicts.is_empty() { vec![Verdict::fine(fine)] } else { verdicts }
}

fn containers(host: &Host) -> Vec<Verdict> {
    let split = |sentence: &String| match sentence.split_once(": ") {
        Some((what, advice)) => Verdict::problem(what, advice),
        None => Verdict::problem(sentence.as_str(), "containers need it: use a kernel that was built with it"),
    };
    or_fine(host.missing.iter().map(split).collect(), "kernel, namespaces, overlayfs and supervisor are there")
}

fn control_groups(host: &Host) -> Vec<Verdict> {
    let groups = &host.groups;
    if groups.controllers.is_empty() {
        let advice = "mount them: systemd does, or mount -t cgroup2 cgroup2 /sys/fs/cgroup";
        return vec![Verdict::problem("there are no control groups: nothing is limited, counted or paused", advice)];
    }
    let missing: Vec<_> = CONTROLLERS.into_iter().filter(|name| !groups.controllers.contains(*name)).collect();
    let version = if groups.unified { "version 2 alone" } else { "version 1, or both" };
    if missing.is_empty() {
        return vec![Verdict::fine(format!("{version}; all controllers that limits need"))];
    }
    vec![Verdict::warning(
        format!("{version}; without the controllers {}", missing.join(", ")),
        "enable them on the kernel's command line, such as cgroup_enable=memory, or have them delegated to this user",
    )]
}

fn seccomp(host: &Host) -> Vec<Verdict> {
    if host.seccomp {
        return vec![Verdict::fine("the kernel filters system calls")];
    }
    vec![Verdict::problem("the kernel has no seccomp", "use one that was built with CONFIG_SECCOMP_FILTER")]
}

fn network(host: &Host) -> Vec<Verdict> {
    if host.rootless {
        let has = ["pasta", "slirp4netns"].iter().any(|name| host.programs.contains(name));
        let lacks =
            Verdict::problem("there is neither pasta nor slirp4netns", "install the package passt or slirp4netns");
        return if has { vec![Verdict::fine("a helper connects containers of ordinary users")] } else { vec![lacks] };
    }
    let mut verdicts = Vec::new();
    if !host.network.bridge.is_empty() {
        let advice = "load the modules bridge and veth; without them only --network host and none work";
        verdicts
            .push(Verdict::problem(format!("containers cannot be put on a network: {}", host.network.bridge), advice));
    }
    if !host.network.filter.is_empty() {
        let advice = "load the module nf_tables; without it only --network host and none work";
        verdicts.push(Verdict::problem(host.network.filter.as_str(), advice));
    }
    or_fine(verdicts, "bridges, veth pairs and nftables are there")
}

fn forwarding(host: &Host) -> Vec<Verdict> {
    let drops = |chain: &String| {
        Verdict::warning(
            format!("{chain} drops what it does not know, and so what containers send to other hosts"),
            "have it accept forwarded packets from and to interfaces atl-*; Atoll changes nobody else's rules",
        )
    };
    or_fine(host.network.drops.iter().map(drops).collect(), "no rule of others drops what containers send")
}

fn user_namespaces(host: &Host) -> Vec<Verdict> {
    let users = host.users;
    let mut verdicts = Vec::new();
    if users.namespaces.unwrap_or(0) == 0 {
        let advice = "sysctl user.max_user_namespaces=15000, on a kernel that was built with CONFIG_USER_NS";
        verdicts.push(Verdict::warning("there are no user namespaces: ordinary users run no containers", advice));
    } else if !users.unprivileged {
        let advice =
            "sysctl kernel.unprivileged_userns_clone=1, or a profile of AppArmor's that allows userns to atolld";
        verdicts.push(Verdict::note("ordinary users may make no user namespaces, and so run no containers", advice));
    }
    let mappers = ["newuidmap", "newgidmap"].iter().all(|name| host.programs.contains(name));
    if host.rootless && !mappers {
        verdicts.push(Verdict::warning("newuidmap and newgidmap are not there", "install the package uidmap"));
    }
    if host.rootless && !users.subordinate {
        let advice = "usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER, then restart the daemon";
        verdicts.push(Verdict::warning("containers of this user have one user only", advice));
    }
    or_fine(verdicts, "ordinary users can run containers")
}

fn disk(host: &Host) -> Vec<Verdict> {
    let disk = &host.disk;
    let place = disk.root.display();
    let advice = "see what takes it with `atoll system df -v`, take away what nothing uses with `atoll system prune`";
    let mut verdicts = Vec::new();
    let mut judge = |what: &str, all: u64, free: u64, text: String| {
        // A file system without such a limit says 0.
        match 100_u64.saturating_sub(free.saturating_mul(100).checked_div(all).unwrap_or(100)) {
            FULL.. => verdicts.push(Verdict::problem(format!("{text} of {what} are left for {place}"), advice)),
            FILLING.. => verdicts.push(Verdict::warning(format!("{text} of {what} are left for {place}"), advice)),
            _ => {}
        }
    };
    judge(&size(disk.size), disk.size, disk.free, size(disk.free));
    judge(&format!("{} files", disk.files), disk.files, disk.free_files, disk.free_files.to_string());
    let fine = format!("{} of {} are left for {place}", size(disk.free), size(disk.size));
    let mut verdicts = or_fine(verdicts, &fine);
    if !disk.watermark {
        let advice = "on a server that runs unattended, set disk.high = \"85%\" in the configuration";
        verdicts.push(Verdict::note("images that nothing uses stay until somebody takes them away", advice));
    }
    verdicts
}

fn quotas(host: &Host) -> Vec<Verdict> {
    if host.disk.quota {
        return vec![Verdict::fine("what a container writes can be limited")];
    }
    let found = format!("the file system of {} counts nothing by project", host.disk.root.display());
    vec![Verdict::note(found, "to limit what a container writes (--storage-opt size), mount it with prjquota")]
}

fn checkpoint(host: &Host) -> Vec<Verdict> {
    if host.programs.contains("criu") {
        return vec![Verdict::fine("criu is there")];
    }
    vec![Verdict::note("containers cannot be checkpointed: criu is not there", "install the package criu")]
}

fn machines(host: &Host) -> Vec<Verdict> {
    if host.devices.contains("/dev/kvm") {
        return vec![Verdict::fine("/dev/kvm can be opened")];
    }
    let advice = "load the module kvm_intel or kvm_amd, switch virtualisation on in the firmware or, in a virtual machine, nesting";
    vec![Verdict::note("/dev/kvm cannot be opened: the processor's virtualisation is of no use here", advice)]
}

fn tunnels(host: &Host) -> Vec<Verdict> {
    if host.devices.contains("/dev/net/tun") {
        return vec![Verdict::fine("/dev/net/tun can be opened")];
    }
    let advice = "load the module tun and give /dev/net/tun mode 0666";
    let found = "/dev/net/tun cannot be opened";
    vec![if host.rootless {
        Verdict::problem(format!("{found}: containers have no network"), advice)
    } else {
        Verdict::note(found, advice)
    }]
}

fn limits(host: &Host) -> Vec<Verdict> {
    let limits = host.limits;
    let descriptors = limits.descriptors.unwrap_or(u64::MAX);
    let least = [
        ("open files of a process", descriptors, DESCRIPTORS_MIN, "LimitNOFILE= of the daemon's unit, or ulimit -Hn"),
        ("processes", limits.processes, PROCESSES_MIN, "sysctl kernel.pid_max and kernel.threads-max"),
        (
            "inotify instances of a user",
            limits.inotify_instances,
            INOTIFY_INSTANCES_MIN,
            "sysctl fs.inotify.max_user_instances: containers of one user share them",
        ),
        (
            "inotify watches of a user",
            limits.inotify_watches,
            INOTIFY_WATCHES_MIN,
            "sysctl fs.inotify.max_user_watches: containers of one user share them",
        ),
    ];
    let low = least.into_iter().filter(|(_, there, wanted, _)| there < wanted);
    let verdict = |(what, there, wanted, how): (&str, u64, u64, &str)| {
        Verdict::warning(format!("there may be {there} {what}"), format!("allow {wanted} at least: {how}"))
    };
    or_fine(low.map(verdict).collect(), "of processes, open files and watched files there may be enough")
}

fn clock(host: &Host) -> Vec<Verdict> {
    if host.now.seconds() > WRITTEN {
        return vec![Verdict::fine("the clock is past the day that this was written")];
    }
    let advice = "set the clock: certificates of registries are not valid yet, and ages are wrong";
    vec![Verdict::problem("the clock is behind", advice)]
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use atoll_model::Timestamp;

    use super::super::host::{Disk, Groups, Limits, Network, Users};
    use super::*;

    /// A host that lacks nothing.
    fn whole() -> Host {
        const GIB: u64 = 1 << 30;
        Host {
            groups: Groups { unified: true, controllers: CONTROLLERS.map(str::to_owned).into() },
            users: Users { namespaces: Some(1000), unprivileged: true, subordinate: true },
            programs: ["criu", "newgidmap", "newuidmap", "pasta"].into(),
            devices: ["/dev/kvm", "/dev/net/tun"].into(),
            disk: Disk {
                root: PathBuf::from("/state"),
                size: 100 * GIB,
                free: 50 * GIB,
                files: 1000,
                free_files: 900,
                quota: true,
                watermark: true,
            },
            limits: Limits {
                descriptors: None,
                processes: PROCESSES_MIN,
                inotify_instances: INOTIFY_INSTANCES_MIN,
                inotify_watches: INOTIFY_WATCHES_MIN,
            },
            seccomp: true,
            now: Timestamp(i64::MAX),
            ..Host::default()
        }
    }

    /// What is not fine of a host: check and level, each with advice.
    fn complaints(host: &Host) -> Vec<(&'static str, Level)> {
        let mut all = Vec::new();
        for (name, check) in CHECKS {
            for verdict in check(host) {
                assert_eq!(verdict.level == Level::Fine, verdict.advice.is_empty(), "{name}: {verdict:?}");
                all.extend((verdict.level != Level::Fine).then_some((name, verdict.level)));
            }
        }
        all
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Host), expected: &[(&'static str, Level)]) {
        let mut host = whole();
        change(&mut host);
        assert_eq!(complaints(&host), expected);
    }

    #[test]
    fn a_whole_host_is_fine_for_root_and_for_others() {
        check(|_| (), &[]);
        check(|host| host.rootless = true, &[]);
    }

    #[test]
    fn each_thing_that_is_missing_is_told() {
        let (note, warning, problem) = (Level::Note, Level::Warning, Level::Problem);
        check(|host| host.missing = vec!["the kernel has no pid namespaces".to_owned()], &[("containers", problem)]);
        check(|host| host.groups = Groups::default(), &[("control groups", problem)]);
        check(|host| _ = host.groups.controllers.remove("memory"), &[("control groups", warning)]);
        check(|host| host.seccomp = false, &[("system call filter", problem)]);
        check(
            |host| host.network = Network { bridge: "no veth pair".to_owned(), ..Network::default() },
            &[("network", problem)],
        );
        check(|host| host.network.filter = "no nftables".to_owned(), &[("network", problem)]);
        check(|host| host.network.drops = vec!["chain \"FORWARD\"".to_owned()], &[("forwarding", warning)]);
        check(|host| host.users.namespaces = Some(0), &[("user namespaces", warning)]);
        check(|host| host.users.unprivileged = false, &[("user namespaces", note)]);
        check(|host| host.disk.free = host.disk.size / 10, &[("disk", warning)]);
        check(|host| host.disk.free = 0, &[("disk", problem)]);
        check(|host| host.disk.free_files = 0, &[("disk", problem)]);
        check(|host| (host.disk.files, host.disk.free_files) = (0, 0), &[]);
        check(|host| host.disk.watermark = false, &[("disk", note)]);
        check(|host| host.disk.quota = false, &[("project quotas", note)]);
        check(|host| _ = host.programs.remove("criu"), &[("checkpoint", note)]);
        check(|host| host.devices.clear(), &[("virtual machines", note), ("tunnels", note)]);
        check(|host| host.limits.descriptors = Some(1024), &[("limits", warning)]);
        check(|host| host.limits.inotify_instances = 128, &[("limits", warning)]);
        check(|host| host.now = Timestamp(0), &[("clock", problem)]);
    }

    #[test]
    fn ordinary_users_need_other_things() {
        let (warning, problem) = (Level::Warning, Level::Problem);
        let check = |change: fn(&mut Host), expected: &[(&'static str, Level)]| {
            check(
                |host| {
                    host.rootless = true;
                    change(host);
                },
                expected,
            );
        };
        check(|host| _ = host.programs.remove("pasta"), &[("network", problem)]);
        check(|host| _ = host.programs.remove("newuidmap"), &[("user namespaces", warning)]);
        check(|host| host.users.subordinate = false, &[("user namespaces", warning)]);
        check(|host| _ = host.devices.remove("/dev/net/tun"), &[("tunnels", problem)]);
    }
}
