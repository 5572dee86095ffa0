//! Flags of the commands about volumes and the host.

use clap::{Args, Subcommand};

use super::InspectArgs;

/// The commands about volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make a volume
    Create(VolumeCreateArgs),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(VolumeListArgs),
    /// Take volumes away, with what is in them
    #[command(visible_alias = "remove")]
    Rm(VolumeRemoveArgs),
    /// Everything that is known of volumes
    Inspect(InspectArgs),
}

/// Flags of `volume create`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  atoll volume create --label team=web data")]
pub(crate) struct VolumeCreateArgs {
    /// Write something on it
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Its name; one of ours if none is given
    pub(crate) name: Option<String>,
}

/// Flags of `volume ls`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  atoll volume ls -q --filter dangling=true")]
pub(crate) struct VolumeListArgs {
    /// Only names
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only those that fit, such as dangling=true, name=data
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// How to print them: table, json, or a template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// Flags of `volume rm`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  atoll volume rm data")]
pub(crate) struct VolumeRemoveArgs {
    /// No error for those that are not there
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    pub(crate) names: Vec<String>,
}

/// The commands about the host that are spelled alike with their noun and without.
#[derive(Debug, Subcommand)]
pub(crate) enum SystemVerb {
    /// Facts about the host and the daemon
    Info(FormatArgs),
    /// What happens on the host
    Events(EventsArgs),
}

/// The commands about the host.
#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    #[command(flatten)]
    Verb(SystemVerb),
    /// What images, containers and volumes take on the disk
    Df(DfArgs),
    /// Take away what nothing uses: containers that do not run, networks, images, the build cache
    Prune(PruneArgs),
    /// Look at the host: what it lacks, what is left over, and what to do
    Doctor(DoctorArgs),
    /// Carry standard input and output to the daemon, for clients that come over ssh
    #[command(after_help = "Example:\n  DOCKER_HOST=ssh://user@host docker ps   runs this at the far end, as docker")]
    DialStdio,
    /// End everything that runs and delete everything that is kept
    Reset(ResetArgs),
    /// Check what is kept, while no daemon runs
    Fsck(FsckArgs),
}

/// Flags of `system fsck`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  atoll system fsck            change nothing; 0: all is well, 4: it is not\n  atoll system fsck --repair   0: all was well, 1: it is now, 4: it is not"
)]
pub(crate) struct FsckArgs {
    /// Mend what can be mended, and remove what is of no use
    #[arg(long)]
    pub(crate) repair: bool,
}

/// Flags of `system reset`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  atoll system reset\n  atoll system reset -f --keep-state   end all containers, delete nothing"
)]
pub(crate) struct ResetArgs {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Keep containers, images and volumes: only end what runs, and clear the host of it
    #[arg(long)]
    pub(crate) keep_state: bool,
}

/// A format for one thing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll info --format '{{.Images}}'\n  atoll version --format json")]
pub(crate) struct FormatArgs {
    /// json, or a template
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// Flags of `system df`.
#[derive(Args, Debug)]
#[command(after_help = "\
Sizes are what `du -s -B1` says of the folders below --root, so that all rows together are what it says of that. What several
images share is counted once in the first row, and for each of them with -v.

Examples:
  atoll system df -v
  atoll system df --format '{{.Type}}: {{.Size}}'")]
pub(crate) struct DfArgs {
    /// One by one
    #[arg(short = 'v')]
    pub(crate) each: bool,
    /// How to print it: table, json, or a template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// Flags of `system prune`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  atoll system prune\n  atoll system prune -af --volumes\n  atoll system prune --filter until=24h"
)]
pub(crate) struct PruneArgs {
    /// All images that no container uses, not just those without a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Also volumes without a name of their own that no container uses
    #[arg(long)]
    pub(crate) volumes: bool,
    /// Only what fits, such as until=24h, label=old, label!=keep
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Flags of `system doctor`.
#[derive(Args, Debug)]
#[command(after_help = "\
It asks the daemon. Where none answers it looks by itself, and starts none; what is left over only a daemon knows.

Exit codes:
  0     all is well, but perhaps for notes: things that matter to who wants what is missing
  1     there are warnings: something works less well than it could
  2     there are problems: something does not work, or soon will not
  125   nothing could be looked at

Examples:
  atoll system doctor
  atoll system doctor --json | jq '.[] | select(.level == \"problem\")'")]
pub(crate) struct DoctorArgs {
    /// As a list of objects
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `events`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll events --since 10m\n  atoll events --filter event=die --format json")]
pub(crate) struct EventsArgs {
    /// Also those since a time, or since an age such as 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only those before a time, then end
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only those that fit, such as event=die, container=web
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// json, or a template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}
