//! Calls: what is asked of the daemon, and as which request.

use std::path::Path;

use serde_json::json;

use crate::raw::{Answer, try_ask};
use crate::world::{Policy, Program, Spec};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Hangup,
    Terminate,
    User,
    Kill,
}

/// A call that is refused whatever there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) body: &'static str,
    pub(crate) status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Create(String, Spec),
    Start(String),
    /// Attaches, starts, and waits for the end: of a program that ends.
    Attached(String),
    /// With the seconds after which it is killed.
    Stop(String, u32),
    Kill(String, Signal),
    Restart(String, u32),
    Pause(String),
    Unpause(String),
    Rename(String, String),
    Remove {
        name: String,
        force: bool,
        volumes: bool,
    },
    SetPolicy(String, Policy),
    /// Waits for the end of one that does not run.
    Wait(String),
    /// Runs a program inside that ends with this code.
    Exec(String, i32),
    /// Runs one that ends with its container.
    ExecForever(String),
    PruneContainers,
    VolumeCreate(String, u64),
    VolumeRemove(String),
    PruneVolumes {
        all: bool,
    },
    Load(usize),
    Tag(String, String),
    Untag {
        name: String,
        force: bool,
    },
    PruneImages {
        all: bool,
    },
    Bad(Bad),
}

/// What makes no sense: each with the status that Docker answers.
pub(crate) const BAD: [Bad; 12] = [
    Bad { method: "GET", path: "/containers/json?filters=%7B", body: "", status: 400 },
    Bad { method: "GET", path: "/containers/json?filters=%7B%22nonsense%22%3A%5B%22x%22%5D%7D", body: "", status: 400 },
    Bad { method: "POST", path: "/containers/create?name=..%2Fx", body: "{\"Image\":\"image0:1\"}", status: 400 },
    Bad { method: "POST", path: "/containers/create", body: "{\"Image\":", status: 400 },
    Bad { method: "POST", path: "/containers/create", body: "{\"Image\":\"nobody:1\"}", status: 404 },
    Bad { method: "POST", path: "/volumes/create", body: "{\"Name\":\"../x\"}", status: 400 },
    Bad { method: "POST", path: "/containers/nobody/kill?signal=NONSENSE", body: "", status: 404 },
    Bad { method: "POST", path: "/containers/nobody/wait", body: "", status: 404 },
    Bad { method: "GET", path: "/containers/nobody/logs?stdout=1", body: "", status: 404 },
    Bad { method: "DELETE", path: "/images/nobody:1", body: "", status: 404 },
    Bad { method: "GET", path: "/exec/nobody/json", body: "", status: 404 },
    Bad { method: "GET", path: "/volumes?filters=%7B%22dangling%22%3A%5B%22maybe%22%5D%7D", body: "", status: 400 },
];

/// What every program begins with: its runs are counted in its root and in its volume, and told on both streams.
const PRELUDE: &str = "n=$(($(cat /n 2>/dev/null || echo 0) + 1)); echo $n > /n; [ -d /data ] && echo $n >> /data/runs; \
    trap 'exit 5' USR1; trap 'echo hup' HUP; ";

/// The program that every image has and that takes itself away.
pub(crate) const ONCE: &str =
    "#!/bin/sh\n[ -d /data ] && echo 1 >> /data/runs\necho err 1 >&2\necho run 1\nrm /once\nexit 7\n";

fn script(program: Program) -> String {
    let rest = match program {
        Program::Ends(code) => return format!("{PRELUDE} echo err $n >&2; echo run $n; exit {code}"),
        Program::Waits => "trap 'exit 3' TERM",
        Program::Deaf => "trap '' TERM",
        Program::Once | Program::Missing => "",
    };
    format!("{PRELUDE}{rest}; echo err $n >&2; echo run $n; while :; do sleep 1000 & wait $!; done")
}

impl Policy {
    pub(crate) fn json(self) -> serde_json::Value {
        match self {
            Self::No => json!({"Name": "no"}),
            Self::OnFailure(max) => json!({"Name": "on-failure", "MaximumRetryCount": max}),
            Self::Always => json!({"Name": "always"}),
            Self::UnlessStopped => json!({"Name": "unless-stopped"}),
        }
    }
}

impl Spec {
    fn json(&self) -> serde_json::Value {
        let command = match self.program {
            Program::Missing => vec!["/nowhere".to_owned()],
            Program::Once => vec!["/once".to_owned()],
            program => vec!["sh".to_owned(), "-c".to_owned(), script(program)],
        };
        json!({
            "Image": self.image,
            "Cmd": command,
            "Labels": {"k": self.label.to_string()},
            "Volumes": if self.anonymous { json!({"/anonymous": {}}) } else { json!(null) },
            "HostConfig": {
                "RestartPolicy": self.policy.json(),
                "AutoRemove": self.auto_remove,
                "NetworkMode": if self.bridge { "bridge" } else { "none" },
                "Binds": self.volume.iter().map(|volume| format!("{volume}:/data")).collect::<Vec<_>>(),
            },
        })
    }
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Hangup => "HUP",
            Self::Terminate => "SIGTERM",
            Self::User => "USR1",
            Self::Kill => "9",
        }
    }
}

impl Call {
    /// Sends it as one request; `None` where the daemon died of something meanwhile. Those that are more than one request
    /// are not sent like this.
    pub(crate) fn send(&self, socket: &Path, archives: &[Vec<u8>]) -> Option<Answer> {
        let post = |path: String| try_ask(socket, "POST", &path, b"");
        let delete = |path: String| try_ask(socket, "DELETE", &path, b"");
        match self {
            Self::Create(name, spec) => {
                try_ask(socket, "POST", &format!("/containers/create?name={name}"), spec.json().to_string().as_bytes())
            }
            Self::Start(name) => post(format!("/containers/{name}/start")),
            Self::Stop(name, seconds) => post(format!("/containers/{name}/stop?t={seconds}")),
            Self::Restart(name, seconds) => post(format!("/containers/{name}/restart?t={seconds}")),
            Self::Kill(name, signal) => post(format!("/containers/{name}/kill?signal={}", signal.name())),
            Self::Pause(name) => post(format!("/containers/{name}/pause")),
            Self::Unpause(name) => post(format!("/containers/{name}/unpause")),
            Self::Rename(name, new) => post(format!("/containers/{name}/rename?name={new}")),
            Self::Remove { name, force, volumes } => delete(format!("/containers/{name}?force={force}&v={volumes}")),
            Self::SetPolicy(name, policy) => {
                let body = json!({"RestartPolicy": policy.json()}).to_string();
                try_ask(socket, "POST", &format!("/containers/{name}/update"), body.as_bytes())
            }
            Self::Wait(name) => post(format!("/containers/{name}/wait")),
            Self::PruneContainers => post("/containers/prune".to_owned()),
            Self::VolumeCreate(name, label) => {
                let body = json!({"Name": name, "Labels": {"k": label.to_string()}}).to_string();
                try_ask(socket, "POST", "/volumes/create", body.as_bytes())
            }
            Self::VolumeRemove(name) => delete(format!("/volumes/{name}")),
            Self::PruneVolumes { all } => post(format!("/volumes/prune?filters=%7B%22all%22%3A%5B%22{all}%22%5D%7D")),
            Self::Load(image) => try_ask(socket, "POST", "/images/load", &archives[*image]),
            Self::Tag(from, to) => {
                let (repository, tag) = to.split_once(':')?;
                post(format!("/images/{from}/tag?repo={repository}&tag={tag}"))
            }
            Self::Untag { name, force } => delete(format!("/images/{name}?force={force}")),
            Self::PruneImages { all } => {
                let dangling = !all;
                post(format!("/images/prune?filters=%7B%22dangling%22%3A%5B%22{dangling}%22%5D%7D"))
            }
            Self::Bad(bad) => try_ask(socket, bad.method, bad.path, bad.body.as_bytes()),
            Self::Attached(_) | Self::Exec(..) | Self::ExecForever(_) => None,
        }
    }
}
