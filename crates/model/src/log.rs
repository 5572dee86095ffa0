//! Where a workload's output is kept: a driver and its options, as Docker names them.
//!
//! A [`Log`] holds what was asked for, word for word, so that an inspection can show it; [`Log::rules`] reads what it means.
//! Left out on purpose: drivers that send to somebody's service over HTTP.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::size;

/// Bytes that may wait to be written in non-blocking mode, unless configured.
pub const BUFFER_BYTES: u64 = 1 << 20;
/// Options of every driver that writes anything.
const COMMON: [&str; 2] = ["mode", "max-buffer-size"];
/// Options about files.
const FILES: [&str; 3] = ["max-size", "max-file", "compress"];
/// Options about what stands beside a line.
const ATTRIBUTES: [&str; 3] = ["labels", "env", "tag"];
/// What a tag may name.
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
    /// A pattern.
    #[error("log opt {0:?} is not supported by Atoll yet: name what is wanted with labels or env")]
    Pattern(String),
    /// A field of a tag that there is not.
    #[error("invalid log opt tag={tag}: {{{{{field}}}}} is no field that a tag may name: those are .{}", TAG_FIELDS.join(" ."))]
    Tag {
        /// The tag.
        tag: String,
        /// What it names.
        field: String,
    },
}

impl LogDriver {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Local, Self::JsonFile, Self::None];

    /// Its name in Docker.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::JsonFile => "json-file",
            Self::None => "none",
        }
    }

    fn has(self, option: &str) -> bool {
        match self {
            Self::None => false,
            Self::Local => COMMON.contains(&option) || FILES.contains(&option),
            Self::JsonFile => COMMON.contains(&option) || FILES.contains(&option) || ATTRIBUTES.contains(&option),
        }
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
            if matches!((driver, option.as_str()), (LogDriver::JsonFile, "labels-regex" | "env-regex")) {
                return Err(BadLog::Pattern(option.clone()));
            }
            if !driver.has(option) {
                return Err(BadLog::Option { option: option.clone(), driver });
            }
        }
        if let Some(tag) = self.options.get("tag") {
            expand_tag(tag, |_| Some(String::new()))?;
        }
        let files = self.files()?;
        let compress = match self.options.get("compress") {
            None => None,
            Some(value) => Some(boolean(value).ok_or_else(|| bad("compress", value, "it is true or false"))?),
        };
        if compress == Some(true) && files == Some(1) {
            return Err(BadLog::Compress);
        }
        // Not where nobody chose: supervisors of versions that had no choice would leave compressed files behind.
        let default = self.driver == Some(LogDriver::Local) && files != Some(1);
        Ok(LogRules {
            file_bytes: self.file_bytes()?,
            files,
            compress: compress.unwrap_or(default),
            buffer: self.buffer()?,
        })
    }

    fn file_bytes(&self) -> Result<Option<u64>, BadLog> {
        let Some(value) = self.options.get("max-size") else { return Ok(None) };
        // Docker's json-file counts in thousands, its local log in powers of 1024.
        let (unit, unlimited) = match self.driver() {
            LogDriver::JsonFile => (1000, value == "-1"),
            _ => (1024, false),
        };
        let bytes = if unlimited { Some(u64::MAX) } else { size(value, unit) };
        bytes.filter(|bytes| *bytes > 0).map(Some).ok_or_else(|| bad("max-size", value, "it is a size such as 10m"))
    }

    fn files(&self) -> Result<Option<u32>, BadLog> {
        /// Bound on what a reader opens.
        const MAX: u32 = 1000;
        let Some(value) = self.options.get("max-file") else { return Ok(None) };
        let number = value.parse().ok().filter(|number| (1..=MAX).contains(number));
        number.map(Some).ok_or_else(|| bad("max-file", value, "it is a number from 1 to 1000"))
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
        let known = name.trim().strip_prefix('.').filter(|name| TAG_FIELDS.contains(name));
        text.push_str(&known.and_then(&field).ok_or_else(|| no_field(name))?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

/// As each of Docker's drivers says it.
fn unknown_option(option: &str, driver: LogDriver) -> String {
    match driver {
        LogDriver::Local => format!("unknown log opt '{option}' for log driver local"),
        LogDriver::None => "invalid logging opts for driver none".to_owned(),
        LogDriver::JsonFile => format!("unknown log opt '{option}' for {} log driver", driver.name()),
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
        assert_eq!(expand_tag("a {{.Name}}/{{ .ID }} b", field), Ok("a <Name>/<ID> b".to_owned()));
    }
}
