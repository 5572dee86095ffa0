//! `atoll system doctor`: what this host lacks, what is left over on it, and what to do about either.
//!
//! [`host::Host`] is read once; each check of [`checks::CHECKS`] is a pure function of it. What is left over the engine knows,
//! where one is open; without, only what can be seen from outside is told. Nothing is changed.

mod checks;
mod host;

use std::io::Write;

use anyhow::Result;
use atoll_api::atoll::{Finding, Level};
use atoll_api::docker::size;
use atoll_engine::{Engine, Leftover, Settings, live_processes};

use checks::{CHECKS, Verdict};
use host::Host;

/// Bytes of unfinished transfers below which nobody wants to hear of them.
const TRANSFERS_MIN: u64 = 1 << 20;

/// What an open engine finds.
pub(crate) async fn examine(engine: &Engine) -> Result<Vec<Finding>, atoll_engine::Error> {
    let settings = engine.settings().clone();
    let read = tokio::task::spawn_blocking(move || of_host(&Host::read(&settings)));
    let leftovers = engine.leftovers().await?;
    let transfers = engine.rest_usage().await?.transfers;
    let mut findings = read.await.unwrap_or_default();
    findings.push(Verdict::fine("the daemon answers").of("daemon"));
    if !engine.has_control_groups() {
        let found = "none are delegated to this user: its containers run without limits and cannot be paused";
        let advice = "start the daemon as a service of the user's systemd, on a host with control groups of version 2";
        findings.push(Verdict::warning(found, advice).of("control groups"));
    }
    if transfers > TRANSFERS_MIN {
        let found = format!("{} of transfers are on their way, or broke off", size(transfers));
        let advice = "pull the same again, which goes on from there; what nobody comes back for goes after a day";
        findings.push(Verdict::note(found, advice).of("leftovers"));
    }
    findings.extend(of_leftovers(leftovers));
    Ok(findings)
}

/// Prints, as JSON, what can be found without a daemon.
pub(crate) fn print(settings: &Settings) -> Result<()> {
    let mut findings = of_host(&Host::read(settings));
    findings.push(without_daemon(live_processes(&settings.run).map_or(0, |live| live.len())).of("daemon"));
    let mut out = std::io::stdout();
    serde_json::to_writer(&mut out, &findings)?;
    out.flush()?;
    Ok(())
}

fn without_daemon(live: usize) -> Verdict {
    let advice = "what is left over only a daemon knows: start one, such as by `atoll info`, and ask again";
    match live {
        0 => Verdict::note("no daemon runs here", advice),
        live => Verdict::note(
            format!("no daemon runs here; {live} containers run without one, and the next takes them over"),
            advice,
        ),
    }
}

fn of_host(host: &Host) -> Vec<Finding> {
    CHECKS.iter().flat_map(|(name, check)| check(host).into_iter().map(|verdict| verdict.of(name))).collect()
}

fn of_leftovers(leftovers: Vec<Leftover>) -> Vec<Finding> {
    if leftovers.is_empty() {
        return vec![Verdict::fine("nothing is left over").of("leftovers")];
    }
    let finding = |one: Leftover| Finding {
        check: "leftovers".to_owned(),
        level: if one.may_be_anothers { Level::Note } else { Level::Warning },
        found: one.what,
        advice: one.advice,
    };
    leftovers.into_iter().map(finding).collect()
}
