//! Flags of the commands about images.

use clap::{Args, Subcommand};

use super::InspectArgs;

/// The commands about images that are spelled alike with their noun and without.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// Get an image from a registry
    Pull(PullArgs),
    /// Put an image into a registry
    Push(PushArgs),
    /// Take in images from an archive
    Load(LoadArgs),
    /// Write images to an archive
    Save(SaveArgs),
    /// Make an image of an archive of files
    Import(ImportArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// The steps that an image was made in
    History(HistoryArgs),
}

/// The commands about images, under their noun.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Make a base image from a Debian mirror
    Bootstrap(BootstrapArgs),
    #[command(flatten)]
    Verb(ImageVerb),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ImagesArgs),
    /// Take images away
    #[command(visible_alias = "remove")]
    Rm(RmiArgs),
    /// Take away images that nothing uses
    Prune(ImagePruneArgs),
    /// Everything that is known of images
    Inspect(InspectArgs),
}

/// Flags of `image bootstrap`.
#[derive(Args, Debug)]
#[command(after_help = "\
Variants:
  minimal   the packages and what they need, unpacked; for any architecture of the suite (busybox-static by default)
  apt       a whole small Debian with apt, configured; for this host's architecture

Examples:
  atoll image bootstrap debian:bookworm -t demo
  atoll image bootstrap debian:trixie --arch riscv64 -t demo:riscv64
  atoll image bootstrap debian:bookworm --variant apt -t debian:bookworm")]
pub(crate) struct BootstrapArgs {
    /// What to make it from, such as debian:bookworm
    #[arg(value_name = "debian:SUITE")]
    pub(crate) source: String,
    /// Debian's name of the architecture, such as amd64, arm64, riscv64
    #[arg(long)]
    pub(crate) arch: Option<String>,
    /// Further packages
    #[arg(long, value_name = "PACKAGES", value_delimiter = ',')]
    pub(crate) include: Vec<String>,
    /// How to make it
    #[arg(long, value_enum, default_value_t = Variant::Minimal)]
    pub(crate) variant: Variant,
    /// The mirror instead of the one that apt uses here
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Option<String>,
    /// Trusted keys instead of Debian's keyring
    #[arg(long, value_name = "FILE")]
    pub(crate) keyring: Option<std::path::PathBuf>,
    /// What to call it
    #[arg(short, long, value_name = "NAME")]
    pub(crate) tag: String,
}

/// How a base image is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Variant {
    /// Packages unpacked, nothing run
    Minimal,
    /// A whole small Debian, configured
    Apt,
}

/// Flags of `images`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll images\n  atoll images --filter dangling=true -q")]
pub(crate) struct ImagesArgs {
    /// Also those without a name that others are made of
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// With digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Only those that fit, such as dangling=true, reference=demo*
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// How to print them: table, json, or a template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Do not shorten
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only of this repository
    pub(crate) repository: Option<String>,
}

/// Flags of `pull`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll pull debian:13\n  atoll pull registry.example:5000/team/web@sha256:…")]
pub(crate) struct PullArgs {
    /// Platform of the image, such as linux/arm64
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// No progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The image, with a tag or a digest
    pub(crate) image: String,
}

/// Flags of `push`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  atoll push registry.example:5000/team/web:1\n  atoll push -a registry.example:5000/team/web"
)]
pub(crate) struct PushArgs {
    /// All tags of the repository
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Of an image for several platforms only this one's, such as linux/arm64
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// No progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The image; its registry is part of its name
    pub(crate) image: String,
}

/// Flags of `login`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  atoll login registry.example:5000\n  atoll login -u me --password-stdin registry.example <secret"
)]
pub(crate) struct LoginArgs {
    /// Name
    #[arg(short, long)]
    pub(crate) username: Option<String>,
    /// Password; others can see it, use --password-stdin
    #[arg(short, long, conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Take the password from standard input
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    /// The registry; docker.io without one
    pub(crate) server: Option<String>,
}

/// Flags of `logout`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  atoll logout registry.example:5000")]
pub(crate) struct LogoutArgs {
    /// The registry; docker.io without one
    pub(crate) server: Option<String>,
}

/// Flags of `image prune`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll image prune\n  atoll image prune -a --filter until=240h")]
pub(crate) struct ImagePruneArgs {
    /// Not just those without a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Only those that fit, such as until=24h, label=old, label!=keep
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
}

/// Flags of `load`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll load -i image.tar\n  skopeo copy … docker-archive:/dev/stdout | atoll load")]
pub(crate) struct LoadArgs {
    /// The archive instead of standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<std::path::PathBuf>,
    /// No progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Of images of several platforms only this one, such as linux/arm64
    #[arg(long, default_value = "")]
    pub(crate) platform: String,
}

/// Flags of `save`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll save -o images.tar web:1 db\n  atoll save web:1 | gzip > web.tar.gz")]
pub(crate) struct SaveArgs {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<std::path::PathBuf>,
    /// Of images of several platforms only this one, such as linux/arm64
    #[arg(long, default_value = "")]
    pub(crate) platform: String,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// Flags of `import`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  atoll import rootfs.tar base:1\n  atoll export web | atoll import -c 'CMD [\"sh\"]' - web:flat"
)]
pub(crate) struct ImportArgs {
    /// An instruction of a Dockerfile that changes the image's configuration
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// A remark
    #[arg(short, long, default_value = "")]
    pub(crate) message: String,
    /// For which platform it is, such as linux/arm64
    #[arg(long, default_value = "")]
    pub(crate) platform: String,
    /// The archive, or - for standard input
    pub(crate) file: String,
    /// What to call the image
    pub(crate) name: Option<String>,
}

/// Flags of `tag`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  atoll tag demo registry.example/team/demo:1")]
pub(crate) struct TagArgs {
    /// The image
    pub(crate) source: String,
    /// Its further name
    pub(crate) target: String,
}

/// Flags of `rmi`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  atoll rmi demo\n  atoll rmi -f $(atoll images -q --filter dangling=true)")]
pub(crate) struct RmiArgs {
    /// Also those that have several names or that ended containers use
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// Flags of `history`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  atoll history demo")]
pub(crate) struct HistoryArgs {
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How to print them: table, json, or a template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Do not shorten
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// The image
    pub(crate) image: String,
}
