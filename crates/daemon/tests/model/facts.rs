//! What can be observed of a host, as lines of text under names: once as the model has it, once as the daemon says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use atoll_testkit::TempHost;
use serde_json::Value;

use crate::raw::try_ask;
use crate::world::{IMAGES, Program, State, World};

/// Observations by name.
pub(crate) type Facts = BTreeMap<String, String>;

/// Digits of identifiers, which are the names of volumes without one.
const ID: usize = 64;
/// Digits of those that supervisors are started with.
const SHORT_ID: usize = 12;

impl World {
    /// What is to be observed.
    pub(crate) fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        for (name, container) in &self.containers {
            let (word, code) = match container.state {
                State::Created(code) => ("created", code),
                State::Running => ("running", 0),
                State::Paused => ("paused", 0),
                State::Exited(code) => ("exited", code),
            };
            let spec = &container.spec;
            facts.insert(
                format!("container {name}"),
                format!(
                    "{word} {code}, {} restarts, {} execs, {} of {}, policy {}, remove {}, label {}, volume {}, anonymous {}",
                    container.restarts,
                    container.execs,
                    spec.image,
                    container.image,
                    spec.policy.json(),
                    spec.auto_remove,
                    spec.label,
                    spec.volume.as_deref().unwrap_or("none"),
                    spec.anonymous
                ),
            );
            let errors: String = (1..=container.runs).map(|run| format!("err {run};")).collect();
            facts.insert(format!("log {name}"), format!("{} | {errors}", lines(container.log.iter())));
            // Under the name that it was made by, as long as that stands for its image.
            let named = self.names.get(&spec.image) == Some(&container.image);
            facts
                .insert(format!("listed {name}"), if named { spec.image.clone() } else { container.image.to_string() });
        }
        self.containers_in_lists(&mut facts);
        for (name, volume) in &self.volumes {
            let label = volume.label.map_or_else(String::new, |label| label.to_string());
            let users = self.users(name);
            facts.insert(format!("volume {name}"), format!("label {label}, {users} users, {} lines", volume.lines));
        }
        let anonymous = self.orphans + self.count(|_, spec| spec.anonymous);
        facts.insert("volumes".to_owned(), format!("{} and {anonymous}", self.volumes.len()));
        facts.insert("dangling volumes".to_owned(), {
            let unused = self.volumes.keys().filter(|name| self.users(name) == 0).count();
            (unused + self.orphans).to_string()
        });
        for image in 0..IMAGES {
            let names: Vec<&String> =
                self.names.iter().filter(|(_, named)| **named == image).map(|(name, _)| name).collect();
            if !names.is_empty() || self.dangling.contains(&image) {
                facts.insert(format!("image {image}"), lines(names.into_iter()));
            }
        }
        facts
    }

    fn count(&self, which: impl Fn(State, &crate::world::Spec) -> bool) -> usize {
        self.containers.values().filter(|container| which(container.state, &container.spec)).count()
    }

    fn containers_in_lists(&self, facts: &mut Facts) {
        let (live, all) = (self.count(|state, _| state.is_live()), self.containers.len());
        let paused = self.count(|state, _| state == State::Paused);
        let running = live - paused;
        facts.insert("info".to_owned(), format!("{all}: {running} run, {paused} paused, {} stopped", all - live));
        facts.insert("processes".to_owned(), format!("{live} supervisors"));
        facts.insert("folders".to_owned(), format!("0 of nobody, {live} run"));
        for filter in FILTERS {
            let names = self.containers.iter().filter(|(name, container)| {
                let spec = &container.spec;
                match filter {
                    ("status", status) => match container.state {
                        State::Created(_) => status == "created",
                        State::Running => status == "running",
                        State::Paused => status == "paused",
                        State::Exited(_) => status == "exited",
                    },
                    ("exited", code) => matches!(container.state, State::Exited(own) if own.to_string() == code),
                    ("label", label) => label == format!("k={}", spec.label),
                    ("volume", volume) => spec.volume.as_deref() == Some(volume),
                    ("name", part) => name.contains(part),
                    ("ancestor", image) => self.names.get(image) == Some(&container.image),
                    _ => false,
                }
            });
            facts.insert(format!("ps {}={}", filter.0, filter.1), lines(names.map(|(name, _)| name)));
        }
    }
}

/// Filters of the list that are looked through.
const FILTERS: [(&str, &str); 9] = [
    ("status", "created"),
    ("status", "running"),
    ("status", "paused"),
    ("status", "exited"),
    ("exited", "3"),
    ("label", "k=1"),
    ("volume", "v1"),
    ("name", "w1"),
    ("ancestor", "image0:1"),
];

fn lines<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    let mut all = String::new();
    for text in texts {
        all.push_str(text);
        all.push(';');
    }
    all
}

/// Looks at a host; `ids` are those of the images, in their order, and `known` those of every container until now. Who is
/// asked while something goes may be told that it is gone: that fact is missing then.
pub(crate) fn observe(host: &TempHost, ids: &[String], known: &mut BTreeSet<String>) -> Facts {
    let mut facts = Facts::new();
    let ask = |path: &str| -> Value {
        let answer = try_ask(&host.socket(), "GET", path, b"");
        let json =
            answer.filter(|answer| answer.status == 200).and_then(|answer| serde_json::from_slice(&answer.body).ok());
        json.unwrap_or(Value::Null)
    };
    let all = ask("/containers/json?all=1");
    for listed in array(&all) {
        let name = text(&listed["Names"][0]).trim_start_matches('/').to_owned();
        let one = ask(&format!("/containers/{}/json", text(&listed["Id"])));
        known.insert(text(&listed["Id"]).chars().take(SHORT_ID).collect());
        let image = text(&listed["Image"]);
        let image = ids.iter().position(|id| id == image).map_or_else(|| image.to_owned(), |image| image.to_string());
        facts.insert(format!("listed {name}"), image);
        if listed["State"] != one["State"]["Status"] {
            facts.insert(
                format!("state {name}"),
                format!("{} in the list, {}", listed["State"], one["State"]["Status"]),
            );
        }
        facts.insert(format!("container {name}"), container(&one, ids));
        facts.insert(format!("log {name}"), log(host, text(&one["Id"])));
    }
    for (key, value) in FILTERS {
        let filter = format!("%7B%22{key}%22%3A%5B%22{}%22%5D%7D", value.replace('=', "%3D"));
        let list = ask(&format!("/containers/json?all=1&filters={filter}"));
        let mut names: Vec<String> =
            array(&list).map(|one| text(&one["Names"][0]).trim_start_matches('/').to_owned()).collect();
        names.sort();
        facts.insert(format!("ps {key}={value}"), lines(names.iter()));
    }
    let count = |value: &Value| value.as_i64().unwrap_or(-1);
    let info = ask("/info");
    facts.insert(
        "info".to_owned(),
        format!(
            "{}: {} run, {} paused, {} stopped",
            count(&info["Containers"]),
            count(&info["ContainersRunning"]),
            count(&info["ContainersPaused"]),
            count(&info["ContainersStopped"])
        ),
    );
    volumes(&ask("/volumes"), &mut facts);
    let unused = ask("/volumes?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D");
    facts.insert("dangling volumes".to_owned(), array(&unused["Volumes"]).count().to_string());
    for image in array(&ask("/images/json")) {
        let mut names: Vec<String> = array(&image["RepoTags"]).map(|name| text(name).to_owned()).collect();
        names.retain(|name| !name.contains("<none>"));
        names.sort();
        facts.insert(format!("image {}", image_of(&image["Id"], ids)), lines(names.iter()));
    }
    facts.insert("processes".to_owned(), format!("{} supervisors", supervisors(known)));
    let names = |path: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let is_known = |name: &String| array(&all).any(|one| text(&one["Id"]) == name);
    let strays = names(&host.root().join("workloads")).iter().filter(|name| !is_known(name)).count();
    let run = names(&host.run().join("w")).len();
    facts.insert("folders".to_owned(), format!("{strays} of nobody, {run} run"));
    facts
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn image_of(id: &Value, ids: &[String]) -> String {
    ids.iter().position(|known| known == text(id)).map_or_else(|| id.to_string(), |image| image.to_string())
}

fn container(one: &Value, ids: &[String]) -> String {
    let (state, config, host) = (&one["State"], &one["Config"], &one["HostConfig"]);
    let is_live = matches!(text(&state["Status"]), "running" | "paused");
    let consistent = state["Running"] == is_live
        && state["Paused"] == (state["Status"] == "paused")
        && (state["Pid"] != 0) == is_live;
    let mounts = |anonymous: bool| {
        let mut named = array(&one["Mounts"]).map(|mount| text(&mount["Name"]));
        named.find(move |name| (name.len() == ID) == anonymous)
    };
    let mut policy = host["RestartPolicy"].clone();
    if let Some(policy) = policy.as_object_mut() {
        policy.retain(|_, value| *value != 0);
    }
    format!(
        "{} {}{}, {} restarts, {} execs, {} of {}, policy {policy}, remove {}, label {}, volume {}, anonymous {}",
        text(&state["Status"]),
        state["ExitCode"],
        if consistent { String::new() } else { format!(" ({state})") },
        one["RestartCount"],
        array(&one["ExecIDs"]).count(),
        text(&config["Image"]),
        image_of(&one["Image"], ids),
        host["AutoRemove"],
        text(&config["Labels"]["k"]),
        mounts(false).unwrap_or("none"),
        mounts(true).is_some()
    )
}

/// Both streams of a log.
fn log(host: &TempHost, id: &str) -> String {
    let answer = try_ask(&host.socket(), "GET", &format!("/containers/{id}/logs?stdout=1&stderr=1"), b"");
    let [out, errors] = unframe(&answer.map(|answer| answer.body).unwrap_or_default());
    format!("{} | {}", out.replace('\n', ";"), errors.replace('\n', ";"))
}

/// Standard output and standard error, out of frames.
pub(crate) fn unframe(mut bytes: &[u8]) -> [String; 2] {
    let mut streams = [Vec::new(), Vec::new()];
    while let Some((head, rest)) = bytes.split_at_checked(8) {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(payload) = rest.get(..length) else { break };
        streams[usize::from(head[0] == 2)].extend_from_slice(payload);
        bytes = &rest[length..];
    }
    if !bytes.is_empty() {
        streams[0].extend_from_slice(b"(half a frame)");
    }
    streams.map(|stream| String::from_utf8_lossy(&stream).into_owned())
}

fn volumes(list: &Value, facts: &mut Facts) {
    let (mut named, mut anonymous) = (0, 0);
    for volume in array(&list["Volumes"]) {
        let name = text(&volume["Name"]);
        if name.len() == ID {
            anonymous += 1;
            continue;
        }
        named += 1;
        let runs = std::fs::read_to_string(Path::new(text(&volume["Mountpoint"])).join("runs")).unwrap_or_default();
        let (label, users) = (text(&volume["Labels"]["k"]), &volume["UsageData"]["RefCount"]);
        facts.insert(format!("volume {name}"), format!("label {label}, {users} users, {} lines", runs.lines().count()));
    }
    facts.insert("volumes".to_owned(), format!("{named} and {anonymous}"));
}

/// How many supervisors there are of containers that are known by the beginning of their identifiers.
pub(crate) fn supervisors(known: &BTreeSet<String>) -> usize {
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
    let is_one = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.strip_prefix("atoll-shim\0monitor\0")
            .is_some_and(|rest| known.contains(rest.split('\0').next().unwrap_or("")))
    };
    processes
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .map(is_one)
        .filter(|is| *is)
        .count()
}

/// What differs, a line for each name.
pub(crate) fn differences(model: &Facts, daemon: &Facts) -> String {
    let mut names: Vec<&String> = model.keys().chain(daemon.keys()).collect();
    names.sort();
    names.dedup();
    let nothing = "(nothing)".to_owned();
    let differ = names.into_iter().filter(|name| model.get(*name) != daemon.get(*name));
    let told = differ.map(|name| {
        let (model, daemon) = (model.get(name).unwrap_or(&nothing), daemon.get(name).unwrap_or(&nothing));
        format!("  {name}\n    model:  {model}\n    daemon: {daemon}\n")
    });
    told.collect()
}

/// Whether a program goes on until it is told to end.
pub(crate) const fn lasts(program: Program) -> bool {
    matches!(program, Program::Waits | Program::Deaf)
}
