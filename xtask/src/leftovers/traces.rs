//! Traces of ours on a machine, as the kernel's files tell them.
//!
//! One function per kind reads them; which are ours is decided by functions of text alone. A namespace is there as long as a
//! process, a mount or a name of `ip netns` holds it, a descriptor as long as a process does: these three are looked at.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Folders where our programs keep what they know, and the system's for shared memory.
const PLACES: [&str; 3] = ["/run", "/var/lib", "/dev/shm"];
/// Where the runtime keeps records unless told otherwise: the folder stays when it is empty, as runc's does.
const RECORDS: &str = "/run/atoll-runtime";
/// What our names in them begin with.
const PREFIX: &str = "atoll";
/// What our bridges' names begin with.
const BRIDGES: &str = "atl-";
/// Where `ip netns` keeps named namespaces.
const NETWORKS: &str = "/run/netns";
const GROUPS: &str = "/sys/fs/cgroup";

/// By what a command's doings are known.
#[derive(Debug)]
pub(super) struct Marks {
    /// Its temporary folder.
    pub(super) temporary: PathBuf,
    /// Where the programs are that it may start.
    pub(super) programs: PathBuf,
}

/// Something of ours on the machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Trace {
    kind: &'static str,
    name: String,
}

impl fmt::Display for Trace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.kind, self.name)
    }
}

impl Trace {
    /// Whether nothing but its name tells that it is ours.
    pub(super) fn is_only_called_so(&self) -> bool {
        !matches!(self.kind, "mount" | "process" | "block device" | "file")
    }
}

/// All there is of ours now.
pub(super) fn look(marks: &Marks) -> Result<BTreeSet<Trace>> {
    let mut found = BTreeSet::new();
    let mut note = |kind: &'static str, names: Vec<String>| {
        found.extend(names.into_iter().map(|name| Trace { kind, name }));
    };
    let read = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
    note("mount", marks.mounts(&read("/proc/self/mountinfo")?));
    note("process", processes(marks)?);
    note("control group", groups(Path::new(GROUPS)).into_iter().filter(|path| is_our_group(path)).collect());
    note("interface", interfaces(&read("/proc/self/net/dev")?));
    note("packet filter", tables());
    note("network namespace", names_in(Path::new(NETWORKS)));
    note("block device", loop_devices(marks));
    note("user", users(&read("/etc/passwd")?));
    note("file", files(marks));
    Ok(found)
}

impl Marks {
    /// Whether the temporary folder's name is in a text.
    fn know(&self, text: &[u8]) -> bool {
        let name = self.temporary.as_os_str().as_encoded_bytes();
        text.windows(name.len()).any(|window| window == name)
    }

    /// Whether the process in this folder of /proc is the command's; `own` are our mounts.
    fn has_process(&self, folder: &Path, own: &str) -> bool {
        let program = fs::read_link(folder.join("exe")).unwrap_or_default();
        let words = ["environ", "cmdline"].map(|file| fs::read(folder.join(file)).unwrap_or_default());
        let mounts = fs::read_to_string(folder.join("mountinfo")).unwrap_or_default();
        program.starts_with(&self.programs)
            || words.iter().any(|words| self.know(words))
            || mounts != own && !self.mounts(&mounts).is_empty()
    }

    /// The mounts of ours that mountinfo (proc_pid_mountinfo(5)) lists: by their place, source or options.
    fn mounts(&self, mountinfo: &str) -> Vec<String> {
        let ours = |line: &&str| {
            let place = line.split(' ').nth(4).unwrap_or_default();
            self.know(line.as_bytes()) || PLACES.iter().any(|folder| is_ours_below(folder, place))
        };
        mountinfo.lines().filter(ours).map(str::to_owned).collect()
    }
}

/// Whether a path leads into something of ours in a folder.
fn is_ours_below(folder: &str, path: &str) -> bool {
    path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')).is_some_and(|rest| rest.starts_with(PREFIX))
}

/// The command's processes: they run a program of this repository's, were started with the temporary folder in their environment
/// or arguments, or have it among their mounts.
fn processes(marks: &Marks) -> Result<Vec<String>> {
    let own = fs::read_to_string("/proc/self/mountinfo")?;
    let ours = process_folders()?.into_iter().filter(|folder| marks.has_process(folder, &own));
    // What ends meanwhile cannot be described any more.
    Ok(ours.filter_map(|folder| describe(&folder)).collect())
}

/// Whether programs with our names run here that are not the command's.
pub(super) fn others_work(marks: &Marks) -> Result<bool> {
    let own = fs::read_to_string("/proc/self/mountinfo")?;
    let called_so = |folder: &Path| fs::read(folder.join("comm")).is_ok_and(|name| name.starts_with(PREFIX.as_bytes()));
    Ok(process_folders()?.iter().any(|folder| called_so(folder) && !marks.has_process(folder, &own)))
}

fn process_folders() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .map(|entry| entry.path())
        .collect())
}

/// A process by its number, the time of its start and its arguments; `None` for what is none.
fn describe(folder: &Path) -> Option<String> {
    let pid: u32 = folder.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let (name, numbers) = stat.split_once('(')?.1.rsplit_once(')')?;
    // proc_pid_stat(5): the start is field 22, the state behind the name is the third.
    let start = numbers.split_ascii_whitespace().nth(22 - 3)?;
    let arguments = fs::read(folder.join("cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
    Some(format!("{pid} ({name}, started at {start}): {}", arguments.trim_end()))
}

/// The folders below a control group's, or below all hierarchies, however deep.
fn groups(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    folders.flat_map(|path| [groups(&path), vec![path.display().to_string()]].concat()).collect()
}

/// Daemons' groups are called by our name, those of the tests' bundles `test-PROCESS-NUMBER`.
fn is_our_group(path: &str) -> bool {
    path.split('/').any(|name| {
        let of_a_test = name.strip_prefix("test-").and_then(|rest| rest.split_once('-'));
        name.starts_with(PREFIX) || of_a_test.is_some_and(|(process, _)| process.parse::<u32>().is_ok())
    })
}

/// Our bridges in /proc/net/dev: two lines of heading, then a line each that begins with the name and a colon.
fn interfaces(dev: &str) -> Vec<String> {
    let names = dev.lines().skip(2).filter_map(|line| line.trim_start().split_once(':'));
    names.map(|(name, _)| name.to_owned()).filter(|name| name.starts_with(BRIDGES)).collect()
}

/// Our tables of packet filters, where nft(8) is there to list them.
fn tables() -> Vec<String> {
    let listed = Command::new("nft").args(["list", "tables"]).output().map(|output| output.stdout).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed);
    let ours = |line: &&str| line.split(' ').next_back().is_some_and(|name| name.starts_with(PREFIX));
    listed.lines().filter(ours).map(str::to_owned).collect()
}

/// Loop devices whose file is in the temporary folder.
fn loop_devices(marks: &Marks) -> Vec<String> {
    let names = names_in(Path::new("/sys/block")).into_iter();
    names
        .filter(|name| {
            fs::read(format!("/sys/block/{name}/loop/backing_file")).is_ok_and(|backing| marks.know(&backing))
        })
        .collect()
}

/// Users that tests make: `atollPROCESSxNUMBER`.
fn users(passwd: &str) -> Vec<String> {
    let names = passwd.lines().filter_map(|line| line.split(':').next());
    let ours = |name: &&str| {
        let numbers = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('x'));
        numbers.is_some_and(|(process, number)| process.parse::<u32>().is_ok() && number.parse::<u32>().is_ok())
    };
    names.filter(ours).map(str::to_owned).collect()
}

/// Everything in the temporary folder, and what has our name elsewhere, with what it holds.
fn files(marks: &Marks) -> Vec<String> {
    let below = |folder: &Path| -> Vec<String> {
        names_in(folder).iter().map(|name| folder.join(name).display().to_string()).collect()
    };
    let mut files = below(&marks.temporary);
    for place in PLACES.map(Path::new) {
        for name in names_in(place).iter().filter(|name| name.starts_with(PREFIX)) {
            let path = place.join(name);
            let inside = below(&path);
            let is_kept = path == Path::new(RECORDS) && inside.is_empty();
            files.extend(inside);
            files.extend((!is_kept).then(|| path.display().to_string()));
        }
    }
    files
}

/// The names in a folder; none where there is no such folder.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry: io::Result<_>| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> Marks {
        Marks { temporary: "/tmp/atoll-Ab12".into(), programs: "/src/target".into() }
    }

    #[test]
    fn mounts_are_known_by_place_source_and_options() {
        let check = |line: &str, ours: bool| assert_eq!(marks().mounts(line).len(), usize::from(ours), "{line}");
        check("29 1 254:0 / / rw - ext4 /dev/vda rw", false);
        check("40 29 0:40 / /tmp/atoll-Ab12/host/run/x rw - tmpfs tmpfs rw", true);
        check("40 29 254:0 /tmp/atoll-Ab12/x /mnt rw - ext4 /dev/vda rw", true);
        check("40 29 0:41 / /mnt rw - overlay overlay rw,upperdir=/tmp/atoll-Ab12/upper", true);
        check("40 29 0:40 / /run/atoll/x rw - tmpfs tmpfs rw", true);
        // Other people's.
        check("40 29 0:40 / /tmp/atoll-Cd34/x rw - tmpfs tmpfs rw", false);
        check("40 29 0:40 / /run/docker/atoll rw - tmpfs tmpfs rw", false);
    }

    #[test]
    fn groups_are_known_by_their_names() {
        let check = |path: &str, ours: bool| assert_eq!(is_our_group(path), ours, "{path}");
        check("/sys/fs/cgroup/pids/atoll-0123", true);
        check("/sys/fs/cgroup/system.slice/atoll-0123.scope/inner", true);
        check("/sys/fs/cgroup/test-12-0", true);
        check("/sys/fs/cgroup/test-suite-0", false);
        check("/sys/fs/cgroup/docker/0123", false);
    }

    #[test]
    fn interfaces_are_known_by_their_names() {
        let dev = "Inter-|\n face |\n    lo: 1 2\natl-0123: 3 4\n  eth0: 5\n";
        assert_eq!(interfaces(dev), ["atl-0123"]);
    }

    #[test]
    fn users_are_known_by_their_names() {
        let passwd = "root:x:0:0\natoll12x3:x:9:9\natoll:x:10:10\natollx:x:1:1\natoll1xy:x:2:2\n";
        assert_eq!(users(passwd), ["atoll12x3"]);
    }
}
