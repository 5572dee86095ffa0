//! `system doctor`: asks the daemon, or where none answers the daemon's program, and starts nothing.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use atoll_api::atoll::{Finding, Level};
use atoll_client::Error;

use super::say;
use crate::args::{DoctorArgs, Global};
use crate::connect;

/// `system doctor`; the exit code is 0 where nothing is wrong, 1 where there are warnings, 2 where there are problems.
pub(crate) async fn examine(global: &Global, args: DoctorArgs) -> Result<u8> {
    let (client, launch) = connect::idle_client(global)?;
    let findings = match (client.get("/atoll/v1/system/doctor").await, launch) {
        (Ok(findings), _) => findings,
        (Err(Error::Unreachable { .. }), Some(launch)) => without_daemon(&launch).await?,
        (Err(error), _) => return Err(error.into()),
    };
    if args.json {
        say(serde_json::to_string_pretty(&findings)?)?;
    } else {
        show(&findings)?;
    }
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(match worst {
        Some(Level::Problem) => 2,
        Some(Level::Warning) => 1,
        _ => 0,
    })
}

async fn without_daemon(launch: &atoll_client::Launch) -> Result<Vec<Finding>> {
    let program = launch.program.display();
    let mut command = tokio::process::Command::new(&launch.program);
    command.args(&launch.arguments).arg("doctor").stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().await.with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        bail!("{program} doctor failed ({})", output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("understanding what {program} found"))
}

fn show(findings: &[Finding]) -> Result<()> {
    for Finding { check, level, found, advice } in findings {
        say(format!("{:<8} {check}: {found}", level.name()))?;
        if !advice.is_empty() {
            say(format!("{:8} → {advice}", ""))?;
        }
    }
    let count = |wanted: Level| findings.iter().filter(|finding| finding.level == wanted).count();
    say(format!(
        "\n{} problems, {} warnings, {} notes",
        count(Level::Problem),
        count(Level::Warning),
        count(Level::Note)
    ))
}
