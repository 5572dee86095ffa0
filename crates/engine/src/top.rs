//! The processes of a workload, as the host's ps(1) shows them, or in columns of our own where there is none.
//!
//! As with Docker the caller's arguments are words for `ps`, whose answer must have a column PID; processes of others are left
//! out by that. What `ps` writes is text that the workload's processes have a say in: only whole lines are looked at.

use std::collections::HashSet;
use std::io;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use atoll_model::Refused;
use tokio::process::Command;

use crate::{Engine, Error};

/// The arguments of those who give none.
const DEFAULT: &str = "-ef";
/// Where `ps` is looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest arguments, in bytes.
const ARGUMENTS_MAX: usize = 4096;
/// Clock ticks in a second, on all machines that we run on.
const TICKS: u64 = 100;
const DAY: u64 = 24 * 60 * 60;

/// Processes as a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// Names of the columns.
    pub titles: Vec<String>,
    /// A row for each process.
    pub rows: Vec<Vec<String>>,
}

impl Engine {
    /// The processes of a workload; `arguments` are those of `ps`.
    ///
    /// # Errors
    /// When it does not run, or `ps` does not do what it was asked for.
    pub async fn top(&self, name: &str, arguments: &str) -> Result<Processes, Error> {
        let arguments = if arguments.is_empty() { DEFAULT } else { arguments };
        check(arguments)?;
        let entry = self.find(name)?;
        let handle = match entry.running() {
            Ok(handle) => handle,
            Err(error @ Error::Refused { reason: Refused::Restarting, .. }) => return Err(error),
            Err(_) => return Err(Error::InUse(format!("Container {} is not running", entry.id))),
        };
        let pids = handle.processes().await?;
        let words: Vec<&str> = arguments.split(' ').filter(|word| !word.is_empty()).collect();
        let only = format!("-q{}", pids.iter().map(i32::to_string).collect::<Vec<_>>().join(","));
        // Some options do not go with a choice of processes: they are chosen from all then.
        let said = match run(&[words.as_slice(), &[only.as_str()]].concat()).await? {
            Some(Err(_)) => run(&words).await?,
            other => other,
        };
        match said {
            Some(Ok(text)) => table(&text, &pids.into_iter().collect()),
            Some(Err(why)) => Err(Error::Invalid(format!("ps: {why}"))),
            None if arguments == DEFAULT => Ok(own(&pids)),
            None => Err(Error::Unsupported("ps is not installed on this host: leave its arguments out".to_owned())),
        }
    }
}

/// A column may be called anything but another's name: what is called PID must be one.
fn check(arguments: &str) -> Result<(), Error> {
    if arguments.len() > ARGUMENTS_MAX || arguments.contains('\0') {
        return Err(Error::Invalid("the arguments of ps are too long".to_owned()));
    }
    for (before, after) in arguments.match_indices('=').map(|(at, _)| (&arguments[..at], &arguments[at + 1..])) {
        let column =
            before.rsplit(|letter: char| letter.is_ascii_whitespace() || letter == ',').next().unwrap_or_default();
        let title = after.trim_start();
        if title.starts_with("PID") && column != "pid" {
            let title = title.split_ascii_whitespace().next().unwrap_or_default();
            return Err(Error::Invalid(format!("specifying \"{column}={title}\" is not allowed")));
        }
    }
    Ok(())
}

/// What `ps` writes, or why it fails; none where it is not installed.
async fn run(words: &[&str]) -> Result<Option<Result<String, String>>, Error> {
    let child =
        Command::new("ps").args(words).env_clear().env("PATH", PATH).stdin(Stdio::null()).kill_on_drop(true).output();
    let failed = Error::host("running ps");
    let output = match tokio::time::timeout(PATIENCE, child).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(Err(error)) => return Err(failed(error)),
        Err(_) => return Err(failed(io::ErrorKind::TimedOut.into())),
    };
    if output.status.success() {
        return Ok(Some(Ok(String::from_utf8_lossy(&output.stdout).into_owned())));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed");
    Ok(Some(Err(line.trim().to_owned())))
}

/// The rows of these processes. The last column takes the rest of its line.
fn table(text: &str, pids: &HashSet<i32>) -> Result<Processes, Error> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines.next().unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
    let Some(at) = titles.iter().position(|title| title == "PID") else {
        return Err(Error::Invalid("Couldn't find PID field in ps output".to_owned()));
    };
    let mut rows = Vec::new();
    // Lines of threads have a dash for their process's number and follow it.
    let mut within = false;
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let chosen = match fields.get(at) {
            Some(&"-") => within,
            Some(number) => match number.parse() {
                Ok(pid) => pids.contains(&pid),
                Err(_) => return Err(Error::Invalid(format!("Unexpected pid '{number}' in ps output"))),
            },
            None => false,
        };
        within = chosen;
        if chosen {
            let (own, rest) = fields.split_at(titles.len().saturating_sub(1).min(fields.len()));
            let mut row: Vec<String> = own.iter().map(|&field| field.to_owned()).collect();
            row.push(rest.join(" "));
            rows.push(row);
        }
    }
    Ok(Processes { titles, rows })
}

/// The columns of `ps -ef`, with numbers for users and times in UTC. A process that ended meanwhile is left out.
fn own(pids: &[i32]) -> Processes {
    let titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime: u64 = uptime.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    let rows = pids.iter().filter_map(|pid| row(*pid, uptime)).collect();
    Processes { titles: titles.map(str::to_owned).to_vec(), rows }
}

fn row(pid: i32, uptime: u64) -> Option<Vec<String>> {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
    let text = |file: &str| read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (stat, status) = (text("stat")?, text("status")?);
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().next())?.to_owned();
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 of proc_pid_stat(5) is the first here.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let used = (number(14)? + number(15)?) / TICKS;
    let age = uptime.saturating_sub(number(22)? / TICKS);
    let line = read("cmdline")?;
    let words = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
    let share = (used * 100).checked_div(age).unwrap_or(0).min(99);
    let time = format!("{:02}:{:02}:{:02}", used / 3600, used / 60 % 60, used % 60);
    let command = if words.is_empty() { format!("[{name}]") } else { words };
    let parent = (*fields.get(1)?).to_owned();
    Some(vec![user, pid.to_string(), parent, share.to_string(), started(age), terminal(number(7)?), time, command])
}

/// The hour for what is younger than a day, else the age in days.
fn started(age: u64) -> String {
    if age >= DAY {
        return format!("{}d", age / DAY);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let at = now.saturating_sub(age) % DAY;
    format!("{:02}:{:02}", at / 3600, at / 60 % 60)
}

/// The name of a terminal by its device number (proc_pid_stat(5), `tty_nr`).
fn terminal(number: u64) -> String {
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00);
    match major {
        4 => format!("tty{minor}"),
        136..=143 => format!("pts/{}", (major - 136) << 20 | minor),
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_what_it_is_called() {
        for fine in ["-ef", "-o pid,cmd", "-o pid=PID", "-o pid,user=NAME", "aux"] {
            assert!(check(fine).is_ok(), "{fine}");
        }
        for bad in ["-o ppid=PID", "-o pid,user=PID,cmd", "-o user= PID", "-e -o uid=PIDS"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&"x".repeat(5000)).is_err());
    }

    #[test]
    fn tables_are_read_by_their_heads() {
        let pids = HashSet::from([7, 9]);
        let text = "USER  PID CMD\nroot 7 sh -c 'a  b'\nroot 8 other\nroot - thread\nme 9\n";
        let found = table(text, &pids).expect("a table");
        assert_eq!(found.titles, ["USER", "PID", "CMD"]);
        assert_eq!(found.rows, [vec!["root", "7", "sh -c 'a b'"], vec!["me", "9", ""]]);
        assert!(table("USER CMD\nroot sh\n", &pids).is_err());
        assert!(table("USER PID\nroot x\n", &pids).is_err());
        assert!(table("", &pids).is_err());
    }

    #[test]
    fn our_own_columns() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let found = own(&[pid, i32::MAX]);
        assert_eq!((found.rows.len(), found.rows[0].len()), (1, found.titles.len()));
        assert_eq!(found.rows[0][1], pid.to_string());
        assert_eq!([terminal(0), terminal(0x8805), terminal(0x401)], ["?", "pts/5", "tty1"].map(str::to_owned));
    }
}
