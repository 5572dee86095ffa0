//! Flags of the commands about containers that exist.

use clap::{Args, Subcommand};

use super::{CreateArgs, RunArgs, StatsArgs, TopArgs, UpdateArgs};

/// The commands about containers that are spelled alike with their noun and without.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerVerb {
    /// Make a container from an image and run a program in it
    Run(RunArgs),
    /// Make a container without starting it
    #[command(after_help = "Example:\n  atoll create --name web -v data:/srv demo sh -c 'sleep 1000'; atoll start web")]
    Create(CreateArgs),
    /// Start containers
    Start(StartArgs),
    /// Ask containers to end, and kill those that do not
    Stop(StopArgs),
    /// Stop containers and start them again
    Restart(StopArgs),
    /// Send a signal to containers
    Kill(KillArgs),
    /// Take containers away
    Rm(RemoveArgs),
    /// Wait for containers to end, and print their exit codes
    Wait(TargetsArgs),
    /// Give a container another name
    Rename(RenameArgs),
    /// Freeze all processes of containers
    Pause(TargetsArgs),
    /// Thaw all processes of containers
    Unpause(TargetsArgs),
    /// What a container has written
    Logs(LogsArgs),
    /// Run another program in a running container
    Exec(ExecArgs),
    /// Couple this terminal to a running container
    Attach(AttachArgs),
    /// What containers use of this host
    Stats(StatsArgs),
    /// The processes of a container
    Top(TopArgs),
    /// Change the limits of containers
    Update(UpdateArgs),
    /// Copy files between a container and here
    Cp(CopyArgs),
    /// What a container has changed of its image's files
    Diff(DiffArgs),
    /// A container's files as an archive
    Export(ExportArgs),
    /// Make an image of a container
    Commit(CommitArgs),
}

/// The commands about containers, under their noun.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, and it is taken apart at once")]
pub(crate) enum ContainerCommand {
    #[command(flatten)]
    Verb(ContainerVerb),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(PsArgs),
    /// Everything that is known of containers
    Inspect(InspectArgs),
}

/// Containers by name or id.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  atoll wait web db; atoll pause web; atoll unpause web")]
pub(crate) struct TargetsArgs {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// Flags of `start`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll start web\n  atoll start -ai shell")]
pub(crate) struct StartArgs {
    /// Couple this terminal to its output, and pass signals on
    #[arg(short, long)]
    pub(crate) attach: bool,
    /// Couple this terminal to its input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Keys that leave a terminal without ending the program
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    #[command(flatten)]
    pub(crate) targets: TargetsArgs,
}

/// Flags of `stop` and `restart`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll stop web\n  atoll stop --time 30 web db")]
pub(crate) struct StopArgs {
    /// The signal instead of the container's own
    #[arg(short, long)]
    pub(crate) signal: Option<String>,
    /// Seconds to wait before killing it; -1 for ever
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) time: Option<i64>,
    #[command(flatten)]
    pub(crate) targets: TargetsArgs,
}

/// Flags of `kill`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll kill web\n  atoll kill --signal HUP web")]
pub(crate) struct KillArgs {
    /// Which signal
    #[arg(short, long, default_value = "KILL")]
    pub(crate) signal: String,
    #[command(flatten)]
    pub(crate) targets: TargetsArgs,
}

/// Flags of `rm`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll rm web\n  atoll rm -fv web db")]
pub(crate) struct RemoveArgs {
    /// Kill those that run; no error for those that are not there
    #[arg(short, long)]
    pub(crate) force: bool,
    /// With the volumes that were made for them without a name
    #[arg(short, long)]
    pub(crate) volumes: bool,
    #[command(flatten)]
    pub(crate) targets: TargetsArgs,
}

/// Flags of `rename`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  atoll rename web web-old")]
pub(crate) struct RenameArgs {
    /// Its name or id
    pub(crate) container: String,
    /// Its new name
    pub(crate) name: String,
}

/// Flags of `ps`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  atoll ps -a\n  atoll ps -q --filter status=exited\n  atoll ps --format '{{.Names}}: {{.Status}}'"
)]
pub(crate) struct PsArgs {
    /// Also those that do not run
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only those that fit, such as status=exited, name=web, label=a=b
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// How to print them: table, json, or a template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Do not shorten
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// The last N, whatever their state
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "latest")]
    pub(crate) last: Option<usize>,
    /// The last one, whatever its state
    #[arg(short, long)]
    pub(crate) latest: bool,
}

/// Flags of `inspect`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll inspect web\n  atoll inspect --format '{{.State.ExitCode}}' web")]
pub(crate) struct InspectArgs {
    /// json, or a template
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// container, image or volume
    #[arg(long = "type", value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// Flags of `logs`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll logs --tail 20 -f web\n  atoll logs --since 10m -t web")]
pub(crate) struct LogsArgs {
    /// Go on with what is written until the container ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Nothing older than a time, or than an age such as 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Nothing newer
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only the last N lines of what is there
    #[arg(short = 'n', long, value_name = "N", default_value = "all")]
    pub(crate) tail: String,
    /// With the time of each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// With what stands beside it, as --log-opt labels, env and tag ask for
    #[arg(long)]
    pub(crate) details: bool,
    /// Its name or id
    pub(crate) container: String,
}

/// Flags of `exec`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll exec web ls /srv\n  atoll exec -it web sh")]
pub(crate) struct ExecArgs {
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Run it in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keys that leave a terminal without ending the program
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Set environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<std::path::PathBuf>,
    /// Where it starts
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) workdir: Option<String>,
    /// Who runs it: name or number, with :group
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// All rights on this host
    #[arg(long)]
    pub(crate) privileged: bool,
    /// The container, then the program and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["CONTAINER", "COMMAND"])]
    pub(crate) words: Vec<String>,
}

/// Flags of `attach`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll attach shell\n  atoll attach --no-stdin web")]
pub(crate) struct AttachArgs {
    /// Leave its input alone
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Keys that leave a terminal without ending the program
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Pass signals on to the program
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) sig_proxy: bool,
    /// Its name or id
    pub(crate) container: String,
}

/// Flags of `cp`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  atoll cp web:/etc/passwd .\n  atoll cp site/. web:/srv\n  atoll cp web:/srv - | tar -t"
)]
pub(crate) struct CopyArgs {
    /// What is put in belongs to the container's user
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Copy what a link leads to instead of the link
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// Say nothing
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// CONTAINER:PATH, a path here, or - for an archive on standard input
    pub(crate) source: String,
    /// CONTAINER:PATH, a path here, or - for an archive on standard output
    pub(crate) target: String,
}

/// Flags of `diff`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  atoll diff web")]
pub(crate) struct DiffArgs {
    /// Its name or id
    pub(crate) container: String,
}

/// Flags of `export`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll export -o web.tar web\n  atoll export web | tar -t")]
pub(crate) struct ExportArgs {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<std::path::PathBuf>,
    /// Its name or id
    pub(crate) container: String,
}

/// Flags of `commit`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  atoll commit -m 'with the site' -c 'CMD [\"serve\"]' web site:1")]
pub(crate) struct CommitArgs {
    /// Who made it
    #[arg(short, long, default_value = "")]
    pub(crate) author: String,
    /// An instruction of a Dockerfile that changes the image's configuration
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// A remark
    #[arg(short, long, default_value = "")]
    pub(crate) message: String,
    /// Freeze the container meanwhile
    #[arg(short, long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) pause: bool,
    /// Its name or id
    pub(crate) container: String,
    /// What to call the image
    pub(crate) name: Option<String>,
}
