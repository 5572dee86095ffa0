//! Figures of the whole host and of one process's network (proc(5)).
//!
//! Processor time of the host is what use of a control group is held against; the counters of interfaces are read through
//! the process's own folder, so that they are those of its network namespace and of no later process.

use std::fs::File;
use std::io;

use rustix::fs::{Mode, OFlags};

use crate::proc;

/// Nanoseconds of a clock tick: the kernel's `USER_HZ` is 100 on all machines that we run on.
const TICK: u64 = 10_000_000;
/// Kinds of processor time that are counted: user, nice, system, idle, iowait, irq, softirq.
const KINDS: usize = 7;
/// Columns of a line of `net/dev` after its name.
const COLUMNS: usize = 16;

/// Processor time of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Processors {
    /// Of all processors since the start, idle time too, in nanoseconds.
    pub time: u64,
    /// How many are in use.
    pub count: u32,
}

/// Counters of one network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Bytes, packets, errors and dropped packets that came in.
    pub received: [u64; 4],
    /// The same for what went out.
    pub sent: [u64; 4],
}

/// Processor time of the host.
///
/// # Errors
/// When /proc is not there.
pub fn processors() -> io::Result<Processors> {
    parse_processors(&std::fs::read_to_string("/proc/stat")?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse_processors(text: &str) -> Option<Processors> {
    let mut lines = text.lines().take_while(|line| line.starts_with("cpu"));
    let ticks = lines.next()?.split_ascii_whitespace().skip(1).take(KINDS).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<_, _>>().ok()?;
    Some(Processors { time: ticks.saturating_mul(TICK), count: u32::try_from(lines.count()).ok()? })
}

/// Memory of the host in bytes.
///
/// # Errors
/// When /proc is not there.
pub fn memory() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    total.map(|kilobytes: u64| kilobytes * 1024).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The interfaces in the network namespace of the process that was started at `start_time`.
///
/// # Errors
/// `ESRCH` when it has ended, also when another one has its number.
pub fn interfaces(pid: i32, start_time: u64) -> io::Result<Vec<Interface>> {
    let folder = proc::folder(pid, start_time)?;
    let file = rustix::fs::openat(&folder, "net/dev", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(io::read_to_string(File::from(file))?.lines().filter_map(parse_interface).collect())
}

/// `  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0`; the two lines of headings are none.
fn parse_interface(line: &str) -> Option<Interface> {
    let (name, rest) = line.rsplit_once(':')?;
    let values: Vec<u64> = rest.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let four = |from: usize| values.get(from..from + 4)?.try_into().ok();
    if values.len() < COLUMNS {
        return None;
    }
    Some(Interface { name: name.trim().to_owned(), received: four(0)?, sent: four(8)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nintr 5\ncpu2 9\n";
        assert_eq!(parse_processors(text), Some(Processors { time: 280_000_000, count: 2 }));
        assert_eq!(parse_processors("intr 5"), None);
        let line = "  eth0: 10 20 30 40 5 6 7 8 11 21 31 41 5 6 7 8";
        let expected = Interface { name: "eth0".to_owned(), received: [10, 20, 30, 40], sent: [11, 21, 31, 41] };
        assert_eq!(parse_interface(line), Some(expected));
        assert_eq!(parse_interface("Inter-|   Receive |  Transmit"), None);
        assert_eq!(parse_interface(" face |bytes: packets"), None);
    }

    #[test]
    fn our_own() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let start = proc::start_time(pid).unwrap();
        assert!(interfaces(pid, start).unwrap().iter().any(|interface| interface.name == "lo"));
        assert_eq!(interfaces(pid, start + 1).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert!(processors().unwrap().count > 0 && memory().unwrap() > 0);
    }
}
