//! What a command tells beside its output: failures, warnings and, with `--debug`, how it went.
//!
//! Lines have the two forms that runc's have, since engines read them: `time="…" level=error msg="…"`, or one JSON object
//! with these keys. They go to the file of `--log`; what concerns the caller also goes to standard error.

use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use super::state::date_time;

/// Where lines go, and which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) path: Option<PathBuf>,
    pub(super) json: bool,
    pub(super) debug: bool,
}

impl Log {
    /// A failure: on standard error too, as a line of the log only where that was asked for and no file was named.
    pub(super) fn failure(&self, text: &str) {
        if self.path.is_none() && self.json {
            let _ = writeln!(std::io::stderr(), "{}", self.line("error", text));
        } else {
            // With standard error closed nobody reads this.
            let _ = writeln!(std::io::stderr(), "atoll-runtime: {text}");
        }
        self.append("error", text);
    }

    /// What is told with `--debug` only.
    pub(super) fn debug(&self, text: &str) {
        if !self.debug {
            return;
        }
        if self.path.is_none() {
            let _ = writeln!(std::io::stderr(), "{}", self.line("debug", text));
        }
        self.append("debug", text);
    }

    fn append(&self, level: &str, text: &str) {
        if let Some(path) = &self.path
            && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
        {
            let _ = writeln!(file, "{}", self.line(level, text));
        }
    }

    fn line(&self, level: &str, text: &str) -> String {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time = format!("{}Z", date_time(since));
        if self.json {
            serde_json::json!({"level": level, "msg": text, "time": time}).to_string()
        } else {
            format!("time={time:?} level={level} msg={text:?}")
        }
    }
}
