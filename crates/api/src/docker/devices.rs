//! Devices of a creation: those of the host by path, rules for their use, and names of the Container Device Interface.

use atoll_model::{Device, DeviceKind, DeviceRule};
use serde_json::json;

use super::bad::BadRequest;
use super::config::{DeviceMapping, DeviceRequest};

/// The driver of requests that name devices of the Container Device Interface.
const CDI: &str = "cdi";
/// The class of devices that `--gpus` means, which is also its capability.
const GPU: &str = "gpu";
/// The vendor of the driver that is named by itself.
const NVIDIA: &str = "nvidia.com/";
/// Most devices that are asked for by their number.
const COUNT_MAX: i64 = 64;

pub(super) fn mapping(mapping: &DeviceMapping) -> Result<Device, BadRequest> {
    let invalid = |why: String| BadRequest::invalid("HostConfig.Devices", why);
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let device = Device {
        host: mapping.path_on_host.clone(),
        inside: or(&mapping.path_in_container, &mapping.path_on_host),
        permissions: or(&mapping.cgroup_permissions, "rwm"),
    };
    if !(device.host.starts_with('/') && device.inside.starts_with('/')) {
        return Err(invalid(format!("{:?} and {:?} must be absolute paths", device.host, device.inside)));
    }
    if !are_permissions(&device.permissions) {
        return Err(invalid(format!("permissions {:?} must be of r, w and m", device.permissions)));
    }
    Ok(device)
}

fn are_permissions(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|letter| b"rwm".contains(&letter))
}

/// `c 42:* rwm`.
pub(super) fn rule(text: &String) -> Result<DeviceRule, BadRequest> {
    let invalid =
        || BadRequest::invalid("device cgroup rule format", format!("{text:?}: write one such as c 42:* rwm"));
    let [kind, numbers, permissions] = text.split(' ').collect::<Vec<_>>()[..] else { return Err(invalid()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        text if text.bytes().all(|digit| digit.is_ascii_digit()) => text.parse().map(Some).map_err(|_| invalid()),
        _ => Err(invalid()),
    };
    let kind = match kind {
        "a" => DeviceKind::All,
        "b" => DeviceKind::Block,
        "c" => DeviceKind::Char,
        _ => return Err(invalid()),
    };
    if !are_permissions(permissions) {
        return Err(invalid());
    }
    Ok(DeviceRule { kind, major: number(major)?, minor: number(minor)?, permissions: permissions.to_owned() })
}

/// A rule as it was asked for.
pub(super) fn rule_text(rule: &DeviceRule) -> String {
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let kind = match rule.kind {
        DeviceKind::All => 'a',
        DeviceKind::Block => 'b',
        DeviceKind::Char => 'c',
    };
    format!("{kind} {}:{} {}", number(rule.major), number(rule.minor), rule.permissions)
}

/// The devices that a request names, as `vendor.com/class=name`, or `gpu=name` where any vendor's will do.
pub(super) fn requested(request: &DeviceRequest) -> Result<Vec<String>, BadRequest> {
    let given = json!(request);
    let unsupported = || BadRequest::unsupported("HostConfig.DeviceRequests", &given);
    if !request.options.is_empty() {
        return Err(unsupported());
    }
    if request.driver == CDI {
        return match request.device_ids.iter().find(|name| !is_qualified(name)) {
            Some(bad) => {
                let why = format!("{bad:?} is no device of the form vendor.com/class=name");
                Err(BadRequest::invalid("HostConfig.DeviceRequests", why))
            }
            None => Ok(request.device_ids.clone()),
        };
    }
    let vendor = match request.driver.as_str() {
        "" => "",
        "nvidia" => NVIDIA,
        _ => return Err(unsupported()),
    };
    let asks_for_gpus = request.capabilities.iter().any(|all| all.iter().any(|name| name == GPU));
    if !(asks_for_gpus || request.capabilities.is_empty() && vendor == NVIDIA) {
        return Err(unsupported());
    }
    let name = |id: &dyn std::fmt::Display| format!("{vendor}{GPU}={id}");
    match (request.count, request.device_ids.as_slice()) {
        (-1, []) => Ok(vec![name(&"all")]),
        (count, []) if (1..=COUNT_MAX).contains(&count) => Ok((0..count).map(|number| name(&number)).collect()),
        (0, ids) if !ids.is_empty() => Ok(ids.iter().map(|id| name(id)).collect()),
        _ => Err(BadRequest::invalid(
            "HostConfig.DeviceRequests",
            "cannot set both Count and DeviceIDs on device request",
        )),
    }
}

fn is_qualified(name: &str) -> bool {
    let part = |text: &str| {
        !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-:".contains(letter))
    };
    name.split_once('=').is_some_and(|(kind, device)| {
        part(device) && kind.split_once('/').is_some_and(|(vendor, class)| part(vendor) && part(class))
    })
}

/// Devices of the Container Device Interface as requests, for `inspect`.
pub(super) fn requests(names: &[String]) -> Vec<DeviceRequest> {
    let (by_name, gpus): (Vec<_>, Vec<_>) = names.iter().cloned().partition(|name| name.contains('/'));
    let mut requests = Vec::new();
    if !by_name.is_empty() {
        requests.push(DeviceRequest { driver: CDI.to_owned(), device_ids: by_name, ..DeviceRequest::default() });
    }
    if !gpus.is_empty() {
        let ids: Vec<_> = gpus.iter().filter_map(|name| name.split_once('=')).map(|(_, id)| id.to_owned()).collect();
        let all = ids == ["all"];
        requests.push(DeviceRequest {
            count: if all { -1 } else { 0 },
            device_ids: if all { Vec::new() } else { ids },
            capabilities: vec![vec![GPU.to_owned()]],
            ..DeviceRequest::default()
        });
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_defaults() {
        let map = |on: &str, inside: &str, permissions: &str| DeviceMapping {
            path_on_host: on.to_owned(),
            path_in_container: inside.to_owned(),
            cgroup_permissions: permissions.to_owned(),
        };
        let found = mapping(&map("/dev/fuse", "", "")).expect("a device");
        assert_eq!((found.inside.as_str(), found.permissions.as_str()), ("/dev/fuse", "rwm"));
        assert!(mapping(&map("dev/fuse", "", "")).is_err());
        assert!(mapping(&map("/dev/fuse", "", "rx")).is_err());
    }

    #[test]
    fn rules_are_read_and_written() {
        for text in ["c 42:* rwm", "b 8:0 r", "a *:* m"] {
            assert_eq!(rule_text(&rule(&text.to_owned()).expect("a rule")), text);
        }
        for bad in
            ["", "c 42:*", "x 1:1 r", "c 1 r", "c 1:1 x", "c 1:1 rwmr", "c -1:1 r", "c 1:99999999999 r", "c  1:1 r"]
        {
            assert!(rule(&bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn requests_become_names_and_come_back() {
        let check = |request: serde_json::Value, expected: Option<&[&str]>| {
            let request: DeviceRequest = serde_json::from_value(request).expect("a request");
            let found = requested(&request).ok();
            assert_eq!(found.is_some(), expected.is_some(), "{request:?}");
            let names: Vec<_> = found.iter().flatten().map(String::as_str).collect();
            assert_eq!(names, expected.unwrap_or_default());
        };
        check(json!({"Driver": "cdi", "DeviceIDs": ["a.com/b=c"]}), Some(&["a.com/b=c"]));
        check(json!({"Driver": "cdi", "DeviceIDs": ["/dev/null"]}), None);
        check(json!({"Count": -1, "Capabilities": [["gpu"]]}), Some(&["gpu=all"]));
        check(json!({"Count": 2, "Capabilities": [["gpu"]]}), Some(&["gpu=0", "gpu=1"]));
        check(json!({"Driver": "nvidia", "DeviceIDs": ["7"], "Capabilities": [["gpu"]]}), Some(&["nvidia.com/gpu=7"]));
        check(json!({"Count": 1, "DeviceIDs": ["7"], "Capabilities": [["gpu"]]}), None);
        check(json!({"Count": 1, "Capabilities": [["tpu"]]}), None);
        check(json!({"Count": 1, "Capabilities": [["gpu"]], "Options": {"a": "b"}}), None);
        check(json!({"Driver": "other", "Count": 1, "Capabilities": [["gpu"]]}), None);
        let shown = requests(&["gpu=all".to_owned(), "a.com/b=c".to_owned()]);
        assert_eq!((shown[0].driver.as_str(), shown[1].count), ("cdi", -1));
    }
}
