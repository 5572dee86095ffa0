//! `run` and `create`.
//!
//! [`follow`] is what `start` and `attach` use too.

use std::io::Write;

use anyhow::{Context, Result, bail};
use atoll_api::docker::{CreateRequest, CreateResponse, WaitResponse, start_failure_code};
use atoll_client::{Error, with_query};
use atoll_oci::Reference;
use hyper::Method;

use super::{Daemon, images, say};
use crate::args::{CreateArgs, Pull, RunArgs};
use crate::request::{self, Streams};
use crate::session::{Coupling, Ended, Session, send_size};

/// How the daemon begins to say that an image is not here.
const NO_IMAGE: &str = "No such image";

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
    let coupling = Coupling { terminal: args.create.program.tty, stdin: streams.stdin, detach_keys: args.detach_keys };
    let condition = if args.create.life.rm { "removed" } else { "next-exit" };
    let followed = Followed { id: &id, streams, coupling, condition, pass_signals: args.sig_proxy };
    let started = if args.detach {
        start(&daemon, &id).await.map(|()| 0)
    } else {
        follow(&daemon, followed, async || start(&daemon, &id).await).await?
    };
    match started {
        Ok(code) if args.detach => say(&id).map(|()| code),
        Ok(code) => Ok(code),
        Err(error) => {
            if args.create.life.rm {
                // Docker removes what it could not start; the reason for that is the error that is told.
                drop(daemon.remove(&with_query(&format!("/containers/{id}"), &[("force", "1")])).await);
            }
            start_failed(error)
        }
    }
}

/// A container whose run is followed from this terminal.
pub(crate) struct Followed<'a> {
    pub(crate) id: &'a str,
    pub(crate) streams: Streams,
    pub(crate) coupling: Coupling,
    /// What counts as its end, as the API's `wait` names it.
    pub(crate) condition: &'a str,
    /// Whether signals of ours are passed on where it has no terminal.
    pub(crate) pass_signals: bool,
}

/// Couples this terminal to a container, lets it start, and follows it to its end: its exit code, or why it did not start.
///
/// Waiting begins first and the start comes last, so that neither output nor the exit of a program that ends at once is
/// missed.
pub(crate) async fn follow(
    daemon: &Daemon,
    followed: Followed<'_>,
    start: impl AsyncFnOnce() -> Result<(), Error>,
) -> Result<Result<u8, Error>> {
    let Followed { id, streams, coupling, condition, pass_signals } = followed;
    let terminal = coupling.terminal;
    let wait = with_query(&format!("/containers/{id}/wait"), &[("condition", condition)]);
    let mut exit = daemon.stream(Method::POST, &wait).await?;
    let mut session = begin(daemon, id, streams, coupling).await?;
    if let Err(error) = start().await {
        return Ok(Err(error));
    }
    if terminal {
        let path = format!("/containers/{id}/resize");
        send_size(daemon, &path).await;
        session.follow_size(daemon, path);
    } else if pass_signals {
        session.pass_signals(daemon, id);
    }
    if session.ended().await? == Ended::Detached {
        return Ok(Ok(0));
    }
    let exit: WaitResponse = exit.line().await?.context("the daemon did not say how the container ended")?;
    Ok(Ok(code(exit.status_code)))
}

/// Couples this terminal to a container.
async fn begin(daemon: &Daemon, id: &str, streams: Streams, coupling: Coupling) -> Result<Session> {
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
    if args.source.pull == Pull::Always {
        images::get(daemon, &request.image, args.source.platform.as_deref(), args.source.quiet).await?;
    }
    let path = with_query(
        "/containers/create",
        &[
            ("name", args.name.as_deref().unwrap_or_default()),
            ("platform", args.source.platform.as_deref().unwrap_or_default()),
        ],
    );
    let cid = args.cidfile.as_deref().map(|path| open_new(path).map(|file| (path, file))).transpose()?;
    let created = create_or_pull(daemon, args, &path, &request).await;
    if let (Some((path, _)), Err(_)) = (&cid, &created) {
        // An empty file would stand in the way of the next try.
        drop(std::fs::remove_file(path));
    }
    let created = created?;
    warn(&created.warnings);
    if let Some((_, mut file)) = cid {
        file.write_all(created.id.as_bytes()).context("--cidfile")?;
    }
    Ok(created.id)
}

async fn create_or_pull(
    daemon: &Daemon,
    args: &CreateArgs,
    path: &str,
    request: &CreateRequest,
) -> Result<CreateResponse> {
    match daemon.post::<CreateResponse>(path, request).await {
        Err(Error::Refused { status: 404, message })
            if args.source.pull == Pull::Missing && message.starts_with(NO_IMAGE) =>
        {
            missing(&request.image);
            images::get(daemon, &request.image, args.source.platform.as_deref(), args.source.quiet).await?;
            Ok(daemon.post::<CreateResponse>(path, request).await?)
        }
        other => Ok(other?),
    }
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
    let name = image.parse::<Reference>().map_or_else(|_| image.to_owned(), |reference| reference.familiar());
    eprintln!("Unable to find image '{name}' locally");
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
