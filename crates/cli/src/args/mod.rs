//! What can be typed: every command and flag as data, with its help. What they mean is in `commands`.

mod container;
mod create;
mod image;
mod system;
mod usage;
pub(crate) mod values;

pub(crate) use container::{
    AttachArgs, CommitArgs, ContainerCommand, ContainerVerb, CopyArgs, DiffArgs, ExecArgs, ExportArgs, InspectArgs,
    KillArgs, LogsArgs, PsArgs, RemoveArgs, RenameArgs, StartArgs, StopArgs, TargetsArgs,
};
pub(crate) use create::{
    CreateArgs, DeviceArgs, HealthArgs, LimitArgs, PlaceArgs, ProgramArgs, Pull, RunArgs, SharingArgs, TrustArgs,
};
pub(crate) use image::{
    BootstrapArgs, HistoryArgs, ImageCommand, ImagePruneArgs, ImageVerb, ImagesArgs, ImportArgs, LoadArgs, LoginArgs,
    LogoutArgs, PullArgs, PushArgs, RmiArgs, SaveArgs, TagArgs, Variant,
};
pub(crate) use system::{
    DfArgs, DoctorArgs, EventsArgs, FormatArgs, FsckArgs, PruneArgs, ResetArgs, SystemCommand, SystemVerb,
    VolumeCommand, VolumeCreateArgs, VolumeListArgs, VolumeRemoveArgs,
};
pub(crate) use usage::{StatsArgs, TopArgs, UpdateArgs};

use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  atoll image bootstrap debian:bookworm -t demo   make a small image from the Debian mirror
  atoll run --rm demo echo hello                  run a program in it
  atoll run -it --rm demo sh                      look around inside
  atoll run -d --name clock demo sh -c 'while :; do date; sleep 1; done'
  atoll logs -f clock                             see what it writes
  atoll rm -f clock

Environment:
  ATOLL_HOST, DOCKER_HOST   the daemon to talk to, such as unix:///run/atoll/atoll.sock
  NO_COLOR                  no colours, whatever the terminal";

/// Build, ship and run software in isolation.
#[derive(Debug, Parser)]
#[command(name = "atoll", version, after_help = EXAMPLES, disable_help_subcommand = true, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command has.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// The daemon's socket, as unix:///PATH
    #[arg(short = 'H', long, value_name = "ADDRESS", global = true)]
    pub(crate) host: Option<String>,
    /// Folder of durable state, for the daemon that is started on demand
    #[arg(long, value_name = "FOLDER", global = true)]
    pub(crate) root: Option<std::path::PathBuf>,
    /// Folder of the socket and of other state that is gone at reboot
    #[arg(long, value_name = "FOLDER", global = true)]
    pub(crate) run: Option<std::path::PathBuf>,
    /// Configuration file, for the daemon that is started on demand
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<std::path::PathBuf>,
    /// Say what is being done; twice: in detail
    #[arg(long = "verbose", action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
}

/// Every command. Those that Docker has are spelled as Docker's.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Container(ContainerVerb),
    /// List containers
    Ps(PsArgs),
    /// Everything that is known of containers, images or volumes
    Inspect(InspectArgs),
    /// The same commands by the name of what they are about
    #[command(
        subcommand,
        name = "container",
        after_help = "Examples:\n  atoll container ls -a\n  atoll container rm web"
    )]
    ContainerNoun(ContainerCommand),
    /// Images: make, get, load, list, name, remove
    #[command(
        subcommand,
        name = "image",
        after_help = "Examples:\n  atoll image bootstrap debian:bookworm -t demo\n  atoll image ls"
    )]
    ImageNoun(ImageCommand),
    #[command(flatten)]
    Image(ImageVerb),
    /// List images
    Images(ImagesArgs),
    /// Take images away
    Rmi(RmiArgs),
    /// Show and keep a name and a password for a registry
    Login(LoginArgs),
    /// Forget them
    Logout(LogoutArgs),
    /// Volumes: make, list, remove
    #[command(subcommand, after_help = "Examples:\n  atoll volume create data\n  atoll volume rm data")]
    Volume(VolumeCommand),
    /// The host: facts, disk usage, events
    #[command(subcommand, name = "system", after_help = "Example:\n  atoll system df")]
    SystemNoun(SystemCommand),
    #[command(flatten)]
    System(SystemVerb),
    /// Versions of this program and of the daemon
    Version(FormatArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  atoll completion bash > /etc/bash_completion.d/atoll")]
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn every_level_of_help_has_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&super::Cli::command());
    }
}
