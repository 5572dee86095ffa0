//! What is asked for and not done is refused by name.
//!
//! A field that the Docker API defines and no type of ours names is harmless only when it holds its default, or one of the
//! values in a table below that say what is so anyway. What the API does not define is ignored, as Docker does: clients
//! send their own notes along.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bad::BadRequest;

/// What version 1.50 of the Docker API defines for `POST /containers/create` and is not done.
const NOT_DONE: [&str; 28] = [
    "ArgsEscaped",
    "MacAddress",
    "OnBuild",
    "Shell",
    "HostConfig.Cgroup",
    "HostConfig.ConsoleSize",
    "HostConfig.ContainerIDFile",
    "HostConfig.CpuCount",
    "HostConfig.CpuPercent",
    "HostConfig.Dns",
    "HostConfig.DnsOptions",
    "HostConfig.DnsSearch",
    "HostConfig.ExtraHosts",
    "HostConfig.IOMaximumBandwidth",
    "HostConfig.IOMaximumIOps",
    "HostConfig.KernelMemory",
    "HostConfig.KernelMemoryTCP",
    "HostConfig.Links",
    "HostConfig.PublishAllPorts",
    "HostConfig.VolumeDriver",
    "HostConfig.Mounts.ClusterOptions",
    "HostConfig.Mounts.ImageOptions",
    "HostConfig.Mounts.BindOptions.ReadOnlyForceRecursive",
    "HostConfig.Mounts.BindOptions.ReadOnlyNonRecursive",
    "HostConfig.Mounts.VolumeOptions.DriverConfig",
    "HostConfig.Mounts.VolumeOptions.Labels",
    "HostConfig.Mounts.VolumeOptions.Subpath",
    "HostConfig.Mounts.TmpfsOptions.Options",
];

/// Refuses each field of `rest` that asks for something at a creation.
pub(super) fn rest(prefix: &str, rest: &BTreeMap<String, Value>) -> Result<(), BadRequest> {
    among(&NOT_DONE, prefix, rest)
}

/// Refuses each field of `rest` that is one of `names` and asks for something.
pub(super) fn among(names: &[&str], prefix: &str, rest: &BTreeMap<String, Value>) -> Result<(), BadRequest> {
    for (name, value) in rest {
        let option = format!("{prefix}{name}");
        let wish = names.contains(&option.as_str()) && !is_default(value);
        if wish && !says_what_is_so(&option, value) {
            return Err(BadRequest::unsupported(option, value));
        }
    }
    Ok(())
}

/// Go's zero values.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// An object of nothing but defaults.
pub(super) fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.values().all(is_hollow),
        other => is_default(other),
    }
}

fn says_what_is_so(option: &str, value: &Value) -> bool {
    match option {
        "HostConfig.ConsoleSize" | "HostConfig.ContainerIDFile" | "HostConfig.KernelMemory" => true,
        "HostConfig.Mounts.VolumeOptions.DriverConfig" => {
            let local = value.get("Name").is_none_or(|name| matches!(name.as_str(), Some("" | "local")));
            local && value.get("Options").is_none_or(is_hollow)
        }
        "HostConfig.VolumeDriver" => *value == json!("local"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(option: &str, value: &Value, refused: bool) {
        let fields = BTreeMap::from([(option.to_owned(), value.clone())]);
        assert_eq!(rest("HostConfig.", &fields).is_err(), refused, "{option} {value}");
    }

    #[test]
    fn defaults_pass() {
        for value in &[json!(null), json!(false), json!(0), json!(""), json!([]), json!({})] {
            check("Links", value, false);
        }
        check("ConsoleSize", &json!([40, 80]), false);
    }

    #[test]
    fn wishes_are_refused() {
        check("Links", &json!(["a:b"]), true);
        check("VolumeDriver", &json!("other"), true);
        check("NoSuchThing", &json!(1), false);
    }
}
