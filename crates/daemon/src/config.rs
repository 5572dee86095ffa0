//! The configuration: a file, and the command line above it. Every key is described in `docs/CONFIGURATION.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use atoll_engine::{LogLimits, Registries, Settings};
use clap::Parser;
use serde::Deserialize;

use crate::rootless::Caller;

/// Where the file is looked for when none is named.
const FILE: &str = "/etc/atoll/config.toml";
/// Name of the supervisor's program, which lies beside this one.
const SHIM: &str = "atoll-shim";
/// Certificate authorities of registries, where Docker has them.
const CERTIFICATES: &str = "/etc/docker/certs.d";
const SOCKET: &str = "atoll.sock";

/// The Atoll daemon: images, containers and volumes of one host.
#[derive(Debug, Parser)]
#[command(
    name = "atolld",
    version,
    after_help = "Example:\n  atolld --root /srv/atoll --run /run/atoll-two   a second daemon beside the first\n\n\
        ATOLL_LOG sets what is logged to standard error, such as debug or atoll_engine=trace."
)]
pub(crate) struct Arguments {
    /// Folder of durable state
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// Folder of the socket and of other state that is gone at reboot
    #[arg(long, value_name = "FOLDER")]
    run: Option<PathBuf>,
    /// Address to listen on, as unix:///PATH
    #[arg(long, short = 'H', value_name = "ADDRESS")]
    host: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What the daemon runs with.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) root: PathBuf,
    pub(crate) run: PathBuf,
    host: Option<String>,
    cgroup_parent: Option<String>,
    log: LogLimits,
    registries: Registries,
    /// Whether an ordinary user runs the daemon.
    rootless: bool,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    root: Option<PathBuf>,
    run: Option<PathBuf>,
    host: Option<String>,
    cgroup_parent: Option<String>,
    log: Log,
    registry: Registry,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Registry {
    insecure: Vec<String>,
    certificates: Option<PathBuf>,
    mirrors: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Log {
    file_bytes: Option<u64>,
    files: Option<u32>,
}

impl Config {
    /// Reads the file, if there is one, and puts the command line above it.
    pub(crate) fn load(arguments: &Arguments, caller: Caller) -> Result<Self> {
        let file = match &arguments.config {
            Some(path) => read(path)?,
            None => match default_files(caller).into_iter().find(|path| path.exists()) {
                Some(path) => read(&path)?,
                None => File::default(),
            },
        };
        merge(arguments, file, caller)
    }

    /// Where the socket is.
    pub(crate) fn socket(&self) -> PathBuf {
        match self.host.as_deref().and_then(|host| host.strip_prefix("unix://")) {
            Some(path) => PathBuf::from(path),
            None => self.run.join(SOCKET),
        }
    }

    /// What the engine is told.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let own = std::env::current_exe().context("finding this program")?;
        Ok(Settings {
            root: self.root.clone(),
            run: self.run.clone(),
            shim: own.with_file_name(SHIM),
            cgroup_parent: self.cgroup_parent.clone(),
            log: self.log,
            registries: self.registries.clone(),
            rootless: self.rootless,
        })
    }
}

fn merge(arguments: &Arguments, file: File, caller: Caller) -> Result<Config> {
    let (root, run) = default_folders(caller);
    let host = arguments.host.clone().or(file.host);
    if let Some(host) = &host
        && !host.starts_with("unix:///")
    {
        bail!("cannot listen on {host:?}: use unix:///PATH");
    }
    let defaults = LogLimits::default();
    let log = LogLimits {
        file_bytes: file.log.file_bytes.unwrap_or(defaults.file_bytes),
        files: file.log.files.unwrap_or(defaults.files),
    };
    if log.files == 0 || log.file_bytes < 64 << 10 {
        bail!("log.files must be at least 1, log.file_bytes at least 65536");
    }
    if let Some(wrong) = file.registry.mirrors.values().flatten().find(|mirror| mirror.contains('/')) {
        bail!("registry.mirrors: {wrong:?} must be HOST or HOST:PORT");
    }
    Ok(Config {
        root: std::path::absolute(arguments.root.clone().or(file.root).unwrap_or(root))?,
        run: std::path::absolute(arguments.run.clone().or(file.run).unwrap_or(run))?,
        host,
        cgroup_parent: file.cgroup_parent,
        log,
        registries: Registries {
            insecure: file.registry.insecure,
            certificates: file.registry.certificates.unwrap_or_else(|| PathBuf::from(CERTIFICATES)),
            mirrors: file.registry.mirrors,
        },
        rootless: !caller.is_root(),
    })
}

fn read(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in {}", path.display()))
}

/// The files that are looked for, the first that exists is read.
fn default_files(caller: Caller) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if !caller.is_root() {
        files.extend(xdg("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("atoll/config.toml")));
    }
    files.push(PathBuf::from(FILE));
    files
}

/// Where state is kept: of root, or of an ordinary user (XDG base directories). `atoll` looks for the socket in the same run
/// folder.
fn default_folders(caller: Caller) -> (PathBuf, PathBuf) {
    if caller.is_root() {
        return (PathBuf::from("/var/lib/atoll"), PathBuf::from("/run/atoll"));
    }
    let root = xdg("XDG_DATA_HOME", ".local/share").unwrap_or_else(|| PathBuf::from(".")).join("atoll");
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(|folder| PathBuf::from(folder).join("atoll"));
    let run = session.unwrap_or_else(|| root.join("run"));
    (root, run)
}

fn xdg(name: &str, below_home: &str) -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(below_home));
    std::env::var_os(name).map(PathBuf::from).or_else(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, line: &[&str]) -> Result<Config> {
        let arguments = Arguments::try_parse_from(["atolld"].iter().chain(line))?;
        merge(&arguments, toml::from_str(text)?, Caller::current())
    }

    #[test]
    fn the_command_line_is_above_the_file() {
        let file = "root = '/a'\nrun = '/b'\n[log]\nfiles = 5";
        let config = load(file, &["--run", "/c"]).expect("valid");
        assert_eq!((config.root, config.run.clone()), (PathBuf::from("/a"), PathBuf::from("/c")));
        assert_eq!(config.log.files, 5);
        let config = load(file, &["--run", "/c"]).expect("valid");
        assert_eq!(config.socket(), PathBuf::from("/c/atoll.sock"));
        let config = load("", &["--host", "unix:///x.sock"]).expect("valid");
        assert_eq!(config.socket(), PathBuf::from("/x.sock"));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let refused = |text: &str, line: &[&str]| format!("{:#}", load(text, line).expect_err("nonsense"));
        assert!(refused("colour = 'red'", &[]).contains("colour"));
        assert!(refused("[log]\nfiles = 0", &[]).contains("log.files"));
        assert!(refused("[registry.mirrors]\n'docker.io' = ['https://m/']", &[]).contains("https://m/"));
        assert!(refused("", &["--host", "tcp://0.0.0.0:1"]).contains("tcp://0.0.0.0:1"));
    }
}
