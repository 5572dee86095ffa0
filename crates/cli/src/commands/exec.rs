//! `exec`.

use anyhow::{Context, Result};
use atoll_api::docker::{ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecStartRequest};
use atoll_client::escape;

use super::{Daemon, run};
use crate::args::ExecArgs;
use crate::request::environment;
use crate::session::{Coupling, Ended, Session};
use crate::terminal;

/// `atoll exec`.
pub(crate) async fn exec(daemon: Daemon, args: ExecArgs) -> Result<u8> {
    let (container, command) = args.words.split_first().context("name a container")?;
    let request = ExecCreateRequest {
        user: args.user.unwrap_or_default(),
        privileged: args.privileged,
        tty: args.tty,
        attach_stdin: args.interactive && !args.detach,
        attach_stdout: !args.detach,
        attach_stderr: !args.detach,
        env: environment(&args.env, &args.env_file)?,
        working_dir: args.workdir.unwrap_or_default(),
        cmd: command.to_vec(),
        ..ExecCreateRequest::default()
    };
    let created: ExecCreateResponse = daemon.post(&format!("/containers/{}/exec", escape(container)), &request).await?;
    let id = created.id;
    let start = ExecStartRequest {
        detach: args.detach,
        tty: args.tty,
        console_size: terminal::size().filter(|_| args.tty).map(|(rows, columns)| [rows, columns]),
    };
    let path = format!("/exec/{id}/start");
    if args.detach {
        let mut answer = daemon.stream_json(&path, &start).await?;
        while answer.chunk().await?.is_some() {}
        return Ok(0);
    }
    let coupling = Coupling { terminal: args.tty, stdin: args.interactive, detach_keys: args.detach_keys };
    let mut session = Session::begin(coupling, daemon.hijack(&path, &start).await?)?;
    if args.tty {
        session.follow_size(&daemon, format!("/exec/{id}/resize"));
    }
    if session.ended().await? == Ended::Detached {
        return Ok(0);
    }
    let inspect: ExecInspect = daemon.get(&format!("/exec/{id}/json")).await?;
    Ok(run::code(i64::from(inspect.exit_code.unwrap_or(0))))
}
