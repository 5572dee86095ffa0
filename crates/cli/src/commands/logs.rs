//! `logs`.

use std::io::Write;

use anyhow::{Context, Result};
use atoll_api::docker::{ContainerInspect, FrameDecoder, STDERR};
use atoll_client::{escape, with_query};
use hyper::Method;

use super::Daemon;
use crate::args::LogsArgs;

/// `atoll logs`.
pub(crate) async fn logs(daemon: Daemon, args: LogsArgs) -> Result<u8> {
    let name = escape(&args.container);
    let inspect: ContainerInspect = daemon.get(&format!("/containers/{name}/json")).await?;
    let flag = |on| if on { "1" } else { "" };
    let query = [
        ("stdout", "1"),
        ("stderr", "1"),
        ("follow", flag(args.follow)),
        ("timestamps", flag(args.timestamps)),
        ("details", flag(args.details)),
        ("tail", args.tail.as_str()),
        ("since", &time(args.since.as_deref())?),
        ("until", &time(args.until.as_deref())?),
    ];
    let mut answer = daemon.stream(Method::GET, &with_query(&format!("/containers/{name}/logs"), &query)).await?;
    let mut frames = FrameDecoder::default();
    while let Some(bytes) = answer.chunk().await? {
        if inspect.config.tty {
            std::io::stdout().write_all(&bytes)?;
            std::io::stdout().flush()?;
            continue;
        }
        let mut failed = None;
        frames.feed(&bytes, |stream, bytes| {
            let result = if stream == STDERR {
                std::io::stderr().write_all(bytes)
            } else {
                std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush())
            };
            failed = failed.take().or(result.err());
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
    Ok(0)
}

/// A time as the API has it, from one as people write it: RFC 3339, seconds since 1970, or an age such as `1h30m`.
pub(crate) fn time(text: Option<&str>) -> Result<String> {
    let Some(text) = text else { return Ok(String::new()) };
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number || text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(text.to_owned());
    }
    let age: jiff::SignedDuration = text
        .parse()
        .with_context(|| format!("{text:?} is no time: write 2026-01-31T12:00:00Z, seconds, or an age such as 10m"))?;
    let at = jiff::Timestamp::now().checked_sub(age).context("that is too long ago")?;
    Ok(format!("{}.{:09}", at.as_second(), at.subsec_nanosecond()))
}
