//! Published ports, as requests, lists and inspections have them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use atoll_model::{PortBinding, Protocol};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::bad::BadRequest;

/// Name of the field that asks for them.
const OPTION: &str = "HostConfig.PortBindings";

/// Where a port answers on the host. The fields are those of the Docker API reference, `PortBinding`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortMap {
    /// An address, or nothing for all of them.
    pub host_ip: String,
    /// A number, or nothing for one that is free.
    pub host_port: String,
}

/// The ports that a request publishes, by `80/tcp`.
pub(super) fn bindings(asked: &BTreeMap<String, Vec<PortMap>>) -> Result<Vec<PortBinding>, BadRequest> {
    let mut all = Vec::new();
    for (name, maps) in asked {
        let (inside, protocol) = port(name)?;
        // A port without a place is one that the host chooses.
        let anywhere = [PortMap::default()];
        for map in if maps.is_empty() { &anywhere } else { maps.as_slice() } {
            all.push(PortBinding {
                inside,
                protocol,
                address: address(&map.host_ip)?,
                outside: number(&map.host_port)?,
            });
        }
    }
    Ok(all)
}

/// `80/tcp`, or `80` for the same.
fn port(name: &str) -> Result<(u16, Protocol), BadRequest> {
    let (number, protocol) = name.split_once('/').unwrap_or((name, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => return Err(BadRequest::unsupported(format!("{OPTION} of protocol {other}"), &json!(name))),
    };
    let number = number.parse().ok().filter(|number| *number != 0);
    let number = number.ok_or_else(|| BadRequest::invalid(OPTION, format!("{name:?} is no port such as 80/tcp")))?;
    Ok((number, protocol))
}

fn address(text: &str) -> Result<Option<Ipv4Addr>, BadRequest> {
    match text {
        "" => Ok(None),
        text if text.contains(':') => Err(BadRequest::unsupported(format!("{OPTION} on IPv6"), &json!(text))),
        text => {
            let address = text.parse().map_err(|_| BadRequest::invalid(OPTION, format!("{text:?} is no address")))?;
            Ok(Some(address))
        }
    }
}

fn number(text: &str) -> Result<u16, BadRequest> {
    match text {
        "" => Ok(0),
        text if text.contains('-') => {
            Err(BadRequest::unsupported(format!("{OPTION} with a range to choose from"), &json!(text)))
        }
        text => text.parse().map_err(|_| BadRequest::invalid(OPTION, format!("{text:?} is no port"))),
    }
}

/// `PortBindings` of an inspection: what was asked for.
pub(super) fn asked(ports: &[PortBinding]) -> BTreeMap<String, Vec<PortMap>> {
    let mut all: BTreeMap<String, Vec<PortMap>> = BTreeMap::new();
    for port in ports {
        let host_ip = port.address.map(|address| address.to_string()).unwrap_or_default();
        let host_port = if port.outside == 0 { String::new() } else { port.outside.to_string() };
        all.entry(name(port)).or_default().push(PortMap { host_ip, host_port });
    }
    all
}

fn name(port: &PortBinding) -> String {
    format!("{}/{}", port.inside, port.protocol)
}

/// `NetworkSettings.Ports` of an inspection: where ports answer, and `null` for those that are only exposed.
pub(super) fn answering(exposed: &[String], ports: &[PortBinding]) -> BTreeMap<String, Value> {
    let mut all: BTreeMap<String, Value> = exposed.iter().map(|name| (name.clone(), Value::Null)).collect();
    for port in ports {
        let map = json!({"HostIp": port.host_address(), "HostPort": port.outside.to_string()});
        match all.entry(name(port)).or_insert(Value::Null) {
            Value::Array(maps) => maps.push(map),
            empty => *empty = json!([map]),
        }
    }
    all
}

/// `Ports` of a list.
pub(super) fn listed(exposed: &[String], ports: &[PortBinding]) -> Vec<Value> {
    let only_exposed = exposed.iter().filter(|exposed| !ports.iter().any(|port| name(port) == **exposed));
    let only_exposed = only_exposed.filter_map(|name| {
        let (inside, protocol) = port(name).ok()?;
        Some(json!({"PrivatePort": inside, "Type": protocol.to_string()}))
    });
    let published = ports.iter().map(|port| {
        json!({"IP": port.host_address(), "PrivatePort": port.inside, "PublicPort": port.outside, "Type": port.protocol.to_string()})
    });
    published.chain(only_exposed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(asked: &Value) -> Result<Vec<PortBinding>, BadRequest> {
        bindings(&serde_json::from_value(asked.clone()).expect("maps"))
    }

    #[test]
    fn what_is_asked_for_is_shown_again() {
        let request = json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "", "HostPort": ""}],
                             "53/udp": [{"HostIp": "", "HostPort": "5353"}]});
        let ports = read(&request).expect("ports");
        assert_eq!(ports.len(), 3);
        assert_eq!((ports[0].inside, ports[0].protocol, ports[0].outside), (53, Protocol::Udp, 5353));
        assert_eq!(serde_json::to_value(super::asked(&ports)).expect("plain data"), request);
    }

    #[test]
    fn ports_without_a_place() {
        let ports = read(&json!({"80": []})).expect("ports");
        assert_eq!((ports[0].inside, ports[0].address, ports[0].outside), (80, None, 0));
    }

    #[test]
    fn what_makes_no_sense() {
        let check = |request: Value| assert!(read(&request).is_err(), "{request}");
        check(json!({"80/sctp": [{}]}));
        check(json!({"0/tcp": [{}]}));
        check(json!({"web/tcp": [{}]}));
        check(json!({"80-81/tcp": [{}]}));
        check(json!({"80/tcp": [{"HostPort": "65536"}]}));
        check(json!({"80/tcp": [{"HostPort": "8000-8010"}]}));
        check(json!({"80/tcp": [{"HostIp": "::1"}]}));
        check(json!({"80/tcp": [{"HostIp": "localhost"}]}));
    }

    #[test]
    fn lists_and_inspections() {
        let ports = [PortBinding { inside: 80, protocol: Protocol::Tcp, address: None, outside: 8080 }];
        let exposed = ["80/tcp".to_owned(), "90/udp".to_owned()];
        let shown = answering(&exposed, &ports);
        assert_eq!(shown["80/tcp"], json!([{"HostIp": "0.0.0.0", "HostPort": "8080"}]));
        assert_eq!(shown["90/udp"], Value::Null);
        let rows = listed(&exposed, &ports);
        assert_eq!(rows[0], json!({"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}));
        assert_eq!(rows[1], json!({"PrivatePort": 90, "Type": "udp"}));
    }
}
