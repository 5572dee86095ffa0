//! What older versions of the API ask and are answered.
//!
//! Everything else knows the newest version alone. A request of an older one is translated on the way in
//! ([`Route::query`], [`Route::ask`]), its answer on the way out ([`Route::answer`]): each row of the tables below says up to
//! which version something was different, and how it was. Left out: what only ever was added, because clients pass over
//! fields they do not know; `IpcMode` and `CgroupnsMode`, whose defaults of old share more with the host or with other
//! containers than ours do.

use serde_json::{Map, Value, json};

use super::ApiVersion;

/// Endpoints that older versions spoke differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /containers/json`
    ContainerList,
    /// `GET /containers/{id}/json`
    Container,
    /// `POST /containers/create`
    ContainerCreate,
    /// `POST /containers/{id}/stop`, `/restart`
    ContainerStop,
    /// `POST /containers/{id}/wait`
    ContainerWait,
    /// `GET /containers/{id}/attach/ws`
    WebSocket,
    /// `POST /containers/{id}/exec`
    ExecCreate,
    /// `POST /exec/{id}/start`
    ExecStart,
    /// `GET /images/json`
    ImageList,
    /// `GET /images/{name}/json`
    Image,
    /// `POST /images/create`
    Pull,
    /// `GET /info`
    Info,
    /// `GET /system/df`
    DiskUsage,
}

/// Before version 1.`.1`, a body was different.
type Change = (Route, u32, fn(&mut Value));

/// Requests: how an old body reads today.
const REQUESTS: [Change; 6] = [
    // The client removed containers.
    (Route::ContainerCreate, 25, |body| drop_field(body, "/HostConfig", "AutoRemove")),
    (Route::ContainerCreate, 42, |body| drop_field(body, "/HostConfig", "ConsoleSize")),
    (Route::ContainerCreate, 42, foreign_mount_options),
    (Route::ContainerCreate, 44, |body| drop_field(body, "/Healthcheck", "StartInterval")),
    (Route::ExecCreate, 42, |body| drop_field(body, "", "ConsoleSize")),
    (Route::ExecStart, 42, |body| drop_field(body, "", "ConsoleSize")),
];

/// Answers: how today's body read then.
const ANSWERS: [Change; 16] = [
    (Route::ContainerList, 25, |list| each(list, "", |one| removing(one, "", "State"))),
    (Route::Container, 25, |one| removing(one, "/State", "Status")),
    (Route::Container, 42, |one| kernel_memory(one, "/HostConfig", &json!(0))),
    // It came when the wait was over, not when it began.
    (Route::ContainerWait, 30, |_| ()),
    (Route::ImageList, 43, |list| each(list, "", nameless)),
    (Route::ImageList, 44, |list| each(list, "", virtual_size)),
    (Route::Image, 44, virtual_size),
    (Route::Image, 45, container_config),
    (Route::Image, 50, legacy_config),
    (Route::DiskUsage, 42, |usage| set(usage, "", "BuilderSize", json!(0))),
    (Route::DiskUsage, 44, |usage| each(usage, "/Images", virtual_size)),
    (Route::Info, 25, security_names),
    (Route::Info, 42, |info| kernel_memory(info, "", &json!(false))),
    (Route::Info, 44, runtimes_without_status),
    (Route::Info, 49, expected_commits),
    (Route::Info, 50, bridge_filter),
];

/// Parameters that a version before 1.`.1` did not know.
const PARAMETERS: [(Route, u32, &str); 10] = [
    (Route::ContainerStop, 42, "signal"),
    (Route::ContainerWait, 30, "condition"),
    (Route::ContainerCreate, 41, "platform"),
    (Route::WebSocket, 42, "stdin"),
    (Route::WebSocket, 42, "stdout"),
    (Route::WebSocket, 42, "stderr"),
    (Route::ImageList, 42, "shared-size"),
    (Route::Pull, 32, "platform"),
    (Route::DiskUsage, 42, "type"),
    (Route::ImageList, 42, "shared-size"),
];

impl Route {
    /// The endpoint of a request without version, if older versions spoke it differently.
    #[must_use]
    pub fn of(method: &str, path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        Some(match (method, segments.as_slice()) {
            ("GET", ["containers", "json"]) => Self::ContainerList,
            ("GET", ["containers", _, "json"]) => Self::Container,
            ("POST", ["containers", "create"]) => Self::ContainerCreate,
            ("POST", ["containers", _, "stop" | "restart"]) => Self::ContainerStop,
            ("POST", ["containers", _, "wait"]) => Self::ContainerWait,
            ("GET", ["containers", _, "attach", "ws"]) => Self::WebSocket,
            ("POST", ["containers", _, "exec"]) => Self::ExecCreate,
            ("POST", ["exec", _, "start"]) => Self::ExecStart,
            ("GET", ["images", "json"]) => Self::ImageList,
            // Names of images have slashes.
            ("GET", ["images", .., "json"]) => Self::Image,
            ("POST", ["images", "create"]) => Self::Pull,
            ("GET", ["info"]) => Self::Info,
            ("GET", ["system", "df"]) => Self::DiskUsage,
            _ => return None,
        })
    }

    /// The query that means today what `query` meant to `version`; none when that is the same.
    #[must_use]
    pub fn query(self, version: ApiVersion, query: &str) -> Option<String> {
        let unknown: Vec<&str> = rows(&PARAMETERS, self, version).map(|row| row.2).collect();
        let old_filter = self == Self::ImageList && version < ApiVersion::minor(41);
        if unknown.is_empty() && !old_filter {
            return None;
        }
        let kept = |part: &&str| !part.is_empty() && !unknown.contains(&part.split('=').next().unwrap_or(part));
        let mut parts: Vec<String> = query.split('&').filter(kept).map(|part| today(part, old_filter)).collect();
        if self == Self::WebSocket && !unknown.is_empty() {
            parts.push("stdin=1&stdout=1&stderr=1".to_owned());
        }
        Some(parts.join("&"))
    }

    /// Translates a request's body; none when it meant then what it means today.
    #[must_use]
    pub fn ask(self, version: ApiVersion) -> Option<impl Fn(&mut Value)> {
        changes(&REQUESTS, self, version)
    }

    /// Translates an answer's body; none when it was then what it is today.
    #[must_use]
    pub fn answer(self, version: ApiVersion) -> Option<impl Fn(&mut Value)> {
        changes(&ANSWERS, self, version)
    }
}

fn rows<T>(
    table: &'static [(Route, u32, T)],
    route: Route,
    version: ApiVersion,
) -> impl Iterator<Item = &'static (Route, u32, T)> {
    table.iter().filter(move |row| row.0 == route && version < ApiVersion::minor(row.1))
}

fn changes(table: &'static [Change], route: Route, version: ApiVersion) -> Option<impl Fn(&mut Value)> {
    let changes: Vec<_> = rows(table, route, version).map(|row| row.2).collect();
    (!changes.is_empty()).then_some(move |value: &mut Value| changes.iter().for_each(|change| change(value)))
}

/// Before 1.41, `filter=NAME` chose images by name.
fn today(part: &str, old_filter: bool) -> String {
    match part.strip_prefix("filter=") {
        // Quotes and brackets as a query writes them; the name is written so already.
        Some(name) if old_filter => format!("filters=%7B%22reference%22%3A%5B%22{name}%22%5D%7D"),
        _ => part.to_owned(),
    }
}

/// The object at a pointer: whatever came in its place is left to whoever reads it.
fn object<'a>(value: &'a mut Value, at: &str) -> Option<&'a mut Map<String, Value>> {
    value.pointer_mut(at)?.as_object_mut()
}

fn set(value: &mut Value, at: &str, name: &str, field: Value) {
    if let Some(fields) = object(value, at) {
        fields.insert(name.to_owned(), field);
    }
}

fn drop_field(value: &mut Value, at: &str, name: &str) {
    if let Some(fields) = object(value, at) {
        fields.remove(name);
    }
}

fn each(value: &mut Value, at: &str, change: impl Fn(&mut Value)) {
    value.pointer_mut(at).and_then(Value::as_array_mut).into_iter().flatten().for_each(change);
}

/// Options of another type than the mount's were passed over.
fn foreign_mount_options(body: &mut Value) {
    each(body, "/HostConfig/Mounts", |mount| {
        for (kind, options) in [("volume", "VolumeOptions"), ("tmpfs", "TmpfsOptions")] {
            if mount["Type"] != kind {
                drop_field(mount, "", options);
            }
        }
    });
}

fn removing(value: &mut Value, at: &str, field: &str) {
    if object(value, at).is_some_and(|fields| fields.get(field) == Some(&json!("removing"))) {
        set(value, at, field, json!("exited"));
    }
}

fn kernel_memory(value: &mut Value, at: &str, none: &Value) {
    set(value, at, "KernelMemory", none.clone());
    set(value, at, "KernelMemoryTCP", none.clone());
}

fn nameless(image: &mut Value) {
    let empty = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    if empty(&image["RepoTags"]) && empty(&image["RepoDigests"]) {
        set(image, "", "RepoTags", json!(["<none>:<none>"]));
        set(image, "", "RepoDigests", json!(["<none>@<none>"]));
    }
}

fn virtual_size(image: &mut Value) {
    let size = image["Size"].clone();
    set(image, "", "VirtualSize", size);
}

fn container_config(image: &mut Value) {
    let mut config = image["Config"].clone();
    as_of_a_container(&mut config);
    set(image, "", "Container", json!(""));
    set(image, "", "ContainerConfig", config);
}

fn legacy_config(image: &mut Value) {
    if let Some(config) = image.pointer_mut("/Config") {
        as_of_a_container(config);
    }
}

/// An image's configuration once was a container's.
fn as_of_a_container(config: &mut Value) {
    for name in ["AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty"] {
        set(config, "", name, json!(false));
    }
    for name in ["Domainname", "Hostname", "Image"] {
        set(config, "", name, json!(""));
    }
}

/// `name=seccomp,profile=builtin` was `seccomp`.
fn security_names(info: &mut Value) {
    each(info, "/SecurityOptions", |option| {
        let text = option.as_str().unwrap_or_default();
        let name = text.split(',').find_map(|part| part.strip_prefix("name=")).unwrap_or(text);
        *option = json!(name);
    });
    set(info, "", "ExecutionDriver", json!("<not supported>"));
}

fn runtimes_without_status(info: &mut Value) {
    for runtime in object(info, "/Runtimes").into_iter().flat_map(Map::values_mut) {
        drop_field(runtime, "", "status");
    }
}

fn expected_commits(info: &mut Value) {
    for at in ["/ContainerdCommit", "/RuncCommit", "/InitCommit"] {
        let id = info.pointer(at).map_or(Value::Null, |commit| commit["ID"].clone());
        set(info, at, "Expected", id);
    }
}

fn bridge_filter(info: &mut Value) {
    set(info, "", "BridgeNfIptables", json!(false));
    set(info, "", "BridgeNfIp6tables", json!(false));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_known_by_method_and_path() {
        let check = |method: &str, path: &str, expected: Option<Route>| {
            assert_eq!(Route::of(method, path), expected, "{method} {path}");
        };
        check("GET", "/containers/json", Some(Route::ContainerList));
        check("GET", "/containers/web/json", Some(Route::Container));
        check("GET", "/images/json", Some(Route::ImageList));
        check("GET", "/images/localhost:5000/a/b/json", Some(Route::Image));
        check("POST", "/containers/create", Some(Route::ContainerCreate));
        check("GET", "/containers/create", None);
        check("GET", "/volumes", None);
    }

    fn answered(route: Route, minor: u32, value: Value) -> Value {
        let mut value = value;
        if let Some(change) = route.answer(ApiVersion::minor(minor)) {
            change(&mut value);
        }
        value
    }

    #[test]
    fn answers_are_what_they_were() {
        let image = json!({"Size": 5, "Config": {"User": "x"}});
        assert_eq!(answered(Route::Image, 50, image.clone()), image);
        let at_45 = answered(Route::Image, 45, image.clone());
        assert_eq!((&at_45["Config"]["Tty"], at_45.get("Container")), (&json!(false), None));
        let at_44 = answered(Route::Image, 44, image.clone());
        assert_eq!((&at_44["Container"], &at_44["ContainerConfig"]), (&json!(""), &at_44["Config"]));
        assert_eq!(at_44.get("VirtualSize"), None);
        assert_eq!(answered(Route::Image, 43, image)["VirtualSize"], 5);
        let list = json!([{"RepoTags": [], "RepoDigests": [], "Size": 1}]);
        assert_eq!(answered(Route::ImageList, 42, list.clone())[0]["RepoTags"], json!(["<none>:<none>"]));
        assert_eq!(answered(Route::ImageList, 43, list)[0]["RepoTags"], json!([]));
        let info = json!({"SecurityOptions": ["name=seccomp,profile=builtin"], "RuncCommit": {"ID": "1"}});
        assert_eq!(answered(Route::Info, 24, info.clone())["SecurityOptions"], json!(["seccomp"]));
        assert_eq!(answered(Route::Info, 48, info.clone())["RuncCommit"]["Expected"], "1");
        assert_eq!(answered(Route::Info, 25, info.clone())["SecurityOptions"], info["SecurityOptions"]);
    }

    #[test]
    fn requests_mean_what_they_meant() {
        let asked = |minor: u32, mut body: Value| {
            if let Some(change) = Route::ContainerCreate.ask(ApiVersion::minor(minor)) {
                change(&mut body);
            }
            body
        };
        let body = json!({"HostConfig": {"AutoRemove": true, "Mounts": [{"Type": "bind", "VolumeOptions": {}}]}});
        assert_eq!(asked(50, body.clone()), body);
        assert_eq!(asked(41, body.clone())["HostConfig"]["Mounts"], json!([{"Type": "bind"}]));
        assert_eq!(asked(25, body.clone())["HostConfig"]["AutoRemove"], true);
        assert_eq!(asked(24, body)["HostConfig"].get("AutoRemove"), None);
        // What is no object stays what it is: the parser says so.
        for nonsense in [json!({"HostConfig": 5}), json!([1]), json!(null), json!({"HostConfig": {"Mounts": [7, {}]}})]
        {
            assert_eq!(asked(24, nonsense.clone()), nonsense);
        }
    }

    #[test]
    fn parameters_that_were_not_known_are_dropped() {
        let check = |route: Route, minor: u32, query: &str, expected: Option<&str>| {
            assert_eq!(route.query(ApiVersion::minor(minor), query).as_deref(), expected, "{query}");
        };
        check(Route::ContainerStop, 41, "t=3&signal=HUP", Some("t=3"));
        check(Route::ContainerStop, 42, "t=3&signal=HUP", None);
        check(Route::WebSocket, 41, "stream=1&stdin=0", Some("stream=1&stdin=1&stdout=1&stderr=1"));
        check(
            Route::ImageList,
            40,
            "filter=busybox&all=1",
            Some("filters=%7B%22reference%22%3A%5B%22busybox%22%5D%7D&all=1"),
        );
        check(Route::ImageList, 41, "filter=busybox", Some("filter=busybox"));
        check(Route::Info, 24, "x=1", None);
    }
}
