//! The model: what a host has, in memory, and what each call makes of it.
//!
//! [`World::apply`] is the whole truth about a call: the status that the daemon is to answer, and the world afterwards.

use std::collections::{BTreeMap, BTreeSet};

use crate::call::{Call, Signal};

/// Images that there are to load; each is loaded with a name of its own.
pub(crate) const IMAGES: usize = 3;

/// What a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Says which run it is, and ends with this code.
    Ends(i32),
    /// Runs until a signal ends it.
    Waits,
    /// The same, deaf to SIGTERM.
    Deaf,
    /// Ends with 7 and is gone then.
    Once,
    /// Is not in the image.
    Missing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    No,
    OnFailure(u32),
    Always,
    UnlessStopped,
}

/// What a container is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) image: String,
    pub(crate) program: Program,
    pub(crate) policy: Policy,
    pub(crate) auto_remove: bool,
    pub(crate) label: u64,
    pub(crate) volume: Option<String>,
    /// Whether it has a volume without a name.
    pub(crate) anonymous: bool,
    /// Whether it is on the default network.
    pub(crate) bridge: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Never ran; the code of a start that failed.
    Created(i32),
    Running,
    Paused,
    Exited(i32),
}

#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) spec: Spec,
    pub(crate) image: usize,
    pub(crate) state: State,
    pub(crate) restarts: u32,
    /// Whether somebody wants its end, or wanted the last.
    pub(crate) asked: bool,
    /// How often its program began.
    pub(crate) runs: u32,
    /// What it wrote to standard output, a line each.
    pub(crate) log: Vec<String>,
    /// Exec sessions that go on until it ends.
    pub(crate) execs: usize,
    /// Its first process, once that was looked up.
    pub(crate) pid: Option<i64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Volume {
    pub(crate) label: Option<u64>,
    /// Runs that left a line in it.
    pub(crate) lines: usize,
}

/// What a host has.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    /// Volumes without a name that were left behind.
    pub(crate) orphans: usize,
    /// What each name of an image stands for.
    pub(crate) names: BTreeMap<String, usize>,
    /// Images that lost their last name to another.
    pub(crate) dangling: BTreeSet<usize>,
}

/// The name that an image is loaded with.
pub(crate) fn own_name(image: usize) -> String {
    format!("image{image}:1")
}

impl State {
    pub(crate) const fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl Policy {
    /// Whether a run that ended like this is followed by another.
    const fn again(self, code: i32, restarts: u32, asked: bool) -> bool {
        !asked
            && match self {
                Self::No => false,
                Self::OnFailure(max) => code != 0 && (max == 0 || restarts < max),
                Self::Always | Self::UnlessStopped => true,
            }
    }
}

impl World {
    /// What a call does; the status of its answer.
    pub(crate) fn apply(&mut self, call: &Call) -> u16 {
        match call {
            Call::Create(name, spec) => self.create(name, spec),
            Call::Start(name) | Call::Attached(name) => self.start(name),
            Call::Stop(name, _) => self.stop(name),
            Call::Kill(name, signal) => self.kill(name, *signal),
            Call::Restart(name, _) => self.restart(name),
            Call::Pause(name) => self.pause(name),
            Call::Unpause(name) => self.unpause(name),
            Call::Rename(name, new) => self.rename(name, new),
            Call::Remove { name, force, volumes } => self.remove(name, *force, *volumes),
            Call::SetPolicy(name, policy) => self.set_policy(name, *policy),
            Call::Wait(name) => self.status_of(name, |_| 200),
            Call::Exec(name, _) => self.exec(name, 0),
            Call::ExecForever(name) => self.exec(name, 1),
            Call::PruneContainers => self.prune_containers(usize::MAX),
            Call::VolumeCreate(name, label) => self.volume_create(name, *label),
            Call::VolumeRemove(name) => self.volume_remove(name),
            Call::PruneVolumes { all } => self.prune_volumes(*all),
            Call::Load(image) => {
                self.point(&own_name(*image), *image);
                200
            }
            Call::Tag(from, to) => self.tag(from, to),
            Call::Untag { name, force } => self.untag(name, *force),
            Call::PruneImages { all } => self.prune_images(*all),
            Call::Bad(bad) => bad.status,
        }
    }

    fn status_of(&self, name: &str, there: impl Fn(&Container) -> u16) -> u16 {
        self.containers.get(name).map_or(404, there)
    }

    fn create(&mut self, name: &str, spec: &Spec) -> u16 {
        if spec.auto_remove && spec.policy != Policy::No {
            return 400;
        }
        let Some(image) = self.names.get(&spec.image).copied() else { return 404 };
        if self.containers.contains_key(name) {
            return 409;
        }
        if let Some(volume) = &spec.volume {
            self.volumes.entry(volume.clone()).or_default();
        }
        let container = Container {
            spec: spec.clone(),
            image,
            state: State::Created(0),
            restarts: 0,
            asked: false,
            runs: 0,
            log: Vec::new(),
            execs: 0,
            pid: None,
        };
        self.containers.insert(name.to_owned(), container);
        201
    }

    fn start(&mut self, name: &str) -> u16 {
        let Some(container) = self.containers.get_mut(name) else { return 404 };
        match container.state {
            State::Running => return 304,
            State::Paused => return 409,
            State::Created(_) | State::Exited(_) => {}
        }
        (container.restarts, container.asked) = (0, false);
        let gone = match container.spec.program {
            Program::Missing => true,
            Program::Once => container.runs > 0,
            _ => false,
        };
        if gone {
            container.state = match container.state {
                State::Exited(_) => State::Exited(127),
                _ => State::Created(127),
            };
            if container.spec.auto_remove {
                self.forget(name, true);
            }
            return 400;
        }
        self.run(name);
        204
    }

    /// A run begins, and goes as far as it goes by itself.
    fn run(&mut self, name: &str) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.runs += 1;
        container.log.push(format!("run {}", container.runs));
        (container.state, container.pid) = (State::Running, None);
        let program = container.spec.program;
        if let Some(volume) = container.spec.volume.as_ref().and_then(|volume| self.volumes.get_mut(volume)) {
            volume.lines += 1;
        }
        match program {
            Program::Ends(code) => self.ended(name, code),
            Program::Once => self.ended(name, 7),
            Program::Waits | Program::Deaf | Program::Missing => {}
        }
    }

    /// A run ended; what its policy makes of that.
    pub(crate) fn ended(&mut self, name: &str, code: i32) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.execs = 0;
        if container.spec.policy.again(code, container.restarts, container.asked) {
            container.restarts += 1;
            return self.run(name);
        }
        container.state = State::Exited(code);
        if container.spec.auto_remove {
            self.forget(name, true);
        }
    }

    fn stop(&mut self, name: &str) -> u16 {
        let Some(container) = self.containers.get_mut(name) else { return 404 };
        if !container.state.is_live() {
            return 304;
        }
        container.asked = true;
        let code = if container.spec.program == Program::Waits { 3 } else { 137 };
        self.ended(name, code);
        204
    }

    fn kill(&mut self, name: &str, signal: Signal) -> u16 {
        let Some(container) = self.containers.get_mut(name) else { return 404 };
        if !container.state.is_live() {
            return 409;
        }
        // A signal that could ask for the end thaws a container, as in Docker.
        container.asked = true;
        container.state = State::Running;
        match (signal, container.spec.program) {
            (Signal::Hangup, _) => container.log.push("hup".to_owned()),
            (Signal::Terminate, Program::Deaf) => {}
            (Signal::Terminate, _) => self.ended(name, 3),
            (Signal::User, _) => self.ended(name, 5),
            (Signal::Kill, _) => self.ended(name, 137),
        }
        204
    }

    fn restart(&mut self, name: &str) -> u16 {
        let Some(container) = self.containers.get_mut(name) else { return 404 };
        if container.state.is_live() {
            container.execs = 0;
            // One that is removed at its end is not removed by this end.
            container.state = State::Exited(0);
        }
        self.start(name)
    }

    fn pause(&mut self, name: &str) -> u16 {
        let Some(container) = self.containers.get_mut(name) else { return 404 };
        if container.state != State::Running {
            return 409;
        }
        container.state = State::Paused;
        204
    }

    fn unpause(&mut self, name: &str) -> u16 {
        let Some(container) = self.containers.get_mut(name) else { return 404 };
        if container.state != State::Paused {
            return 409;
        }
        container.state = State::Running;
        204
    }

    fn rename(&mut self, name: &str, new: &str) -> u16 {
        if !self.containers.contains_key(name) {
            return 404;
        }
        if name == new {
            return 400;
        }
        if self.containers.contains_key(new) {
            return 409;
        }
        if let Some(container) = self.containers.remove(name) {
            self.containers.insert(new.to_owned(), container);
        }
        204
    }

    fn remove(&mut self, name: &str, force: bool, volumes: bool) -> u16 {
        let Some(container) = self.containers.get(name) else { return 404 };
        if container.state.is_live() && !force {
            return 409;
        }
        self.forget(name, volumes);
        204
    }

    fn forget(&mut self, name: &str, volumes: bool) {
        if let Some(container) = self.containers.remove(name)
            && container.spec.anonymous
            && !volumes
        {
            self.orphans += 1;
        }
    }

    fn set_policy(&mut self, name: &str, policy: Policy) -> u16 {
        let Some(container) = self.containers.get_mut(name) else { return 404 };
        if container.spec.auto_remove && policy != Policy::No {
            return 400;
        }
        container.spec.policy = policy;
        200
    }

    fn exec(&mut self, name: &str, lasting: usize) -> u16 {
        let Some(container) = self.containers.get_mut(name) else { return 404 };
        if container.state != State::Running {
            return 409;
        }
        container.execs += lasting;
        200
    }

    /// Removes so many of the containers that do not run.
    pub(crate) fn prune_containers(&mut self, most: usize) -> u16 {
        let idle = |(name, container): (&String, &Container)| (!container.state.is_live()).then(|| name.clone());
        let names: Vec<String> = self.containers.iter().filter_map(idle).take(most).collect();
        names.iter().for_each(|name| self.forget(name, false));
        200
    }

    fn volume_create(&mut self, name: &str, label: u64) -> u16 {
        self.volumes.entry(name.to_owned()).or_insert(Volume { label: Some(label), lines: 0 });
        201
    }

    pub(crate) fn users(&self, volume: &str) -> usize {
        self.containers.values().filter(|container| container.spec.volume.as_deref() == Some(volume)).count()
    }

    fn volume_remove(&mut self, name: &str) -> u16 {
        if !self.volumes.contains_key(name) {
            return 404;
        }
        if self.users(name) > 0 {
            return 409;
        }
        self.volumes.remove(name);
        204
    }

    fn prune_volumes(&mut self, all: bool) -> u16 {
        self.orphans = 0;
        if all {
            let unused: Vec<String> = self.volumes.keys().filter(|name| self.users(name) == 0).cloned().collect();
            self.volumes.retain(|name, _| !unused.contains(name));
        }
        200
    }

    fn tag(&mut self, from: &str, to: &str) -> u16 {
        let Some(image) = self.names.get(from).copied() else { return 404 };
        self.point(to, image);
        201
    }

    fn names_of(&self, image: usize) -> usize {
        self.names.values().filter(|named| **named == image).count()
    }

    fn point(&mut self, name: &str, image: usize) {
        if let Some(old) = self.names.get(name).copied()
            && old != image
            && self.names_of(old) == 1
        {
            self.dangling.insert(old);
        }
        self.names.insert(name.to_owned(), image);
        self.dangling.remove(&image);
    }

    fn untag(&mut self, name: &str, force: bool) -> u16 {
        let Some(image) = self.names.get(name).copied() else { return 404 };
        if self.names_of(image) == 1 {
            let mut users = self.containers.values().filter(|container| container.image == image).peekable();
            let live = |container: &Container| container.state.is_live();
            if users.peek().is_some() && !force {
                return 409;
            }
            // Who runs it keeps it.
            if users.any(live) {
                self.dangling.insert(image);
            }
        }
        self.names.remove(name);
        200
    }

    fn prune_images(&mut self, all: bool) -> u16 {
        let used: BTreeSet<usize> = self.containers.values().map(|container| container.image).collect();
        self.dangling.retain(|image| used.contains(image));
        if all {
            self.names.retain(|_, image| used.contains(image));
        }
        200
    }
}
