//! Random calls, weighted towards what a host is used for, and never such that the outcome depends on time.

use crate::call::{BAD, Call, Signal};
use crate::facts::lasts;
use crate::world::{IMAGES, Policy, Program, Spec, World, own_name};

/// Names of containers that there are to give.
const NAMES: u64 = 8;
/// Names of volumes.
const VOLUMES: u64 = 4;
/// Further names for images.
const ALIASES: u64 = 4;
/// Restarts by a policy after which the pauses become too long to wait for.
const RESTARTS_MAX: u32 = 3;
/// Seconds that are never waited out.
const LONG_S: u32 = 60;

/// Numbers that follow from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let index = self.below(from.len().max(1) as u64);
        from.get(usize::try_from(index).ok()?).cloned()
    }
}

/// Draws calls that fit a world.
#[derive(Debug)]
pub(crate) struct Draw<'a> {
    pub(crate) world: &'a World,
    pub(crate) random: &'a mut Random,
}

impl Draw<'_> {
    /// Any name of a container, seldom one that nobody has.
    fn any(&mut self) -> String {
        let there: Vec<String> = self.world.containers.keys().cloned().collect();
        match self.random.pick(&there) {
            Some(name) if !self.random.one_in(12) => name,
            _ => self.fresh(),
        }
    }

    fn fresh(&mut self) -> String {
        format!("w{}", self.random.below(NAMES))
    }

    /// Mostly one that this holds for.
    fn likely(&mut self, fits: impl Fn(&crate::world::Container) -> bool) -> String {
        let there: Vec<String> =
            self.world.containers.iter().filter(|(_, one)| fits(one)).map(|(name, _)| name.clone()).collect();
        match self.random.pick(&there) {
            Some(name) if !self.random.one_in(5) => name,
            _ => self.any(),
        }
    }

    fn live(&mut self) -> String {
        self.likely(|one| one.state.is_live())
    }

    fn volume(&mut self) -> String {
        format!("v{}", self.random.below(VOLUMES))
    }

    fn image(&mut self) -> usize {
        usize::try_from(self.random.below(IMAGES as u64)).unwrap_or(0)
    }

    /// A name of an image, seldom one that stands for none.
    fn image_name(&mut self) -> String {
        let there: Vec<String> = self.world.names.keys().cloned().collect();
        match self.random.pick(&there) {
            Some(name) if !self.random.one_in(12) => name,
            _ => self.new_image_name(),
        }
    }

    fn new_image_name(&mut self) -> String {
        if self.random.one_in(3) {
            return own_name(self.image());
        }
        format!("alias{}:1", self.random.below(ALIASES))
    }

    pub(crate) fn spec(&mut self) -> Spec {
        let program = match self.random.below(20) {
            0..8 => Program::Waits,
            8..12 => Program::Deaf,
            12..15 => Program::Ends(0),
            15..18 => Program::Ends(7),
            18 => Program::Once,
            _ => Program::Missing,
        };
        let policy = if self.random.one_in(3) { self.policy(program) } else { Policy::No };
        Spec {
            image: self.image_name(),
            program,
            policy,
            // The two contradict each other: seldom.
            auto_remove: self.random.one_in(if policy == Policy::No { 5 } else { 20 }),
            label: self.random.below(3),
            volume: self.random.one_in(3).then(|| self.volume()),
            anonymous: self.random.one_in(5),
            bridge: self.random.one_in(4),
        }
    }

    /// One with which a program comes to rest.
    fn policy(&mut self, program: Program) -> Policy {
        let max = 1 + u32::try_from(self.random.below(2)).unwrap_or(0);
        let policies = [Policy::OnFailure(max), Policy::No, Policy::Always, Policy::UnlessStopped];
        let choices = match program {
            // What cannot be run again is not to be.
            Program::Once => &policies[1..2],
            program if lasts(program) => &policies[..],
            _ => &policies[..2],
        };
        self.random.pick(choices).unwrap_or(Policy::No)
    }

    fn program_of(&self, name: &str) -> Program {
        self.world.containers.get(name).map_or(Program::Waits, |one| one.spec.program)
    }

    /// Seconds that a stop waits: none for who would not hear of it.
    fn patience(&self, name: &str) -> u32 {
        if self.program_of(name) == Program::Deaf { 0 } else { LONG_S }
    }

    pub(crate) fn stop(&mut self) -> Call {
        let name = self.live();
        let seconds = self.patience(&name);
        Call::Stop(name, seconds)
    }

    pub(crate) fn restart(&mut self) -> Call {
        let name = self.live();
        let seconds = self.patience(&name);
        Call::Restart(name, seconds)
    }

    pub(crate) fn create(&mut self) -> Call {
        Call::Create(self.fresh(), self.spec())
    }

    pub(crate) fn start(&mut self) -> Call {
        let name = self.likely(|one| !one.state.is_live());
        let alone = self.world.containers.get(&name).is_some_and(|one| {
            let ends = matches!(one.spec.program, Program::Ends(_));
            ends && one.spec.policy == Policy::No && !one.state.is_live()
        });
        if alone && self.random.one_in(2) { Call::Attached(name) } else { Call::Start(name) }
    }

    pub(crate) fn kill(&mut self) -> Call {
        let signals = [Signal::Hangup, Signal::Terminate, Signal::User, Signal::Kill];
        Call::Kill(self.live(), self.random.pick(&signals).unwrap_or(Signal::Kill))
    }

    pub(crate) fn remove(&mut self) -> Call {
        let name = self.any();
        let force = self.random.one_in(3);
        // One that removes itself takes its volumes along, whoever comes first.
        let own = self.world.containers.get(&name).is_some_and(|one| one.spec.auto_remove);
        Call::Remove { name, force, volumes: own || self.random.one_in(2) }
    }

    fn set_policy(&mut self) -> Call {
        let name = self.any();
        let policy = self.policy(self.program_of(&name));
        Call::SetPolicy(name, policy)
    }

    fn wait(&mut self) -> Call {
        let name = self.likely(|one| !one.state.is_live());
        let lives = self.world.containers.get(&name).is_some_and(|one| one.state.is_live());
        if lives { self.stop() } else { Call::Wait(name) }
    }

    fn of_containers(&mut self, number: u64) -> Call {
        match number {
            0..18 => self.create(),
            18..38 => self.start(),
            38..44 => self.stop(),
            44..51 => self.kill(),
            51..54 => self.restart(),
            54..60 => Call::Pause(self.live()),
            60..66 => Call::Unpause(self.likely(|one| one.state == crate::world::State::Paused)),
            66..70 => Call::Rename(self.any(), self.fresh()),
            70..76 => self.remove(),
            76..79 => self.set_policy(),
            79..81 => self.wait(),
            81..84 => Call::Exec(self.live(), i32::try_from(self.random.below(9)).unwrap_or(0)),
            84..86 => Call::ExecForever(self.live()),
            _ => Call::PruneContainers,
        }
    }

    /// Any call.
    pub(crate) fn any_call(&mut self) -> Call {
        match self.random.below(100) {
            number @ 0..86 => self.of_containers(number),
            86 if self.random.one_in(3) => Call::PruneContainers,
            86..89 => Call::VolumeCreate(self.volume(), self.random.below(3)),
            89..92 => Call::VolumeRemove(self.volume()),
            92 => Call::PruneVolumes { all: self.random.one_in(2) },
            93 | 94 => Call::Load(self.image()),
            95 | 96 => Call::Tag(self.image_name(), self.new_image_name()),
            97 => Call::Untag { name: self.image_name(), force: self.random.one_in(3) },
            98 if self.random.one_in(2) => Call::PruneImages { all: self.random.one_in(2) },
            _ => Call::Bad(self.random.pick(&BAD).unwrap_or(BAD[0])),
        }
    }

    /// A call that many clients make at once: only one of them can get what it wants.
    pub(crate) fn popular(&mut self) -> Call {
        match self.random.below(10) {
            0 | 1 => self.create(),
            2 => {
                let name = self.likely(|one| !one.state.is_live() && lasts(one.spec.program));
                // Others end, and can be started by each client.
                if lasts(self.program_of(&name)) { Call::Start(name) } else { Call::Pause(name) }
            }
            3 => self.stop(),
            4 => Call::Pause(self.live()),
            5 => Call::Rename(self.any(), self.fresh()),
            6 => Call::Remove { name: self.any(), force: false, volumes: true },
            7 => Call::VolumeRemove(self.volume()),
            8 => Call::VolumeCreate(self.volume(), self.random.below(3)),
            _ => Call::Untag { name: self.image_name(), force: false },
        }
    }

    /// Two calls at once that are about the same.
    pub(crate) fn rivals(&mut self) -> [Call; 2] {
        // One that ends by itself does so before the second call, or after it.
        // What one that is killed as it starts left in its volume is anybody's guess.
        let fits = |one: &crate::world::Container| lasts(one.spec.program) && one.spec.volume.is_none();
        let name = self.likely(fits);
        let name = if self.world.containers.get(&name).is_none_or(fits) { name } else { format!("w{NAMES}") };
        let seconds = self.patience(&name);
        let spec = self.spec();
        let (image, volume) = (spec.image.clone(), spec.volume.clone().unwrap_or_else(|| self.volume()));
        let create = |spec: Spec| Call::Create(name.clone(), spec);
        let with_volume = Spec { volume: Some(volume.clone()), ..spec.clone() };
        let force = Call::Remove { name: name.clone(), force: true, volumes: true };
        let start = Call::Start(name.clone());
        match self.random.below(16) {
            0 => [create(with_volume), Call::VolumeRemove(volume)],
            1 => [create(spec), Call::Untag { name: image, force: false }],
            2 => [create(spec), Call::Create(name.clone(), self.spec())],
            3 | 4 => [start, force],
            5 => [start, Call::Remove { name, force: false, volumes: true }],
            6 => [start, Call::Rename(name, self.fresh())],
            7 => [Call::Pause(name.clone()), Call::Stop(name, seconds)],
            8 => [Call::Pause(name.clone()), force],
            9 => {
                let new = self.fresh();
                [Call::Rename(name, new.clone()), Call::Create(new, spec)]
            }
            10 => [Call::Tag(image.clone(), self.new_image_name()), Call::Untag { name: image, force: false }],
            11 => [Call::Restart(name.clone(), seconds), force],
            12 => [Call::Load(self.image()), Call::Untag { name: own_name(self.image()), force: true }],
            13 => [create(spec), Call::PruneContainers],
            14 => [create(with_volume), Call::PruneVolumes { all: true }],
            _ => [create(spec), Call::PruneImages { all: true }],
        }
    }

    /// A call that may be cut short.
    pub(crate) fn interruptible(&mut self) -> Call {
        loop {
            let call = self.any_call();
            let whole = matches!(
                call,
                Call::Restart(..)
                    | Call::Kill(_, Signal::Hangup)
                    | Call::Wait(_)
                    | Call::Attached(_)
                    | Call::Exec(..)
                    | Call::ExecForever(_)
                    | Call::PruneContainers
                    | Call::PruneVolumes { .. }
                    | Call::PruneImages { .. }
                    | Call::Bad(_)
            );
            if !whole {
                return call;
            }
        }
    }

    /// A container that something can happen to by itself, and be over soon.
    pub(crate) fn victim(&mut self) -> Option<String> {
        let fits = |(name, one): (&String, &crate::world::Container)| {
            (one.state.is_live() && one.restarts < RESTARTS_MAX).then(|| name.clone())
        };
        let there: Vec<String> = self.world.containers.iter().filter_map(fits).collect();
        self.random.pick(&there)
    }
}
