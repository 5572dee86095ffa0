//! Arguments to a call (pure). Options may stand before or after the container's name, `--name value` or `--name=value`.
//!
//! Written by hand since a runtime is started for every container: parsing costs microseconds.

mod checkpoint;
mod process;
#[cfg(test)]
mod tests;
mod update;
mod words;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::log::Log;
pub(super) use checkpoint::Checkpoint;
pub(super) use process::{Enter, Make};
pub(super) use update::Update;
use words::Words;

use crate::{GroupKeeper, GroupPolicy};

/// A command line that cannot be carried out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Error {
    /// No such command.
    #[error("unknown command {0:?}: see atoll-runtime --help")]
    Command(String),
    /// No such option.
    #[error("{command} has no option {option}: see atoll-runtime --help")]
    Option { command: String, option: String },
    /// The option is runc's, but not done here.
    #[error("option {0} is not supported")]
    Refused(String),
    /// The option has no value, or one that is none.
    #[error("option {0} needs a value")]
    Value(String),
    /// Too few or too many names.
    #[error("{command} needs {needs}")]
    Operands { command: &'static str, needs: &'static str },
    /// Not a name.
    #[error("container name {0:?} is not made of letters, digits, _, +, - and . (at most 1024)")]
    Name(String),
}

/// Options before the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Global {
    /// Where the records are; the default depends on who calls.
    pub(super) root: Option<PathBuf>,
    pub(super) log: Log,
    /// How what is made gets its control groups.
    pub(super) groups: GroupPolicy,
    /// The program that makes checkpoints.
    pub(super) criu: PathBuf,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    Run(Make),
    Create(Make),
    Start(String),
    State(String),
    Kill { id: String, signal: String, all: bool },
    Delete { id: String, force: bool },
    List { quiet: bool, json: bool },
    Exec(Box<Enter>),
    Ps { id: String, json: bool, options: Vec<String> },
    Checkpoint(Box<Checkpoint>),
    Restore(Box<Checkpoint>),
    Pause(String),
    Resume(String),
    Update(Box<Update>),
    Events { id: String, interval: u64, once: bool },
    Features,
    Spec { bundle: PathBuf, rootless: bool },
    Help,
    Version,
}

/// A whole command line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) global: Global,
    /// The command's word.
    pub(super) name: String,
    pub(super) command: Command,
}

/// Options of the program that take a value.
const GLOBAL_VALUES: [&str; 5] = ["--root", "--log", "--log-format", "--rootless", "--criu"];

/// The arguments after the program's name.
pub(super) fn parse(arguments: &[OsString]) -> Result<Call, Error> {
    let mut global = Global { root: None, log: Log::default(), groups: GroupPolicy::default(), criu: "criu".into() };
    // Options of the program end at the command.
    let is_value =
        |index: usize| index > 0 && GLOBAL_VALUES.iter().any(|name| arguments[index - 1] == *OsStr::new(name));
    let at = (0..arguments.len())
        .find(|index| !is_value(*index) && !arguments[*index].to_string_lossy().starts_with('-'))
        .unwrap_or(arguments.len());
    let mut words = Words::new("atoll-runtime", &arguments[..at], usize::MAX);
    while let Some((option, given)) = words.next_option() {
        match option.as_str() {
            "--root" => global.root = Some(words.value(&option, given)?.into()),
            "--log" => global.log.path = Some(words.value(&option, given)?.into()),
            "--log-format" => {
                global.log.json = match words.text(&option, given)?.as_str() {
                    "json" => true,
                    "text" => false,
                    _ => return Err(Error::Value(option)),
                };
            }
            "--systemd-cgroup" => {
                let by_systemd = Words::flag(&option, given.as_deref())?;
                global.groups.keeper = if by_systemd { GroupKeeper::Systemd } else { GroupKeeper::Files };
            }
            "--debug" => global.log.debug = Words::flag(&option, given.as_deref())?,
            "--criu" => global.criu = words.value(&option, given)?.into(),
            "--rootless" => {
                global.groups.optional = match words.text(&option, given)?.as_str() {
                    "true" => Some(true),
                    "false" => Some(false),
                    "auto" => None,
                    _ => return Err(Error::Value(option)),
                };
            }
            "--help" | "-h" => return Ok(Call { global, name: option, command: Command::Help }),
            "--version" | "-v" => return Ok(Call { global, name: option, command: Command::Version }),
            _ => return words.unknown(&option),
        }
    }
    let Some((name, rest)) = arguments[at..].split_first() else {
        return Ok(Call { global, name: "help".into(), command: Command::Help });
    };
    let name = name.to_string_lossy().into_owned();
    let words = Words::new(&name, rest, if matches!(&*name, "exec" | "ps") { 1 } else { usize::MAX });
    Ok(Call { command: parse_command(&name, words)?, global, name })
}

fn parse_command(name: &str, words: Words<'_>) -> Result<Command, Error> {
    Ok(match name {
        "run" => Command::Run(process::make("run", words)?),
        "create" => Command::Create(process::make("create", words)?),
        "start" => Command::Start(flags("start", words, &mut [])?),
        "state" => Command::State(flags("state", words, &mut [])?),
        "pause" => Command::Pause(flags("pause", words, &mut [])?),
        "resume" => Command::Resume(flags("resume", words, &mut [])?),
        "kill" => kill(words)?,
        "delete" => {
            let mut force = false;
            let id = flags("delete", words, &mut [("--force", "-f", &mut force)])?;
            Command::Delete { id, force }
        }
        "exec" => Command::Exec(Box::new(process::enter(words)?)),
        "list" => list(words)?,
        "ps" => ps(words)?,
        "update" => Command::Update(Box::new(update::update(words)?)),
        "events" => events(words)?,
        "features" => none("features", words, Command::Features)?,
        "spec" => spec(words)?,
        "help" => Command::Help,
        "checkpoint" => Command::Checkpoint(Box::new(checkpoint::checkpoint("checkpoint", words)?)),
        "restore" => Command::Restore(Box::new(checkpoint::checkpoint("restore", words)?)),
        _ => return Err(Error::Command(name.to_owned())),
    })
}

/// A command with one name and flags only.
fn flags(command: &'static str, mut words: Words<'_>, known: &mut [(&str, &str, &mut bool)]) -> Result<String, Error> {
    while let Some((option, given)) = words.next_option() {
        match known.iter_mut().find(|(long, short, _)| option == *long || option == *short) {
            Some((.., flag)) => **flag = Words::flag(&option, given.as_deref())?,
            None => return words.unknown(&option),
        }
    }
    one_name(command, &words.operands)
}

fn one_name(command: &'static str, operands: &[String]) -> Result<String, Error> {
    match operands {
        [id] => check_name(id),
        _ => Err(Error::Operands { command, needs: "the name of one container" }),
    }
}

fn check_name(id: &str) -> Result<String, Error> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 1024 || id == "." || id == ".." || !id.chars().all(good) {
        return Err(Error::Name(id.to_owned()));
    }
    Ok(id.to_owned())
}

fn kill(mut words: Words<'_>) -> Result<Command, Error> {
    let mut all = false;
    while let Some((option, _)) = words.next_option() {
        match option.as_str() {
            "--all" | "-a" => all = true,
            _ => return words.unknown(&option),
        }
    }
    match words.operands.as_slice() {
        [id] => Ok(Command::Kill { id: check_name(id)?, signal: "TERM".into(), all }),
        [id, signal] => Ok(Command::Kill { id: check_name(id)?, signal: signal.clone(), all }),
        _ => Err(Error::Operands { command: "kill", needs: "a container and perhaps a signal" }),
    }
}

fn is_json(words: &mut Words<'_>, option: &str, given: Option<OsString>) -> Result<bool, Error> {
    match words.text(option, given)?.as_str() {
        "json" => Ok(true),
        "table" => Ok(false),
        _ => Err(Error::Value(option.to_owned())),
    }
}

fn none(command: &'static str, mut words: Words<'_>, parsed: Command) -> Result<Command, Error> {
    match words.next_option() {
        Some((option, _)) => words.unknown(&option),
        None if words.operands.is_empty() => Ok(parsed),
        None => Err(Error::Operands { command, needs: "no names" }),
    }
}

fn list(mut words: Words<'_>) -> Result<Command, Error> {
    let (mut quiet, mut json) = (false, false);
    while let Some((option, given)) = words.next_option() {
        match option.as_str() {
            "--quiet" | "-q" => quiet = Words::flag(&option, given.as_deref())?,
            "--format" | "-f" => json = is_json(&mut words, &option, given)?,
            _ => return words.unknown(&option),
        }
    }
    none("list", words, Command::List { quiet, json })
}

fn ps(mut words: Words<'_>) -> Result<Command, Error> {
    let mut json = false;
    while let Some((option, given)) = words.next_option() {
        match option.as_str() {
            "--format" | "-f" => json = is_json(&mut words, &option, given)?,
            _ => return words.unknown(&option),
        }
    }
    let mut operands = words.operands.into_iter();
    let id = operands.next().ok_or(Error::Operands { command: "ps", needs: "the name of one container" })?;
    Ok(Command::Ps { id: check_name(&id)?, json, options: operands.collect() })
}

fn events(mut words: Words<'_>) -> Result<Command, Error> {
    let (mut interval, mut once) = (5, false);
    while let Some((option, given)) = words.next_option() {
        match option.as_str() {
            "--stats" => once = Words::flag(&option, given.as_deref())?,
            "--interval" => {
                let text = words.text(&option, given)?;
                let seconds = text.strip_suffix('s').unwrap_or(&text).parse().ok().filter(|seconds| *seconds > 0);
                interval = seconds.ok_or(Error::Value(option))?;
            }
            _ => return words.unknown(&option),
        }
    }
    Ok(Command::Events { id: one_name("events", &words.operands)?, interval, once })
}

fn spec(mut words: Words<'_>) -> Result<Command, Error> {
    let (mut bundle, mut rootless) = (PathBuf::from("."), false);
    while let Some((option, given)) = words.next_option() {
        match option.as_str() {
            "--bundle" | "-b" => bundle = words.value(&option, given)?.into(),
            "--rootless" => rootless = Words::flag(&option, given.as_deref())?,
            _ => return words.unknown(&option),
        }
    }
    none("spec", words, Command::Spec { bundle, rootless })
}

/// What `--help` prints.
pub(super) const HELP: &str = "\
atoll-runtime: runs OCI bundles as containers, in place of runc

usage: atoll-runtime [--root DIR] [--log FILE] [--log-format text|json] [--systemd-cgroup] COMMAND …

  run [-b BUNDLE] [-d] [--keep] ID   create and start, wait and delete unless -d
  create [-b BUNDLE] ID              create; --pid-file FILE --console-socket SOCKET --preserve-fds N
                                     --no-new-keyring --no-pivot, also with run
  start ID                           start what was created
  exec [-t] [-d] [-u USER] [-g GROUP] [-e NAME=VALUE] [-c CAP] [--cwd DIR] [--cgroup [CONTROLLER,…:]PATH] [--no-new-privs]
       [--ignore-paused] [--apparmor PROFILE] [--process-label LABEL] ID COMMAND …   or --process FILE
  kill [-a] ID [SIGNAL]              signal the first process, or all
  delete [-f] ID                     remove what has ended; with -f kill it first
  state ID                           print its state as JSON
  list [-q] [-f table|json]          list containers
  ps [-f table|json] ID [OPTIONS]    list processes, by ps(1) with these options
  checkpoint [--image-path DIR] [--leave-running] ID   freeze into files by criu (--criu PROGRAM before the command)
  restore [--image-path DIR] [-b BUNDLE] [-d] ID       bring back; with both --work-path DIR --tcp-established
       --ext-unix-sk --shell-job --file-locks --auto-dedup --empty-ns network
       --manage-cgroups-mode soft|full|strict|ignore
  pause ID, resume ID                freeze, thaw
  update [-r FILE|-] [--memory BYTES] [--cpu-quota N] [--pids-limit N] … ID   change limits
  events [--stats] [--interval 5s] ID   print usage and out-of-memory events as JSON
  features                           print what this runtime can do, as JSON
  spec [-b BUNDLE] [--rootless]      write a default config.json

examples:
  mkdir -p b/rootfs/bin && cp /bin/busybox b/rootfs/bin/sh
  atoll-runtime spec -b b && atoll-runtime run -b b demo
";
