//! Options of `run`, `create` and `exec`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::words::Words;
use super::{Error, check_name, one_name};

/// Options of `run` and `create`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Make {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) preserve_fds: u32,
    pub(crate) detach: bool,
    pub(crate) keep: bool,
    pub(crate) no_keyring: bool,
    pub(crate) no_pivot: bool,
}

/// Options of `exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Enter {
    pub(crate) make: Make,
    pub(crate) process: Option<PathBuf>,
    pub(crate) cwd: Option<String>,
    pub(crate) env: Vec<String>,
    pub(crate) user: String,
    pub(crate) groups: Vec<u32>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) tty: bool,
    pub(crate) no_new_privileges: bool,
    pub(crate) ignore_paused: bool,
    pub(crate) labels: Labels,
    pub(crate) args: Vec<String>,
}

/// What `exec` says of security modules and control groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    pub(crate) apparmor: Option<String>,
    pub(crate) selinux: Option<String>,
    /// Groups below the container's.
    pub(crate) cgroups: Vec<Subgroup>,
}

/// A group below the container's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subgroup {
    /// In the hierarchies of these controllers; empty for all.
    pub(crate) controllers: Vec<String>,
    /// Its path; empty for the container's own.
    pub(crate) path: String,
}

/// An option that the three share; false when it is none.
pub(super) fn shared(
    make: &mut Make,
    words: &mut Words<'_>,
    option: &str,
    given: Option<&OsString>,
) -> Result<bool, Error> {
    let value = given.cloned();
    match option {
        "--console-socket" => make.console_socket = Some(words.value(option, value)?.into()),
        "--pid-file" => make.pid_file = Some(words.value(option, value)?.into()),
        "--preserve-fds" => make.preserve_fds = words.number(option, value)?,
        "--detach" | "-d" => make.detach = Words::flag(option, given.map(OsString::as_os_str))?,
        // We never become anybody's reaper: the foreground waits for the first process alone.
        "--no-subreaper" => drop(Words::flag(option, given.map(OsString::as_os_str))?),
        _ => return Ok(false),
    }
    Ok(true)
}

pub(super) fn make(command: &'static str, mut words: Words<'_>) -> Result<Make, Error> {
    let mut make = Make { bundle: ".".into(), ..Make::default() };
    while let Some((option, given)) = words.next_option() {
        let flag = || Words::flag(&option, given.as_deref());
        match option.as_str() {
            "--bundle" | "-b" => make.bundle = words.value(&option, given)?.into(),
            "--no-new-keyring" => make.no_keyring = flag()?,
            "--no-pivot" => make.no_pivot = flag()?,
            "--keep" if command == "run" => make.keep = flag()?,
            "--detach" | "-d" | "--no-subreaper" if command == "create" => return words.unknown(&option),
            _ if shared(&mut make, &mut words, &option, given.as_ref())? => {}
            _ => return words.unknown(&option),
        }
    }
    make.id = one_name(command, &words.operands)?;
    Ok(make)
}

pub(super) fn enter(mut words: Words<'_>) -> Result<Enter, Error> {
    let mut enter = Enter::default();
    while let Some((option, given)) = words.next_option() {
        let flag = || Words::flag(&option, given.as_deref());
        match option.as_str() {
            "--process" | "-p" => enter.process = Some(words.value(&option, given)?.into()),
            "--cwd" => enter.cwd = Some(words.text(&option, given)?),
            "--env" | "-e" => enter.env.push(words.text(&option, given)?),
            "--user" | "-u" => enter.user = words.text(&option, given)?,
            "--additional-gids" | "-g" => enter.groups.push(words.number(&option, given)?),
            "--cap" | "-c" => enter.capabilities.push(words.text(&option, given)?),
            "--tty" | "-t" => enter.tty = flag()?,
            "--no-new-privs" => enter.no_new_privileges = flag()?,
            "--ignore-paused" => enter.ignore_paused = flag()?,
            "--apparmor" => enter.labels.apparmor = Some(words.text(&option, given)?),
            "--process-label" => enter.labels.selinux = Some(words.text(&option, given)?),
            "--cgroup" => add_cgroup(&mut enter.labels.cgroups, &words.text(&option, given)?)?,
            _ if shared(&mut enter.make, &mut words, &option, given.as_ref())? => {}
            _ => return words.unknown(&option),
        }
    }
    let mut operands = words.operands.into_iter();
    let id = operands.next().ok_or(Error::Operands { command: "exec", needs: "a container and a command" })?;
    enter.make.id = check_name(&id)?;
    enter.args = operands.collect();
    if enter.args.is_empty() == enter.process.is_none() {
        return Err(Error::Operands { command: "exec", needs: "either a command or --process" });
    }
    Ok(enter)
}

/// Reads `PATH` or `CONTROLLER,…:PATH`. No hierarchy may be named twice.
fn add_cgroup(all: &mut Vec<Subgroup>, text: &str) -> Result<(), Error> {
    let bad = || Error::Value("--cgroup".into());
    let (controllers, path) = text.split_once(':').unwrap_or(("", text));
    let path = path.trim_matches('/');
    if path.split('/').any(|part| part == "." || part == "..") || text.contains('\0') || path.contains(':') {
        return Err(bad());
    }
    let controllers: Vec<String> = controllers.split(',').filter(|_| text.contains(':')).map(str::to_owned).collect();
    let named = |name: &String| all.iter().any(|other| other.controllers.contains(name));
    let everywhere = controllers.is_empty() || all.iter().any(|other| other.controllers.is_empty());
    if controllers.iter().any(|name| name.is_empty() || named(name)) || (everywhere && !all.is_empty()) {
        return Err(bad());
    }
    all.push(Subgroup { controllers, path: path.to_owned() });
    Ok(())
}
