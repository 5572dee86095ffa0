//! Flags of the commands about what containers use, and may use.

use clap::Args;

/// Flags of `stats`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll stats\n  atoll stats --no-stream --format '{{.Name}} {{.CPUPerc}}' web")]
pub(crate) struct StatsArgs {
    /// Also those that do not run
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Once, instead of again and again
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// How to print them: table, json, or a template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Do not shorten ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Names or ids; all that run, if none is given
    #[arg(value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// Flags of `top`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll top web\n  atoll top web -o pid,rss,cmd")]
pub(crate) struct TopArgs {
    /// Its name or id
    pub(crate) container: String,
    /// Arguments of ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTION")]
    pub(crate) ps: Vec<String>,
}

/// Flags of `update`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  atoll update --memory 512m --memory-swap 1g web\n  atoll update --cpus 1.5 --pids-limit 100 web db"
)]
pub(crate) struct UpdateArgs {
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
    /// Weight when block devices are busy, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) blkio_weight: Option<u16>,
    /// When it is started again: no, on-failure[:MAX], always, unless-stopped, on-unhealthy[:MAX]
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// Flags of `create` and `update` about processors.
#[derive(Args, Debug)]
pub(crate) struct ProcessorArgs {
    /// Processors, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<String>,
    /// Weight when processors are short, 1024 by default
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    pub(crate) cpu_shares: Option<i64>,
    /// Microseconds of processor time in each period; -1 for any number
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Length of a period
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<i64>,
    /// Processors it may run on, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes it may use
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Microseconds of a period of real-time processor time
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_rt_period: Option<i64>,
    /// What of each it may use
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub(crate) cpu_rt_runtime: Option<i64>,
}
