//! Devices by name: what specifications of the Container Device Interface (CNCF CDI 1.0, SPEC.md) add to a container.
//!
//! The specifications are files in JSON or YAML that the host's administrator or a vendor's tool has put into the folders of
//! the configuration; of two with a device of the same name that in the later folder counts. A device stands for edits:
//! variables, nodes, mounts, groups and hooks. They are root's orders, so that files which anybody else could have written are
//! not read. Left out on purpose: hooks after the start and after the end, and edits that the specification did not have when
//! this was written, which are refused.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use atoll_oci::runtime::{Device, DeviceRule, DeviceType, Hook, Hooks, Mount, Spec};
use serde::Deserialize;

use super::devices;
use crate::spec::{Error, replace};

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 16 << 20;
/// The class of devices that is asked for without a vendor.
const GPU: &str = "gpu";
/// Whose they are where several vendors have some.
const FIRST_VENDOR: &str = "nvidia.com";

/// A file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "cdiVersion")]
    version: String,
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

/// Adds devices to a container, as the specifications in `folders` have them.
pub(super) fn inject(names: &[String], folders: &[PathBuf], spec: &mut Spec) -> Result<(), Error> {
    if names.is_empty() {
        return Ok(());
    }
    let known = Known::read(folders);
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
    /// Where they were looked for.
    folders: String,
}

impl Known {
    fn read(folders: &[PathBuf]) -> Self {
        let shown: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let mut known = Self { folders: shown.join(" or "), ..Self::default() };
        for folder in folders.iter().rev() {
            if let Err(why) = fs::metadata(folder).map_or(Ok(()), |metadata| trusted(&metadata)) {
                known.unread.push(format!("{}: {why}", folder.display()));
                continue;
            }
            let mut paths: Vec<PathBuf> =
                fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
            paths.sort();
            for path in paths {
                let extension = path.extension().and_then(|extension| extension.to_str());
                let Some(extension @ ("json" | "yaml" | "yml")) = extension else { continue };
                match content(&path).and_then(|text| parse(&text, extension == "json")) {
                    Ok(file) => known.files.push(file),
                    Err(why) => known.unread.push(format!("{}: {why}", path.display())),
                }
            }
        }
        known
    }

    /// A device by its name, and the file that it is in.
    fn find(&self, name: &str) -> Result<(usize, &Named), Error> {
        let (kind, device) = name.split_once('=').unwrap_or((name, ""));
        let kind = if kind.contains('/') { kind } else { self.kind_of(name, kind)? };
        let files = self.files.iter().enumerate().filter(|(_, file)| file.kind == kind);
        let mut found =
            files.filter_map(|(at, file)| Some((at, file.devices.iter().find(|other| other.name == device)?)));
        found.next().ok_or_else(|| self.absent(name, kind))
    }

    /// The kind of a class that was asked for without a vendor: the first vendor's, or that of the only one who has any.
    fn kind_of<'a>(&'a self, name: &str, class: &'a str) -> Result<&'a str, Error> {
        let mut kinds: Vec<&str> = self.files.iter().map(|file| file.kind.as_str()).collect();
        kinds.retain(|kind| kind.split_once('/').is_some_and(|(_, of)| of == class));
        kinds.sort_unstable();
        kinds.dedup();
        let first = kinds.iter().find(|kind| kind.split_once('/').is_some_and(|(vendor, _)| vendor == FIRST_VENDOR));
        match (first, kinds.as_slice()) {
            (Some(kind), _) | (None, [kind]) => Ok(kind),
            (None, []) => Ok(class),
            (None, several) => {
                Err(refuse(name, format!("there are {}: name one, as {}={name}", several.join(" and "), several[0])))
            }
        }
    }

    fn absent(&self, name: &str, kind: &str) -> Error {
        let selected = match kind.rsplit('/').next() {
            Some(GPU) => "could not select device driver \"\" with capabilities: [[gpu]]: ",
            _ => "unresolvable CDI device: ",
        };
        let unread: String = self.unread.iter().map(|why| format!("; {why}")).collect();
        let folders = &self.folders;
        refuse(
            name,
            format!("{selected}no CDI specification in {folders} has it, write one with its vendor's tool{unread}"),
        )
    }
}

/// What is in these files is done as root: nobody else may have written them. Root is whoever the host's own root folder
/// belongs to, which an ordinary user's daemon sees under another number.
fn trusted(metadata: &Metadata) -> Result<(), String> {
    let root = fs::metadata("/").map_or(0, |root| root.uid());
    match metadata.uid() {
        uid if uid != root && uid != 0 => Err(format!("it belongs to user {uid}, not to root")),
        _ if metadata.mode() & 0o022 != 0 => Err("others than its owner can write it".to_owned()),
        _ => Ok(()),
    }
}

fn content(path: &Path) -> Result<Vec<u8>, String> {
    let told = |error: std::io::Error| error.to_string();
    let file = fs::File::open(path).map_err(told)?;
    trusted(&file.metadata().map_err(told)?)?;
    let mut text = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut text).map_err(told)?;
    if text.len() as u64 > FILE_MAX { Err("it is too large".to_owned()) } else { Ok(text) }
}

fn parse(text: &[u8], json: bool) -> Result<File, String> {
    // Modes of files are written as Go's YAML reads them.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let file: File = if json {
        serde_json::from_slice(text).map_err(|error| error.to_string())?
    } else {
        serde_saphyr::from_slice_with_options(text, options).map_err(|error| error.to_string())?
    };
    if !matches!(file.version.split('.').next(), Some("0" | "1")) {
        return Err(format!("version {:?} of the specification is not supported", file.version));
    }
    let part = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-:".contains(c));
    if !file.kind.split_once('/').is_some_and(|(vendor, class)| part(vendor) && part(class)) {
        return Err(format!("its kind {:?} is not of the form vendor.com/class", file.kind));
    }
    match file.devices.iter().find(|device| !part(&device.name)) {
        Some(bad) => Err(format!("{:?} is no name of a device", bad.name)),
        None => Ok(file),
    }
}

fn refuse(name: &str, reason: impl Into<String>) -> Error {
    Error::Device { path: name.to_owned(), reason: reason.into() }
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
        let file = |value: &serde_json::Value| parse(value.to_string().as_bytes(), true).expect("a specification");
        let unread = vec!["/etc/cdi/x.yaml: not read".to_owned()];
        Known { files: files.iter().map(file).collect(), unread, folders: "/etc/cdi or /run/cdi".to_owned() }
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
            let all = ["could not select device driver", "in /etc/cdi or /run/cdi has it", "x.yaml"];
            assert!(all.iter().all(|part| said.contains(part)), "{said}");
        }
        assert!(known.find("a.org/nic=0").expect_err("none").to_string().contains("unresolvable CDI device"));
    }

    #[test]
    fn a_class_means_the_first_vendor_s_or_the_only_one_s() {
        let of = |kind: &str| {
            let mut file = zero();
            file["kind"] = json!(kind);
            file
        };
        let found = |kinds: &[&str]| {
            let known = known(&kinds.iter().map(|kind| of(kind)).collect::<Vec<_>>());
            known.find("gpu=0").map(|(at, _)| kinds[at].to_owned()).map_err(|error| error.to_string())
        };
        assert_eq!(found(&["a.org/nic", "b.org/gpu"]).as_deref(), Ok("b.org/gpu"));
        assert_eq!(found(&["b.org/gpu", "nvidia.com/gpu"]).as_deref(), Ok("nvidia.com/gpu"));
        assert!(found(&["b.org/gpu", "c.org/gpu"]).expect_err("two").contains("b.org/gpu and c.org/gpu"));
    }

    #[test]
    fn yaml_means_the_same() {
        let text = "
cdiVersion: 0.6.0
kind: test.org/gpu
devices:
  - name: \"0\"
    containerEdits:
      env: [A=b]
      deviceNodes:
        - {path: /dev/mine, hostPath: /dev/zero, permissions: r, fileMode: 0660, uid: 7}
containerEdits:
  env: [ALL=1]
";
        let file = parse(text.as_bytes(), false).expect("a specification");
        let node = &file.devices[0].container_edits.device_nodes[0];
        assert_eq!((node.host_path.as_str(), node.file_mode, node.uid), ("/dev/zero", Some(0o660), Some(7)));
        assert_eq!((file.kind.as_str(), file.container_edits.env[0].as_str()), ("test.org/gpu", "ALL=1"));
        let refused = |from: &str, to: &str| parse(text.replace(from, to).as_bytes(), false).expect_err(to);
        assert!(refused("0.6.0", "2.0.0").contains("2.0.0"));
        assert!(refused("test.org/gpu", "gpu").contains("vendor.com/class"));
        assert!(refused("\"0\"", "\"a b\"").contains("a b"));
        assert!(refused("uid: 7", "colour: 7").contains("colour"));
        assert!(parse(b"a: &x [1]\nb: *y", false).is_err());
    }

    #[test]
    fn what_others_can_write_is_not_read() {
        use std::os::unix::fs::PermissionsExt;
        if !atoll_testkit::require_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.json");
        fs::write(&file, zero().to_string()).expect("a file");
        let read = || Known::read(&[folder.path().to_owned()]);
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        mode(&file, 0o644);
        assert_eq!(read().files.len(), 1);
        mode(&file, 0o664);
        assert!(read().files.is_empty() && read().unread[0].contains("a.json: others"), "{:?}", read());
        mode(&file, 0o644);
        std::os::unix::fs::chown(&file, Some(12), None).expect("an owner");
        assert!(read().unread[0].contains("belongs to user 12"), "{:?}", read());
        std::os::unix::fs::chown(&file, Some(0), None).expect("an owner");
        mode(folder.path(), 0o777);
        assert!(read().files.is_empty() && !read().unread.is_empty(), "{:?}", read());
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
