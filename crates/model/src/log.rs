//! Where a workload's output is kept: a driver and its options, as Docker names them.
//!
//! A [`Log`] holds what was asked for, word for word, so that an inspection can show it; [`Log::rules`] reads what it means.
//! Two drivers send lines on, to a [`syslog`] receiver or to journald, from files that keep them until they have arrived.
//! Left out on purpose: drivers that send to somebody's service over HTTP.

mod syslog;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::size;

pub use syslog::{BadSyslog, Syslog, SyslogAddress, SyslogFormat};

/// Bytes that may wait to be written in non-blocking mode, unless configured.
pub const BUFFER_BYTES: u64 = 1 << 20;
/// Options of every driver that writes anything.
const COMMON: [&str; 2] = ["mode", "max-buffer-size"];
/// Options about files.
const FILES: [&str; 3] = ["max-size", "max-file", "compress"];
/// Options about the files in which lines wait to be sent on, and the size and number of these where nothing is said.
const CACHE: [&str; 4] = ["cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];
const CACHE_BYTES: u64 = 20 << 20;
const CACHE_FILES: u32 = 5;
/// Options about what stands beside a line.
const ATTRIBUTES: [&str; 3] = ["labels", "env", "tag"];
/// What a tag may name, and the field that gives what `labels` and `env` chose: all of it, or one by its name.
const EXTRA: &str = "ExtraAttributes";
const TAG_FIELDS: [&str; 10] = [
    "ID",
    "FullID",
    "Name",
    "ImageID",
    "ImageFullID",
    "ImageName",
    "DaemonName",
    "Command",
    "ContainerID",
    "ContainerName",
];

/// What keeps a workload's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// Files in a format of our own.
    #[default]
    Local,
    /// Files with a JSON object on each line, which others read too.
    JsonFile,
    /// Nothing.
    None,
    /// A receiver that speaks the syslog protocol.
    Syslog,
    /// The journal of this host.
    Journald,
}

/// What a workload's maker asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// None is the host's default, which is filled in when the workload is defined.
    pub driver: Option<LogDriver>,
    /// By their names in Docker.
    pub options: BTreeMap<String, String>,
}

/// What the options mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogRules {
    /// Bytes after which a file is closed and the next begun: none is the host's default, [`u64::MAX`] never.
    pub file_bytes: Option<u64>,
    /// Files that are kept, the current one included: none is the host's default.
    pub files: Option<u32>,
    /// Whether files are compressed once they are closed.
    pub compress: bool,
    /// Bytes that may wait to be written while the workload goes on; none: it waits.
    pub buffer: Option<u64>,
}

/// A driver or an option that there is not, or a value that makes no sense. The sentences are Docker's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLog {
    /// No such driver.
    #[error("error looking up logging plugin {0}: plugin {0:?} not found")]
    Driver(String),
    /// No such option of this driver.
    #[error("{}", unknown_option(option, *driver))]
    Option {
        /// What was asked for.
        option: String,
        /// Of which driver.
        driver: LogDriver,
    },
    /// An option whose value makes no sense.
    #[error("invalid log opt {option}={value}: {why}")]
    Value {
        /// Its name.
        option: &'static str,
        /// What was asked for.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a mode.
    #[error("logger: logging mode not supported: {0}")]
    Mode(String),
    /// A buffer that nothing would wait in.
    #[error("logger: max-buffer-size option is only supported with 'mode=non-blocking'")]
    Buffer,
    /// Compression without a file that is closed and kept.
    #[error("compress cannot be true when max-file is less than 2")]
    Compress,
    /// A receiver of syslog that there cannot be.
    #[error("{0}")]
    Syslog(#[from] BadSyslog),
    /// A pattern.
    #[error("log opt {0:?} is not supported by Atoll yet: name what is wanted with labels or env")]
    Pattern(String),
    /// A field of a tag that there is not.
    #[error("invalid log opt tag={tag}: {{{{{field}}}}} is no field that a tag may name: those are .{} .{EXTRA} nil", TAG_FIELDS.join(" ."))]
    Tag {
        /// The tag.
        tag: String,
        /// What it names.
        field: String,
    },
}

impl LogDriver {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Journald, Self::JsonFile, Self::Local, Self::Syslog, Self::None];

    /// Its name in Docker.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::JsonFile => "json-file",
            Self::None => "none",
            Self::Syslog => "syslog",
            Self::Journald => "journald",
        }
    }

    /// Whether lines are sent on from the files in which they are kept.
    #[must_use]
    pub const fn forwards(self) -> bool {
        matches!(self, Self::Syslog | Self::Journald)
    }

    const fn has_attributes(self) -> bool {
        matches!(self, Self::JsonFile | Self::Syslog | Self::Journald)
    }

    fn has(self, option: &str) -> bool {
        let files = if self.forwards() { &CACHE[..] } else { &FILES };
        let written = self != Self::None && (COMMON.contains(&option) || files.contains(&option));
        written
            || (self.has_attributes() && ATTRIBUTES.contains(&option))
            || (self == Self::Syslog && syslog::OPTIONS.contains(&option))
    }
}

impl std::str::FromStr for LogDriver {
    type Err = BadLog;

    fn from_str(name: &str) -> Result<Self, BadLog> {
        Self::ALL.into_iter().find(|driver| driver.name() == name).ok_or_else(|| BadLog::Driver(name.to_owned()))
    }
}

impl Log {
    /// The driver, whose default is the one of workloads that were defined before there was a choice.
    #[must_use]
    pub fn driver(&self) -> LogDriver {
        self.driver.unwrap_or_default()
    }

    /// What this comes to on a host with such a default: its driver where none is named, its options where the driver is the
    /// same.
    ///
    /// # Errors
    /// [`BadLog`] when an option makes no sense.
    pub fn settle(mut self, default: &Self) -> Result<Self, BadLog> {
        let driver = self.driver.unwrap_or_else(|| default.driver());
        self.driver = Some(driver);
        if driver == default.driver() {
            for (name, value) in &default.options {
                self.options.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        self.rules()?;
        Ok(self)
    }

    /// What the options mean.
    ///
    /// # Errors
    /// [`BadLog`] for the first that makes no sense.
    pub fn rules(&self) -> Result<LogRules, BadLog> {
        let driver = self.driver();
        for option in self.options.keys() {
            if driver.has_attributes() && matches!(option.as_str(), "labels-regex" | "env-regex") {
                return Err(BadLog::Pattern(option.clone()));
            }
            if !driver.has(option) {
                return Err(BadLog::Option { option: option.clone(), driver });
            }
        }
        if let Some(tag) = self.options.get("tag") {
            expand_tag(tag, |_| Some(String::new()))?;
        }
        if driver == LogDriver::Syslog {
            Syslog::parse(&self.options)?;
        }
        if self.flag("cache-disabled")? == Some(true) {
            return Err(bad("cache-disabled", "true", "lines wait in the cache until they have arrived"));
        }
        let files = self.files()?;
        let compress = self.flag(self.file_option("compress", "cache-compress"))?;
        if compress == Some(true) && files == Some(1) {
            return Err(BadLog::Compress);
        }
        // Not where nobody chose: supervisors of versions that had no choice would leave compressed files behind.
        let default = (self.driver == Some(LogDriver::Local) || driver.forwards()) && files != Some(1);
        Ok(LogRules {
            file_bytes: self.file_bytes()?,
            files,
            compress: compress.unwrap_or(default),
            buffer: self.buffer()?,
        })
    }

    /// Which of two names an option about files has with this driver.
    fn file_option(&self, own: &'static str, cache: &'static str) -> &'static str {
        if self.driver().forwards() { cache } else { own }
    }

    fn flag(&self, option: &'static str) -> Result<Option<bool>, BadLog> {
        let Some(value) = self.options.get(option) else { return Ok(None) };
        boolean(value).map(Some).ok_or_else(|| bad(option, value, "it is true or false"))
    }

    fn file_bytes(&self) -> Result<Option<u64>, BadLog> {
        let option = self.file_option("max-size", "cache-max-size");
        let Some(value) = self.options.get(option) else {
            return Ok(self.driver().forwards().then_some(CACHE_BYTES));
        };
        // Docker's json-file counts in thousands, its local log in powers of 1024.
        let (unit, unlimited) = match self.driver() {
            LogDriver::JsonFile => (1000, value == "-1"),
            _ => (1024, false),
        };
        let bytes = if unlimited { Some(u64::MAX) } else { size(value, unit) };
        bytes.filter(|bytes| *bytes > 0).map(Some).ok_or_else(|| bad(option, value, "it is a size such as 10m"))
    }

    fn files(&self) -> Result<Option<u32>, BadLog> {
        /// Bound on what a reader opens.
        const MAX: u32 = 1000;
        let option = self.file_option("max-file", "cache-max-file");
        let Some(value) = self.options.get(option) else {
            return Ok(self.driver().forwards().then_some(CACHE_FILES));
        };
        let number = value.parse().ok().filter(|number| (1..=MAX).contains(number));
        number.map(Some).ok_or_else(|| bad(option, value, "it is a number from 1 to 1000"))
    }

    fn buffer(&self) -> Result<Option<u64>, BadLog> {
        let size_asked = self.options.get("max-buffer-size");
        match self.options.get("mode").map_or("", String::as_str) {
            "non-blocking" => {}
            "" | "blocking" if size_asked.is_some() => return Err(BadLog::Buffer),
            "" | "blocking" => return Ok(None),
            other => return Err(BadLog::Mode(other.to_owned())),
        }
        let Some(value) = size_asked else { return Ok(Some(BUFFER_BYTES)) };
        size(value, 1024).map(Some).ok_or_else(|| bad("max-buffer-size", value, "it is a size such as 1m"))
    }
}

/// A tag with its fields filled in.
///
/// # Errors
/// [`BadLog::Tag`] where `field` has none of a name.
pub fn expand_tag(tag: &str, field: impl Fn(&str) -> Option<String>) -> Result<String, BadLog> {
    let mut text = String::new();
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        let no_field = |name: &str| BadLog::Tag { tag: tag.to_owned(), field: name.to_owned() };
        let (name, after) = after.split_once("}}").ok_or_else(|| no_field(after))?;
        let known = tag_field(name.trim());
        text.push_str(&known.and_then(|name| field(&name)).ok_or_else(|| no_field(name))?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

/// The field that is meant by what stands between the braces of a tag, if there is one.
fn tag_field(text: &str) -> Option<String> {
    if let Some(attribute) = text.strip_prefix('(') {
        let (extra, name) = attribute.split_once(").")?;
        return (extra.trim() == ".ExtraAttributes nil").then(|| format!("{EXTRA}.{name}"));
    }
    let name = text.strip_prefix('.')?;
    if name == "ExtraAttributes nil" {
        return Some(EXTRA.to_owned());
    }
    TAG_FIELDS.contains(&name).then(|| name.to_owned())
}

/// As each of Docker's drivers says it.
fn unknown_option(option: &str, driver: LogDriver) -> String {
    match driver {
        LogDriver::Local => format!("unknown log opt '{option}' for log driver local"),
        LogDriver::None => "invalid logging opts for driver none".to_owned(),
        _ => format!("unknown log opt '{option}' for {} log driver", driver.name()),
    }
}

fn bad(option: &'static str, value: &str, why: &'static str) -> BadLog {
    BadLog::Value { option, value: value.to_owned(), why }
}

/// As Go's `ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(driver: LogDriver, options: &[(&str, &str)]) -> Log {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Log { driver: Some(driver), options }
    }

    #[test]
    fn options_mean_what_they_mean_to_docker() {
        let check = |driver, options: &[(&str, &str)], expected: LogRules| {
            assert_eq!(log(driver, options).rules(), Ok(expected), "{options:?}");
        };
        let local = LogRules { compress: true, ..LogRules::default() };
        check(LogDriver::Local, &[], local);
        check(LogDriver::JsonFile, &[], LogRules::default());
        check(LogDriver::Local, &[("max-size", "1k")], LogRules { file_bytes: Some(1024), ..local });
        let json = LogRules { file_bytes: Some(1000), ..LogRules::default() };
        check(LogDriver::JsonFile, &[("max-size", "1k")], json);
        check(LogDriver::JsonFile, &[("max-size", "-1")], LogRules { file_bytes: Some(u64::MAX), ..json });
        check(LogDriver::Local, &[("max-file", "1")], LogRules { files: Some(1), compress: false, ..local });
        check(LogDriver::Local, &[("compress", "false")], LogRules { compress: false, ..local });
        check(LogDriver::Local, &[("mode", "non-blocking")], LogRules { buffer: Some(BUFFER_BYTES), ..local });
        check(LogDriver::Local, &[("mode", "blocking")], local);
        let small = [("mode", "non-blocking"), ("max-buffer-size", "4k")];
        check(LogDriver::Local, &small, LogRules { buffer: Some(4096), ..local });
        check(LogDriver::None, &[], LogRules::default());
        let cache = LogRules { file_bytes: Some(20 << 20), files: Some(5), ..local };
        check(LogDriver::Journald, &[], cache);
        check(LogDriver::Syslog, &[("cache-max-size", "1k")], LogRules { file_bytes: Some(1024), ..cache });
        let single = [("cache-max-file", "1"), ("cache-disabled", "false")];
        check(LogDriver::Syslog, &single, LogRules { files: Some(1), compress: false, ..cache });
        assert_eq!(Log::default().rules(), Ok(LogRules::default()));
    }

    #[test]
    fn nonsense_is_refused_in_docker_s_words() {
        let check = |driver, (name, value): (&str, &str), expected: &str| {
            let error = log(driver, &[(name, value)]).rules().expect_err(name);
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(LogDriver::JsonFile, ("x", "1"), "unknown log opt 'x' for json-file log driver");
        check(LogDriver::Local, ("labels", "a"), "unknown log opt 'labels' for log driver local");
        check(LogDriver::None, ("max-size", "1m"), "invalid logging opts for driver none");
        check(LogDriver::Local, ("mode", "maybe"), "logger: logging mode not supported: maybe");
        check(LogDriver::Local, ("max-buffer-size", "1m"), "only supported with 'mode=non-blocking'");
        check(LogDriver::JsonFile, ("max-size", "much"), "max-size=much");
        check(LogDriver::Local, ("max-size", "-1"), "max-size=-1");
        check(LogDriver::Local, ("max-size", "99999999999t"), "max-size");
        check(LogDriver::JsonFile, ("max-file", "0"), "max-file=0");
        check(LogDriver::JsonFile, ("compress", "yes"), "compress=yes");
        check(LogDriver::JsonFile, ("env-regex", "^A"), "env-regex");
        check(LogDriver::JsonFile, ("tag", "{{.Foo}}"), "{{.Foo}} is no field");
        check(LogDriver::JsonFile, ("tag", "{{.Name"), ".Name");
        check(LogDriver::Journald, ("max-size", "1m"), "unknown log opt 'max-size' for journald log driver");
        check(LogDriver::Journald, ("syslog-format", "rfc3164"), "unknown log opt 'syslog-format' for journald");
        check(LogDriver::Syslog, ("labels-regex", "^A"), "labels-regex");
        check(LogDriver::Syslog, ("cache-disabled", "true"), "cache-disabled=true");
        check(LogDriver::Syslog, ("cache-max-file", "0"), "cache-max-file=0");
        check(LogDriver::Syslog, ("syslog-facility", "wheel"), "invalid syslog facility");
        let both = log(LogDriver::JsonFile, &[("max-file", "1"), ("compress", "true")]);
        assert_eq!(both.rules(), Err(BadLog::Compress));
        assert!("foo".parse::<LogDriver>().is_err());
    }

    #[test]
    fn a_host_s_default_fills_what_is_left_open() {
        let default = log(LogDriver::JsonFile, &[("max-size", "1m"), ("max-file", "2")]);
        let settled = Log::default().settle(&default).expect("valid");
        assert_eq!(settled, default);
        let own = log(LogDriver::JsonFile, &[("max-file", "4")]).settle(&default).expect("valid");
        assert_eq!((own.options["max-size"].as_str(), own.options["max-file"].as_str()), ("1m", "4"));
        let other = log(LogDriver::Local, &[]).settle(&default).expect("valid");
        assert!(other.options.is_empty());
    }

    #[test]
    fn tags_are_filled_in() {
        let field = |name: &str| Some(format!("<{name}>"));
        let check = |tag: &str, expected: &str| assert_eq!(expand_tag(tag, field), Ok(expected.to_owned()));
        check("a {{.Name}}/{{ .ID }} b", "a <Name>/<ID> b");
        check("{{.ExtraAttributes nil}}", "<ExtraAttributes>");
        check("{{ (.ExtraAttributes nil).A_B }}", "<ExtraAttributes.A_B>");
        assert!(expand_tag("{{(.Name nil).A}}", field).is_err());
    }
}
