//! What a container's process under construction and its maker tell each other, over one `SOCK_SEQPACKET` pair.
//!
//! Each message is one packet: a letter, then the fields of a failure where there is one. The process's end is closed on
//! exec, so that the maker reads the end of the channel exactly when the new program runs or the process is gone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{CreateError, StartError};

/// Longest message in bytes; details are cut to fit.
const MESSAGE_MAX: usize = 4096;
/// Bytes of a failure's texts that are kept.
const TEXT_MAX: usize = 1500;

/// To the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToInit {
    /// systemd has put it into its group.
    Grouped,
    /// The ids of its user namespace are mapped.
    Mapped,
    /// The maker's part is done; the process's number, as its maker sees it.
    Placed(i32),
    /// The hooks of the runtime's namespaces have run.
    Continue,
    /// It may execute its program.
    Start,
}

/// What kept the process from going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What kind of failure: see [`FailureKind`].
    pub(crate) kind: FailureKind,
    /// The step's name.
    pub(crate) step: String,
    /// What it worked on.
    pub(crate) detail: String,
    /// The system's error number.
    pub(crate) errno: i32,
}

/// Kinds of failures that callers decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// A step of the set-up.
    Step,
    /// No such program.
    NotFound,
    /// The program is there and cannot be executed.
    NotExecutable,
}

/// From the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FromInit {
    /// The master of its terminal comes along.
    Terminal,
    /// Its mounts are made; it waits for the hooks of the runtime's namespaces.
    Mounted,
    /// A descriptor of its root comes along; everything is made and it waits for the start.
    Ready,
    /// A helper made the process with this number, whose descriptor comes along.
    Made(i32),
    /// It took the word to start.
    Executing,
    /// It cannot go on.
    Failed(Failure),
}

impl Failure {
    fn error(&self) -> io::Error {
        match self.errno {
            0 => io::Error::other("it stops here"),
            errno => io::Error::from_raw_os_error(errno),
        }
    }

    /// As the failure of a creation.
    pub(crate) fn into_create_error(self) -> CreateError {
        match self.kind {
            FailureKind::Step => {
                let source = self.error();
                CreateError::Step { step: self.step, detail: self.detail, source }
            }
            FailureKind::NotFound | FailureKind::NotExecutable => CreateError::Program(self.into_start_error()),
        }
    }

    /// As the failure of a start.
    pub(crate) fn into_start_error(self) -> StartError {
        let source = self.error();
        match self.kind {
            FailureKind::Step => StartError::Step { step: self.step, detail: self.detail, source },
            FailureKind::NotFound => StartError::NotFound { program: self.detail, reason: self.step },
            FailureKind::NotExecutable => StartError::NotExecutable { program: self.detail, source },
        }
    }
}

impl FromInit {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Terminal => b"T".to_vec(),
            Self::Mounted => b"H".to_vec(),
            Self::Ready => b"R".to_vec(),
            Self::Executing => b"X".to_vec(),
            Self::Made(pid) => [b"M".as_slice(), &pid.to_le_bytes()].concat(),
            Self::Failed(failure) => {
                let kind = match failure.kind {
                    FailureKind::Step => b'S',
                    FailureKind::NotFound => b'N',
                    FailureKind::NotExecutable => b'E',
                };
                let cut = |text: &str| text.chars().filter(|c| *c != '\0').take(TEXT_MAX / 4).collect::<String>();
                let mut message = vec![b'F', kind];
                message.extend(failure.errno.to_le_bytes());
                message.extend(cut(&failure.step).as_bytes());
                message.push(0);
                message.extend(cut(&failure.detail).as_bytes());
                message
            }
        }
    }

    fn decode(message: &[u8]) -> Option<Self> {
        Some(match message {
            b"T" => Self::Terminal,
            b"H" => Self::Mounted,
            b"R" => Self::Ready,
            b"X" => Self::Executing,
            [b'M', pid @ ..] => Self::Made(i32::from_le_bytes(pid.try_into().ok()?)),
            [b'F', kind, rest @ ..] => {
                let kind = match kind {
                    b'S' => FailureKind::Step,
                    b'N' => FailureKind::NotFound,
                    b'E' => FailureKind::NotExecutable,
                    _ => return None,
                };
                let (errno, text) = rest.split_first_chunk::<4>()?;
                let end = text.iter().position(|byte| *byte == 0)?;
                let utf8 = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let (step, detail) = (utf8(&text[..end]), utf8(&text[end + 1..]));
                Self::Failed(Failure { kind, step, detail, errno: i32::from_le_bytes(*errno) })
            }
            _ => return None,
        })
    }
}

/// One end of the channel.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = atoll_sys::fd::pair()?;
        Ok((Self(a), Self(b)))
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// To the process.
    pub(crate) fn send(&self, message: &ToInit) -> io::Result<()> {
        let message = match message {
            ToInit::Grouped => b"U".to_vec(),
            ToInit::Mapped => b"G".to_vec(),
            ToInit::Placed(pid) => [b"P".as_slice(), &pid.to_le_bytes()].concat(),
            ToInit::Continue => b"C".to_vec(),
            ToInit::Start => b"S".to_vec(),
        };
        atoll_sys::fd::send(&self.0, &message, None)
    }

    /// In the process; `None` when the maker is gone.
    pub(crate) fn receive(&self) -> io::Result<Option<ToInit>> {
        match atoll_sys::fd::receive(&self.0, MESSAGE_MAX)? {
            None => Ok(None),
            Some((message, _)) => match message.as_slice() {
                b"U" => Ok(Some(ToInit::Grouped)),
                b"G" => Ok(Some(ToInit::Mapped)),
                [b'P', pid @ ..] if pid.len() == 4 => {
                    let pid = pid.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes));
                    Ok(Some(ToInit::Placed(pid)))
                }
                b"C" => Ok(Some(ToInit::Continue)),
                b"S" => Ok(Some(ToInit::Start)),
                _ => Err(io::ErrorKind::InvalidData.into()),
            },
        }
    }

    /// From the process.
    pub(crate) fn report(&self, message: &FromInit, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        atoll_sys::fd::send(&self.0, &message.encode(), fd)
    }

    /// In the maker; `None` when the process executed its program or is gone.
    pub(crate) fn receive_report(&self) -> io::Result<Option<(FromInit, Option<OwnedFd>)>> {
        match atoll_sys::fd::receive(&self.0, MESSAGE_MAX)? {
            None => Ok(None),
            Some((message, fd)) => match FromInit::decode(&message) {
                Some(report) => Ok(Some((report, fd))),
                None => Err(io::ErrorKind::InvalidData.into()),
            },
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_round_trip() {
        let failed = |kind, step: &str, detail: &str| {
            FromInit::Failed(Failure { kind, step: step.into(), detail: detail.into(), errno: 2 })
        };
        for report in [
            FromInit::Terminal,
            FromInit::Mounted,
            FromInit::Ready,
            FromInit::Executing,
            FromInit::Made(77),
            failed(FailureKind::Step, "mounts", "/proc"),
            failed(FailureKind::NotFound, "", ""),
            failed(FailureKind::NotExecutable, "exec", "ä/ö"),
        ] {
            assert_eq!(FromInit::decode(&report.encode()), Some(report));
        }
        for bad in [&b""[..], b"Q", b"F", b"FS\0\0\0\0", b"FZ\0\0\0\0a\0b", b"M12", b"TT"] {
            assert_eq!(FromInit::decode(bad), None, "{bad:?}");
        }
        let long = failed(FailureKind::Step, &"ä".repeat(9000), &"\0x".repeat(9000));
        assert!(long.encode().len() < MESSAGE_MAX);
    }
}
