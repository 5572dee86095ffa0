//! Steps: what is done to the host, and the same to the model, until they differ.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use atoll_testkit::{Layer, TempHost};
use rustix::process::{Pid, Signal as HostSignal, kill_process};

use crate::call::{Call, ONCE};
use crate::facts::{Facts, differences, observe};
use crate::generate::{Draw, Random};
use crate::raw::{Answer, ask, get};
use crate::world::{IMAGES, Program, State, World, own_name};
use crate::{remains, streams, support};

/// How long the host may take to become what the model says.
const PATIENCE: Duration = Duration::from_secs(20);
/// Steps that are told when something differs.
const TOLD: usize = 60;
/// Clients that want the same at once, at most.
const CLIENTS: u64 = 32;
/// A killed daemon lives at most so long after a call was made, in microseconds.
const CUT_US: u64 = 40_000;

/// What happens to a container without a call.
#[derive(Clone, Copy, Debug)]
enum Incident {
    /// Its supervisor is killed.
    Lost,
    /// Its first process is killed.
    Killed,
    /// Its program ends, as it does on SIGUSR1.
    Ends,
}

/// A host, the model of it, and what was done.
#[derive(Debug)]
pub(crate) struct Drive {
    host: TempHost,
    world: World,
    random: Random,
    archives: Vec<Vec<u8>>,
    /// The identifiers of the images.
    ids: Vec<String>,
    /// The beginnings of those of all containers that were seen.
    known: BTreeSet<String>,
    story: Vec<String>,
    seed: u64,
}

impl Drive {
    /// A host that has every image.
    pub(crate) fn new(seed: u64) -> Option<Self> {
        let host = support::empty_host()?;
        let base = support::busybox()?;
        let archive = |image: usize| {
            let layer = Layer::new().file("which", 0o644, format!("image {image}")).file("once", 0o755, ONCE);
            base.clone().layer(layer).docker_archive(&own_name(image))
        };
        let archives: Vec<Vec<u8>> = (0..IMAGES).map(archive).collect();
        let mut drive = Self {
            host,
            world: World::default(),
            random: Random(seed),
            archives,
            ids: Vec::new(),
            known: BTreeSet::new(),
            story: Vec::new(),
            seed,
        };
        for image in 0..IMAGES {
            drive.plain(&Call::Load(image));
            let id = get(&drive.host, &format!("/images/{}/json", own_name(image)))["Id"].clone();
            drive.ids.push(id.as_str().expect("an id").to_owned());
        }
        drive.agree(std::slice::from_ref(&drive.world.clone()));
        Some(drive)
    }

    fn draw(&mut self) -> Draw<'_> {
        Draw { world: &self.world, random: &mut self.random }
    }

    fn tell(&mut self, what: String) {
        self.story.push(what);
    }

    /// One step.
    pub(crate) fn step(&mut self) {
        match self.random.below(100) {
            0..76 => {
                let call = self.draw().any_call();
                self.plain(&call);
                self.agree(std::slice::from_ref(&self.world.clone()));
            }
            76..82 => self.crowd(),
            82..88 => self.rivals(),
            88..94 => self.interrupt(),
            94..97 => self.restart_daemon(),
            _ => {
                self.incident();
                self.agree(std::slice::from_ref(&self.world.clone()));
            }
        }
    }

    /// One call, and what it answers.
    fn plain(&mut self, call: &Call) {
        self.tell(format!("{call:?}"));
        match call {
            Call::Attached(name) => self.attached(name),
            Call::Exec(name, code) => {
                let expected = self.world.apply(call);
                let (status, out, ended) = streams::exec(&self.host, name, *code);
                let fits = expected != 200 || (out == "inside\n" && ended == i64::from(*code));
                self.check(status == expected && fits, &format!("{status} {out:?} {ended}, not {expected}"));
            }
            Call::ExecForever(name) => {
                let expected = self.world.apply(call);
                let status = streams::exec_forever(&self.host, name);
                self.check(status == expected, &format!("{status}, not {expected}"));
            }
            Call::Wait(name) => {
                let before = self.world.containers.get(name).map(|one| one.state);
                let expected = self.world.apply(call);
                let answer = self.send(call);
                let code = match before {
                    Some(State::Created(code) | State::Exited(code)) => code,
                    _ => 0,
                };
                let fits = expected != 200 || answer.json()["StatusCode"] == code;
                self.check(answer.status == expected && fits, &format!("{answer:?}, not {expected} {code}"));
            }
            call => {
                let expected = self.world.apply(call);
                let answer = self.send(call);
                self.check(answer.status == expected, &format!("{answer:?}, not {expected}"));
            }
        }
    }

    fn send(&self, call: &Call) -> Answer {
        let answer = call.send(&self.host.socket(), &self.archives);
        answer.unwrap_or_else(|| self.differ("no answer"))
    }

    fn attached(&mut self, name: &str) {
        let Some(before) = self.world.containers.get(name).cloned() else { return };
        let Program::Ends(code) = before.spec.program else { return };
        let status = self.world.apply(&Call::Attached(name.to_owned()));
        let number = before.runs + 1;
        let streams = [format!("run {number}\n"), format!("err {number}\n")];
        let expected = streams::Run { status, code: code.to_string(), streams };
        let run = streams::attached(&self.host, name);
        self.check(run == expected, &format!("{run:?}, not {expected:?}"));
    }

    /// Many clients make the same call at once: as many get what they want as would one after the other.
    fn crowd(&mut self) {
        let call = self.draw().popular();
        let clients = 2 + self.random.below(CLIENTS - 1);
        self.tell(format!("{clients} × {call:?}"));
        let is_done = |status: &u16| (200..300).contains(status);
        let expected = (0..clients).map(|_| self.world.apply(&call)).filter(is_done).count();
        let statuses = self.at_once(&(0..clients).map(|_| call.clone()).collect::<Vec<_>>());
        let done = statuses.iter().copied().filter(is_done).count();
        let refused = statuses.iter().filter(|status| matches!(status, 304 | 400 | 404 | 409)).count();
        let all_answered = done + refused == statuses.len();
        self.check(done == expected && all_answered, &format!("{statuses:?}, but {expected} are to succeed"));
        self.agree(std::slice::from_ref(&self.world.clone()));
    }

    fn at_once(&self, calls: &[Call]) -> Vec<u16> {
        let (socket, archives) = (self.host.socket(), &self.archives);
        let answers: Vec<Option<Answer>> = std::thread::scope(|scope| {
            let send = |call| {
                scope.spawn({
                    let socket = &socket;
                    move || Call::send(call, socket, archives)
                })
            };
            let clients: Vec<_> = calls.iter().map(send).collect();
            clients.into_iter().map(|client| client.join().expect("a client")).collect()
        });
        answers.into_iter().map(|answer| answer.map_or(0, |answer| answer.status)).collect()
    }

    /// Two calls at once: the outcome is that of one order or the other.
    fn rivals(&mut self) {
        let calls = self.draw().rivals();
        self.tell(format!("{calls:?}"));
        let statuses = self.at_once(&calls);
        let mut orders = Vec::new();
        let mut possible = Vec::new();
        for order in [[0, 1], [1, 0]] {
            let mut world = self.world.clone();
            let mut expected = [0; 2];
            for index in order {
                expected[index] = world.apply(&calls[index]);
            }
            possible.push(expected);
            if statuses == expected {
                orders.push(world);
            }
        }
        // Who meets a container on the way to its end is told so.
        if let ([409, status], Call::Stop(..) | Call::Remove { force: true, .. }) = (&statuses[..], &calls[1]) {
            let mut world = self.world.clone();
            if world.apply(&calls[1]) == *status {
                orders.push(world);
            }
        }
        self.check(!orders.is_empty(), &format!("{statuses:?}, which is none of {possible:?}"));
        self.agree(&orders);
    }

    /// The daemon is killed in the middle of a call, which then has happened or has not.
    fn interrupt(&mut self) {
        let call = self.draw().interruptible();
        let pause = Duration::from_micros(self.random.below(CUT_US));
        self.tell(format!("{call:?}, and the daemon is killed after {pause:?}"));
        let (socket, archives) = (self.host.socket(), &self.archives);
        let host = &mut self.host;
        let answer = std::thread::scope(|scope| {
            let client = scope.spawn(|| call.send(&socket, archives));
            std::thread::sleep(pause);
            host.kill_daemon().expect("it ran");
            client.join().expect("a client")
        });
        self.start_daemon();
        let before = self.world.clone();
        let expected = self.world.apply(&call);
        let mut possible = vec![self.world.clone()];
        if let Some(answer) = answer {
            self.check(answer.status == expected, &format!("{answer:?}, not {expected}"));
        } else if matches!(call, Call::Stop(..) | Call::Kill(..) | Call::Remove { force: true, .. }) {
            // It may have got halfway: a client tries again.
            let status = self.send(&call).status;
            let fits = status == expected || matches!(status, 304 | 404 | 409);
            self.check(fits, &format!("{status} at the second try"));
        } else {
            possible.push(before);
        }
        self.agree(&possible);
    }

    fn start_daemon(&mut self) {
        if let Err(error) = self.host.start_daemon(&[]) {
            self.differ(&format!("{error:#}"));
        }
    }

    /// The daemon ends, one way or the other; things happen; it comes back.
    fn restart_daemon(&mut self) {
        let kindly = self.random.one_in(3);
        if kindly && let Some(daemon) = self.host.daemon_pid() {
            send_signal(i64::from(daemon), HostSignal::TERM);
            support::until("the daemon ends", || {
                let stat = std::fs::read_to_string(format!("/proc/{daemon}/stat")).unwrap_or_default();
                stat.is_empty() || stat.contains(") Z ")
            });
        }
        // Whom something is to happen to is looked up while somebody can be asked.
        self.tell(format!("the daemon ends{}", if kindly { " as it was told to" } else { "" }));
        let victim = self.random.one_in(2).then(|| self.draw().victim()).flatten();
        self.host.kill_daemon().expect("it ran");
        if let Some(name) = victim {
            self.happens(&name);
        }
        self.start_daemon();
        self.agree(std::slice::from_ref(&self.world.clone()));
    }

    fn incident(&mut self) {
        if let Some(name) = self.draw().victim() {
            self.happens(&name);
        }
    }

    fn happens(&mut self, name: &str) {
        let Some(container) = self.world.containers.get(name) else { return };
        let (Some(pid), state) = (container.pid, container.state) else { return };
        let kinds = [Incident::Lost, Incident::Killed, Incident::Ends];
        // Frozen processes do nothing, not even die.
        let choices = if state == State::Paused { 1 } else { kinds.len() as u64 };
        let incident = kinds[usize::try_from(self.random.below(choices)).unwrap_or(0)];
        self.tell(format!("{incident:?}: {name}"));
        match incident {
            Incident::Lost => send_signal(parent(pid), HostSignal::KILL),
            Incident::Killed => send_signal(pid, HostSignal::KILL),
            Incident::Ends => send_signal(pid, HostSignal::USR1),
        }
        self.world.ended(name, if matches!(incident, Incident::Ends) { 5 } else { 137 });
    }

    /// Waits until the host is as one of the worlds has it; that one is the world from then on.
    fn agree(&mut self, possible: &[World]) {
        let facts: Vec<Facts> = possible.iter().map(World::facts).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = observe(&self.host, &self.ids, &mut self.known);
            if let Some(index) = facts.iter().position(|facts| *facts == seen) {
                self.world = possible[index].clone();
                return self.look_up();
            }
            if Instant::now() > deadline {
                let all: Vec<String> = facts.iter().map(|facts| differences(facts, &seen)).collect();
                self.differ(&format!("the host is not as it should be\n{}", all.join("or\n")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The process of a run stays the same.
    fn look_up(&mut self) {
        let live: Vec<String> =
            self.world.containers.iter().filter(|(_, one)| one.state.is_live()).map(|(name, _)| name.clone()).collect();
        for name in live {
            let pid = get(&self.host, &format!("/containers/{name}/json"))["State"]["Pid"].as_i64();
            let known = self.world.containers.get_mut(&name).and_then(|one| std::mem::replace(&mut one.pid, pid));
            self.check(known.is_none() || known == pid, &format!("{name}: another process, {known:?} and {pid:?}"));
        }
    }

    #[track_caller]
    fn check(&self, holds: bool, what: &str) {
        if !holds {
            self.differ(what);
        }
    }

    /// Says what was done, and gives up.
    fn differ(&self, what: &str) -> ! {
        let told = self.story.len().saturating_sub(TOLD);
        let story: String =
            self.story.iter().enumerate().skip(told).map(|(number, step)| format!("{number:5} {step}\n")).collect();
        let log = self.host.daemon_log();
        let log: Vec<&str> = log.lines().rev().take(30).collect();
        let log: Vec<&str> = log.into_iter().rev().collect();
        panic!("MODEL_SEED={}, step {}\n{story}{what}\n{}", self.seed, self.story.len(), log.join("\n"));
    }

    /// Takes everything away: nothing is left.
    pub(crate) fn finish(mut self) {
        for name in self.world.containers.keys().cloned().collect::<Vec<_>>() {
            self.plain(&Call::Remove { name, force: true, volumes: true });
        }
        self.plain(&Call::PruneVolumes { all: true });
        self.plain(&Call::PruneImages { all: true });
        self.agree(std::slice::from_ref(&self.world.clone()));
        let left = ask(&self.host, "GET", "/system/df", "").json();
        for kind in ["Images", "Containers", "Volumes"] {
            let none = left[kind].as_array().is_none_or(Vec::is_empty);
            self.check(none, &format!("{kind} of system df: {}", left[kind]));
        }
        remains::nothing(&self.host, &self.known);
        let panics = self.host.daemon_log().lines().filter(|line| line.contains("panicked")).count();
        self.check(panics == 0, "a panic");
    }
}

fn send_signal(pid: i64, signal: HostSignal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The parent of a process: of a workload's first one, its supervisor.
fn parent(pid: i64) -> i64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    after.split(' ').nth(1).and_then(|parent| parent.parse().ok()).unwrap_or(0)
}
