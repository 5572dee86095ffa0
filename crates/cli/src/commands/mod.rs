//! What each command does: a request or a few, and what is printed of the answers.

mod containers;
mod exec;
mod images;
mod lists;
mod logs;
mod run;
mod system;
mod volumes;

use std::sync::Arc;

use anyhow::Result;
use atoll_client::Client;
use clap::CommandFactory;

use crate::args::{Cli, Command, ContainerCommand, ImageCommand, SystemCommand};
use crate::{ERROR, FAILED, connect};

/// What every command gets.
pub(crate) type Daemon = Arc<Client>;

/// The exit code of a command when Atoll itself fails: 125 where a program's own code is expected.
pub(crate) fn failure_code(command: &Command) -> u8 {
    match command {
        Command::Run(_) | Command::Create(_) | Command::Exec(_) => FAILED,
        Command::Container(ContainerCommand::Run(_) | ContainerCommand::Create(_) | ContainerCommand::Exec(_)) => {
            FAILED
        }
        _ => ERROR,
    }
}

/// Runs a command; the exit code of this program.
pub(crate) async fn run(cli: Cli) -> Result<u8> {
    let daemon = || connect::client(&cli.global).map(Arc::new);
    match cli.command {
        Command::Run(args) => run::run(daemon()?, args).await,
        Command::Create(args) => run::create(daemon()?, args).await,
        Command::Start(args) => containers::start(daemon()?, args).await,
        Command::Stop(args) => containers::stop(daemon()?, args, "stop").await,
        Command::Restart(args) => containers::stop(daemon()?, args, "restart").await,
        Command::Kill(args) => containers::kill(daemon()?, args).await,
        Command::Rm(args) => containers::remove(daemon()?, args).await,
        Command::Wait(args) => containers::wait(daemon()?, args).await,
        Command::Rename(args) => containers::rename(daemon()?, args).await,
        Command::Pause(args) => containers::each(daemon()?, args, "pause").await,
        Command::Unpause(args) => containers::each(daemon()?, args, "unpause").await,
        Command::Ps(args) => lists::containers(daemon()?, args).await,
        Command::Inspect(args) => lists::inspect(daemon()?, args, None).await,
        Command::Logs(args) => logs::logs(daemon()?, args).await,
        Command::Events(args) => system::events(daemon()?, args).await,
        Command::Exec(args) => exec::exec(daemon()?, args).await,
        Command::Attach(args) => containers::attach(daemon()?, args).await,
        Command::Container(command) => container(daemon()?, command).await,
        Command::Image(command) => image(daemon()?, command).await,
        Command::Images(args) => lists::images(daemon()?, args).await,
        Command::Pull(args) => images::pull(daemon()?, args).await,
        Command::Load(args) => images::load(daemon()?, args).await,
        Command::Tag(args) => images::tag(daemon()?, args).await,
        Command::Rmi(args) => images::remove(daemon()?, args).await,
        Command::History(args) => lists::history(daemon()?, args).await,
        Command::Volume(command) => volumes::volume(daemon()?, command).await,
        Command::System(SystemCommand::Info(args)) | Command::Info(args) => system::info(daemon()?, args).await,
        Command::System(SystemCommand::Df(args)) => system::disk_usage(daemon()?, args).await,
        Command::System(SystemCommand::Events(args)) => system::events(daemon()?, args).await,
        Command::Version(args) => system::version(daemon()?, args).await,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "atoll", &mut std::io::stdout());
            Ok(0)
        }
    }
}

async fn container(daemon: Daemon, command: ContainerCommand) -> Result<u8> {
    match command {
        ContainerCommand::Run(args) => run::run(daemon, args).await,
        ContainerCommand::Create(args) => run::create(daemon, args).await,
        ContainerCommand::Start(args) => containers::start(daemon, args).await,
        ContainerCommand::Stop(args) => containers::stop(daemon, args, "stop").await,
        ContainerCommand::Restart(args) => containers::stop(daemon, args, "restart").await,
        ContainerCommand::Kill(args) => containers::kill(daemon, args).await,
        ContainerCommand::Rm(args) => containers::remove(daemon, args).await,
        ContainerCommand::Wait(args) => containers::wait(daemon, args).await,
        ContainerCommand::Rename(args) => containers::rename(daemon, args).await,
        ContainerCommand::Pause(args) => containers::each(daemon, args, "pause").await,
        ContainerCommand::Unpause(args) => containers::each(daemon, args, "unpause").await,
        ContainerCommand::Ls(args) => lists::containers(daemon, args).await,
        ContainerCommand::Inspect(args) => lists::inspect(daemon, args, Some("container")).await,
        ContainerCommand::Logs(args) => logs::logs(daemon, args).await,
        ContainerCommand::Exec(args) => exec::exec(daemon, args).await,
        ContainerCommand::Attach(args) => containers::attach(daemon, args).await,
    }
}

async fn image(daemon: Daemon, command: ImageCommand) -> Result<u8> {
    match command {
        ImageCommand::Bootstrap(args) => images::bootstrap(daemon, args).await,
        ImageCommand::Ls(args) => lists::images(daemon, args).await,
        ImageCommand::Pull(args) => images::pull(daemon, args).await,
        ImageCommand::Load(args) => images::load(daemon, args).await,
        ImageCommand::Tag(args) => images::tag(daemon, args).await,
        ImageCommand::Rm(args) => images::remove(daemon, args).await,
        ImageCommand::Inspect(args) => lists::inspect(daemon, args, Some("image")).await,
        ImageCommand::History(args) => lists::history(daemon, args).await,
    }
}

/// Prints a line of a result.
fn say(line: impl std::fmt::Display) -> Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

/// Prints what went wrong with one of several things, and goes on.
#[allow(clippy::print_stderr, reason = "errors of single things among several are told as they happen")]
fn complain(error: &anyhow::Error) {
    eprintln!("atoll: {error:#}");
}
