//! `/containers/{id}/archive`: what is known of a path inside, in the header that goes with its archive.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// The header that holds a [`PathStat`].
pub const PATH_STAT: &str = "X-Docker-Container-Path-Stat";

/// What is known of a path inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathStat {
    /// The last part of the path.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Kind and permissions, as [`go_mode`] has them.
    pub mode: u32,
    /// When it was last changed, RFC 3339.
    pub mtime: String,
    /// Where a symbolic link leads in the end.
    pub link_target: String,
}

impl PathStat {
    /// As the header's value.
    #[must_use]
    pub fn to_header(&self) -> String {
        STANDARD.encode(serde_json::to_vec(self).expect("plain data"))
    }

    /// From the header's value; `None` when it is none.
    #[must_use]
    pub fn from_header(value: &str) -> Option<Self> {
        serde_json::from_slice(&STANDARD.decode(value).ok()?).ok()
    }

    /// Whether it is a folder.
    #[must_use]
    pub const fn is_folder(&self) -> bool {
        self.mode & GO_DIRECTORY != 0
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub const fn is_link(&self) -> bool {
        self.mode & GO_SYMLINK != 0
    }
}

const GO_DIRECTORY: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;
const GO_DEVICE: u32 = 1 << 26;
const GO_PIPE: u32 = 1 << 25;
const GO_SOCKET: u32 = 1 << 24;
const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_CHARACTER: u32 = 1 << 21;
const GO_STICKY: u32 = 1 << 20;

/// A mode of stat(2) as Go's `os.FileMode` has it.
#[must_use]
pub const fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => GO_DIRECTORY,
        0o120_000 => GO_SYMLINK,
        0o060_000 => GO_DEVICE,
        0o020_000 => GO_DEVICE | GO_CHARACTER,
        0o010_000 => GO_PIPE,
        0o140_000 => GO_SOCKET,
        _ => 0,
    };
    let setuid = if mode & 0o4000 != 0 { GO_SETUID } else { 0 };
    let setgid = if mode & 0o2000 != 0 { GO_SETGID } else { 0 };
    let sticky = if mode & 0o1000 != 0 { GO_STICKY } else { 0 };
    kind | setuid | setgid | sticky | mode & 0o777
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        // Printed by Go for os.ModeDir|os.ModeSticky|0777, a symbolic link, /dev/null, a set-user-ID file.
        assert_eq!(go_mode(0o041_777), 2_148_532_735);
        assert_eq!(go_mode(0o120_777), 134_218_239);
        assert_eq!(go_mode(0o020_666), 69_206_454);
        assert_eq!(go_mode(0o104_755), 8_389_101);
    }

    #[test]
    fn headers_round_trip() {
        let stat = PathStat { name: "etc".to_owned(), mode: go_mode(0o040_755), ..PathStat::default() };
        assert_eq!(PathStat::from_header(&stat.to_header()), Some(stat.clone()));
        assert!(stat.is_folder() && !stat.is_link());
        assert_eq!(PathStat::from_header("%"), None);
    }
}
