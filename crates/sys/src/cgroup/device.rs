//! Rules over devices.

use std::fmt;

/// The kinds of devices that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Both.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// Making nodes, reading, writing: the kernel's bits of `BPF_DEVCG_ACC_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceAccessBits(u8);

impl DeviceAccessBits {
    /// All three.
    pub const ALL: Self = Self(7);
    /// Making nodes only.
    pub const MAKE: Self = Self(1);

    /// From letters of `r`, `w` and `m`; none stand for all. `None` for other letters.
    #[must_use]
    pub fn parse(letters: &str) -> Option<Self> {
        let bit = |letter| match letter {
            'm' => Some(1),
            'r' => Some(2),
            'w' => Some(4),
            _ => None,
        };
        let bits = letters.chars().try_fold(0, |bits, letter| Some(bits | bit(letter)?))?;
        Some(if bits == 0 { Self::ALL } else { Self(bits) })
    }

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// As letters.
    pub(super) fn letters(self) -> String {
        [(2, 'r'), (4, 'w'), (1, 'm')].iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, letter)| *letter).collect()
    }
}

/// One rule; of several the last that names a device decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceAccess {
    /// Whether it allows or denies.
    pub allow: bool,
    /// Which kinds.
    pub kind: DeviceKind,
    /// Major number; `None` is all.
    pub major: Option<u32>,
    /// Minor number; `None` is all.
    pub minor: Option<u32>,
    /// What is allowed or denied.
    pub access: DeviceAccessBits,
}

impl fmt::Display for DeviceAccess {
    /// As version 1 writes it: `c 1:3 rwm`, `a *:* rwm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::All => 'a',
            DeviceKind::Block => 'b',
            DeviceKind::Char => 'c',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        write!(f, "{kind} {}:{} {}", number(self.major), number(self.minor), self.access.letters())
    }
}

impl DeviceAccess {
    /// A rule for everything.
    #[must_use]
    pub fn everything(allow: bool) -> Self {
        Self { allow, kind: DeviceKind::All, major: None, minor: None, access: DeviceAccessBits::ALL }
    }

    /// The same as rules that version 1 takes: there `a` means everything, whatever numbers and accesses follow.
    #[must_use]
    pub fn for_v1(self) -> Vec<Self> {
        if self.kind != DeviceKind::All || self == Self::everything(self.allow) {
            return vec![self];
        }
        [DeviceKind::Block, DeviceKind::Char].map(|kind| Self { kind, ..self }).to_vec()
    }

    /// Whether it is for every device that the other is for; both are for one kind.
    fn covers(&self, other: &Self) -> bool {
        let covers = |ours: Option<u32>, theirs: Option<u32>| ours.is_none() || ours == theirs;
        self.kind == other.kind && covers(self.major, other.major) && covers(self.minor, other.minor)
    }

    /// Whether there are devices that both are for; both are for one kind.
    fn meets(&self, other: &Self) -> bool {
        let meets = |ours: Option<u32>, theirs: Option<u32>| ours.is_none() || theirs.is_none() || ours == theirs;
        self.kind == other.kind && meets(self.major, other.major) && meets(self.minor, other.minor)
    }
}

/// What a list of rules comes to, for a keeper who knows no denials.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Every device.
    All,
    /// These and no others: rules that allow, each for one kind, no two for the same devices.
    Only(Vec<DeviceAccess>),
    /// Many, but for some of them.
    AllBut,
}

impl Allowed {
    /// As [`crate::bpf::assemble`]: the last rule decides, what none names is allowed.
    pub(super) fn by(rules: &[DeviceAccess]) -> Self {
        rules.iter().flat_map(|rule| rule.for_v1()).fold(Self::All, Self::then)
    }

    fn then(self, rule: DeviceAccess) -> Self {
        match self {
            _ if rule == DeviceAccess::everything(true) => Self::All,
            _ if rule == DeviceAccess::everything(false) => Self::Only(Vec::new()),
            Self::All if rule.allow => Self::All,
            Self::Only(mut allowed) if rule.allow => {
                match allowed.iter_mut().find(|other| other.covers(&rule) && rule.covers(other)) {
                    Some(same) => same.access.0 |= rule.access.0,
                    None => allowed.push(rule),
                }
                Self::Only(allowed)
            }
            Self::Only(mut allowed) => {
                for other in allowed.iter_mut().filter(|other| other.access.0 & rule.access.0 != 0 && rule.meets(other))
                {
                    if !rule.covers(other) {
                        return Self::AllBut;
                    }
                    other.access.0 &= !rule.access.0;
                }
                allowed.retain(|other| other.access.0 != 0);
                Self::Only(allowed)
            }
            Self::All | Self::AllBut => Self::AllBut,
        }
    }
}

/// `+ c 1:3 rwm` or `- a *:* rwm`, for tests.
#[cfg(test)]
pub(crate) fn device_rule(text: &str) -> DeviceAccess {
    let parts: Vec<&str> = text.split([' ', ':']).collect();
    let number = |text: &str| text.parse().ok();
    let kind = match parts[1] {
        "a" => DeviceKind::All,
        "b" => DeviceKind::Block,
        _ => DeviceKind::Char,
    };
    let access = DeviceAccessBits::parse(parts[4]).unwrap();
    DeviceAccess { allow: parts[0] == "+", kind, major: number(parts[2]), minor: number(parts[3]), access }
}
