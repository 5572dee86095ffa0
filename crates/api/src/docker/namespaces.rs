//! Whose namespaces a workload is in: `UsernsMode`, `CgroupnsMode`, `IpcMode`, `PidMode` and `UTSMode` of a creation.

use atoll_model::{Ipc, Namespaces, Share};
use serde::{Deserialize, Serialize};

use super::bad::BadRequest;

/// The part of `HostConfig` that is about namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "fields have the names and meanings of the Docker API reference, HostConfig")]
pub struct NamespaceConfig {
    pub userns_mode: String,
    pub cgroupns_mode: String,
    pub ipc_mode: String,
    pub pid_mode: String,
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
}

const CONTAINER: &str = "container:";

/// The name in `container:NAME`.
pub(super) fn container(mode: &str) -> Option<&str> {
    mode.strip_prefix(CONTAINER).filter(|name| !name.is_empty())
}

pub(super) fn namespaces(asked: &NamespaceConfig, hostname: &str) -> Result<Namespaces, BadRequest> {
    let workload =
        |what: &str, mode: &str| container(mode).map(str::to_owned).ok_or_else(|| BadRequest::invalid(what, mode));
    let pid = match asked.pid_mode.as_str() {
        "" | "private" => Share::Own,
        "host" => Share::Host,
        mode => Share::Workload(workload("PID mode", mode)?),
    };
    let ipc = match asked.ipc_mode.as_str() {
        "" | "private" => Ipc::Private,
        "none" => Ipc::None,
        "shareable" => Ipc::Shareable,
        "host" => Ipc::Host,
        mode => Ipc::Workload(workload("IPC mode", mode)?),
    };
    let is_host = |what: &str, mode: &str| match mode {
        "" => Ok(false),
        "host" => Ok(true),
        mode => Err(BadRequest::invalid(what, mode)),
    };
    let host_uts = is_host("UTS mode", &asked.uts_mode)?;
    if host_uts && !hostname.is_empty() {
        return Err(BadRequest::invalid("HostConfig.UTSMode", "conflicting options: hostname and the UTS mode"));
    }
    let host_cgroup = match asked.cgroupns_mode.as_str() {
        "private" => false,
        mode => is_host("cgroup namespace mode", mode)?,
    };
    Ok(Namespaces { pid, ipc, host_uts, host_cgroup, host_users: is_host("user namespace mode", &asked.userns_mode)? })
}

/// As `HostConfig` has them, for `inspect`.
pub(super) fn config(namespaces: &Namespaces) -> NamespaceConfig {
    let host = |is: bool| if is { "host".to_owned() } else { String::new() };
    NamespaceConfig {
        userns_mode: host(namespaces.host_users),
        cgroupns_mode: if namespaces.host_cgroup { "host" } else { "private" }.to_owned(),
        ipc_mode: match &namespaces.ipc {
            Ipc::Private => "private".to_owned(),
            Ipc::None => "none".to_owned(),
            Ipc::Shareable => "shareable".to_owned(),
            Ipc::Host => "host".to_owned(),
            Ipc::Workload(id) => format!("{CONTAINER}{id}"),
        },
        pid_mode: match &namespaces.pid {
            Share::Own => String::new(),
            Share::Host => "host".to_owned(),
            Share::Workload(id) => format!("{CONTAINER}{id}"),
        },
        uts_mode: host(namespaces.host_uts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_come_back_as_they_were_given() {
        let check = |change: fn(&mut NamespaceConfig, String), modes: &[&str]| {
            for mode in modes {
                let mut asked = config(&Namespaces::default());
                change(&mut asked, (*mode).to_owned());
                let found = namespaces(&asked, "").expect("a mode that there is");
                assert_eq!(config(&found), asked);
            }
        };
        check(|config, mode| config.pid_mode = mode, &["", "host", "container:web"]);
        check(|config, mode| config.ipc_mode = mode, &["private", "none", "shareable", "host", "container:web"]);
        check(|config, mode| config.uts_mode = mode, &["", "host"]);
        check(|config, mode| config.userns_mode = mode, &["", "host"]);
        check(|config, mode| config.cgroupns_mode = mode, &["private", "host"]);
        assert_eq!(namespaces(&NamespaceConfig::default(), "").expect("nothing is asked for"), Namespaces::default());
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        let check = |change: fn(&mut NamespaceConfig)| {
            let mut asked = NamespaceConfig::default();
            change(&mut asked);
            assert!(namespaces(&asked, "own").is_err(), "{asked:?}");
        };
        check(|config| config.pid_mode = "container:".to_owned());
        check(|config| config.ipc_mode = "shared".to_owned());
        check(|config| config.uts_mode = "private".to_owned());
        check(|config| config.uts_mode = "host".to_owned());
        check(|config| config.userns_mode = "remap".to_owned());
        check(|config| config.cgroupns_mode = "x".to_owned());
    }
}
