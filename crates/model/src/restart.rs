//! Restart policies: whether a workload that ended is started again, and when, as a pure function.
//!
//! Docker's rules: the first restart comes after 100 ms, each further one after twice the time of the one before, up to a
//! minute; a run of ten seconds begins anew. `on-unhealthy` is ours: as `on-failure`, and a workload that becomes unhealthy is
//! ended and started again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When a workload that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// When it failed: ended with another exit code than 0.
    OnFailure {
        /// So many times; 0 is without end.
        max: u32,
    },
    /// When it failed, and when it was ended because it had become unhealthy.
    OnUnhealthy {
        /// So many times; 0 is without end.
        max: u32,
    },
    /// Whenever it ended, and when its host has come up.
    Always,
    /// The same, but not when its host has come up after somebody had stopped it.
    UnlessStopped,
}

/// What was before: how often it was started again, and how long the last pause was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Restarts since somebody started it.
    pub restarts: u32,
    /// The pause before the last of them; zero is none.
    pub pause: Duration,
}

/// The end of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunEnd {
    /// Its exit code.
    pub code: i32,
    /// How long it was.
    pub ran: Duration,
    /// Whether somebody had asked for it.
    pub asked: bool,
    /// Whether it was ended because the workload had become unhealthy.
    pub unhealthy: bool,
}

/// What follows from the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is started again.
    Again {
        /// After this pause.
        after: Duration,
        /// What was before the next verdict.
        history: History,
    },
    /// It has ended.
    Over,
}

impl Restart {
    /// The first pause.
    pub const PAUSE_MIN: Duration = Duration::from_millis(100);
    /// The longest pause.
    pub const PAUSE_MAX: Duration = Duration::from_secs(60);
    /// A run as long as this was a good one: the next pause is the first again.
    pub const GOOD_RUN: Duration = Duration::from_secs(10);

    /// What follows from the end of a run.
    #[must_use]
    pub fn judge(self, history: &History, end: &RunEnd) -> Verdict {
        let left = |max: u32| max == 0 || history.restarts < max;
        let again = match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => true,
            Self::OnFailure { max } => end.code != 0 && left(max),
            Self::OnUnhealthy { max } => (end.code != 0 || end.unhealthy) && left(max),
        };
        if !again || end.asked {
            return Verdict::Over;
        }
        let before = if end.ran >= Self::GOOD_RUN { Duration::ZERO } else { history.pause };
        let after = if before.is_zero() { Self::PAUSE_MIN } else { (before * 2).min(Self::PAUSE_MAX) };
        Verdict::Again { after, history: History { restarts: history.restarts.saturating_add(1), pause: after } }
    }

    /// Whether it is started when its host has come up: it ended with `code` then or before, `asked`: because somebody
    /// wanted that.
    #[must_use]
    pub fn at_boot(self, code: i32, restarts: u32, asked: bool) -> bool {
        let left = |max: u32| max == 0 || restarts < max;
        match self {
            Self::No => false,
            Self::Always => true,
            Self::UnlessStopped => !asked,
            Self::OnFailure { max } | Self::OnUnhealthy { max } => !asked && code != 0 && left(max),
        }
    }

    /// Whether there is a policy at all.
    #[must_use]
    pub const fn is_set(self) -> bool {
        !matches!(self, Self::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: RunEnd = RunEnd { code: 3, ran: Duration::ZERO, asked: false, unhealthy: false };
    const WELL: RunEnd = RunEnd { code: 0, ..FAILED };
    const STOPPED: RunEnd = RunEnd { asked: true, ..FAILED };
    const UNHEALTHY: RunEnd = RunEnd { unhealthy: true, ..WELL };

    #[test]
    fn who_is_started_again() {
        use Restart::{Always, No, OnFailure, OnUnhealthy, UnlessStopped};
        let check = |policy: Restart, restarts: u32, end: RunEnd, expected: bool| {
            let verdict = policy.judge(&History { restarts, ..History::default() }, &end);
            assert_eq!(matches!(verdict, Verdict::Again { .. }), expected, "{policy:?} after {restarts}, {end:?}");
        };
        check(No, 0, FAILED, false);
        check(Always, 0, FAILED, true);
        check(Always, 99, WELL, true);
        check(Always, 0, STOPPED, false);
        check(UnlessStopped, 0, WELL, true);
        check(UnlessStopped, 0, STOPPED, false);
        check(OnFailure { max: 0 }, 1000, FAILED, true);
        check(OnFailure { max: 0 }, 0, WELL, false);
        check(OnFailure { max: 2 }, 1, FAILED, true);
        check(OnFailure { max: 2 }, 2, FAILED, false);
        check(OnFailure { max: 2 }, 0, STOPPED, false);
        check(OnFailure { max: 0 }, 0, UNHEALTHY, false);
        check(OnUnhealthy { max: 0 }, 0, UNHEALTHY, true);
        check(OnUnhealthy { max: 0 }, 0, FAILED, true);
        check(OnUnhealthy { max: 0 }, 0, WELL, false);
        check(OnUnhealthy { max: 1 }, 1, UNHEALTHY, false);
    }

    #[test]
    fn pauses_grow_to_a_minute_and_begin_anew_after_a_good_run() {
        let mut history = History::default();
        let mut pause = |ran: u64| {
            let end = RunEnd { ran: Duration::from_secs(ran), ..FAILED };
            let Verdict::Again { after, history: next } = Restart::Always.judge(&history, &end) else {
                panic!("always is always")
            };
            history = next;
            after.as_millis()
        };
        let pauses: Vec<_> = (0..11).map(|_| pause(1)).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000]);
        assert_eq!([pause(9), pause(10), pause(0), pause(600)], [60_000, 100, 200, 100]);
        assert_eq!(history.restarts, 15);
    }

    #[test]
    fn who_is_started_at_boot() {
        let check = |policy: Restart, code: i32, asked: bool, expected: bool| {
            assert_eq!(policy.at_boot(code, 1, asked), expected, "{policy:?} {code} {asked}");
        };
        check(Restart::No, 1, false, false);
        check(Restart::Always, 0, true, true);
        check(Restart::UnlessStopped, 0, false, true);
        check(Restart::UnlessStopped, 137, true, false);
        check(Restart::OnFailure { max: 0 }, 0, false, false);
        check(Restart::OnFailure { max: 0 }, 137, false, true);
        check(Restart::OnFailure { max: 0 }, 137, true, false);
        check(Restart::OnFailure { max: 1 }, 137, false, false);
        check(Restart::OnUnhealthy { max: 2 }, 1, false, true);
    }

    #[test]
    fn records_of_earlier_versions_are_read() {
        assert_eq!(serde_json::from_str::<Restart>("\"no\"").expect("as version 1 wrote it"), Restart::No);
    }
}
