//! What each command does: a request or a few, and what is printed of the answers.

mod archives;
mod containers;
mod copy;
mod disk;
mod doctor;
mod exec;
mod images;
mod lists;
mod logs;
mod offline;
mod registry;
mod run;
mod system;
mod usage;
mod volumes;

use std::sync::Arc;

use anyhow::Result;
use atoll_client::Client;
use clap::CommandFactory;

use crate::args::{Cli, Command, ContainerCommand, ContainerVerb, ImageCommand, ImageVerb, SystemCommand, SystemVerb};
use crate::{ERROR, FAILED, connect};

/// What every command gets.
pub(crate) type Daemon = Arc<Client>;

/// The exit code of a command when Atoll itself fails: 125 where a program's own code is expected.
pub(crate) fn failure_code(command: &Command) -> u8 {
    let verb = match command {
        Command::Container(verb) | Command::ContainerNoun(ContainerCommand::Verb(verb)) => verb,
        // Its own codes say what it found.
        Command::SystemNoun(SystemCommand::Doctor(_)) => return FAILED,
        _ => return ERROR,
    };
    match verb {
        ContainerVerb::Run(_) | ContainerVerb::Create(_) | ContainerVerb::Exec(_) => FAILED,
        _ => ERROR,
    }
}

/// Runs a command; the exit code of this program.
pub(crate) async fn run(cli: Cli) -> Result<u8> {
    let daemon = || connect::client(&cli.global).map(Arc::new);
    match cli.command {
        Command::Container(verb) => container(daemon()?, verb).await,
        Command::Ps(args) => lists::containers(daemon()?, args).await,
        Command::Inspect(args) => lists::inspect(daemon()?, args, None).await,
        Command::ContainerNoun(command) => match command {
            ContainerCommand::Verb(verb) => container(daemon()?, verb).await,
            ContainerCommand::Ls(args) => lists::containers(daemon()?, args).await,
            ContainerCommand::Inspect(args) => lists::inspect(daemon()?, args, Some("container")).await,
        },
        Command::Image(verb) => image(daemon()?, verb).await,
        Command::Images(args) => lists::images(daemon()?, args).await,
        Command::Rmi(args) => images::remove(daemon()?, args).await,
        Command::Login(args) => registry::login(daemon()?, args).await,
        Command::Logout(args) => registry::logout(args).await,
        Command::ImageNoun(command) => match command {
            ImageCommand::Verb(verb) => image(daemon()?, verb).await,
            ImageCommand::Bootstrap(args) => images::bootstrap(daemon()?, args).await,
            ImageCommand::Ls(args) => lists::images(daemon()?, args).await,
            ImageCommand::Rm(args) => images::remove(daemon()?, args).await,
            ImageCommand::Prune(args) => images::prune(daemon()?, args).await,
            ImageCommand::Inspect(args) => lists::inspect(daemon()?, args, Some("image")).await,
        },
        Command::Volume(command) => volumes::volume(daemon()?, command).await,
        Command::System(verb) => system(daemon()?, verb).await,
        Command::SystemNoun(command) => match command {
            SystemCommand::Verb(verb) => system(daemon()?, verb).await,
            SystemCommand::Df(args) => disk::usage(daemon()?, args).await,
            SystemCommand::Prune(args) => disk::prune(daemon()?, args).await,
            SystemCommand::Reset(args) => offline::reset(&cli.global, &args),
            SystemCommand::Fsck(args) => offline::fsck(&cli.global, &args),
            SystemCommand::Doctor(args) => doctor::examine(&cli.global, args).await,
            SystemCommand::DialStdio => system::dial_stdio(daemon()?).await,
        },
        Command::Version(args) => system::version(daemon()?, args).await,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "atoll", &mut std::io::stdout());
            Ok(0)
        }
    }
}

async fn container(daemon: Daemon, verb: ContainerVerb) -> Result<u8> {
    match verb {
        ContainerVerb::Run(args) => run::run(daemon, args).await,
        ContainerVerb::Create(args) => run::create(daemon, args).await,
        ContainerVerb::Start(args) => containers::start(daemon, args).await,
        ContainerVerb::Stop(args) => containers::stop(daemon, args, "stop").await,
        ContainerVerb::Restart(args) => containers::stop(daemon, args, "restart").await,
        ContainerVerb::Kill(args) => containers::kill(daemon, args).await,
        ContainerVerb::Rm(args) => containers::remove(daemon, args).await,
        ContainerVerb::Wait(args) => containers::wait(daemon, args).await,
        ContainerVerb::Rename(args) => containers::rename(daemon, args).await,
        ContainerVerb::Pause(args) => containers::each(daemon, args, "pause").await,
        ContainerVerb::Unpause(args) => containers::each(daemon, args, "unpause").await,
        ContainerVerb::Logs(args) => logs::logs(daemon, args).await,
        ContainerVerb::Exec(args) => exec::exec(daemon, args).await,
        ContainerVerb::Attach(args) => containers::attach(daemon, args).await,
        ContainerVerb::Stats(args) => usage::stats(daemon, args).await,
        ContainerVerb::Top(args) => usage::top(daemon, args).await,
        ContainerVerb::Update(args) => usage::update(daemon, args).await,
        ContainerVerb::Cp(args) => copy::copy(daemon, args).await,
        ContainerVerb::Diff(args) => archives::diff(daemon, args).await,
        ContainerVerb::Export(args) => archives::export(daemon, args).await,
        ContainerVerb::Commit(args) => archives::commit(daemon, args).await,
    }
}

async fn image(daemon: Daemon, verb: ImageVerb) -> Result<u8> {
    match verb {
        ImageVerb::Pull(args) => images::pull(daemon, args).await,
        ImageVerb::Push(args) => registry::push(daemon, args).await,
        ImageVerb::Load(args) => images::load(daemon, args).await,
        ImageVerb::Save(args) => archives::save(daemon, args).await,
        ImageVerb::Import(args) => archives::import(daemon, args).await,
        ImageVerb::Tag(args) => images::tag(daemon, args).await,
        ImageVerb::History(args) => lists::history(daemon, args).await,
    }
}

async fn system(daemon: Daemon, verb: SystemVerb) -> Result<u8> {
    match verb {
        SystemVerb::Info(args) => system::info(daemon, args).await,
        SystemVerb::Events(args) => system::events(daemon, args).await,
    }
}

/// Prints a line of a result.
fn say(line: impl std::fmt::Display) -> Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

/// Prints what somebody should know although nothing went wrong.
#[allow(clippy::print_stderr, reason = "warnings are for people, results go to standard output")]
fn warn(text: &str) {
    eprintln!("atoll: warning: {text}");
}

/// Prints what went wrong with one of several things, and goes on.
#[allow(clippy::print_stderr, reason = "errors of single things among several are told as they happen")]
fn complain(error: &anyhow::Error) {
    eprintln!("atoll: {error:#}");
}
