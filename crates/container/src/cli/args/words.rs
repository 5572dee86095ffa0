//! Arguments split into options and operands.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::Error;

/// Arguments that are taken one by one; options may stand before or after operands.
pub(super) struct Words<'a> {
    pub(super) command: String,
    words: std::slice::Iter<'a, OsString>,
    pub(super) operands: Vec<String>,
    /// Options end at this many operands (`exec`, `ps`).
    stop: usize,
}

impl<'a> Words<'a> {
    pub(super) fn new(command: &str, words: &'a [OsString], stop: usize) -> Self {
        Self { command: command.to_owned(), words: words.iter(), operands: Vec::new(), stop }
    }

    /// The next option with the value that follows its `=`, if any; `None` when only operands were left.
    pub(super) fn next_option(&mut self) -> Option<(String, Option<OsString>)> {
        for word in self.words.by_ref() {
            let bytes = word.as_bytes();
            if self.operands.len() >= self.stop {
                self.operands.push(word.to_string_lossy().into_owned());
            } else if bytes == b"--" {
                self.stop = 0;
            } else if bytes.len() > 1 && bytes[0] == b'-' {
                return Some(match bytes.iter().position(|byte| *byte == b'=') {
                    Some(at) => (
                        String::from_utf8_lossy(&bytes[..at]).into_owned(),
                        Some(OsString::from_vec(bytes[at + 1..].to_vec())),
                    ),
                    None => (word.to_string_lossy().into_owned(), None),
                });
            } else {
                self.operands.push(word.to_string_lossy().into_owned());
            }
        }
        None
    }

    pub(super) fn value(&mut self, option: &str, given: Option<OsString>) -> Result<OsString, Error> {
        given.or_else(|| self.words.next().cloned()).ok_or_else(|| Error::Value(option.to_owned()))
    }

    pub(super) fn text(&mut self, option: &str, given: Option<OsString>) -> Result<String, Error> {
        self.value(option, given)?.into_string().map_err(|_| Error::Value(option.to_owned()))
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self, option: &str, given: Option<OsString>) -> Result<T, Error> {
        self.text(option, given)?.trim().parse().map_err(|_| Error::Value(option.to_owned()))
    }

    /// A flag, which takes no value but `=true` and `=false`.
    pub(super) fn flag(option: &str, given: Option<&OsStr>) -> Result<bool, Error> {
        match given.map(OsStr::as_bytes) {
            None | Some(b"true") => Ok(true),
            Some(b"false") => Ok(false),
            Some(_) => Err(Error::Value(option.to_owned())),
        }
    }

    /// What is said to an option that is not known.
    pub(super) fn unknown<T>(&self, option: &str) -> Result<T, Error> {
        if REFUSED.contains(&option) {
            return Err(Error::Refused(option.to_owned()));
        }
        Err(Error::Option { command: self.command.clone(), option: option.to_owned() })
    }
}

/// Options of runc's that are not done here.
const REFUSED: [&str; 9] = [
    "--l3-cache-schema",
    "--mem-bw-schema",
    "--lazy-pages",
    "--page-server",
    "--status-fd",
    "--pre-dump",
    "--parent-path",
    "--lsm-profile",
    "--lsm-mount-context",
];
