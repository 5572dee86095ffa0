//! Flags of `run` and `create`.

use clap::{Args, ValueEnum};

use super::usage::ProcessorArgs;

const RUN_EXAMPLES: &str = "\
Examples:
  atoll run --rm demo echo hello
  atoll run -it --rm -v \"$PWD:/work\" -w /work demo sh
  atoll run -d --name web --memory 256m --cpus 0.5 demo httpd -f -p 8080
  atoll run -d --restart on-failure:5 demo worker
  atoll run -d --restart on-unhealthy --health-cmd 'wget -qO- localhost:8080' demo httpd -f -p 8080
  atoll run --rm --read-only --tmpfs /tmp --cap-drop ALL demo id";

/// Flags of `run`.
#[derive(Args, Debug)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArgs {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keys that leave a terminal without ending the program
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Pass signals on to the program
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) sig_proxy: bool,
    #[command(flatten)]
    pub(crate) create: CreateArgs,
}

/// What to do about an image that is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pull {
    /// Get it every time
    Always,
    /// Get it when it is not here
    Missing,
    /// Never get it
    Never,
}

/// Walls that a workload can be behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolation {
    /// Namespaces, cgroups, capabilities and a system call filter
    Container,
}

/// Flags of `create`, and of `run` too. As in Docker, `-h` is the host name.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub(crate) struct CreateArgs {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    pub(crate) program: ProgramArgs,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) devices: DeviceArgs,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    #[command(flatten)]
    pub(crate) life: LifeArgs,
    /// What to call it
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Write its id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// The wall between the workload and the host
    #[arg(long, value_enum)]
    pub(crate) isolation: Option<Isolation>,
    /// The image, then the program and its arguments instead of the image's own
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    pub(crate) words: Vec<String>,
}

/// Where the image comes from.
#[derive(Args, Debug)]
pub(crate) struct SourceArgs {
    /// What to do about an image that is not here
    #[arg(long, value_enum, default_value_t = Pull::Missing)]
    pub(crate) pull: Pull,
    /// No progress of that
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Platform of the image, such as linux/arm64
    #[arg(long)]
    pub(crate) platform: Option<String>,
}

/// The program and how it starts.
#[derive(Args, Debug)]
#[command(next_help_heading = "Program")]
pub(crate) struct ProgramArgs {
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Couple this terminal to stdin, stdout or stderr
    #[arg(short, long, value_name = "STREAM")]
    pub(crate) attach: Vec<String>,
    /// Set an environment variable (NAME alone: as it is here)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Set environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<std::path::PathBuf>,
    /// Where the program starts
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) workdir: Option<String>,
    /// Who runs it: name or number, with :group
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Further groups that it is in: names or numbers
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// First word of the command line instead of the image's
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Run a small init as first process, which reaps orphans
    #[arg(long)]
    pub(crate) init: bool,
    /// The signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Seconds between that and SIGKILL
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) stop_timeout: Option<i64>,
}

/// What the workload sees around it.
#[derive(Args, Debug)]
#[command(next_help_heading = "Surroundings")]
pub(crate) struct PlaceArgs {
    /// Its host name
    #[arg(short = 'h', long)]
    pub(crate) hostname: Option<String>,
    /// Its NIS domain name
    #[arg(long, value_name = "NAME")]
    pub(crate) domainname: Option<String>,
    /// Its network: bridge, none, host or container:NAME
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// Let a port answer on the host: only for an ordinary user's daemon so far
    #[arg(short, long, value_name = "[[IP:]HOST:]PORT[/PROTOCOL]")]
    pub(crate) publish: Vec<String>,
    /// Mount a folder of the host or a volume
    #[arg(short, long, value_name = "SOURCE:TARGET[:OPTIONS]")]
    pub(crate) volume: Vec<String>,
    /// The same in long form: type=bind|volume|tmpfs,source=…,target=…
    #[arg(long, value_name = "SPEC")]
    pub(crate) mount: Vec<String>,
    /// Mount memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub(crate) tmpfs: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
    /// Tell hooks and tools of the host something
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Write something on it
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Write what is in a file on it
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) sharing: SharingArgs,
}

/// What becomes of it, and of what it says.
#[derive(Args, Debug)]
pub(crate) struct LifeArgs {
    /// Take the container away when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// When to start it again: no, on-failure, always, unless-stopped, or on-unhealthy (failed or not well)
    #[arg(long, value_name = "POLICY[:MAX]")]
    pub(crate) restart: Option<String>,
    #[command(flatten)]
    pub(crate) health: HealthArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// Where what the workload writes is kept.
#[derive(Args, Debug)]
pub(crate) struct LogArgs {
    /// What keeps its output: local, json-file or none
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// An option of that, such as max-size=10m
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) log_opt: Vec<String>,
}

/// What the workload shares.
#[derive(Args, Debug)]
#[command(next_help_heading = "Sharing")]
pub(crate) struct SharingArgs {
    /// Processes that it sees: host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,
    /// Shared memory and queues: none, private, shareable, host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) ipc: Option<String>,
    /// Host name: host
    #[arg(long, value_name = "MODE")]
    pub(crate) uts: Option<String>,
    /// Users: host
    #[arg(long, value_name = "MODE")]
    pub(crate) userns: Option<String>,
    /// Tree of control groups that it sees: private or host
    #[arg(long, value_name = "MODE")]
    pub(crate) cgroupns: Option<String>,
    /// The mounts of another container too
    #[arg(long, value_name = "CONTAINER[:ro]")]
    pub(crate) volumes_from: Vec<String>,
    /// Set a kernel parameter of its namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) sysctl: Vec<String>,
}

/// Devices of the host.
#[derive(Args, Debug)]
#[command(next_help_heading = "Devices")]
pub(crate) struct DeviceArgs {
    /// Make a device of the host visible, by path or by its name of the Container Device Interface
    #[arg(long, value_name = "HOST[:INSIDE[:rwm]]|VENDOR/CLASS=NAME")]
    pub(crate) device: Vec<String>,
    /// Let devices be used that are not visible, such as c 42:* rmw
    #[arg(long, value_name = "RULE")]
    pub(crate) device_cgroup_rule: Vec<String>,
    /// GPUs, by a specification of the Container Device Interface: all, a number, or device=NAME
    #[arg(long, value_name = "GPUS")]
    pub(crate) gpus: Option<String>,
    /// Weight when block devices are busy, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) blkio_weight: Option<u16>,
    /// The same for one device
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    pub(crate) blkio_weight_device: Vec<String>,
    /// Bytes that may be read from a device in a second
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub(crate) device_read_bps: Vec<String>,
    /// Bytes that may be written to it
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub(crate) device_write_bps: Vec<String>,
    /// Reads from a device in a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub(crate) device_read_iops: Vec<String>,
    /// Writes to it
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub(crate) device_write_iops: Vec<String>,
}

/// What the workload may use.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Memory, such as 512m
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Memory and swap together; -1 for any amount of swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Memory that is kept when the host is short of it
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_reservation: Option<String>,
    #[command(flatten)]
    pub(crate) processors: ProcessorArgs,
    /// Tasks it may have; -1 for any number
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Limit of each process, such as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    #[command(flatten)]
    pub(crate) finer: FinerArgs,
}

/// Limits that few ask for.
#[derive(Args, Debug)]
#[command(next_help_heading = "Finer limits")]
pub(crate) struct FinerArgs {
    /// The control group below which it gets its own, such as /limits/web
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
    /// How readily memory is swapped out, 0 to 100
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) memory_swappiness: Option<i64>,
    /// Let it wait for memory instead of being killed
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,
    /// How much likelier than others it is killed when memory is short, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) oom_score_adj: Option<i64>,
    /// What its writable layer takes on the disk at most: size=10G (needs project quota)
    #[arg(long, value_name = "size=BYTES")]
    pub(crate) storage_opt: Vec<String>,
}

/// How to learn whether the workload is well. Times are written as 500ms, 30s, 1m30s.
#[derive(Args, Debug)]
#[command(next_help_heading = "Health")]
pub(crate) struct HealthArgs {
    /// What the shell inside runs to learn whether it is well
    #[arg(long, value_name = "COMMAND")]
    pub(crate) health_cmd: Option<String>,
    /// Time between two checks (30s)
    #[arg(long, value_name = "TIME")]
    pub(crate) health_interval: Option<String>,
    /// Time that a check may take (30s)
    #[arg(long, value_name = "TIME")]
    pub(crate) health_timeout: Option<String>,
    /// Time from the start until failures count
    #[arg(long, value_name = "TIME")]
    pub(crate) health_start_period: Option<String>,
    /// Time between two checks until then (5s)
    #[arg(long, value_name = "TIME")]
    pub(crate) health_start_interval: Option<String>,
    /// Failures in a row until it is unhealthy (3)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) health_retries: Option<i64>,
    /// Run no check, whatever the image says
    #[arg(long, conflicts_with_all = [
        "health_cmd", "health_interval", "health_timeout", "health_start_period", "health_start_interval", "health_retries",
    ])]
    pub(crate) no_healthcheck: bool,
}

/// How far the workload is trusted.
#[derive(Args, Debug)]
#[command(next_help_heading = "Trust")]
pub(crate) struct TrustArgs {
    /// Make its root file system read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Add a capability
    #[arg(long, value_name = "NAME")]
    pub(crate) cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "NAME")]
    pub(crate) cap_drop: Vec<String>,
    /// All rights on this host, as if there were no wall
    #[arg(long)]
    pub(crate) privileged: bool,
    /// seccomp=PROFILE|unconfined, no-new-privileges, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
}
