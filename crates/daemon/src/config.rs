//! The configuration: a file, and the command line above it. Every key is described in `docs/CONFIGURATION.md`.

mod disk;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use atoll_engine::{LogSettings, Registries, Settings};
use atoll_model::Log;
use clap::{Parser, Subcommand};
use serde::Deserialize;

use self::disk::{Disk, DiskFile};
use crate::projects::Projects;
use crate::rootless::Caller;
use crate::{audit, offline, tls};

/// Where the file is looked for when none is named.
const FILE: &str = "/etc/atoll/config.toml";
/// Name of the supervisor's program, which lies beside this one.
const SHIM: &str = "atoll-shim";
/// Certificate authorities of registries, where Docker has them.
const CERTIFICATES: &str = "/etc/docker/certs.d";
/// Specifications of devices, where the Container Device Interface has them.
const CDI_FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
const SOCKET: &str = "atoll.sock";
/// How much of the audit log is kept where nothing is said.
const AUDIT_BYTES: u64 = 16 << 20;
const AUDIT_FILES: u32 = 5;

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
    /// Address to listen on, as unix:///PATH or tcp://ADDRESS:PORT; may be given more than once
    #[arg(long, short = 'H', value_name = "ADDRESS")]
    host: Vec<String>,
    #[command(flatten)]
    tls: TlsArguments,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) task: Option<Task>,
}

/// What is done in place of serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Look at the host and print as JSON what it lacks (see `atoll system doctor`)
    Doctor,
    #[command(flatten)]
    Offline(offline::Task),
}

/// Mutual TLS, in dockerd's words.
#[derive(Clone, Debug, Default, clap::Args)]
struct TlsArguments {
    /// On TCP, talk only to clients whose certificate the authority signed
    #[arg(long)]
    tlsverify: bool,
    /// The authority's certificate
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// The daemon's certificate
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// The daemon's key
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
}

/// What the daemon runs with.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) root: PathBuf,
    pub(crate) run: PathBuf,
    host: Option<String>,
    cgroup_parent: Option<String>,
    log: LogSettings,
    disk: Disk,
    cdi_folders: Vec<PathBuf>,
    registries: Registries,
    /// Whether an ordinary user runs the daemon.
    rootless: bool,
    pub(crate) tcp: Tcp,
    pub(crate) callers: Callers,
    /// Where the metrics are served, beside the API's own addresses.
    pub(crate) metrics: Option<SocketAddr>,
}

/// What is kept of callers, and what they see.
#[derive(Clone, Debug)]
pub(crate) struct Callers {
    pub(crate) audit: Option<audit::Plan>,
    pub(crate) projects: Projects,
}

/// TCP, and who may come over it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tcp {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) tls: Option<tls::Files>,
    /// Whether loopback addresses are open to all users of this host.
    loopback: bool,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    root: Option<PathBuf>,
    run: Option<PathBuf>,
    host: Option<String>,
    cgroup_parent: Option<String>,
    cdi_folders: Option<Vec<PathBuf>>,
    log: LogTable,
    storage: StorageFile,
    registry: Registry,
    tcp: TcpFile,
    audit: AuditFile,
    metrics: MetricsFile,
    disk: DiskFile,
    administrators: Vec<String>,
    projects: BTreeMap<String, ProjectFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ProjectFile {
    members: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TcpFile {
    listen: Option<SocketAddr>,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    loopback_without_tls: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AuditFile {
    file: Option<PathBuf>,
    file_bytes: Option<u64>,
    files: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MetricsFile {
    listen: Option<SocketAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StorageFile {
    size: Option<String>,
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
struct LogTable {
    driver: Option<String>,
    options: BTreeMap<String, String>,
    file_bytes: Option<u64>,
    files: Option<u32>,
    journal: Option<PathBuf>,
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
            log: self.log.clone(),
            storage: self.disk.storage,
            cdi_folders: self.cdi_folders.clone(),
            registries: self.registries.clone(),
            watermark: self.disk.watermark.clone(),
            rootless: self.rootless,
        })
    }
}

fn merge(arguments: &Arguments, file: File, caller: Caller) -> Result<Config> {
    let (root, run) = default_folders(caller);
    let (host, tcp) = listeners(arguments, file.host, file.tcp)?;
    let log = log_settings(file.log)?;
    if tcp.loopback && !file.projects.is_empty() {
        bail!("tcp.loopback_without_tls tells nobody apart: leave it out where there are projects");
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
        disk: Disk {
            storage: file.storage.size.as_deref().map(storage_size).transpose()?,
            watermark: file.disk.watermark()?,
        },
        cdi_folders: file.cdi_folders.unwrap_or_else(|| CDI_FOLDERS.map(PathBuf::from).to_vec()),
        registries: Registries {
            insecure: file.registry.insecure,
            certificates: file.registry.certificates.unwrap_or_else(|| PathBuf::from(CERTIFICATES)),
            mirrors: file.registry.mirrors,
        },
        rootless: !caller.is_root(),
        tcp,
        callers: Callers {
            audit: audit_plan(file.audit)?,
            projects: projects(&file.administrators, file.projects, caller)?,
        },
        metrics: metrics_address(file.metrics.listen)?,
    })
}

fn projects(administrators: &[String], files: BTreeMap<String, ProjectFile>, caller: Caller) -> Result<Projects> {
    let members = files.into_iter().map(|(name, file)| (name, file.members)).collect();
    let projects = Projects::read(administrators, &members, Path::new("/etc"))?;
    if projects.are_there() && !caller.is_root() {
        bail!("projects are for the daemon of root: that of an ordinary user has one user");
    }
    Ok(projects)
}

/// The unix socket's address and what is listened on beside it; what the command line says goes before the file.
fn listeners(arguments: &Arguments, host: Option<String>, file: TcpFile) -> Result<(Option<String>, Tcp)> {
    let hosts = if arguments.host.is_empty() { host.into_iter().collect() } else { arguments.host.clone() };
    let (mut unix, mut listen) = (None, file.listen);
    for host in hosts {
        if host.starts_with("unix:///") {
            unix = Some(host);
        } else if let Some(address) = host.strip_prefix("tcp://") {
            let address = address.replacen("localhost:", "127.0.0.1:", 1);
            listen = Some(address.parse().with_context(|| format!("{host:?} is no address: use tcp://ADDRESS:PORT"))?);
        } else if host != "fd://" {
            bail!("cannot listen on {host:?}: use unix:///PATH, tcp://ADDRESS:PORT or fd://");
        }
    }
    let line = arguments.tls.clone();
    let files = (line.tlscacert.or(file.authority), line.tlscert.or(file.certificate), line.tlskey.or(file.key));
    let tls = match files {
        (Some(authority), Some(certificate), Some(key)) => Some(tls::Files { authority, certificate, key }),
        (None, None, None) if !line.tlsverify => None,
        _ => bail!(
            "mutual TLS needs all of tcp.authority, tcp.certificate and tcp.key (--tlscacert, --tlscert, --tlskey)"
        ),
    };
    let tcp = Tcp { listen, tls, loopback: file.loopback_without_tls };
    if let Some(address) = tcp.listen {
        tcp.check(address)?;
    }
    Ok((unix, tcp))
}

impl Tcp {
    /// Refuses an address that anybody could come over.
    pub(crate) fn check(&self, address: SocketAddr) -> Result<()> {
        if self.tls.is_some() || (self.loopback && address.ip().is_loopback()) {
            return Ok(());
        }
        bail!(
            "cannot listen on tcp://{address} without mutual TLS, whoever connects is as good as root: set tcp.authority, tcp.certificate and tcp.key (--tlsverify, --tlscacert, --tlscert, --tlskey); for a loopback address, tcp.loopback_without_tls = true opens it to every user of this host"
        )
    }

    /// The address that every user of this host can connect to, if there is one.
    pub(crate) fn is_exposed(&self) -> Option<SocketAddr> {
        self.listen.filter(|_| self.tls.is_none())
    }
}

fn audit_plan(file: AuditFile) -> Result<Option<audit::Plan>> {
    let Some(path) = file.file else { return Ok(None) };
    let (file_bytes, files) = (file.file_bytes.unwrap_or(AUDIT_BYTES), file.files.unwrap_or(AUDIT_FILES));
    if files == 0 || file_bytes < 64 << 10 {
        bail!("audit.files must be at least 1, audit.file_bytes at least 65536");
    }
    Ok(Some(audit::Plan { file: std::path::absolute(path)?, file_bytes, files }))
}

fn metrics_address(address: Option<SocketAddr>) -> Result<Option<SocketAddr>> {
    match address {
        Some(address) if !address.ip().is_loopback() => {
            bail!("metrics.listen is for a loopback address, which {address} is not: put a proxy before it")
        }
        address => Ok(address),
    }
}

fn log_settings(table: LogTable) -> Result<LogSettings> {
    let defaults = LogSettings::default();
    let file_bytes = table.file_bytes.unwrap_or(defaults.file_bytes);
    let files = table.files.unwrap_or(defaults.files);
    if files == 0 || file_bytes < 64 << 10 {
        bail!("log.files must be at least 1, log.file_bytes at least 65536");
    }
    let driver = table.driver.map(|name| name.parse()).transpose().context("log.driver")?;
    let default = Log { driver, options: table.options }.settle(&defaults.default).context("log.options")?;
    let journal = table.journal.unwrap_or(defaults.journal);
    Ok(LogSettings { default, file_bytes, files, journal })
}

fn storage_size(text: &str) -> Result<u64> {
    let size = atoll_model::size(text, 1024).filter(|bytes| *bytes > 0);
    size.with_context(|| format!("storage.size: {text:?} is no size such as 10G"))
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
        assert_eq!((config.log.files, config.log.default.driver().name()), (5, "json-file"));
        let config = load("[log]\ndriver = 'local'\noptions = { max-size = '1m' }", &[]).expect("valid");
        assert_eq!((config.log.default.driver().name(), &*config.log.default.options["max-size"]), ("local", "1m"));
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
        assert!(refused("[log]\ndriver = 'paper'", &[]).contains("paper"));
        assert!(
            refused("[log]\ndriver = 'local'\noptions = { labels = 'a' }", &[])
                .contains("'labels' for log driver local")
        );
        assert!(refused("[registry.mirrors]\n'docker.io' = ['https://m/']", &[]).contains("https://m/"));
        assert!(refused("", &["--host", "http://x"]).contains("http://x"));
        assert!(refused("", &["--host", "tcp://nowhere"]).contains("tcp://nowhere"));
        assert!(refused("[storage]\nsize = 'much'", &[]).contains("storage.size"));
        assert!(refused("[audit]\nfile = '/x'\nfiles = 0", &[]).contains("audit.files"));
        assert!(refused("[metrics]\nlisten = '0.0.0.0:1'", &[]).contains("0.0.0.0:1"));
        assert!(refused("[disk]\nhigh = '101%'", &[]).contains("disk.high"));
    }

    #[test]
    fn tcp_is_for_those_who_have_a_certificate() {
        let refused = |text: &str, line: &[&str]| format!("{:#}", load(text, line).expect_err("nobody may"));
        let tls = ["--tlsverify", "--tlscacert", "/ca", "--tlscert", "/cert", "--tlskey", "/key"];
        let tcp = |address: &'static str| ["-H", address];
        assert!(refused("", &tcp("tcp://0.0.0.0:1")).contains("without mutual TLS"));
        assert!(refused("", &tcp("tcp://127.0.0.1:1")).contains("loopback_without_tls"));
        assert!(refused("[tcp]\nloopback_without_tls = true", &tcp("tcp://0.0.0.0:1")).contains("0.0.0.0:1"));
        assert!(refused("", &[&tcp("tcp://0.0.0.0:1")[..], &tls[..5]].concat()).contains("tcp.key"));
        assert!(refused("", &["--tlsverify"]).contains("tcp.authority"));
        let open = load("[tcp]\nloopback_without_tls = true", &tcp("tcp://localhost:1")).expect("asked for by name");
        assert_eq!(open.tcp.is_exposed(), Some("127.0.0.1:1".parse().expect("an address")));
        let both = ["-H", "unix:///x.sock", "-H", "tcp://0.0.0.0:1"];
        let shut = load("", &[&both[..], &tls].concat()).expect("mutual TLS");
        assert_eq!((shut.socket(), shut.tcp.is_exposed()), (PathBuf::from("/x.sock"), None));
        assert_eq!(shut.tcp.tls.expect("files").key, PathBuf::from("/key"));
        let file = "[tcp]\nlisten = '0.0.0.0:1'\nauthority = '/a'\ncertificate = '/b'\nkey = '/c'";
        assert!(load(file, &[]).expect("mutual TLS").tcp.listen.is_some());
    }
}
