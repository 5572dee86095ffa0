//! What is planned and what is refused.

use std::path::Path;

use atoll_oci::runtime::{DeviceRule, IdMapping, Mount, Process, Resources, Rlimit};

use super::*;

fn spec() -> Spec {
    Spec {
        oci_version: "1.2.0".into(),
        process: Some(Process { args: vec!["/bin/true".into()], cwd: "/".into(), ..Process::default() }),
        linux: Some(Linux {
            namespaces: vec![Namespace { typ: NamespaceType::Mount, path: String::new() }],
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

use atoll_oci::runtime::Namespace;

fn plan(change: impl FnOnce(&mut Spec)) -> Result<Plan, PlanError> {
    let mut spec = spec();
    change(&mut spec);
    Plan::new(&spec, Path::new("/bundle"))
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Spec), word: &str) {
    let error = plan(change).unwrap_err();
    assert!(error.to_string().contains(word), "{error}");
}

fn linux(spec: &mut Spec) -> &mut Linux {
    spec.linux.get_or_insert_default()
}

#[test]
fn the_smallest_configuration_is_planned() {
    let plan = plan(|_| {}).unwrap();
    assert!(plan.namespaces.is_new(CloneFlags::NEWNS));
    assert!(!plan.namespaces.cgroup);
    assert_eq!(plan.devices.len(), DEFAULT_DEVICES.len());
}

#[test]
fn nothing_is_accepted_and_ignored() {
    refused(|s| s.oci_version = "2.0.0".into(), "version");
    refused(|s| s.process = None, "no process");
    refused(|s| linux(s).namespaces.clear(), "mount namespace");
    refused(|s| linux(s).mount_label = "x".into(), "SELinux");
    refused(|s| linux(s).uid_mappings = vec![IdMapping { container_id: 0, host_id: 1, size: 1 }], "user namespace");
    refused(|s| linux(s).rootfs_propagation = "sideways".into(), "sideways");
    refused(|s| linux(s).masked_paths = vec!["proc".into()], "absolute");
    refused(|s| s.hostname = "h".into(), "uts");
    refused(|s| s.process.as_mut().unwrap().cwd = "x".into(), "cwd");
    refused(|s| s.process.as_mut().unwrap().args.clear(), "args");
    refused(|s| s.process.as_mut().unwrap().env = vec!["A".into()], "NAME=value");
    refused(|s| s.process.as_mut().unwrap().apparmor_profile = "x".into(), "AppArmor");
    for (path, timeout) in [("x", None), ("/x", Some(0))] {
        refused(
            |s| {
                let hook = atoll_oci::runtime::Hook { path: path.into(), timeout, ..Default::default() };
                s.hooks = Some(atoll_oci::runtime::Hooks { poststop: vec![hook], ..Default::default() });
            },
            "hook",
        );
    }
    refused(|s| linux(s).intel_rdt = Some(Default::default()), "intelRdt");
    refused(|s| drop(linux(s).net_devices.insert("eth0".into(), Default::default())), "network namespace");
    refused(
        |s| {
            linux(s).time_offsets.insert("monotonic".into(), Default::default());
        },
        "time namespace",
    );
    let namespace = |typ, path: &str| vec![Namespace { typ, path: path.into() }];
    refused(|s| linux(s).namespaces.extend(namespace(NamespaceType::User, "")), "id 0");
    refused(
        |s| linux(s).namespaces = namespace(NamespaceType::Mount, "/proc/1/ns/mnt"),
        "in a mount namespace that is joined",
    );
    let limit = |soft, hard| Rlimit { typ: "RLIMIT_NOFILE".into(), soft, hard };
    refused(|s| s.process.as_mut().unwrap().rlimits = vec![limit(2, 1)], "above");
    refused(|s| s.process.as_mut().unwrap().rlimits = vec![limit(1, 1), limit(1, 1)], "twice");
}

#[test]
fn sysctls_stay_in_their_namespaces() {
    let set = |name: &str, own: bool| {
        let name = name.to_owned();
        plan(|s| {
            if own {
                for typ in [NamespaceType::Network, NamespaceType::Ipc] {
                    linux(s).namespaces.push(Namespace { typ, path: String::new() });
                }
            }
            linux(s).sysctl.insert(name, "1".into());
        })
        .map(|plan| plan.sysctl[0].0.clone())
    };
    assert_eq!(set("net.ipv4.ip_forward", true).unwrap(), "net/ipv4/ip_forward");
    assert_eq!(set("net.ipv4.conf.eth0/1.forwarding", true).unwrap(), "net/ipv4/conf/eth0.1/forwarding");
    assert_eq!(set("net/ipv4/conf/eth0.1/forwarding", true).unwrap(), "net/ipv4/conf/eth0.1/forwarding");
    assert_eq!(set("kernel.shmmax", true).unwrap(), "kernel/shmmax");
    for (name, own) in [
        ("net.ipv4.ip_forward", false),
        ("kernel.shmmax", false),
        ("kernel.core_pattern", true),
        ("kernel.hostname", true),
        ("vm.swappiness", true),
        ("net/../kernel/core_pattern", true),
        ("net..x", true),
        ("", true),
    ] {
        assert!(set(name, own).is_err(), "{name}");
    }
}

fn mount(typ: &str, options: &[&str]) -> Result<MountPlan, PlanError> {
    let mount = Mount {
        destination: "/a//b/".into(),
        typ: typ.into(),
        source: "src".into(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    };
    MountPlan::new(&mount, Path::new("/bundle"), None, "")
}

#[test]
fn options_of_mounts() {
    let plan = mount("bind", &["rbind", "ro", "nosuid", "rslave"]).unwrap();
    assert_eq!(plan.kind, MountKind::Bind { source: "/bundle/src".into(), recursive: true });
    assert_eq!(plan.attributes.set, MountAttr::RDONLY | MountAttr::NOSUID);
    assert_eq!(plan.recursive.propagation, MountAttr::SLAVE);
    assert_eq!(plan.normal_destination(), "/a/b");
    // The last of two contradicting options counts.
    assert_eq!(mount("bind", &["ro", "rw"]).unwrap().attributes.set, 0);
    assert_eq!(mount("bind", &["rro"]).unwrap().recursive.set, MountAttr::RDONLY);
    assert_eq!(mount("bind", &[]).unwrap().recursive.propagation, MountAttr::PRIVATE);
    let plan = mount("tmpfs", &["size=1m", "noatime", "huge"]).unwrap();
    let parameters = vec![("size".to_owned(), Some("1m".to_owned())), ("huge".to_owned(), None)];
    assert_eq!(plan.kind, MountKind::Filesystem { typ: "tmpfs".into(), source: "src".into(), parameters });
    assert_eq!((plan.attributes.set, plan.attributes.clear), (MountAttr::NOATIME, MountAttr::ATIME_MASK));
    assert!(mount("bind", &["size=1m"]).is_err());
    assert!(mount("tmpfs", &["tmpcopyup"]).unwrap().copy_up);
    assert!(mount("bind", &["tmpcopyup"]).is_err());
    assert!(mount("bind", &["idmap"]).is_err(), "neither mount nor container has a mapping");
    assert!(mount("", &[]).is_err());
}

#[test]
fn fixed_places() {
    let fixed = |destination: &str| {
        let mount = Mount { destination: destination.into(), typ: "tmpfs".into(), ..Mount::default() };
        MountPlan::new(&mount, Path::new("/"), None, "").unwrap().is_fixed()
    };
    for path in ["/proc", "/sys/fs/cgroup", "//dev/shm", "/./proc/x"] {
        assert!(fixed(path), "{path}");
    }
    for path in ["/var/run", "/process", "/"] {
        assert!(!fixed(path), "{path}");
    }
}

#[test]
fn device_rules_end_with_what_is_always_allowed() {
    let deny = DeviceRule { allow: false, typ: None, major: None, minor: None, access: "rwm".into() };
    let resources = Resources { devices: vec![deny], ..Resources::default() };
    let plan = plan(|s| linux(s).resources = Some(resources)).unwrap();
    assert_eq!(plan.limits.devices[0].to_string(), "a *:* rwm");
    assert!(!plan.limits.devices[0].allow);
    assert!(plan.limits.devices.iter().any(|device| device.allow && device.to_string() == "c 1:3 rwm"));
}

#[test]
fn names_of_capabilities() {
    for (name, number) in [("CAP_CHOWN", 0), ("SYS_ADMIN", 21), ("cap_checkpoint_restore", 40)] {
        assert_eq!(capability(name), Some(number));
    }
    for name in ["", "CAP_", "CAP_FLY", "CAP_CAP_CHOWN"] {
        assert_eq!(capability(name), None, "{name}");
    }
}

#[test]
fn mappings_of_user_namespaces() {
    let range = |container_id, host_id, size| IdMapping { container_id, host_id, size };
    let mapped = |users: &[IdMapping]| {
        plan(|s| {
            linux(s).namespaces.push(Namespace { typ: NamespaceType::User, path: String::new() });
            linux(s).uid_mappings = users.to_vec();
            linux(s).gid_mappings = vec![range(0, 7, 1)];
        })
    };
    assert!(mapped(&[range(0, 100_000, 1000), range(1000, 5, 1)]).is_ok());
    for bad in [
        vec![],
        vec![range(1, 1, 1)],
        vec![range(0, 1, 0)],
        vec![range(0, 1, 10), range(5, 100, 1)],
        vec![range(0, 1, 10), range(20, 10, 1)],
        vec![range(0, u32::MAX, 2)],
    ] {
        assert!(mapped(&bad).is_err(), "{bad:?}");
    }
}
