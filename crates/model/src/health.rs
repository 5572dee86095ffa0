//! Health checks: what is run to learn whether a workload is well, and what its results come to, as pure functions.
//!
//! ```text
//!               a check succeeds                 as many in a row fail as `retries`
//!   Starting ─────────────────────► Healthy ◄──────────────────────────────► Unhealthy
//!      │                                       a check succeeds                  ▲
//!      └── as many fail, not counting those of the start period ─────────────────┘
//! ```
//!
//! The rules, defaults and limits are Docker's (moby, `daemon/health.go`): every `interval`, and during the start period every
//! `start_interval` until the first success.

use std::time::Duration;

use atoll_oci::config::Healthcheck;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Results that are kept.
const LOG_MAX: usize = 5;
/// The shortest time that a check may name, in nanoseconds.
const MILLISECOND: u64 = 1_000_000;

/// How to learn whether a workload is well. What is zero has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthCheck {
    /// What is run.
    pub probe: Probe,
    /// First words of a [`Probe::Shell`]'s command line; empty is `/bin/sh -c`.
    pub shell: Vec<String>,
    /// Between two checks.
    pub interval: Duration,
    /// Until a check is killed and counts as failed.
    pub timeout: Duration,
    /// From the start until failures count.
    pub start_period: Duration,
    /// Between two checks during the start period.
    pub start_interval: Duration,
    /// Failures in a row until it is unhealthy.
    pub retries: u32,
}

/// What is run to learn whether a workload is well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// What its image says; nothing, where that says nothing.
    #[default]
    Inherited,
    /// Nothing, whatever its image says.
    None,
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A command line for the shell, and words that it finds as `$0`, `$1` …
    Shell(Vec<String>),
}

/// A check that makes no sense, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHealthCheck {
    /// Less than a millisecond.
    #[error("{0} in Healthcheck cannot be less than 1ms")]
    Short(&'static str),
    /// Fewer failures than none.
    #[error("Retries in Healthcheck cannot be negative")]
    Retries,
    /// Neither `NONE`, `CMD` nor `CMD-SHELL`.
    #[error("Unknown healthcheck type '{0}' (expected 'CMD')")]
    Kind(String),
    /// No program.
    #[error("Test in Healthcheck names no command")]
    Empty,
}

/// How well a workload is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Nobody knows yet.
    #[default]
    Starting,
    /// Its last check succeeded, or too few have failed since.
    Healthy,
    /// Too many have failed, or it has ended.
    Unhealthy,
}

/// What its checks came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// How well it is.
    pub status: HealthStatus,
    /// Checks that failed since the last that succeeded.
    pub failing_streak: u32,
    /// The last checks, newest last.
    pub log: Vec<Checked>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its exit code; -1 when it could not be run, or not to its end.
    pub code: i32,
    /// The beginning of what it wrote.
    pub output: String,
}

impl HealthCheck {
    /// Bytes of a check's output that are kept.
    pub const OUTPUT_MAX: usize = 4096;
    const INTERVAL: Duration = Duration::from_secs(30);
    const TIMEOUT: Duration = Duration::from_secs(30);
    const START_INTERVAL: Duration = Duration::from_secs(5);
    const RETRIES: u32 = 3;

    /// Fills what is not said here from an image's check.
    #[must_use]
    pub fn or(self, image: Self) -> Self {
        if self.probe == Probe::None {
            return self;
        }
        let duration = |own: Duration, image: Duration| if own.is_zero() { image } else { own };
        Self {
            probe: if self.probe == Probe::Inherited { image.probe } else { self.probe },
            shell: if self.shell.is_empty() { image.shell } else { self.shell },
            interval: duration(self.interval, image.interval),
            timeout: duration(self.timeout, image.timeout),
            start_period: duration(self.start_period, image.start_period),
            start_interval: duration(self.start_interval, image.start_interval),
            retries: if self.retries == 0 { image.retries } else { self.retries },
        }
    }

    /// The command line that is run; none, when nothing is checked.
    #[must_use]
    pub fn args(&self) -> Option<Vec<String>> {
        match &self.probe {
            Probe::Inherited | Probe::None => None,
            Probe::Exec(args) => Some(args.clone()),
            Probe::Shell(words) => {
                let mut args = self.shell.clone();
                if args.is_empty() {
                    args = ["/bin/sh", "-c"].map(str::to_owned).into();
                }
                args.extend(words.iter().cloned());
                Some(args)
            }
        }
    }

    /// How long a check may take.
    #[must_use]
    pub fn patience(&self) -> Duration {
        or_default(self.timeout, Self::TIMEOUT)
    }

    /// How long after a check, or the start, the next begins, when the workload has run for so long.
    #[must_use]
    pub fn pause(&self, status: HealthStatus, ran: Duration) -> Duration {
        if ran < self.start_period && status == HealthStatus::Starting {
            or_default(self.start_interval, Self::START_INTERVAL)
        } else {
            or_default(self.interval, Self::INTERVAL)
        }
    }
}

impl TryFrom<&Healthcheck> for HealthCheck {
    type Error = InvalidHealthCheck;

    /// As Docker writes it: in image configurations and in its API alike.
    fn try_from(written: &Healthcheck) -> Result<Self, Self::Error> {
        let duration = |name: &'static str, nanoseconds: i64| match u64::try_from(nanoseconds) {
            Ok(0) => Ok(Duration::ZERO),
            Ok(nanoseconds) if nanoseconds >= MILLISECOND => Ok(Duration::from_nanos(nanoseconds)),
            _ => Err(InvalidHealthCheck::Short(name)),
        };
        if written.retries < 0 {
            return Err(InvalidHealthCheck::Retries);
        }
        Ok(Self {
            probe: probe(&written.test)?,
            shell: Vec::new(),
            interval: duration("Interval", written.interval)?,
            timeout: duration("Timeout", written.timeout)?,
            start_period: duration("StartPeriod", written.start_period)?,
            start_interval: duration("StartInterval", written.start_interval)?,
            retries: u32::try_from(written.retries).unwrap_or(u32::MAX),
        })
    }
}

fn probe(test: &[String]) -> Result<Probe, InvalidHealthCheck> {
    let Some((kind, words)) = test.split_first() else { return Ok(Probe::Inherited) };
    match kind.as_str() {
        "NONE" => Ok(Probe::None),
        "CMD" | "CMD-SHELL" if words.is_empty() => Err(InvalidHealthCheck::Empty),
        "CMD" => Ok(Probe::Exec(words.to_vec())),
        "CMD-SHELL" => Ok(Probe::Shell(words.to_vec())),
        other => Err(InvalidHealthCheck::Kind(other.to_owned())),
    }
}

impl From<&HealthCheck> for Healthcheck {
    fn from(check: &HealthCheck) -> Self {
        let test = |kind: &str, words: &[String]| [&[kind.to_owned()][..], words].concat();
        let nanoseconds = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        Self {
            test: match &check.probe {
                Probe::Inherited => Vec::new(),
                Probe::None => test("NONE", &[]),
                Probe::Exec(words) => test("CMD", words),
                Probe::Shell(words) => test("CMD-SHELL", words),
            },
            interval: nanoseconds(check.interval),
            timeout: nanoseconds(check.timeout),
            start_period: nanoseconds(check.start_period),
            start_interval: nanoseconds(check.start_interval),
            retries: check.retries.into(),
        }
    }
}

fn or_default(value: Duration, default: Duration) -> Duration {
    if value.is_zero() { default } else { value }
}

impl Health {
    /// At the start of a further run: nobody knows, but what the last checks said is still told.
    #[must_use]
    pub fn begin_again(self) -> Self {
        Self { status: HealthStatus::Starting, failing_streak: 0, log: self.log }
    }

    /// Takes the result of a check that began after the workload had run for so long.
    pub fn take(&mut self, checked: Checked, check: &HealthCheck, ran: Duration) {
        let failed = checked.code != 0;
        self.log.push(checked);
        if self.log.len() > LOG_MAX {
            self.log.remove(0);
        }
        if !failed {
            (self.status, self.failing_streak) = (HealthStatus::Healthy, 0);
            return;
        }
        if self.status == HealthStatus::Starting && ran < check.start_period {
            return;
        }
        self.failing_streak = self.failing_streak.saturating_add(1);
        let retries = if check.retries == 0 { HealthCheck::RETRIES } else { check.retries };
        if self.failing_streak >= retries {
            self.status = HealthStatus::Unhealthy;
        }
    }
}

impl HealthStatus {
    /// As the API has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks of a workload that has run for a second more each time: `+` succeeds, `-` fails. What comes of each: `s`, `h`
    /// or `u`, and the failing streak.
    fn check(results: &str, retries: u32, start_period_s: u64, expected: &str) {
        let start_period = Duration::from_secs(start_period_s);
        let plan = HealthCheck { retries, start_period, ..HealthCheck::default() };
        let mut health = Health::default();
        let mut seen = Vec::new();
        for (ran, result) in (1..).zip(results.chars()) {
            let at = Timestamp(ran);
            let checked = Checked { start: at, end: at, code: i32::from(result != '+'), output: String::new() };
            health.take(checked, &plan, Duration::from_secs(ran.unsigned_abs()));
            let letter = health.status.name().chars().next().expect("a letter");
            seen.push(format!("{letter}{}", health.failing_streak));
        }
        assert_eq!(seen.join(" "), expected, "{results} {retries} {start_period_s}");
        assert!(health.log.len() <= LOG_MAX);
        assert_eq!(health.log.last().map(|last| last.end.0), i64::try_from(results.len()).ok());
    }

    #[test]
    fn results_come_to_a_state() {
        check("+", 0, 0, "h0");
        check("---", 0, 0, "s1 s2 u3");
        check("--+--+---+", 3, 0, "s1 s2 h0 h1 h2 h0 h1 h2 u3 h0");
        check("-", 1, 0, "u1");
        // In the start period failures do not count; after the first success they do.
        check("-----", 2, 3, "s0 s0 s1 u2 u3");
        check("-+--", 2, 100, "s0 h0 h1 u2");
    }

    #[test]
    fn when_the_next_check_is() {
        let plan = HealthCheck {
            interval: Duration::from_secs(7),
            start_period: Duration::from_secs(10),
            start_interval: Duration::from_secs(1),
            ..HealthCheck::default()
        };
        let pause = |plan: &HealthCheck, status, ran| plan.pause(status, Duration::from_secs(ran)).as_secs();
        assert_eq!(pause(&plan, HealthStatus::Starting, 0), 1);
        assert_eq!(pause(&plan, HealthStatus::Starting, 10), 7);
        assert_eq!(pause(&plan, HealthStatus::Healthy, 0), 7);
        assert_eq!(pause(&HealthCheck::default(), HealthStatus::Starting, 0), 30);
        let slow = HealthCheck { start_period: Duration::from_secs(60), ..HealthCheck::default() };
        assert_eq!(pause(&slow, HealthStatus::Starting, 0), 5);
    }

    #[test]
    fn gaps_are_filled_from_the_image() {
        let image = HealthCheck {
            probe: Probe::Shell(vec!["ok".to_owned()]),
            shell: vec!["/bin/ash".to_owned(), "-ec".to_owned()],
            interval: Duration::from_secs(9),
            retries: 5,
            ..HealthCheck::default()
        };
        let own = HealthCheck { interval: Duration::from_secs(2), ..HealthCheck::default() }.or(image.clone());
        assert_eq!((own.interval.as_secs(), own.retries), (2, 5));
        assert_eq!(own.args(), Some(["/bin/ash", "-ec", "ok"].map(str::to_owned).into()));
        let none = HealthCheck { probe: Probe::None, ..HealthCheck::default() };
        assert_eq!(none.clone().or(image.clone()), none);
        assert_eq!(none.args(), None);
        let exec = HealthCheck { probe: Probe::Exec(vec!["a".to_owned()]), ..HealthCheck::default() }.or(image);
        assert_eq!(exec.args(), Some(vec!["a".to_owned()]));
        let shell = HealthCheck { probe: Probe::Shell(vec!["x".to_owned()]), ..HealthCheck::default() };
        assert_eq!(shell.args(), Some(["/bin/sh", "-c", "x"].map(str::to_owned).into()));
    }

    #[test]
    fn checks_are_read_and_written_as_docker_has_them() {
        let read = |text: &str| {
            let written: Healthcheck = serde_json::from_str(text).expect("JSON");
            HealthCheck::try_from(&written).map(|check| (Healthcheck::from(&check) == written, check.args()))
        };
        let words = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(read("{}"), Ok((true, None)));
        assert_eq!(read(r#"{"Test":["NONE"]}"#), Ok((true, None)));
        assert_eq!(
            read(r#"{"Test":["CMD","a","b c"],"Interval":1000000,"Retries":2}"#),
            Ok((true, words(&["a", "b c"])))
        );
        assert_eq!(read(r#"{"Test":["CMD-SHELL","a b"],"Timeout":1}"#), Err(InvalidHealthCheck::Short("Timeout")));
        assert_eq!(read(r#"{"StartPeriod":-1}"#), Err(InvalidHealthCheck::Short("StartPeriod")));
        assert_eq!(read(r#"{"Retries":-1}"#), Err(InvalidHealthCheck::Retries));
        assert_eq!(read(r#"{"Test":["CMD"]}"#), Err(InvalidHealthCheck::Empty));
        assert_eq!(read(r#"{"Test":["FOO","a"]}"#), Err(InvalidHealthCheck::Kind("FOO".to_owned())));
    }

    #[test]
    fn a_further_run_begins_anew_and_keeps_the_log() {
        let checked = Checked { start: Timestamp(1), end: Timestamp(2), code: 1, output: "no".to_owned() };
        let bad = Health { status: HealthStatus::Unhealthy, failing_streak: 4, log: vec![checked.clone()] };
        let expected = Health { status: HealthStatus::Starting, failing_streak: 0, log: vec![checked] };
        assert_eq!(bad.begin_again(), expected);
    }
}
