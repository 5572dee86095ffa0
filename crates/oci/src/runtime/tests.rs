//! Reading and writing of small pieces of `config.json`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::*;

/// `json` reads as `expected` and writes back the same.
#[track_caller]
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(json: &serde_json::Value, expected: &T) {
    let read: T = T::deserialize(json).unwrap();
    assert_eq!(&read, expected);
    assert_eq!(&serde_json::to_value(expected).unwrap(), json);
}

#[test]
fn small_values() {
    check(&json!({"path": "rootfs", "readonly": true}), &Root { path: "rootfs".into(), readonly: true });
    check(&json!({"type": "network"}), &Namespace { typ: NamespaceType::Network, path: String::new() });
    check(
        &json!({"containerID": 0, "hostID": 1000, "size": 1}),
        &IdMapping { container_id: 0, host_id: 1000, size: 1 },
    );
    check(
        &json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        &Mount { destination: "/proc".into(), typ: "proc".into(), source: "proc".into(), ..Mount::default() },
    );
    check(
        &json!({"allow": false, "type": "c", "major": 1, "access": "rwm"}),
        &DeviceRule { allow: false, typ: Some(DeviceType::Char), major: Some(1), minor: None, access: "rwm".into() },
    );
    check(&json!("SCMP_ACT_KILL_PROCESS"), &SeccompAction::KillProcess);
    check(&json!("SCMP_CMP_MASKED_EQ"), &SeccompOperator::MaskedEqual);
    check(
        &json!({"limit": 1_048_576, "swap": -1, "kernelTCP": 7, "disableOOMKiller": true}),
        &Memory {
            limit: Some(1_048_576),
            swap: Some(-1),
            kernel_tcp: Some(7),
            disable_oom_killer: Some(true),
            ..Memory::default()
        },
    );
}

#[test]
fn unknown_fields_and_nulls_are_tolerated() {
    let spec: Spec = serde_json::from_value(json!({
        "ociVersion": "1.3.0", "future": {"a": 1}, "mounts": null, "annotations": null,
        "process": {"cwd": "/", "args": null, "env": null, "user": null, "rlimits": null},
        "linux": {"namespaces": null, "resources": {"devices": null}, "sysctl": null}
    }))
    .unwrap();
    assert!(spec.mounts.is_empty());
    assert_eq!(spec.process.unwrap().user, User::default());
}

#[test]
fn an_unknown_namespace_is_an_error() {
    assert!(serde_json::from_value::<Namespace>(json!({"type": "colour"})).is_err());
}

#[test]
fn bind_is_known_by_type_or_option() {
    let mount = |typ: &str, option: &str| Mount { typ: typ.into(), options: vec![option.into()], ..Mount::default() };
    assert!(mount("bind", "ro").is_bind());
    assert!(mount("", "rbind").is_bind());
    assert!(mount("none", "bind").is_bind());
    assert!(!mount("tmpfs", "ro").is_bind());
}

#[test]
fn a_state_as_runc_prints_it() {
    check(
        &json!({"ociVersion": "1.2.0", "id": "a", "status": "created", "pid": 7, "bundle": "/b"}),
        &State {
            oci_version: OCI_VERSION.into(),
            id: "a".into(),
            status: Status::Created,
            pid: 7,
            bundle: "/b".into(),
            annotations: BTreeMap::new(),
        },
    );
}
