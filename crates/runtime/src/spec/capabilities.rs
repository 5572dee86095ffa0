//! Which capabilities a workload gets (capabilities(7)): Docker's defaults, what was added, what was dropped.

use atoll_model::Security;
use atoll_oci::runtime::Capabilities;

use super::Error;

/// Every capability by its number.
const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Docker's default set (moby, `daemon/pkg/oci/caps/defaults.go`).
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A bounding set: bit N is the capability of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounding(u64);

impl Bounding {
    /// Everything.
    pub const FULL: Self = Self(u64::MAX);

    /// Of these bits.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// The `CapBnd` line of a `/proc/PID/status`.
    #[must_use]
    pub fn parse(status: &str) -> Option<Self> {
        let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
        u64::from_str_radix(line.trim(), 16).ok().map(Self)
    }

    /// What this process may hand on; everything, where that cannot be read: the kernel then has the last word.
    #[must_use]
    pub fn of_this_process() -> Self {
        std::fs::read_to_string("/proc/thread-self/status")
            .ok()
            .and_then(|status| Self::parse(&status))
            .unwrap_or(Self::FULL)
    }

    const fn has(self, number: usize) -> bool {
        self.0 >> number & 1 == 1
    }
}

/// The bounding set of a workload, in the kernel's order.
pub(super) fn resolve(security: &Security, bounding: Bounding) -> Result<Vec<&'static str>, Error> {
    let add = parse(&security.cap_add)?;
    let drop = parse(&security.cap_drop)?;
    let mut set = Vec::new();
    for (number, name) in ALL.iter().enumerate() {
        let wanted = if add.names.contains(name) {
            // Named by itself it wins over a dropped ALL, and must be had.
            if !bounding.has(number) {
                return Err(Error::CapabilityMissing(name));
            }
            !drop.names.contains(name)
        } else if security.privileged || add.all {
            !drop.all && !drop.names.contains(name) && bounding.has(number)
        } else {
            DEFAULT.contains(name) && !drop.all && !drop.names.contains(name) && bounding.has(number)
        };
        if wanted {
            set.push(*name);
        }
    }
    Ok(set)
}

/// As Docker has them: nothing inheritable or ambient, so that an unprivileged user has none.
pub(super) fn sets(names: &[&'static str]) -> Capabilities {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        inheritable: Vec::new(),
        ambient: Vec::new(),
    }
}

#[derive(Default)]
struct Named {
    all: bool,
    names: Vec<&'static str>,
}

fn parse(texts: &[String]) -> Result<Named, Error> {
    let mut named = Named::default();
    for text in texts {
        let upper = text.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if short == "ALL" {
            named.all = true;
            continue;
        }
        let name = ALL.iter().find(|name| name.strip_prefix("CAP_") == Some(short));
        named.names.push(name.ok_or_else(|| Error::UnknownCapability(text.clone()))?);
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(privileged: bool, add: &[&str], drop: &[&str]) -> Security {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Security { privileged, cap_add: own(add), cap_drop: own(drop), ..Security::default() }
    }

    fn check(add: &[&str], drop: &[&str], expected: &[&str]) {
        let set = resolve(&security(false, add, drop), Bounding::FULL).expect("valid");
        assert_eq!(set, expected, "add {add:?} drop {drop:?}");
    }

    #[test]
    fn the_defaults_are_dockers_fourteen() {
        let mut expected = DEFAULT;
        let number = |name: &&str| ALL.iter().position(|known| known == name);
        expected.sort_by_key(number);
        check(&[], &[], &expected);
        assert_eq!(expected.len(), 14);
    }

    #[test]
    fn adding_and_dropping() {
        check(&["NET_ADMIN"], &["ALL"], &["CAP_NET_ADMIN"]);
        check(&["cap_net_admin", "Chown"], &["all"], &["CAP_CHOWN", "CAP_NET_ADMIN"]);
        check(&[], &["ALL"], &[]);
        check(&["ALL"], &["ALL"], &[]);
        check(&["ALL"], &[], &ALL);
        check(
            &["ALL"],
            &["SYS_ADMIN"],
            &ALL.iter().copied().filter(|name| *name != "CAP_SYS_ADMIN").collect::<Vec<_>>(),
        );
    }

    #[test]
    fn what_the_daemon_has_not() {
        let bounding = Bounding::new(!(1 << 24));
        let all = resolve(&security(true, &[], &[]), bounding).expect("valid");
        assert_eq!(all.len(), 40);
        assert_eq!(
            resolve(&security(false, &["SYS_RESOURCE"], &[]), bounding),
            Err(Error::CapabilityMissing("CAP_SYS_RESOURCE"))
        );
    }

    #[test]
    fn unknown_names() {
        for name in ["NOPE", "", "CAP_", "CAP_CAP_CHOWN"] {
            assert_eq!(
                resolve(&security(false, &[], &[name]), Bounding::FULL),
                Err(Error::UnknownCapability(name.to_owned()))
            );
        }
    }

    #[test]
    fn bounding_sets_are_read() {
        assert_eq!(Bounding::parse("Name:\tx\nCapBnd:\t00000000a80425fb\nX:"), Some(Bounding::new(0xa804_25fb)));
        assert_eq!(Bounding::parse("Name:\tx"), None);
    }
}
