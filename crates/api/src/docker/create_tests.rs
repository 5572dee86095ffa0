//! What requests come to, and what is refused.

use atoll_model::{LogDriver, Network, Stdin};
use serde_json::{Value, json};

use super::{BadRequest, parse_create};

/// What the docker 28 client sends for `docker run IMAGE true`.
fn plain() -> Value {
    serde_json::from_str(
        r#"{
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": true, "AttachStderr": true,
        "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": ["true"], "Image": "busybox",
        "Volumes": {}, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": {},
        "HostConfig": {
            "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "default",
            "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": false,
            "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": [24, 80], "CapAdd": null, "CapDrop": null,
            "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null, "GroupAdd": null,
            "IpcMode": "", "Cgroup": "", "Links": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false,
            "PublishAllPorts": false, "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
            "ShmSize": 0, "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
            "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "CpuPeriod": 0, "CpuQuota": 0,
            "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": [],
            "DeviceCgroupRules": null, "DeviceRequests": null, "MemoryReservation": 0, "MemorySwap": 0,
            "MemorySwappiness": -1, "OomKillDisable": false, "PidsLimit": 0, "Ulimits": [], "CpuCount": 0,
            "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "MaskedPaths": null, "ReadonlyPaths": null
        },
        "NetworkingConfig": {"EndpointsConfig": {"default": {
            "IPAMConfig": null, "Links": null, "Aliases": null, "MacAddress": "", "DriverOpts": null, "GwPriority": 0,
            "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
            "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": null
        }}}
    }"#,
    )
    .expect("JSON")
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

fn with(change: Value) -> Result<atoll_model::Draft, BadRequest> {
    let mut request = plain();
    merge(&mut request, change);
    parse_create(request.to_string().as_bytes())
}

#[test]
fn the_stock_clients_plain_request_passes() {
    let draft = with(json!({})).expect("nothing special is asked for");
    assert_eq!((draft.image.as_str(), draft.command.cmd.as_slice()), ("busybox", &["true".to_owned()][..]));
    assert_eq!(draft.host.network, Network::Bridge("bridge".to_owned()));
    assert_eq!(draft.command.attached, [false, true, true]);
    assert!(!draft.replace_entrypoint && draft.mounts.is_empty() && draft.resources == Default::default());
}

#[test]
fn standard_input() {
    let check = |open: bool, once: bool, expected: Stdin| {
        let draft = with(json!({"OpenStdin": open, "StdinOnce": once})).expect("a draft");
        assert_eq!(draft.command.stdin, expected);
    };
    check(false, false, Stdin::Closed);
    check(false, true, Stdin::Closed);
    check(true, true, Stdin::Once);
    check(true, false, Stdin::Open);
}

#[test]
fn entry_points() {
    let check = |given: Value, words: &[&str], replaces: bool| {
        let draft = with(json!({"Entrypoint": given})).expect("a draft");
        assert_eq!(
            (draft.command.entrypoint, draft.replace_entrypoint),
            (words.iter().map(|&w| w.to_owned()).collect(), replaces)
        );
    };
    check(json!(null), &[], false);
    check(json!([]), &[], false);
    check(json!([""]), &[], true);
    check(json!(["sh", "-c"]), &["sh", "-c"], true);
    check(json!("sh"), &["sh"], true);
}

#[test]
fn resources_are_taken() {
    let draft = with(json!({"HostConfig": {
        "Memory": 67_108_864, "NanoCpus": 1_500_000_000, "PidsLimit": 50, "CpusetCpus": "0-1", "CpuShares": 512,
        "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}], "ShmSize": 1024, "Init": true,
    }}))
    .expect("a draft");
    let resources = &draft.resources;
    assert_eq!(
        (resources.memory, resources.nano_cpus, resources.pids),
        (Some(64 << 20), Some(1_500_000_000), Some(50))
    );
    assert_eq!((resources.cpuset_cpus.as_deref(), resources.cpu_shares), (Some("0-1"), Some(512)));
    assert_eq!((resources.ulimits[0].soft, draft.host.shm_size, draft.life.init), (10, Some(1024), true));
    let check = |host: Value| assert!(with(json!({"HostConfig": host.clone()})).is_err(), "{host}");
    check(json!({"Memory": -1}));
    check(json!({"NanoCpus": 1, "CpuQuota": 1000}));
    check(json!({"Memory": 100, "MemorySwap": 50}));
    check(json!({"CpusetCpus": "0;1"}));
    check(json!({"Ulimits": [{"Name": "files", "Soft": 1, "Hard": 1}]}));
    check(json!({"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]}));
    check(json!({"Ulimits": [{"Name": "nofile", "Soft": -1, "Hard": 1}]}));
}

#[test]
fn what_there_is_not_is_refused_by_name() {
    let check = |change: Value, option: &str| match with(change) {
        Err(BadRequest::Unsupported { option: found, .. }) => assert_eq!(found, option),
        other => panic!("{option}: {other:?}"),
    };
    check(json!({"HostConfig": {"PublishAllPorts": true}}), "HostConfig.PublishAllPorts");
    check(json!({"HostConfig": {"Links": ["a"]}}), "HostConfig.Links");
    check(json!({"HostConfig": {"Isolation": "vm"}}), "HostConfig.Isolation");
    check(
        json!({"NetworkingConfig": {"EndpointsConfig": {"default": {"Aliases": ["web"]}}}}),
        "NetworkingConfig.EndpointsConfig.default",
    );
}

#[test]
fn health_checks() {
    let args = |check: Value| with(json!({"Healthcheck": check})).map(|draft| draft.life.health.args());
    assert_eq!(args(json!({"Test": ["CMD", "a"]})), Ok(Some(vec!["a".to_owned()])));
    assert_eq!(args(json!({"Test": ["NONE"]})), Ok(None));
    assert_eq!(args(json!({})), Ok(None));
    let refused = args(json!({"Interval": 3})).expect_err("too short");
    assert_eq!(refused.to_string(), "Interval in Healthcheck cannot be less than 1ms");
}

#[test]
fn restart_policies() {
    let policy = |name: &str| json!({"RestartPolicy": {"Name": name, "MaximumRetryCount": 0}});
    let draft = with(json!({"HostConfig": policy("always")})).expect("a draft");
    assert_eq!(draft.life.restart, atoll_model::Restart::Always);
    let mut both = policy("always");
    merge(&mut both, json!({"AutoRemove": true}));
    let refused = with(json!({"HostConfig": both})).expect_err("contradictory");
    assert_eq!(refused.to_string(), "can't create 'AutoRemove' container with restart policy");
}

#[test]
fn networks() {
    let check = |mode: &str, expected: Network| {
        let draft = with(json!({"HostConfig": {"NetworkMode": mode}, "NetworkingConfig": null})).expect("a draft");
        assert_eq!(draft.host.network, expected, "{mode}");
    };
    check("none", Network::None);
    check("host", Network::Host);
    check("bridge", Network::Bridge("bridge".to_owned()));
    check("front", Network::Bridge("front".to_owned()));
    check("container:web", Network::Workload("web".to_owned()));
}

#[test]
fn hostile_bodies_are_errors() {
    for bad in [
        "",
        "{",
        "[]",
        "1",
        "null",
        "{}",
        r#"{"Image":1}"#,
        r#"{"Image":"a","Env":["=x"]}"#,
        r#"{"Image":"a","Env":["A\u0000=x"]}"#,
    ] {
        assert!(parse_create(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(parse_create("[".repeat(100_000).as_bytes()).is_err());
}

#[test]
fn logs() {
    let check = |given: Value, driver: Option<LogDriver>, options: usize| {
        let draft = with(json!({"HostConfig": {"LogConfig": given}})).expect("a draft");
        assert_eq!((draft.command.log.driver, draft.command.log.options.len()), (driver, options));
    };
    check(json!({"Type": "", "Config": {"max-size": "1m"}}), None, 1);
    check(json!({"Type": "json-file", "Config": {}}), Some(LogDriver::JsonFile), 0);
    check(json!({"Type": "none"}), Some(LogDriver::None), 0);
    let error = with(json!({"HostConfig": {"LogConfig": {"Type": "splunk"}}})).expect_err("there is none");
    assert_eq!(error.to_string(), "error looking up logging plugin splunk: plugin \"splunk\" not found");
}
