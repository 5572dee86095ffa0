//! Checks of the workload's health: a program is run inside every now and then, and killed when it takes too long.
//!
//! ```text
//!   pause over ──► the program runs ──ends, or is killed──► the result is taken, and told ──► pause
//! ```
//!
//! What results come to is `atoll_model`'s to say. A workload that becomes unhealthy is made to end where its restart policy is
//! for that. While it is paused nothing is checked.

use std::time::{Duration, Instant};

use atoll_model::{Checked, Health, HealthCheck, HealthStatus, Restart, Timestamp};
use atoll_wall::launch::{HealthPlan, Streams};
use atoll_wall::message::Event;

use super::session::Whose;
use super::{Monitor, Stage, now};

const SIGKILL: i32 = 9;
/// The exit code of a check that could not be run, or not to its end.
const FAILED: i32 = -1;

/// The checks of one run of the workload.
#[derive(Debug)]
pub(super) struct Checks {
    plan: HealthPlan,
    pub(super) health: Health,
    /// When the next begins, or the one that goes on is killed.
    due: Instant,
    running: Option<Running>,
    ending: Ending,
}

/// The check that goes on.
#[derive(Debug)]
struct Running {
    start: Timestamp,
    /// How long the workload had run by then.
    ran: Duration,
    /// The beginning of what it wrote, and whether there was more.
    output: Vec<u8>,
    is_cut: bool,
    timed_out: bool,
}

/// Whether the workload is made to end because it is unhealthy.
#[derive(Clone, Copy, Debug)]
enum Ending {
    No,
    /// It was asked to, and is killed at that time.
    Asked(Option<Instant>),
}

impl Checks {
    /// Of a run that is about to begin.
    pub(super) fn new(plan: HealthPlan, before: Health) -> Self {
        let health = before.begin_again();
        let due = Instant::now() + plan.check.pause(health.status, Duration::ZERO);
        Self { plan, health, due, running: None, ending: Ending::No }
    }

    /// What [`Checks::new`] needs for the next run.
    pub(super) fn into_parts(self) -> (HealthPlan, Health) {
        (self.plan, self.health)
    }

    /// The check that goes on has written something.
    pub(super) fn said(&mut self, bytes: &[u8]) {
        let Some(running) = &mut self.running else { return };
        let room = HealthCheck::OUTPUT_MAX - running.output.len();
        running.output.extend_from_slice(&bytes[..bytes.len().min(room)]);
        running.is_cut |= bytes.len() > room;
    }
}

impl Running {
    /// Its result, as Docker words it.
    fn result(self, code: i32, patience: Duration) -> Checked {
        let mut output = String::from_utf8_lossy(&self.output).into_owned();
        if self.is_cut {
            output.push_str("...");
        }
        if !self.timed_out {
            return Checked { start: self.start, end: now(), code, output };
        }
        let colon = if output.is_empty() { "" } else { ": " };
        let output = format!("Health check exceeded timeout ({}){colon}{output}", in_words(patience));
        Checked { start: self.start, end: now(), code: FAILED, output }
    }
}

/// A duration as Go prints it: `500ms`, `1.5s`, `1m30s`.
fn in_words(duration: Duration) -> String {
    let decimal = |value: f64, unit: &str| format!("{value}{unit}");
    let seconds = duration.as_secs();
    let rest = decimal(duration.saturating_sub(Duration::from_secs(seconds / 60 * 60)).as_secs_f64(), "s");
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) if duration < Duration::from_secs(1) => decimal(f64::from(duration.subsec_nanos()) / 1e6, "ms"),
        (0, 0) => rest,
        (0, minutes) => format!("{minutes}m{rest}"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
    }
}

impl Monitor {
    /// Begins to count the pause to the next check: the workload has just been let go, or thawed.
    pub(super) fn begin_checks(&mut self) {
        let ran = self.current.since.elapsed();
        if let Some(checks) = &mut self.current.checks {
            let check = &checks.plan.check;
            // One that was frozen with the workload has all its time again.
            let wait = if checks.running.is_some() { check.patience() } else { check.pause(checks.health.status, ran) };
            checks.due = Instant::now() + wait;
        }
    }

    /// When something is to be done about the health of a workload that runs.
    pub(super) fn health_due(&self) -> Option<Instant> {
        let checks = self.current.checks.as_ref()?;
        match checks.ending {
            Ending::Asked(kill) => kill,
            Ending::No if self.current.paused => None,
            Ending::No => Some(checks.due),
        }
    }

    /// Does what is due.
    pub(super) fn check_health(&mut self) {
        if !matches!(self.stage, Stage::Running) || self.health_due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let Some(checks) = &mut self.current.checks else { return };
        if matches!(checks.ending, Ending::Asked(_)) {
            checks.ending = Ending::Asked(None);
            // One that has ended needs no killing.
            let _ = self.kill_all();
            return;
        }
        match &mut checks.running {
            None => self.begin_check(),
            Some(running) => {
                running.timed_out = true;
                // Its end comes by its descriptor; one that hangs in the kernel is looked at again after as long.
                checks.due = Instant::now() + checks.plan.check.patience();
                if let Some(session) = self.sessions.iter().find(|session| session.whose == Whose::Check) {
                    let _ = atoll_sys::pidfd::kill(&session.pidfd, SIGKILL);
                }
            }
        }
    }

    fn begin_check(&mut self) {
        let Some(checks) = &mut self.current.checks else { return };
        let (start, ran) = (now(), self.current.since.elapsed());
        checks.due = Instant::now() + checks.plan.check.patience();
        checks.running = Some(Running { start, ran, output: Vec::new(), is_cut: false, timed_out: false });
        let (process, user) = (checks.plan.process.clone(), checks.plan.user.clone());
        let streams = Streams { terminal: None, stdin: false, stdin_once: false };
        if let Err(failure) = self.run_inside(Whose::Check, (&process, &user, None), streams) {
            if let Some(checks) = &mut self.current.checks {
                checks.said(failure.message.as_bytes());
            }
            self.checked(FAILED);
        }
    }

    /// The check that went on has ended.
    pub(super) fn checked(&mut self, code: i32) {
        let now_ran = self.current.since.elapsed();
        let Some(checks) = &mut self.current.checks else { return };
        let Some(running) = checks.running.take() else { return };
        // One that ended with the workload says nothing.
        if !matches!(self.stage, Stage::Running) {
            return;
        }
        let (check, ran) = (&checks.plan.check, running.ran);
        checks.health.take(running.result(code, check.patience()), check, ran);
        checks.due = Instant::now() + check.pause(checks.health.status, now_ran);
        let event = Event::Checked { health: checks.health.clone() };
        let is_unhealthy = checks.health.status == HealthStatus::Unhealthy;
        self.tell(&event);
        if is_unhealthy && matches!(self.life.restart, Restart::OnUnhealthy { .. }) && !self.life.asked {
            self.end_unhealthy();
        }
    }

    /// Asks a workload that is unhealthy to end; its restart policy then has it run again.
    fn end_unhealthy(&mut self) {
        let stop = self.life.stop;
        if let Some(checks) = &mut self.current.checks {
            checks.ending = Ending::Asked(stop.timeout.map(|timeout| Instant::now() + timeout));
        }
        // One that has ended needs no signal: its end comes by its descriptor.
        let _ = atoll_sys::pidfd::kill(&self.sessions[0].pidfd, stop.signal);
    }

    /// What has ended is not well, as Docker has it. Whether it was made to end because of that.
    pub(super) fn end_checks(&mut self) -> bool {
        let Some(checks) = &mut self.current.checks else { return false };
        checks.running = None;
        checks.health.status = HealthStatus::Unhealthy;
        matches!(checks.ending, Ending::Asked(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_does() {
        let check = |milliseconds: u64, expected: &str| {
            assert_eq!(in_words(Duration::from_millis(milliseconds)), expected);
        };
        check(1, "1ms");
        check(500, "500ms");
        check(570, "570ms");
        check(1000, "1s");
        check(1500, "1.5s");
        check(60_000, "1m0s");
        check(90_500, "1m30.5s");
        check(3_600_000, "1h0m0s");
    }

    #[test]
    fn results_in_dockers_words() {
        let running = |output: &str, is_cut, timed_out| Running {
            start: Timestamp(1),
            ran: Duration::ZERO,
            output: output.as_bytes().to_vec(),
            is_cut,
            timed_out,
        };
        let check = |running: Running, code: i32, expected: (i32, &str)| {
            let result = running.result(code, Duration::from_millis(500));
            assert_eq!((result.code, result.output.as_str()), expected);
        };
        check(running("fine\n", false, false), 0, (0, "fine\n"));
        check(running("long", true, false), 2, (2, "long..."));
        check(running("", false, true), 137, (-1, "Health check exceeded timeout (500ms)"));
        check(running("part\n", false, true), 137, (-1, "Health check exceeded timeout (500ms): part\n"));
    }
}
