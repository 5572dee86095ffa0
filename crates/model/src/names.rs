//! Identifiers and names of workloads, by Docker's rules: 64 hexadecimal digits, and `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Digits in a full identifier.
pub const ID_HEX_LENGTH: usize = 64;
/// Digits that people see.
const SHORT_LENGTH: usize = 12;
/// Longest name that still fits into a host name label plus a suffix; Docker sets none, file names do.
const NAME_MAX: usize = 128;

/// The identifier of one workload: 64 lower-case hexadecimal digits, drawn at random.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkloadId(String);

/// The first twelve digits of an identifier, as lists show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortId<'a>(&'a str);

/// Why a text is no name or identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Not 64 lower-case hexadecimal digits.
    #[error("{0:?} is no workload id: ids are {ID_HEX_LENGTH} hexadecimal digits")]
    Id(String),
    /// A character that names do not have, or too short, or too long.
    #[error(
        "invalid container name ({0}): only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, two characters at least, {NAME_MAX} at most"
    )]
    Name(String),
}

impl WorkloadId {
    /// The identifier made of 32 random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; ID_HEX_LENGTH / 2]) -> Self {
        use fmt::Write;
        let mut text = String::with_capacity(ID_HEX_LENGTH);
        for byte in bytes {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        }
        Self(text)
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits.
    #[must_use]
    pub fn short(&self) -> ShortId<'_> {
        ShortId(&self.0[..SHORT_LENGTH])
    }
}

impl FromStr for WorkloadId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() == ID_HEX_LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidName::Id(text.to_owned())) }
    }
}

impl TryFrom<String> for WorkloadId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<WorkloadId> for String {
    fn from(id: WorkloadId) -> Self {
        id.0
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ShortId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Checks a name of a container or volume.
///
/// # Errors
/// [`InvalidName::Name`] with the name.
pub fn check_name(name: &str) -> Result<(), InvalidName> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = name.bytes().skip(1).all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && (2..=NAME_MAX).contains(&name.len()) { Ok(()) } else { Err(InvalidName::Name(name.to_owned())) }
}

/// A name for a workload that was given none, from random bytes: a property of water and a thing of the sea.
#[must_use]
pub fn suggest_name(random: [u8; 4]) -> String {
    const LEFT: [&str; 32] = [
        "azure", "brisk", "calm", "clear", "cool", "coral", "deep", "drifting", "early", "ebbing", "gentle", "glassy",
        "golden", "green", "hidden", "humming", "lively", "lone", "misty", "mild", "pearly", "quiet", "rolling",
        "salty", "shallow", "silver", "slow", "sunlit", "swift", "tidal", "warm", "windward",
    ];
    const RIGHT: [&str; 32] = [
        "albatross",
        "anchor",
        "barque",
        "bay",
        "beacon",
        "buoy",
        "cay",
        "conch",
        "coral",
        "cowrie",
        "dolphin",
        "dory",
        "eddy",
        "fathom",
        "gull",
        "harbour",
        "island",
        "kelp",
        "lagoon",
        "limpet",
        "manta",
        "mast",
        "nautilus",
        "otter",
        "petrel",
        "plover",
        "reef",
        "sail",
        "shoal",
        "tern",
        "turtle",
        "wave",
    ];
    let number = u16::from_le_bytes([random[2], random[3]]);
    format!("{}_{}_{number:x}", LEFT[usize::from(random[0]) % 32], RIGHT[usize::from(random[1]) % 32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_pattern() {
        let check = |name: &str, valid: bool| assert_eq!(check_name(name).is_ok(), valid, "{name:?}");
        check("web", true);
        check("web-1.b_c", true);
        check("0a", true);
        check("a", false);
        check("", false);
        check("-web", false);
        check("we b", false);
        check("wéb", false);
        check("../x", false);
        check(&"x".repeat(129), false);
    }

    #[test]
    fn ids_are_sixty_four_digits() {
        let id = WorkloadId::from_bytes([0xab; 32]);
        assert_eq!(id.short().to_string(), "abababababab");
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert!("ABAB".parse::<WorkloadId>().is_err());
        assert!("g".repeat(64).parse::<WorkloadId>().is_err());
    }

    #[test]
    fn suggestions_are_names() {
        for byte in 0..=255 {
            check_name(&suggest_name([byte, 255 - byte, byte, byte])).expect("a suggestion is a valid name");
        }
    }
}
