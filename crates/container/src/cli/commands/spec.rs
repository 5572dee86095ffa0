//! `spec`: a configuration to begin with.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use atoll_oci::runtime::{
    Capabilities, IdMapping, Linux, Mount, Namespace, NamespaceType, OCI_VERSION, Process, Root, Spec,
};

/// The capabilities of runc's default configuration.
const SPEC_CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

pub(super) fn spec(bundle: &Path, rootless: bool) -> anyhow::Result<u8> {
    let path = bundle.join("config.json");
    let json = serde_json::to_string_pretty(&if rootless { rootless_spec() } else { default_spec() })?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(json.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(0)
}

fn default_spec() -> Spec {
    let text = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let mount = |destination: &str, typ: &str, options: &[&str]| Mount {
        destination: destination.into(),
        typ: typ.into(),
        source: typ.into(),
        options: text(options),
        ..Mount::default()
    };
    let capabilities = text(&SPEC_CAPABILITIES);
    let namespaces = [
        NamespaceType::Pid,
        NamespaceType::Network,
        NamespaceType::Ipc,
        NamespaceType::Uts,
        NamespaceType::Mount,
        NamespaceType::Cgroup,
    ];
    Spec {
        oci_version: OCI_VERSION.into(),
        process: Some(Process {
            args: text(&["sh"]),
            env: text(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]),
            cwd: "/".into(),
            capabilities: Some(Capabilities {
                bounding: capabilities.clone(),
                effective: capabilities.clone(),
                permitted: capabilities,
                ..Capabilities::default()
            }),
            no_new_privileges: true,
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".into(), readonly: true }),
        hostname: "atoll".into(),
        mounts: vec![
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        linux: Some(Linux {
            namespaces: namespaces.map(|typ| Namespace { typ, path: String::new() }).to_vec(),
            masked_paths: text(&[
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/proc/scsi",
                "/sys/firmware",
            ]),
            readonly_paths: text(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

/// The default for an ordinary user: a user namespace with the caller's own ids as root, no network namespace's sysfs, and
/// no limits.
fn rootless_spec() -> Spec {
    let mut spec = default_spec();
    let linux = spec.linux.get_or_insert_default();
    linux.namespaces.retain(|namespace| namespace.typ != NamespaceType::Network);
    linux.namespaces.push(Namespace { typ: NamespaceType::User, path: String::new() });
    let own = |host_id| vec![IdMapping { container_id: 0, host_id, size: 1 }];
    linux.uid_mappings = own(rustix::process::geteuid().as_raw());
    linux.gid_mappings = own(rustix::process::getegid().as_raw());
    for mount in &mut spec.mounts {
        mount.options.retain(|option| !option.starts_with("gid="));
        if mount.typ == "sysfs" {
            mount.typ = "none".into();
            mount.source = "/sys".into();
            mount.options = ["rbind", "nosuid", "noexec", "nodev", "ro", "rro"].map(str::to_owned).to_vec();
        }
    }
    spec
}
