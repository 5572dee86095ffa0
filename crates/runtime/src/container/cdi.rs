//! Devices by name: what specifications of the Container Device Interface (CNCF CDI 1.0, SPEC.md) add to a container.
//!
//! The specifications are JSON files that the host's administrator or a vendor's tool has put into [`FOLDERS`]; of two with a
//! device of the same name that in the later folder counts. A device stands for edits: variables, nodes, mounts, groups and
//! hooks. Left out on purpose: files in YAML, which are named where a device is not found; hooks after the start and after the
//! end, and edits that the specification did not have when this was written, which are refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use atoll_oci::runtime::{Device, DeviceRule, DeviceType, Hook, Hooks, Mount, Spec};
use serde::Deserialize;

use super::devices;
use crate::spec::{Error, replace};

/// Where specifications lie (SPEC.md, "CDI Spec directories").
const FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 16 << 20;
/// The class of devices that is asked for without a vendor.
const GPU: &str = "gpu";

/// A file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "cdiVersion")]
    _version: String,
    /// `vendor.com/class`.
    kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    devices: Vec<Named>,
    /// Edits for whoever gets any of the devices.
    #[serde(default)]
    container_edits: Edits,
}

/// A device.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Named {
    name: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Bind>,
    hooks: Vec<NamedHook>,
    additional_gids: Vec<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Node {
    path: String,
    #[serde(default)]
    host_path: String,
    #[serde(default, rename = "type")]
    typ: Option<DeviceType>,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    #[serde(default)]
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bind {
    host_path: String,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default, rename = "type")]
    typ: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NamedHook {
    hook_name: String,
    path: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    timeout: Option<i64>,
}

/// Adds devices to a container.
pub(super) fn inject(names: &[String], spec: &mut Spec) -> Result<(), Error> {
    if names.is_empty() {
        return Ok(());
    }
    let known = Known::read(&FOLDERS.map(PathBuf::from));
    let mut used = Vec::new();
    for name in names {
        let (file, device) = known.find(name)?;
        if !used.contains(&file) {
            used.push(file);
            apply(name, &known.files[file].container_edits, spec)?;
        }
        apply(name, &device.container_edits, spec)?;
    }
    Ok(())
}

/// The specifications of this host.
#[derive(Debug, Default)]
struct Known {
    /// Those of the folder that counts most first.
    files: Vec<File>,
    /// Why others were not read.
    unread: Vec<String>,
}

impl Known {
    fn read(folders: &[PathBuf]) -> Self {
        let mut known = Self::default();
        for folder in folders.iter().rev() {
            let mut paths: Vec<PathBuf> =
                fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
            paths.sort();
            for path in paths {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("json") => match read(&path) {
                        Ok(file) => known.files.push(file),
                        Err(why) => known.unread.push(format!("{}: {why}", path.display())),
                    },
                    Some("yaml" | "yml") => {
                        known.unread.push(format!("{}: YAML is not supported, write it as JSON", path.display()));
                    }
                    _ => {}
                }
            }
        }
        known
    }

    /// A device by its name, and the file that it is in.
    fn find(&self, name: &str) -> Result<(usize, &Named), Error> {
        let (kind, device) = name.split_once('=').unwrap_or((name, ""));
        let fits = |file: &File| match kind.contains('/') {
            true => file.kind == kind,
            false => file.kind.rsplit('/').next() == Some(kind),
        };
        let files = self.files.iter().enumerate().filter(|(_, file)| fits(file));
        let mut found =
            files.filter_map(|(at, file)| Some((at, file.devices.iter().find(|other| other.name == device)?)));
        found.next().ok_or_else(|| {
            let selected = match kind.rsplit('/').next() {
                Some(GPU) => "could not select device driver \"\" with capabilities: [[gpu]]: ",
                _ => "unresolvable CDI device: ",
            };
            let folders = FOLDERS.join(" or ");
            let unread: String = self.unread.iter().map(|why| format!("; {why}")).collect();
            refuse(
                name,
                format!("{selected}no CDI specification in {folders} has it, write one with its vendor's tool{unread}"),
            )
        })
    }
}

fn refuse(name: &str, reason: impl Into<String>) -> Error {
    Error::Device { path: name.to_owned(), reason: reason.into() }
}

fn read(path: &Path) -> Result<File, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > FILE_MAX {
        return Err("it is too large".to_owned());
    }
    let text = fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

fn apply(name: &str, edits: &Edits, spec: &mut Spec) -> Result<(), Error> {
    if let Some(process) = &mut spec.process {
        edits.env.iter().for_each(|variable| replace(&mut process.env, variable));
        process.user.additional_gids.extend(&edits.additional_gids);
    }
    for node in &edits.device_nodes {
        add_node(name, node, spec)?;
    }
    let mut binds: Vec<&Bind> = edits.mounts.iter().collect();
    binds.sort_by_key(|bind| bind.container_path.split('/').filter(|part| !part.is_empty()).count());
    spec.mounts.retain(|mount| !binds.iter().any(|bind| bind.container_path == mount.destination));
    spec.mounts.extend(binds.into_iter().map(mount));
    edits.hooks.iter().try_for_each(|hook| add_hook(name, hook, spec.hooks.get_or_insert_default()))
}

fn mount(bind: &Bind) -> Mount {
    let mut options = bind.options.clone();
    let plain = matches!(bind.typ.as_str(), "" | "none" | "bind");
    if plain && !options.iter().any(|option| option == "bind" || option == "rbind") {
        options.push("rbind".to_owned());
    }
    Mount {
        destination: bind.container_path.clone(),
        typ: if plain { "bind".to_owned() } else { bind.typ.clone() },
        source: bind.host_path.clone(),
        options,
        ..Mount::default()
    }
}

/// What the specification does not say of a node is as the host's node has it.
fn add_node(name: &str, wanted: &Node, spec: &mut Spec) -> Result<(), Error> {
    let host = if wanted.host_path.is_empty() { &wanted.path } else { &wanted.host_path };
    let of_host = fs::metadata(host).map_err(|error| error.to_string());
    let of_host = of_host.and_then(|metadata| devices::node(&wanted.path, &metadata).ok_or("is no device".to_owned()));
    let of_host = match (of_host, wanted) {
        (Ok(node), _) => node,
        (Err(_), Node { typ: Some(typ), major: Some(major), minor: Some(minor), .. }) => Device {
            path: wanted.path.clone(),
            typ: *typ,
            major: *major,
            minor: *minor,
            file_mode: None,
            uid: None,
            gid: None,
        },
        (Err(why), _) => return Err(refuse(name, format!("{host}: {why}"))),
    };
    let node = Device {
        typ: wanted.typ.unwrap_or(of_host.typ),
        major: wanted.major.unwrap_or(of_host.major),
        minor: wanted.minor.unwrap_or(of_host.minor),
        file_mode: wanted.file_mode.or(of_host.file_mode),
        uid: wanted.uid.or(of_host.uid),
        gid: wanted.gid.or(of_host.gid),
        ..of_host
    };
    let access = if wanted.permissions.is_empty() { "rwm" } else { &wanted.permissions };
    let rule = DeviceRule {
        allow: true,
        typ: Some(node.typ),
        major: Some(node.major),
        minor: Some(node.minor),
        access: access.to_owned(),
    };
    let linux = spec.linux.get_or_insert_default();
    linux.devices.retain(|known| known.path != node.path);
    linux.devices.push(node);
    linux.resources.get_or_insert_default().devices.push(rule);
    Ok(())
}

fn add_hook(name: &str, wanted: &NamedHook, hooks: &mut Hooks) -> Result<(), Error> {
    let list = match wanted.hook_name.as_str() {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        other => return Err(refuse(name, format!("hooks of kind {other:?} are not supported"))),
    };
    let NamedHook { path, args, env, timeout, .. } = wanted.clone();
    list.push(Hook { path, args, env, timeout });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known(files: &[serde_json::Value]) -> Known {
        let file = |value: &serde_json::Value| serde_json::from_value(value.clone()).expect("a specification");
        Known { files: files.iter().map(file).collect(), unread: vec!["/etc/cdi/x.yaml: YAML".to_owned()] }
    }

    fn zero() -> serde_json::Value {
        json!({"cdiVersion": "0.6.0", "kind": "test.org/gpu", "containerEdits": {"env": ["ALL=1"]}, "devices": [
            {"name": "0", "containerEdits": {
                "env": ["A=b"],
                "deviceNodes": [{"path": "/dev/mine", "hostPath": "/dev/zero", "permissions": "r"}],
                "mounts": [{"hostPath": "/etc", "containerPath": "/vendor", "options": ["ro"]}],
                "hooks": [{"hookName": "createContainer", "path": "/bin/true", "args": ["true"]}],
                "additionalGids": [7]}},
            {"name": "bad", "containerEdits": {"hooks": [{"hookName": "poststop", "path": "/bin/true"}]}},
        ]})
    }

    #[test]
    fn devices_are_found_by_kind_or_class() {
        let known = known(&[zero()]);
        for name in ["test.org/gpu=0", "gpu=0"] {
            assert!(known.find(name).is_ok(), "{name}");
        }
        for name in ["other.org/gpu=0", "test.org/gpu=1", "org/gpu=0", "test.org/gpu"] {
            let said = known.find(name).expect_err("there is none").to_string();
            assert!(said.contains("could not select device driver") && said.contains("x.yaml"), "{said}");
        }
        assert!(known.find("a.org/nic=0").expect_err("none").to_string().contains("unresolvable CDI device"));
    }

    #[test]
    fn edits_reach_the_specification() {
        let known = known(&[zero()]);
        let mut spec = Spec { process: Some(atoll_oci::runtime::Process::default()), ..Spec::default() };
        let (_, device) = known.find("gpu=0").expect("it is there");
        apply("gpu=0", &device.container_edits, &mut spec).expect("edits that are supported");
        let process = spec.process.expect("a process");
        assert_eq!(
            (process.env.as_slice(), process.user.additional_gids.as_slice()),
            (&["A=b".to_owned()][..], &[7][..])
        );
        let linux = spec.linux.expect("linux");
        let node = &linux.devices[0];
        assert_eq!((node.path.as_str(), node.typ, node.major, node.minor), ("/dev/mine", DeviceType::Char, 1, 5));
        assert_eq!(linux.resources.expect("resources").devices[0].access, "r");
        assert_eq!((spec.mounts[0].typ.as_str(), spec.mounts[0].options.join(",").as_str()), ("bind", "ro,rbind"));
        assert_eq!(spec.hooks.expect("hooks").create_container[0].path, "/bin/true");
        let (_, device) = known.find("gpu=bad").expect("it is there");
        assert!(apply("gpu=bad", &device.container_edits, &mut Spec::default()).is_err());
    }

    #[test]
    fn what_is_not_understood_is_not_read() {
        let check = |change: serde_json::Value| {
            let mut file = zero();
            file["devices"][0]["containerEdits"] = change;
            assert!(serde_json::from_value::<File>(file).is_err());
        };
        check(json!({"netDevices": []}));
        check(json!({"deviceNodes": [{"hostPath": "/dev/null"}]}));
        check(json!({"mounts": [{"hostPath": "/a"}]}));
    }
}
