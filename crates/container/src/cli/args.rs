//! Arguments to a call (pure). Options may stand before or after the container's name, `--name value` or `--name=value`.
//!
//! Written by hand since a runtime is started for every container: parsing costs microseconds.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Where the records are unless `--root` says otherwise.
const ROOT: &str = "/run/atoll-runtime";

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

/// Where failures are also written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) path: Option<PathBuf>,
    pub(super) json: bool,
}

/// Options before the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Global {
    pub(super) root: PathBuf,
    pub(super) log: Log,
}

/// Options of `run` and `create`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Make {
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) console_socket: Option<PathBuf>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) preserve_fds: u32,
    pub(super) detach: bool,
}

/// Options of `exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Enter {
    pub(super) make: Make,
    pub(super) process: Option<PathBuf>,
    pub(super) cwd: Option<String>,
    pub(super) env: Vec<String>,
    pub(super) user: String,
    pub(super) tty: bool,
    pub(super) args: Vec<String>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Run(Make),
    Create(Make),
    Start(String),
    State(String),
    Kill { id: String, signal: String, all: bool },
    Delete { id: String, force: bool },
    List { quiet: bool, json: bool },
    Exec(Enter),
    Ps { id: String, json: bool },
    Pause(String),
    Resume(String),
    Spec { bundle: PathBuf },
    Help,
    Version,
}

/// A whole command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) global: Global,
    pub(super) command: Command,
}

/// Arguments split into options and the rest. `stop` ends options at that many operands (for `exec`).
struct Words<'a> {
    command: String,
    words: std::slice::Iter<'a, OsString>,
    operands: Vec<String>,
    stop: usize,
}

impl Words<'_> {
    /// The next option with the value that follows its `=`, if any.
    fn next_option(&mut self) -> Option<(String, Option<OsString>)> {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        for word in self.words.by_ref() {
            let bytes = word.as_bytes();
            if self.operands.len() >= self.stop {
                self.operands.push(word.to_string_lossy().into_owned());
            } else if bytes == b"--" {
                self.stop = 0;
            } else if bytes.len() > 1 && bytes[0] == b'-' {
                return Some(match bytes.iter().position(|byte| *byte == b'=') {
                    Some(at) => (
                        String::from_utf8_lossy(&bytes[..at]).into_owned(),
                        Some(OsString::from_vec(bytes[at + 1..].to_vec())),
                    ),
                    None => (word.to_string_lossy().into_owned(), None),
                });
            } else {
                self.operands.push(word.to_string_lossy().into_owned());
            }
        }
        None
    }

    fn value(&mut self, option: &str, given: Option<OsString>) -> Result<OsString, Error> {
        given.or_else(|| self.words.next().cloned()).ok_or_else(|| Error::Value(option.to_owned()))
    }

    fn text(&mut self, option: &str, given: Option<OsString>) -> Result<String, Error> {
        self.value(option, given)?.into_string().map_err(|_| Error::Value(option.to_owned()))
    }

    fn unknown<T>(&self, option: &str) -> Result<T, Error> {
        if matches!(option, "--no-pivot" | "--systemd-cgroup" | "--no-new-keyring" | "--criu" | "--no-subreaper") {
            return Err(Error::Refused(option.to_owned()));
        }
        Err(Error::Option { command: self.command.clone(), option: option.to_owned() })
    }
}

/// The arguments after the program's name.
pub(super) fn parse(arguments: &[OsString]) -> Result<Call, Error> {
    let mut global = Global { root: ROOT.into(), log: Log::default() };
    let mut words =
        Words { command: "atoll-runtime".into(), words: arguments.iter(), operands: Vec::new(), stop: usize::MAX };
    let mut command = None;
    let mut rest = arguments.len();
    // Options of the program end at the command.
    for (index, word) in arguments.iter().enumerate() {
        let value_of = |name: &str| index > 0 && arguments[index - 1] == *OsStr::new(name);
        let is_value = ["--root", "--log", "--log-format", "--rootless"].iter().any(|name| value_of(name));
        if !is_value && !word.to_string_lossy().starts_with('-') {
            command = word.to_str();
            words.words = arguments[..index].iter();
            rest = index + 1;
            break;
        }
    }
    while let Some((option, given)) = words.next_option() {
        match option.as_str() {
            "--root" => global.root = words.value(&option, given)?.into(),
            "--log" => global.log.path = Some(words.value(&option, given)?.into()),
            "--log-format" => global.log.json = words.text(&option, given)? == "json",
            "--debug" => {}
            "--rootless" => match words.text(&option, given)?.as_str() {
                "false" | "auto" => {}
                _ => return Err(Error::Refused("--rootless".into())),
            },
            "--help" | "-h" => return Ok(Call { global, command: Command::Help }),
            "--version" | "-v" => return Ok(Call { global, command: Command::Version }),
            _ => return words.unknown(&option),
        }
    }
    let Some(name) = command else { return Ok(Call { global, command: Command::Help }) };
    let words = Words {
        command: name.to_owned(),
        words: arguments[rest.min(arguments.len())..].iter(),
        operands: Vec::new(),
        stop: if name == "exec" { 1 } else { usize::MAX },
    };
    Ok(Call { global, command: parse_command(name, words)? })
}

fn parse_command(name: &str, words: Words<'_>) -> Result<Command, Error> {
    Ok(match name {
        "run" => Command::Run(make("run", words)?),
        "create" => Command::Create(make("create", words)?),
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
        "exec" => Command::Exec(enter(words)?),
        "list" | "ps" => list(name, words)?,
        "spec" => spec(words)?,
        "help" => Command::Help,
        "checkpoint" | "restore" | "update" | "events" | "features" => return Err(Error::Refused(name.to_owned())),
        _ => return Err(Error::Command(name.to_owned())),
    })
}

/// A command with one name and flags only.
fn flags(command: &'static str, mut words: Words<'_>, known: &mut [(&str, &str, &mut bool)]) -> Result<String, Error> {
    while let Some((option, given)) = words.next_option() {
        match known.iter_mut().find(|(long, short, _)| option == *long || option == *short) {
            Some((.., flag)) if given.is_none() => **flag = true,
            _ => return words.unknown(&option),
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

/// An option that `run`, `create` and `exec` share; false when it is none.
fn shared(make: &mut Make, words: &mut Words<'_>, option: &str, given: Option<&OsString>) -> Result<bool, Error> {
    let given = given.cloned();
    match option {
        "--console-socket" => make.console_socket = Some(words.value(option, given)?.into()),
        "--pid-file" => make.pid_file = Some(words.value(option, given)?.into()),
        "--preserve-fds" => {
            make.preserve_fds = words.text(option, given)?.parse().map_err(|_| Error::Value(option.to_owned()))?;
        }
        "--detach" | "-d" => make.detach = true,
        _ => return Ok(false),
    }
    Ok(true)
}

fn make(command: &'static str, mut words: Words<'_>) -> Result<Make, Error> {
    let mut make = Make { bundle: ".".into(), ..Make::default() };
    while let Some((option, given)) = words.next_option() {
        match option.as_str() {
            "--bundle" | "-b" => make.bundle = words.value(&option, given)?.into(),
            "--detach" | "-d" if command == "create" => return words.unknown(&option),
            _ if shared(&mut make, &mut words, &option, given.as_ref())? => {}
            _ => return words.unknown(&option),
        }
    }
    make.id = one_name(command, &words.operands)?;
    Ok(make)
}

fn enter(mut words: Words<'_>) -> Result<Enter, Error> {
    let mut enter = Enter::default();
    while let Some((option, given)) = words.next_option() {
        match option.as_str() {
            "--process" | "-p" => enter.process = Some(words.value(&option, given)?.into()),
            "--cwd" => enter.cwd = Some(words.text(&option, given)?),
            "--env" | "-e" => enter.env.push(words.text(&option, given)?),
            "--user" | "-u" => enter.user = words.text(&option, given)?,
            "--tty" | "-t" => enter.tty = true,
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

fn list(name: &str, mut words: Words<'_>) -> Result<Command, Error> {
    let (mut quiet, mut json) = (false, false);
    while let Some((option, given)) = words.next_option() {
        match option.as_str() {
            "--quiet" | "-q" if name == "list" => quiet = true,
            "--format" | "-f" => json = words.text(&option, given)? == "json",
            _ => return words.unknown(&option),
        }
    }
    match (name, words.operands.as_slice()) {
        ("list", []) => Ok(Command::List { quiet, json }),
        ("list", _) => Err(Error::Operands { command: "list", needs: "no names" }),
        _ => Ok(Command::Ps { id: one_name("ps", &words.operands)?, json }),
    }
}

fn spec(mut words: Words<'_>) -> Result<Command, Error> {
    let mut bundle = PathBuf::from(".");
    while let Some((option, given)) = words.next_option() {
        match option.as_str() {
            "--bundle" | "-b" => bundle = words.value(&option, given)?.into(),
            "--rootless" => return Err(Error::Refused(option)),
            _ => return words.unknown(&option),
        }
    }
    if words.operands.is_empty() {
        Ok(Command::Spec { bundle })
    } else {
        Err(Error::Operands { command: "spec", needs: "no names" })
    }
}

/// What `--help` prints.
pub(super) const HELP: &str = "\
atoll-runtime: runs OCI bundles as containers, in place of runc

usage: atoll-runtime [--root DIR] [--log FILE] [--log-format text|json] COMMAND …

  run [-b BUNDLE] [-d] ID       create and start, wait and delete unless -d
  create [-b BUNDLE] ID         create; --pid-file FILE --console-socket SOCKET --preserve-fds N, also with run
  start ID                      start what was created
  exec [-t] [-d] [-u USER] [-e NAME=VALUE] [--cwd DIR] ID COMMAND …   or --process FILE
  kill [-a] ID [SIGNAL]         signal the first process, or all
  delete [-f] ID                remove what has ended; with -f kill it first
  state ID                      print its state as JSON
  list [-q] [-f table|json]     list containers
  ps [-f table|json] ID         list processes
  pause ID, resume ID           freeze, thaw
  spec [-b BUNDLE]              write a default config.json

examples:
  mkdir -p b/rootfs/bin && cp /bin/busybox b/rootfs/bin/sh
  atoll-runtime spec -b b && atoll-runtime run -b b demo
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Error> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(&words).map(|call| call.command)
    }

    #[track_caller]
    fn check(line: &str, expected: Command) {
        assert_eq!(parsed(line), Ok(expected), "{line}");
    }

    #[test]
    fn options_stand_anywhere() {
        let make = Make { id: "a".into(), bundle: "/b".into(), detach: true, ..Make::default() };
        for line in [
            "run -d -b /b a",
            "run a --bundle=/b --detach",
            "--root /r run -d a -b /b",
            "--root=/r --log run run -b /b -d a",
        ] {
            check(line, Command::Run(make.clone()));
        }
        check("kill a 9", Command::Kill { id: "a".into(), signal: "9".into(), all: false });
        check("kill --all a", Command::Kill { id: "a".into(), signal: "TERM".into(), all: true });
        check("delete a -f", Command::Delete { id: "a".into(), force: true });
        check("list --format json -q", Command::List { quiet: true, json: true });
        check("--help", Command::Help);
        check("", Command::Help);
    }

    #[test]
    fn exec_keeps_the_commands_own_options() {
        let Ok(Command::Exec(enter)) = parsed("exec -e A=1 --user web a ls -l --detach") else { panic!("no exec") };
        assert_eq!((enter.make.id.as_str(), enter.user.as_str()), ("a", "web"));
        assert_eq!(enter.args, ["ls", "-l", "--detach"]);
        assert!(!enter.make.detach);
        assert_eq!(enter.env, ["A=1"]);
    }

    #[test]
    fn what_is_refused() {
        for line in
            ["run --no-pivot a", "run --systemd-cgroup a", "--systemd-cgroup run a", "update a", "--rootless true list"]
        {
            assert!(matches!(parsed(line), Err(Error::Refused(_))), "{line}");
        }
        for line in ["run", "run a b", "exec a", "exec", "kill", "list a"] {
            assert!(matches!(parsed(line), Err(Error::Operands { .. })), "{line}");
        }
        for line in ["start ..", "run a/b", "run ä", "delete ."] {
            assert!(matches!(parsed(line), Err(Error::Name(_))), "{line}");
        }
        assert!(matches!(parsed("fly a"), Err(Error::Command(_))));
        assert!(matches!(parsed("start -x a"), Err(Error::Option { .. })));
        assert!(matches!(parsed("run a -b"), Err(Error::Value(_))));
    }
}
