//! The wall between projects, in front of all routes: what is not in [`TABLE`] is refused to members.
//!
//! Where an address names something, that has to be the caller's project's, and the address goes on with its id, so that what
//! was looked at is what is acted on. What is another's is answered as what there is not. Lists, events and whatever else tells
//! of many things are cut by their handlers, which ask for the [`Scope`].

use atoll_engine::Engine;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};

use crate::answer::{Answer, Refusal};
use crate::projects::{Projects, Scope, refused};
use crate::stream::Peer;

/// How a route is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// It tells nothing of projects, and changes nothing.
    Shared,
    /// Its handler asks for the scope.
    Scoped,
    /// Its address names a workload.
    Workload,
    /// Its address names an exec session.
    Exec,
    /// Its address names a volume.
    Volume,
}

/// What members may do. `{}` stands for the name that the rule is about, `{*}` for all that follows.
static TABLE: [(Method, &str, Rule); 48] = [
    (Method::GET, "/_ping", Rule::Shared),
    (Method::GET, "/version", Rule::Shared),
    (Method::GET, "/info", Rule::Scoped),
    (Method::GET, "/events", Rule::Scoped),
    (Method::GET, "/system/df", Rule::Scoped),
    (Method::POST, "/auth", Rule::Shared),
    (Method::GET, "/distribution/{*}", Rule::Shared),
    (Method::GET, "/images/json", Rule::Scoped),
    (Method::GET, "/images/search", Rule::Shared),
    (Method::GET, "/images/get", Rule::Shared),
    (Method::GET, "/images/{*}", Rule::Shared),
    (Method::GET, "/networks", Rule::Scoped),
    (Method::GET, "/networks/{}", Rule::Scoped),
    (Method::GET, "/volumes", Rule::Scoped),
    (Method::POST, "/volumes/create", Rule::Scoped),
    (Method::POST, "/volumes/prune", Rule::Scoped),
    (Method::GET, "/volumes/{}", Rule::Volume),
    (Method::DELETE, "/volumes/{}", Rule::Volume),
    (Method::GET, "/containers/json", Rule::Scoped),
    (Method::POST, "/containers/create", Rule::Scoped),
    (Method::POST, "/containers/prune", Rule::Scoped),
    (Method::DELETE, "/containers/{}", Rule::Workload),
    (Method::GET, "/containers/{}/json", Rule::Workload),
    (Method::POST, "/containers/{}/start", Rule::Workload),
    (Method::POST, "/containers/{}/stop", Rule::Workload),
    (Method::POST, "/containers/{}/restart", Rule::Workload),
    (Method::POST, "/containers/{}/kill", Rule::Workload),
    (Method::POST, "/containers/{}/pause", Rule::Workload),
    (Method::POST, "/containers/{}/unpause", Rule::Workload),
    (Method::POST, "/containers/{}/rename", Rule::Workload),
    (Method::POST, "/containers/{}/resize", Rule::Workload),
    (Method::POST, "/containers/{}/wait", Rule::Workload),
    (Method::POST, "/containers/{}/update", Rule::Workload),
    (Method::POST, "/containers/{}/attach", Rule::Workload),
    (Method::GET, "/containers/{}/attach/ws", Rule::Workload),
    (Method::GET, "/containers/{}/logs", Rule::Workload),
    (Method::GET, "/containers/{}/stats", Rule::Workload),
    (Method::GET, "/containers/{}/top", Rule::Workload),
    (Method::GET, "/containers/{}/changes", Rule::Workload),
    (Method::GET, "/containers/{}/export", Rule::Workload),
    (Method::HEAD, "/containers/{}/archive", Rule::Workload),
    (Method::GET, "/containers/{}/archive", Rule::Workload),
    (Method::PUT, "/containers/{}/archive", Rule::Workload),
    (Method::POST, "/containers/{}/exec", Rule::Workload),
    (Method::POST, "/exec/{}/start", Rule::Exec),
    (Method::POST, "/exec/{}/resize", Rule::Exec),
    (Method::GET, "/exec/{}/json", Rule::Exec),
    (Method::POST, "/networks/prune", Rule::Shared),
];

/// Between those who come.
#[derive(Clone, Debug)]
pub(crate) struct Wall {
    pub(crate) projects: Projects,
    pub(crate) engine: Engine,
}

impl Wall {
    /// Tells what the caller sees, refuses what is beyond, and puts ids where names were.
    pub(crate) fn confine(&self, peer: &Peer, parts: &mut Parts) -> Answer<()> {
        let scope = self.projects.scope(peer)?;
        if let Scope::Project(project) = &scope {
            let path = parts.uri.path();
            let (rule, name) =
                rule(&parts.method, path).ok_or_else(|| refused(project, &format!("{} {path}", parts.method)))?;
            if let Some(id) = self.resolve(&scope, rule, name)? {
                // A name is between slashes, and of letters that addresses take as they are.
                let at = name.as_ptr().addr() - path.as_ptr().addr();
                let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
                let address = format!("{}{id}{}{query}", &path[..at], &path[at + name.len()..]);
                parts.uri = address.parse().map_err(|_| Refusal::bad(format!("{address:?} is no address")))?;
            }
        }
        parts.extensions.insert(scope);
        Ok(())
    }

    /// The id of what is named, where the rule is about something.
    fn resolve(&self, scope: &Scope, rule: Rule, name: &str) -> Answer<Option<String>> {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        let workload = |name: &str| {
            let view = self.engine.inspect(name).ok()?;
            scope.sees(view.workload.host.project.as_deref()).then(|| view.workload.id.to_string())
        };
        let (found, message) = match rule {
            Rule::Shared | Rule::Scoped => return Ok(None),
            Rule::Workload => (plain.then(|| workload(name)).flatten(), format!("No such container: {name}")),
            Rule::Volume => {
                let view = self.engine.volume(name).ok().filter(|_| plain);
                let seen = view.filter(|view| scope.sees(view.volume.project.as_deref()));
                (seen.map(|view| view.volume.name), format!("get {name}: no such volume"))
            }
            Rule::Exec => {
                let view = self.engine.exec_inspect(name).ok().filter(|_| plain);
                let seen = view.filter(|view| workload(view.workload.as_str()).is_some());
                (seen.map(|view| view.id), format!("No such exec instance: {name}"))
            }
        };
        found.map(Some).ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, message))
    }
}

/// The rule of a request, and the name that it is about. `HEAD` is answered as `GET` is.
fn rule<'a>(method: &Method, path: &'a str) -> Option<(Rule, &'a str)> {
    let looks = *method == Method::HEAD;
    let fits = |allowed: &Method| allowed == method || (looks && *allowed == Method::GET);
    TABLE
        .iter()
        .filter(|(allowed, _, _)| fits(allowed))
        .find_map(|(_, pattern, rule)| matched(pattern, path).map(|name| (*rule, name)))
}

/// What stands in a pattern's place in a path, if that fits; empty where it has none.
fn matched<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, after)) = pattern.split_once('{') else { return (pattern == path).then_some("") };
    let rest = path.strip_prefix(before)?;
    if after == "*}" {
        return (!rest.is_empty()).then_some("");
    }
    let name = rest.strip_suffix(after.strip_prefix('}')?)?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn names_are_found_in_addresses() {
        let check = |method: Method, path: &str, expected: Option<(Rule, &str)>| {
            assert_eq!(rule(&method, path), expected, "{method} {path}");
        };
        check(Method::GET, "/containers/web/json", Some((Rule::Workload, "web")));
        check(Method::DELETE, "/containers/json", Some((Rule::Workload, "json")));
        check(Method::GET, "/containers/json", Some((Rule::Scoped, "")));
        check(Method::HEAD, "/containers/web/archive", Some((Rule::Workload, "web")));
        check(Method::HEAD, "/_ping", Some((Rule::Shared, "")));
        check(Method::GET, "/images/a/b:c/json", Some((Rule::Shared, "")));
        check(Method::GET, "/volumes/create", Some((Rule::Volume, "create")));
        check(Method::POST, "/exec/1/start", Some((Rule::Exec, "1")));
        for (method, path) in [
            (Method::POST, "/images/create"),
            (Method::DELETE, "/images/a"),
            (Method::GET, "/containers/a/b/json"),
            (Method::GET, "/containers//json"),
            (Method::POST, "/commit"),
            (Method::POST, "/build"),
            (Method::GET, "/metrics"),
            (Method::PUT, "/containers/a/json"),
            (Method::GET, "/"),
        ] {
            check(method, path, None);
        }
    }

    /// Routes that are not for members.
    const REFUSED: [&str; 24] = [
        "GET /metrics",
        "POST /images/load",
        "POST /images/prune",
        "POST /images/create",
        "POST /images/{*}",
        "DELETE /images/{*}",
        "POST /commit",
        "GET /plugins",
        "GET /plugins/privileges",
        "POST /plugins/pull",
        "POST /plugins/create",
        "ANY /plugins/{*}",
        "POST /build",
        "POST /build/cancel",
        "POST /build/prune",
        "POST /session",
        "POST /grpc",
        "ANY /containers/{}/checkpoints",
        "ANY /containers/{}/checkpoints/{}",
        "POST /swarm/init",
        "POST /swarm/join",
        "POST /atoll/v1/images/bootstrap",
        "GET /atoll/v1/system/df",
        "GET /atoll/v1/system/doctor",
    ];

    /// Whoever adds a route decides here whether members may use it.
    #[test]
    fn every_route_is_confined_or_refused() {
        let routes = routes();
        let allowed: BTreeSet<String> = TABLE.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
        let refused: BTreeSet<String> = REFUSED.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(allowed.intersection(&refused).collect::<Vec<_>>(), [""; 0]);
        let known: BTreeSet<String> = allowed.union(&refused).cloned().collect();
        let (new, gone): (Vec<_>, Vec<_>) = (routes.difference(&known).collect(), known.difference(&routes).collect());
        assert!(new.is_empty() && gone.is_empty(), "not decided: {new:?}; not there: {gone:?}");
    }

    /// The routes of the router, from its sources.
    fn routes() -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/routes");
        let mut routes = BTreeSet::new();
        for entry in std::fs::read_dir(folder).expect("sources") {
            let text = std::fs::read_to_string(entry.expect("a file").path()).expect("a source");
            for call in text.split(".route(\"").skip(1) {
                let (path, methods) = call.split_once("\", ").expect("a path");
                let methods = methods.lines().next().expect("methods");
                let path = path.replace("{*rest}", "{*}").replace("{name}", "{}").replace("{id}", "{}");
                for (word, method) in [
                    ("get", "GET"),
                    ("post", "POST"),
                    ("put", "PUT"),
                    ("delete", "DELETE"),
                    ("head", "HEAD"),
                    ("any", "ANY"),
                ] {
                    let begins = methods.starts_with(&format!("{word}("));
                    if begins || methods.contains(&format!(".{word}(")) {
                        routes.insert(format!("{method} {path}"));
                    }
                }
            }
        }
        routes
    }
}
