//! Projects: who belongs to which, and what a caller sees because of that.
//!
//! A caller is told by the credentials that the kernel gives for the other end of the socket. Without projects, whoever can
//! connect has everything; with them, root, the administrators and holders of a certificate have, a member has what belongs to
//! the project, and everybody else has nothing. Users and groups are looked up once, when the daemon starts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use atoll_engine::{Engine, VolumeView, WorkloadView};
use atoll_model::{
    Draft, Event, EventKind, Host, Ipc, LogDriver, MountSource, Network, Resources, Seccomp, Security, Share,
};
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::answer::{Answer, Refusal};
use crate::stream::Peer;

/// Longest name of a project.
const NAME_MAX: usize = 64;

/// Who belongs to what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Projects {
    administrators: Members,
    projects: BTreeMap<String, Members>,
}

#[derive(Clone, Debug, Default)]
struct Members {
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
}

/// What a caller sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All that there is.
    Everything,
    /// What belongs to the project of this name.
    Project(String),
}

impl Projects {
    /// Reads who is meant; `etc` has the tables of users and groups.
    pub(crate) fn read(
        administrators: &[String],
        projects: &BTreeMap<String, Vec<String>>,
        etc: &Path,
    ) -> Result<Self> {
        if projects.is_empty() {
            if !administrators.is_empty() {
                bail!("administrators are told apart from members of projects: there are no [projects]");
            }
            return Ok(Self::default());
        }
        let table = |name: &str| {
            let path = etc.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let (users, groups) = (table("passwd")?, table("group")?);
        let read =
            |names: &[String]| names.iter().try_fold(Members::default(), |all, name| all.and(name, &users, &groups));
        let mut members = BTreeMap::new();
        for (name, names) in projects {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(fits) {
                bail!("projects.{name:?}: a name is of letters, digits, '.', '_' and '-', {NAME_MAX} at most");
            }
            members.insert(name.clone(), read(names).with_context(|| format!("projects.{name}.members"))?);
        }
        Ok(Self { administrators: read(administrators).context("administrators")?, projects: members })
    }

    /// Whether there are any.
    pub(crate) fn are_there(&self) -> bool {
        !self.projects.is_empty()
    }

    /// What a caller sees.
    pub(crate) fn scope(&self, peer: &Peer) -> Answer<Scope> {
        let forbidden = |why: String| Err(Refusal::new(StatusCode::FORBIDDEN, why));
        let (uid, gid) = match peer {
            _ if !self.are_there() => return Ok(Scope::Everything),
            Peer::Certificate { .. } => return Ok(Scope::Everything),
            Peer::Loopback { .. } => {
                return forbidden("whoever comes over TCP without a certificate is nobody".to_owned());
            }
            Peer::Process { uid, gid, .. } => (*uid, *gid),
        };
        if uid == 0 || self.administrators.have(uid, gid) {
            return Ok(Scope::Everything);
        }
        let mut mine = self.projects.iter().filter(|(_, members)| members.have(uid, gid)).map(|(name, _)| name);
        match (mine.next(), mine.next()) {
            (Some(name), None) => Ok(Scope::Project(name.clone())),
            (None, _) => forbidden(format!("user {uid} is a member of no project of this daemon")),
            (Some(one), Some(other)) => {
                forbidden(format!("user {uid} is a member of more than one project ({one}, {other}): a user has one"))
            }
        }
    }
}

impl Members {
    /// Adds whom a name stands for: a user, or with `@` before it a group; either may be a number.
    fn and(mut self, name: &str, users: &str, groups: &str) -> Result<Self> {
        let Some(group) = name.strip_prefix('@') else {
            let number = name.parse().ok().or_else(|| number_of(users, name));
            self.users.insert(number.with_context(|| format!("there is no user {name:?} in /etc/passwd"))?);
            return Ok(self);
        };
        let number = group.parse().ok().or_else(|| number_of(groups, group));
        let number = number.with_context(|| format!("there is no group {group:?} in /etc/group"))?;
        self.groups.insert(number);
        let line = groups.lines().find(|line| line.split(':').nth(2) == Some(number.to_string().as_str()));
        let named = line.and_then(|line| line.split(':').nth(3)).unwrap_or_default();
        self.users.extend(named.split(',').filter_map(|user| number_of(users, user)));
        Ok(self)
    }

    fn have(&self, uid: u32, gid: u32) -> bool {
        self.users.contains(&uid) || self.groups.contains(&gid)
    }
}

/// The number of a name in a table such as `/etc/passwd`.
fn number_of(table: &str, name: &str) -> Option<u32> {
    let mut rows = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let row = rows.find(|row| row.first() == Some(&name) && !name.is_empty())?;
    row.get(2)?.parse().ok()
}

impl Scope {
    /// The project, of those who have one.
    pub(crate) fn project(&self) -> Option<String> {
        match self {
            Self::Everything => None,
            Self::Project(name) => Some(name.clone()),
        }
    }

    /// Whether what belongs to a project (none: to nobody's) is seen.
    pub(crate) fn sees(&self, project: Option<&str>) -> bool {
        match self {
            Self::Everything => true,
            Self::Project(name) => project == Some(name),
        }
    }

    /// Whether an event is seen: images are everybody's.
    pub(crate) fn sees_event(&self, event: &Event) -> bool {
        event.kind == EventKind::Image || self.sees(event.project.as_deref())
    }

    /// Whether the workload with this id is seen.
    pub(crate) fn sees_workload(&self, engine: &Engine, id: &str) -> bool {
        *self == Self::Everything
            || engine.inspect(id).is_ok_and(|view| self.sees(view.workload.host.project.as_deref()))
    }

    /// The workloads that are seen, newest first.
    pub(crate) fn list(&self, engine: &Engine) -> Vec<WorkloadView> {
        let mut views = engine.list();
        views.retain(|view| self.sees(view.workload.host.project.as_deref()));
        views
    }

    /// The volumes that are seen.
    pub(crate) fn volumes(&self, engine: &Engine) -> Vec<VolumeView> {
        let mut views = engine.volumes();
        views.retain(|view| self.sees(view.volume.project.as_deref()));
        views
    }

    /// Refuses members something by its name.
    pub(crate) fn only_everything(&self, what: &str) -> Answer<()> {
        match self {
            Self::Everything => Ok(()),
            Self::Project(name) => Err(refused(name, what)),
        }
    }

    /// A draft that may be; a member's belongs to the project and stays behind its wall.
    pub(crate) fn admit(&self, mut draft: Draft) -> Answer<Draft> {
        let Self::Project(name) = self else { return Ok(draft) };
        if let Some(what) = beyond(&draft) {
            return Err(refused(name, what));
        }
        draft.host.project = Some(name.clone());
        Ok(draft)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Scope {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let missing = || Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "nobody has looked at who asks");
        parts.extensions.get().cloned().ok_or_else(missing)
    }
}

pub(crate) fn refused(project: &str, what: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, format!("{what}: not for members of a project (you are one of {project})"))
}

/// What of a draft reaches through a project's wall. Every field is named, so that a new one has to be thought of.
fn beyond(draft: &Draft) -> Option<&'static str> {
    let Draft {
        name: _,
        image: _,
        isolation: _,
        command,
        replace_entrypoint: _,
        host,
        security,
        resources,
        mounts,
        life: _,
        labels: _,
    } = draft;
    if mounts.iter().any(|mount| matches!(mount.source, MountSource::Bind { .. })) {
        return Some("mounts of paths of the host");
    }
    // The daemon would speak for a member, to sockets that the member cannot reach.
    let log = &command.log;
    if log.driver.is_some_and(LogDriver::forwards) || log.options.keys().any(|option| option.starts_with("syslog-")) {
        return Some("log drivers that send lines on");
    }
    beyond_host(host).or_else(|| beyond_security(security)).or_else(|| beyond_resources(resources))
}

/// Whom of other workloads it names is looked at where names become ids.
fn beyond_host(host: &Host) -> Option<&'static str> {
    let Host {
        hostname: _,
        domainname: _,
        network,
        ports: _,
        shm_size: _,
        namespaces,
        sysctls: _,
        annotations,
        volumes_from: _,
        project: _,
    } = host;
    let shared = namespaces.pid == Share::Host
        || namespaces.ipc == Ipc::Host
        || namespaces.host_uts
        || namespaces.host_cgroup
        || namespaces.host_users
        || *network == Network::Host;
    if shared {
        return Some("namespaces of the host");
    }
    (!annotations.is_empty()).then_some("annotations")
}

fn beyond_security(security: &Security) -> Option<&'static str> {
    let Security {
        privileged,
        cap_add,
        cap_drop: _,
        seccomp,
        no_new_privileges: _,
        read_only_root: _,
        devices,
        cdi,
        device_rules,
        unmasked_paths,
        masked_paths,
        readonly_paths,
    } = security;
    if *privileged || !cap_add.is_empty() || *seccomp != Seccomp::Default {
        return Some("more privileges than the default ones");
    }
    if *unmasked_paths || masked_paths.is_some() || readonly_paths.is_some() {
        return Some("other masked paths than the default ones");
    }
    let any = !devices.is_empty() || !cdi.is_empty() || !device_rules.is_empty();
    any.then_some("devices of the host")
}

fn beyond_resources(resources: &Resources) -> Option<&'static str> {
    let Resources { cgroup_parent, realtime, oom, .. } = resources;
    if cgroup_parent.is_some() {
        return Some("a control group of the host");
    }
    let first = realtime.period.is_some() || realtime.runtime.is_some() || oom.score_adj < 0;
    first.then_some("a place before the host's own processes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/:\nann:x:1001:1001::/:\nben:x:1002:50::/:\ncyd:x:1003:1003::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:50:ann,nobody-there\nops:x:60:cyd\n";

    fn read(administrators: &[&str], projects: &[(&str, &[&str])]) -> Result<Projects> {
        let etc = tempfile::tempdir()?;
        std::fs::write(etc.path().join("passwd"), PASSWD)?;
        std::fs::write(etc.path().join("group"), GROUP)?;
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let projects = projects.iter().map(|(name, members)| ((*name).to_owned(), owned(members))).collect();
        Projects::read(&owned(administrators), &projects, etc.path())
    }

    #[test]
    fn callers_are_told_apart() {
        let projects = read(&["@ops"], &[("web", &["@web", "7"]), ("shop", &["1004", "7"])]).expect("valid");
        let check = |uid, gid, expected: Option<Scope>| {
            assert_eq!(projects.scope(&Peer::Process { uid, gid, pid: None }).ok(), expected, "{uid}");
        };
        let project = |name: &str| Some(Scope::Project(name.to_owned()));
        check(0, 0, Some(Scope::Everything));
        check(1001, 1001, project("web"));
        check(1002, 50, project("web"));
        check(1003, 1003, Some(Scope::Everything));
        check(1004, 1004, project("shop"));
        check(7, 7, None);
        check(1005, 1005, None);
        let open = read(&[], &[]).expect("valid");
        assert_eq!(open.scope(&Peer::Process { uid: 1005, gid: 5, pid: None }).ok(), Some(Scope::Everything));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let refused = |administrators: &[&str], projects: &[(&str, &[&str])]| {
            format!("{:#}", read(administrators, projects).expect_err("nonsense"))
        };
        assert!(refused(&[], &[("web", &["dan"])]).contains("projects.web.members: there is no user \"dan\""));
        assert!(refused(&["@x"], &[("web", &[])]).contains("administrators: there is no group \"x\""));
        assert!(refused(&[], &[("a b", &[])]).contains("a b"));
        assert!(refused(&["ann"], &[]).contains("no [projects]"));
    }

    #[test]
    fn a_member_s_draft_stays_behind_the_wall() {
        let scope = Scope::Project("web".to_owned());
        let admitted = scope.admit(Draft::default()).expect("nothing of it reaches out");
        assert_eq!(admitted.host.project.as_deref(), Some("web"));
        assert_eq!(Scope::Everything.admit(Draft::default()).expect("anything").host.project, None);
        let check = |change: &dyn Fn(&mut Draft), what: &str| {
            let mut draft = Draft::default();
            change(&mut draft);
            let refusal = scope.admit(draft.clone()).expect_err(what);
            assert!(refusal.message().starts_with(what), "{}", refusal.message());
            assert_eq!(Scope::Everything.admit(draft.clone()).ok(), Some(draft));
        };
        check(&|draft| draft.security.privileged = true, "more privileges");
        check(&|draft| draft.security.cap_add = vec!["NET_ADMIN".to_owned()], "more privileges");
        check(&|draft| draft.security.seccomp = Seccomp::Unconfined, "more privileges");
        check(&|draft| draft.security.unmasked_paths = true, "other masked paths");
        check(&|draft| draft.security.cdi = vec!["a.b/c=d".to_owned()], "devices");
        check(&|draft| draft.host.network = Network::Host, "namespaces");
        check(&|draft| draft.host.namespaces.pid = Share::Host, "namespaces");
        check(&|draft| draft.host.namespaces.ipc = Ipc::Host, "namespaces");
        check(&|draft| draft.host.namespaces.host_uts = true, "namespaces");
        check(&|draft| draft.host.namespaces.host_cgroup = true, "namespaces");
        check(&|draft| draft.host.namespaces.host_users = true, "namespaces");
        check(&|draft| drop(draft.host.annotations.insert("a".to_owned(), "b".to_owned())), "annotations");
        check(&|draft| draft.resources.cgroup_parent = Some("/".to_owned()), "a control group");
        check(&|draft| draft.resources.oom.score_adj = -1, "a place before");
        check(&|draft| draft.command.log.driver = Some(LogDriver::Syslog), "log drivers");
    }
}
