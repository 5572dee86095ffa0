//! `run` and `create`.
//!
//! A run in the foreground is coupled before it is started, and waited for before that, so that neither output nor the
//! exit of a program that ends at once is missed.

use std::io::Write;

use anyhow::{Context, Result, bail};
use atoll_api::docker::{CreateResponse, WaitResponse, start_failure_code};
use atoll_client::{Error, with_query};
use hyper::Method;

use super::{Daemon, images, say};
use crate::args::{CreateArgs, Pull, RunArgs};
use crate::request::{self, Streams};
use crate::session::{Coupling, Ended, Session, send_size};

/// `atoll create`.
pub(crate) async fn create(daemon: Daemon, args: CreateArgs) -> Result<u8> {
    let streams = request::streams(&args.program, false)?;
    say(define(&daemon, &args, streams).await?)?;
    Ok(0)
}

/// `atoll run`.
pub(crate) async fn run(daemon: Daemon, args: RunArgs) -> Result<u8> {
    let streams = request::streams(&args.create.program, args.detach)?;
    let id = define(&daemon, &args.create, streams).await?;
    if args.detach {
        start(&daemon, &id).await?;
        say(&id)?;
        return Ok(0);
    }
    let terminal = args.create.program.tty;
    let coupling = Coupling { terminal, stdin: streams.stdin, detach_keys: args.detach_keys };
    let mut session = begin(&daemon, &id, streams, coupling).await?;
    let condition = if args.create.rm { "removed" } else { "next-exit" };
    let wait = with_query(&format!("/containers/{id}/wait"), &[("condition", condition)]);
    let mut exit = daemon.stream(Method::POST, &wait).await?;
    if let Err(error) = start(&daemon, &id).await {
        if args.create.rm {
            // Docker removes what it could not start; the reason for that is the error that is told.
            drop(daemon.remove(&with_query(&format!("/containers/{id}"), &[("force", "1")])).await);
        }
        drop(session);
        return start_failed(error);
    }
    if terminal {
        send_size(&daemon, &format!("/containers/{id}/resize")).await;
        session.follow_size(&daemon, format!("/containers/{id}/resize"));
    } else if args.sig_proxy {
        session.pass_signals(&daemon, &id);
    }
    if session.ended().await? == Ended::Detached {
        return Ok(0);
    }
    let exit: WaitResponse = exit.line().await?.context("the daemon did not say how the container ended")?;
    Ok(code(exit.status_code))
}

/// Couples this terminal to a container.
pub(crate) async fn begin(daemon: &Daemon, id: &str, streams: Streams, coupling: Coupling) -> Result<Session> {
    let flag = |on| if on { "1" } else { "" };
    let path = with_query(
        &format!("/containers/{id}/attach"),
        &[
            ("stream", "1"),
            ("stdin", flag(streams.stdin)),
            ("stdout", flag(streams.stdout)),
            ("stderr", flag(streams.stderr)),
        ],
    );
    Session::begin(coupling, daemon.hijack(&path, &serde_json::json!({})).await?)
}

async fn start(daemon: &Daemon, id: &str) -> Result<(), Error> {
    daemon.order(&format!("/containers/{id}/start")).await.map(drop)
}

/// A program that is not there or cannot be executed has a shell's code.
#[allow(clippy::print_stderr, reason = "this error has an exit code of its own")]
fn start_failed(error: Error) -> Result<u8> {
    let code = start_failure_code(&error.to_string());
    eprintln!("atoll: {:#}", anyhow::Error::from(error));
    Ok(u8::try_from(code).unwrap_or(crate::FAILED))
}

/// Creates a container, getting its image first where that was asked for; its id.
async fn define(daemon: &Daemon, args: &CreateArgs, streams: Streams) -> Result<String> {
    let request = request::create(args, streams)?;
    if args.pull == Pull::Always {
        images::get(daemon, &request.image, args.platform.as_deref(), false).await?;
    }
    let path = with_query(
        "/containers/create",
        &[
            ("name", args.name.as_deref().unwrap_or_default()),
            ("platform", args.platform.as_deref().unwrap_or_default()),
        ],
    );
    let mut cid = args.cidfile.as_deref().map(open_new).transpose()?;
    let created = match daemon.post::<CreateResponse>(&path, &request).await {
        Err(Error::Refused { status: 404, message }) if args.pull == Pull::Missing && message.contains("image") => {
            missing(&request.image);
            images::get(daemon, &request.image, args.platform.as_deref(), false).await?;
            daemon.post::<CreateResponse>(&path, &request).await?
        }
        other => other?,
    };
    warn(&created.warnings);
    if let Some(file) = &mut cid {
        file.write_all(created.id.as_bytes()).context("--cidfile")?;
    }
    Ok(created.id)
}

fn open_new(path: &std::path::Path) -> Result<std::fs::File> {
    match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} exists: make sure that no other container is using it, or delete it", path.display())
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

#[allow(clippy::print_stderr, reason = "what happens is for people, results go to standard output")]
fn missing(image: &str) {
    eprintln!("Unable to find image '{image}' locally");
}

#[allow(clippy::print_stderr, reason = "warnings are for people, results go to standard output")]
fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("WARNING: {warning}");
    }
}

/// An exit status as this program's own.
pub(crate) fn code(status: i64) -> u8 {
    u8::try_from(status & 0xff).unwrap_or(crate::FAILED)
}
