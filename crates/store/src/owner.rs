//! Owners: which process made a lease or a temporary folder, so that a later one can tell whether it still lives.
//!
//! An owner is written into the name of what it owns as `BOOT-PID-START-N`; nothing has to be read to judge it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::tree;

/// A process: boot id (its first 8 digits), pid, start time in clock ticks since boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    boot: String,
    pid: u32,
    start: u64,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Owner {
    pub(crate) fn current() -> Result<Self> {
        let boot = boot_id()?;
        let pid = std::process::id();
        let start = start_time(pid).ok_or_else(|| {
            Error::io("read", "/proc/self/stat")(std::io::Error::from(std::io::ErrorKind::InvalidData))
        })?;
        Ok(Self { boot, pid, start })
    }

    /// A name that nobody has used for this owner yet.
    pub(crate) fn fresh_name(&self) -> String {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        format!("{}-{}-{}-{number}", self.boot, self.pid, self.start)
    }

    fn of_name(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let owner =
            Self { boot: parts.next()?.into(), pid: parts.next()?.parse().ok()?, start: parts.next()?.parse().ok()? };
        parts.next()?.parse::<u64>().ok()?;
        parts.next().is_none().then_some(owner)
    }

    fn lives(&self, current: &Self) -> bool {
        self == current || (self.boot == current.boot && start_time(self.pid) == Some(self.start))
    }
}

fn boot_id() -> Result<String> {
    const FILE: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(FILE).map_err(Error::io("read", FILE))?;
    Ok(text.chars().filter(char::is_ascii_hexdigit).take(8).collect())
}

/// Field 22 of `/proc/PID/stat`; the command name before it may hold blanks and parentheses.
fn start_time(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether `name` belongs to a process that lives.
pub(crate) fn is_live(name: &str, current: &Owner) -> bool {
    Owner::of_name(name).is_some_and(|owner| owner.lives(current))
}

/// Removes everything in `folder` whose owner is dead.
pub(crate) fn remove_dead(folder: &Path, current: &Owner) -> Result<()> {
    for name in names(folder)? {
        if !is_live(&name, current) {
            tree::delete(&folder.join(&name))?;
        }
    }
    Ok(())
}

/// The names in a folder of the store, sorted. Names that are no UTF-8 are not ours and are left out.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let mut list = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        list.extend(entry.file_name().into_string().ok());
    }
    list.sort();
    Ok(list)
}
