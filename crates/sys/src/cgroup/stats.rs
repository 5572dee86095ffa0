//! What a group uses, read from either version.
//!
//! A file that is missing leaves its values at zero or absent: kernels differ, and a group may end while it is read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Cgroup;

/// Use of a group at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processors.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// Number of tasks.
    pub pids: u64,
    /// Most tasks; `None` is no limit.
    pub pids_limit: Option<u64>,
    /// Block devices.
    pub io: Vec<BlockIo>,
    /// Huge pages by their size: bytes in use, most bytes ever, failures.
    pub hugepages: BTreeMap<String, [u64; 3]>,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// All.
    pub total: u64,
    /// In programs.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// By processor (version 1).
    pub by_processor: Vec<u64>,
    /// Periods of a quota that have gone by.
    pub periods: u64,
    /// Those in which the group was held back.
    pub throttled: u64,
    /// How long it was.
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// In use.
    pub usage: u64,
    /// Most ever.
    pub max_usage: u64,
    /// Ceiling; `None` is no limit.
    pub limit: Option<u64>,
    /// How often the ceiling was met.
    pub failures: u64,
    /// Swap in use (with memory in version 1).
    pub swap: u64,
    /// Its ceiling.
    pub swap_limit: Option<u64>,
    /// Processes that the out-of-memory killer ended.
    pub oom_kills: u64,
    /// The kernel's own list.
    pub details: BTreeMap<String, u64>,
}

/// One kind of operation on one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// Major and minor number.
    pub device: (u64, u64),
    /// `Read`, `Write`, `Discard`…
    pub operation: String,
    /// Bytes.
    pub bytes: u64,
    /// Operations.
    pub count: u64,
}

/// Nanoseconds of a clock tick: the kernel's `USER_HZ` is 100 on all machines that we run on.
const TICK: u64 = 10_000_000;
/// From this value on version 1 means "no limit" (the largest multiple of a page).
const NO_LIMIT: u64 = 1 << 62;

fn text(folder: Option<&Path>, file: &str) -> String {
    folder.and_then(|folder| fs::read_to_string(folder.join(file)).ok()).unwrap_or_default()
}

fn value(folder: Option<&Path>, file: &str) -> Option<u64> {
    text(folder, file).trim().parse().ok()
}

/// `name value` lines.
fn table(folder: Option<&Path>, file: &str) -> BTreeMap<String, u64> {
    let text = text(folder, file);
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

impl Cgroup {
    /// What the group uses now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (memory, cpu) = (self.v1_folder("memory"), self.v1_folder("cpu"));
        let pids = self.folder("pids");
        Stats {
            cpu: if cpu.is_some() { self.cpu_v1(cpu) } else { cpu_v2(self.unified()) },
            memory: if memory.is_some() { memory_v1(memory) } else { memory_v2(self.unified()) },
            pids: value(pids, "pids.current").unwrap_or_default(),
            pids_limit: value(pids, "pids.max"),
            io: match self.v1_folder("blkio") {
                Some(folder) => io_v1(folder),
                None => io_v2(&text(self.unified(), "io.stat")),
            },
            hugepages: self.folder("hugetlb").map(hugepages).unwrap_or_default(),
        }
    }

    fn cpu_v1(&self, cpu: Option<&Path>) -> CpuUsage {
        let account = self.v1_folder("cpuacct");
        let (times, throttling) = (table(account, "cpuacct.stat"), table(cpu, "cpu.stat"));
        let of = |table: &BTreeMap<String, u64>, name: &str| table.get(name).copied().unwrap_or_default();
        CpuUsage {
            total: value(account, "cpuacct.usage").unwrap_or_default(),
            user: of(&times, "user") * TICK,
            system: of(&times, "system") * TICK,
            by_processor: text(account, "cpuacct.usage_percpu")
                .split_ascii_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect(),
            periods: of(&throttling, "nr_periods"),
            throttled: of(&throttling, "nr_throttled"),
            throttled_time: of(&throttling, "throttled_time"),
        }
    }
}

fn cpu_v2(folder: Option<&Path>) -> CpuUsage {
    let times = table(folder, "cpu.stat");
    let of = |name: &str| times.get(name).copied().unwrap_or_default();
    CpuUsage {
        total: of("usage_usec") * 1000,
        user: of("user_usec") * 1000,
        system: of("system_usec") * 1000,
        by_processor: Vec::new(),
        periods: of("nr_periods"),
        throttled: of("nr_throttled"),
        throttled_time: of("throttled_usec") * 1000,
    }
}

fn memory_v1(folder: Option<&Path>) -> MemoryUsage {
    let limit = |file| value(folder, file).filter(|limit| *limit < NO_LIMIT);
    let number = |file| value(folder, file).unwrap_or_default();
    MemoryUsage {
        usage: number("memory.usage_in_bytes"),
        max_usage: number("memory.max_usage_in_bytes"),
        limit: limit("memory.limit_in_bytes"),
        failures: number("memory.failcnt"),
        swap: number("memory.memsw.usage_in_bytes"),
        swap_limit: limit("memory.memsw.limit_in_bytes"),
        oom_kills: table(folder, "memory.oom_control").get("oom_kill").copied().unwrap_or_default(),
        details: table(folder, "memory.stat"),
    }
}

fn memory_v2(folder: Option<&Path>) -> MemoryUsage {
    let events = table(folder, "memory.events");
    let event = |name: &str| events.get(name).copied().unwrap_or_default();
    MemoryUsage {
        usage: value(folder, "memory.current").unwrap_or_default(),
        max_usage: value(folder, "memory.peak").unwrap_or_default(),
        limit: value(folder, "memory.max"),
        failures: event("max"),
        swap: value(folder, "memory.swap.current").unwrap_or_default(),
        swap_limit: value(folder, "memory.swap.max"),
        oom_kills: event("oom_kill"),
        details: table(folder, "memory.stat"),
    }
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn io_v1(folder: &Path) -> Vec<BlockIo> {
    let mut found: BTreeMap<((u64, u64), String), BlockIo> = BTreeMap::new();
    let files = ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"];
    for (index, file) in files.into_iter().enumerate() {
        for line in text(Some(folder), file).lines() {
            let mut words = line.split(' ');
            let (Some(device), Some(operation), Some(Ok(value))) =
                (words.next().and_then(device), words.next(), words.next().map(str::parse))
            else {
                continue;
            };
            let operation = operation.to_owned();
            let entry = found.entry((device, operation.clone())).or_default();
            (entry.device, entry.operation) = (device, operation);
            if index == 0 { entry.bytes = value } else { entry.count = value }
        }
    }
    found.into_values().collect()
}

/// Lines as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn io_v2(text: &str) -> Vec<BlockIo> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((device, rest)) = line.split_once(' ').and_then(|(at, rest)| Some((device(at)?, rest))) else {
            continue;
        };
        let values: BTreeMap<&str, u64> = rest
            .split(' ')
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
            .collect();
        let of = |name| values.get(name).copied().unwrap_or_default();
        for (operation, bytes, count) in
            [("Read", "rbytes", "rios"), ("Write", "wbytes", "wios"), ("Discard", "dbytes", "dios")]
        {
            found.push(BlockIo { device, operation: operation.to_owned(), bytes: of(bytes), count: of(count) });
        }
    }
    found
}

fn hugepages(folder: &Path) -> BTreeMap<String, [u64; 3]> {
    let size = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let size = name.strip_prefix("hugetlb.")?.split('.').next()?.to_owned();
        (!size.is_empty()).then_some(size)
    };
    let sizes = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(size);
    let of = |size: String| {
        let number = |v1: &str, v2: &str| {
            let read = |suffix: &str| value(Some(folder), &format!("hugetlb.{size}.{suffix}"));
            read(v1).or_else(|| read(v2)).unwrap_or_default()
        };
        let events = table(Some(folder), &format!("hugetlb.{size}.events"));
        let failures = number("failcnt", "").max(events.get("max").copied().unwrap_or_default());
        let values = [number("usage_in_bytes", "current"), number("max_usage_in_bytes", ""), failures];
        (size, values)
    };
    sizes.map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_version_2() {
        let io = io_v2("8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n7:0 \nx\n");
        assert_eq!(io.len(), 6);
        assert_eq!((io[1].device, io[1].operation.as_str(), io[1].bytes, io[1].count), ((8, 16), "Write", 20, 2));
        assert_eq!(device("8"), None);
    }
}
