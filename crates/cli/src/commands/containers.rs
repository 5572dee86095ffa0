//! Commands on containers that exist.

use anyhow::{Result, bail};
use atoll_api::docker::{ContainerInspect, WaitResponse};
use atoll_client::{Error, escape, with_query};

use super::run::{Followed, follow};
use super::{Daemon, complain, say};
use crate::args::{AttachArgs, KillArgs, RemoveArgs, RenameArgs, StartArgs, StopArgs, TargetsArgs};
use crate::request::Streams;
use crate::session::Coupling;

fn path(name: &str, action: &str) -> String {
    format!("/containers/{}/{action}", escape(name))
}

/// Does something to each of several containers; those that fail are named, the others done.
async fn for_each(names: &[String], mut act: impl AsyncFnMut(&str) -> Result<()>) -> Result<u8> {
    let mut failed = 0;
    for name in names {
        match act(name).await {
            Ok(()) => say(name)?,
            Err(error) => {
                complain(&error);
                failed = crate::ERROR;
            }
        }
    }
    Ok(failed)
}

/// An order that has no flags.
pub(crate) async fn each(daemon: Daemon, args: TargetsArgs, action: &str) -> Result<u8> {
    for_each(&args.containers, async |name| {
        daemon.order(&path(name, action)).await?;
        Ok(())
    })
    .await
}

/// `start`.
pub(crate) async fn start(daemon: Daemon, args: StartArgs) -> Result<u8> {
    if !args.attach && !args.interactive {
        return each(daemon, args.targets, "start").await;
    }
    let [name] = args.targets.containers.as_slice() else {
        bail!("only one container can be attached to: name one");
    };
    let inspect: ContainerInspect = daemon.get(&path(name, "json")).await?;
    let id = inspect.id;
    let streams = Streams { stdin: args.interactive && inspect.config.open_stdin, stdout: true, stderr: true };
    let coupling = Coupling { terminal: inspect.config.tty, stdin: streams.stdin, detach_keys: args.detach_keys };
    let followed = Followed { id: &id, streams, coupling, condition: "next-exit", pass_signals: true };
    let start = async || daemon.order(&path(&id, "start")).await.map(drop);
    Ok(follow(&daemon, followed, start).await??)
}

/// `stop` and `restart`.
pub(crate) async fn stop(daemon: Daemon, args: StopArgs, action: &str) -> Result<u8> {
    let time = args.time.map(|seconds| seconds.to_string()).unwrap_or_default();
    let query = [("t", time.as_str()), ("signal", args.signal.as_deref().unwrap_or_default())];
    for_each(&args.targets.containers, async |name| {
        daemon.order(&with_query(&path(name, action), &query)).await?;
        Ok(())
    })
    .await
}

/// `kill`.
pub(crate) async fn kill(daemon: Daemon, args: KillArgs) -> Result<u8> {
    for_each(&args.targets.containers, async |name| {
        daemon.order(&with_query(&path(name, "kill"), &[("signal", &args.signal)])).await?;
        Ok(())
    })
    .await
}

/// `rm`.
pub(crate) async fn remove(daemon: Daemon, args: RemoveArgs) -> Result<u8> {
    let flag = |on| if on { "1" } else { "" };
    let query = [("force", flag(args.force)), ("v", flag(args.volumes))];
    for_each(&args.targets.containers, async |name| {
        match daemon.remove(&with_query(&format!("/containers/{}", escape(name)), &query)).await {
            Err(Error::Refused { status: 404, .. }) if args.force => Ok(()),
            other => Ok(other?),
        }
    })
    .await
}

/// `rename`.
pub(crate) async fn rename(daemon: Daemon, args: RenameArgs) -> Result<u8> {
    daemon.order(&with_query(&path(&args.container, "rename"), &[("name", &args.name)])).await?;
    Ok(0)
}

/// `wait`.
pub(crate) async fn wait(daemon: Daemon, args: TargetsArgs) -> Result<u8> {
    let mut failed = 0;
    for name in &args.containers {
        match daemon.post::<WaitResponse>(&path(name, "wait"), &serde_json::json!({})).await {
            Ok(response) => say(response.status_code)?,
            Err(error) => {
                complain(&error.into());
                failed = crate::ERROR;
            }
        }
    }
    Ok(failed)
}

/// `attach`.
pub(crate) async fn attach(daemon: Daemon, args: AttachArgs) -> Result<u8> {
    let inspect: ContainerInspect = daemon.get(&path(&args.container, "json")).await?;
    if !inspect.state.running {
        bail!("You cannot attach to a stopped container, start it first");
    }
    if inspect.state.paused {
        bail!("You cannot attach to a paused container, unpause it first");
    }
    let id = inspect.id;
    let streams = Streams { stdin: !args.no_stdin && inspect.config.open_stdin, stdout: true, stderr: true };
    let coupling = Coupling { terminal: inspect.config.tty, stdin: streams.stdin, detach_keys: args.detach_keys };
    let followed = Followed { id: &id, streams, coupling, condition: "next-exit", pass_signals: args.sig_proxy };
    Ok(follow(&daemon, followed, async || Ok(())).await??)
}
