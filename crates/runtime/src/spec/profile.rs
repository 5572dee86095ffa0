//! System call filters in Docker's JSON format, made into those of the runtime specification.
//!
//! Docker's format (moby, `profiles/seccomp`) adds conditions to each rule: capabilities, architectures by Go's names,
//! the kernel's version. They are decided here; what is left is the specification's own.

use std::collections::BTreeMap;

use atoll_oci::runtime::{LinuxSeccomp, SeccompAction, SeccompArch, SeccompArg, SeccompSyscall};
use serde::{Deserialize, Deserializer};

use super::Error;

/// This architecture in Go's words.
const GO_ARCH: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "riscv64"
};
/// This architecture in libseccomp's words.
const ARCH: SeccompArch = if cfg!(target_arch = "x86_64") {
    SeccompArch::X86_64
} else if cfg!(target_arch = "aarch64") {
    SeccompArch::Aarch64
} else {
    SeccompArch::Riscv64
};

/// First two numbers of a kernel's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// As 6 in 6.18.
    pub major: u32,
    /// As 18 in 6.18.
    pub minor: u32,
}

impl KernelVersion {
    /// From `uname -r`, or a profile's `minKernel`.
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: SeccompAction,
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "nullable")]
    architectures: Vec<SeccompArch>,
    #[serde(default, deserialize_with = "nullable")]
    arch_map: Vec<ArchMap>,
    #[serde(default, deserialize_with = "nullable")]
    flags: Vec<String>,
    #[serde(default)]
    listener_path: String,
    #[serde(default)]
    listener_metadata: String,
    #[serde(default, deserialize_with = "nullable")]
    syscalls: Vec<Rule>,
    #[serde(flatten)]
    unknown: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ArchMap {
    architecture: SeccompArch,
    #[serde(default, deserialize_with = "nullable")]
    sub_architectures: Vec<SeccompArch>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "nullable")]
    names: Vec<String>,
    action: SeccompAction,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "nullable")]
    args: Vec<SeccompArg>,
    #[serde(default, rename = "comment")]
    _comment: String,
    #[serde(default, deserialize_with = "nullable")]
    includes: Condition,
    #[serde(default, deserialize_with = "nullable")]
    excludes: Condition,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Condition {
    #[serde(default, deserialize_with = "nullable")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// Go writes an empty list or struct as null.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

pub(super) fn convert(text: &str, capabilities: &[&str], kernel: KernelVersion) -> Result<LinuxSeccomp, Error> {
    let profile: Profile = serde_json::from_str(text).map_err(|error| Error::Seccomp(error.to_string()))?;
    if let Some(name) = profile.unknown.keys().next() {
        return Err(Error::Seccomp(format!("unknown field {name:?}")));
    }
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(Error::Seccomp("use either architectures or archMap".to_owned()));
    }
    let mapped = profile.arch_map.into_iter().find(|map| map.architecture == ARCH);
    let architectures = match mapped {
        Some(map) => std::iter::once(map.architecture).chain(map.sub_architectures).collect(),
        None => profile.architectures,
    };
    let mut syscalls = Vec::new();
    for rule in profile.syscalls {
        if rule.applies(capabilities, kernel)? {
            syscalls.push(rule.into_syscall()?);
        }
    }
    Ok(LinuxSeccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags,
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    })
}

impl Rule {
    fn applies(&self, capabilities: &[&str], kernel: KernelVersion) -> Result<bool, Error> {
        let has = |cap: &String| capabilities.contains(&cap.as_str());
        let here = |arches: &[String]| arches.iter().any(|arch| arch == GO_ARCH);
        let (includes, excludes) = (&self.includes, &self.excludes);
        let excluded = here(&excludes.arches) || excludes.caps.iter().any(has) || excludes.since(kernel)? == Some(true);
        let included = (includes.arches.is_empty() || here(&includes.arches))
            && includes.caps.iter().all(has)
            && includes.since(kernel)? != Some(false);
        Ok(included && !excluded)
    }

    fn into_syscall(self) -> Result<SeccompSyscall, Error> {
        let names = match (self.name.is_empty(), self.names.is_empty()) {
            (false, true) => vec![self.name],
            (true, false) => self.names,
            (true, true) => return Err(Error::Seccomp("a rule without names".to_owned())),
            (false, false) => return Err(Error::Seccomp("a rule with both name and names".to_owned())),
        };
        Ok(SeccompSyscall { names, action: self.action, errno_ret: self.errno_ret, args: self.args })
    }
}

impl Condition {
    /// Whether the kernel is at least the one named, if one is.
    fn since(&self, kernel: KernelVersion) -> Result<Option<bool>, Error> {
        let Some(text) = &self.min_kernel else {
            return Ok(None);
        };
        let version = KernelVersion::parse(text)
            .ok_or_else(|| Error::Seccomp(format!("minKernel {text:?} is not a version such as 4.8")))?;
        Ok(Some(kernel >= version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: KernelVersion = KernelVersion { major: 5, minor: 15 };

    fn names(rules: &str) -> Vec<String> {
        let text = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rules}]}}"#);
        let filter = convert(&text, &["CAP_SYS_ADMIN", "CAP_CHOWN"], KERNEL).expect("valid");
        filter.syscalls.into_iter().flat_map(|rule| rule.names).collect()
    }

    fn check(condition: &str, applies: bool) {
        let rule = format!(r#"{{"names":["x"],"action":"SCMP_ACT_ALLOW",{condition}}}"#);
        assert_eq!(names(&rule).len(), usize::from(applies), "{condition}");
    }

    #[test]
    fn conditions() {
        check(r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#, true);
        check(r#""includes":{"caps":["CAP_SYS_ADMIN","CAP_BPF"]}"#, false);
        check(r#""excludes":{"caps":["CAP_BPF","CAP_CHOWN"]}"#, false);
        check(r#""excludes":{"caps":["CAP_BPF"]}"#, true);
        check(r#""includes":{"minKernel":"4.8"}"#, true);
        check(r#""includes":{"minKernel":"5.16"}"#, false);
        check(r#""excludes":{"minKernel":"4.8"}"#, false);
        check(r#""includes":{"arches":["nowhere"]}"#, false);
        check(&format!(r#""includes":{{"arches":["{GO_ARCH}"]}}"#), true);
        check(&format!(r#""excludes":{{"arches":["{GO_ARCH}"]}}"#), false);
        check(r#""args":null,"comment":"x","includes":{},"excludes":null"#, true);
    }

    #[test]
    fn one_name_or_many() {
        assert_eq!(
            names(r#"{"name":"a","action":"SCMP_ACT_ALLOW"},{"names":["b","c"],"action":"SCMP_ACT_LOG"}"#),
            ["a", "b", "c"]
        );
    }

    #[test]
    fn what_is_refused() {
        let check = |text: &str| {
            let result = convert(text, &[], KERNEL);
            assert!(matches!(result, Err(Error::Seccomp(_))), "{text}: {result:?}");
        };
        check("");
        check("{}");
        check(r#"{"defaultAction":"SCMP_ACT_NOPE"}"#);
        check(r#"{"defaultAction":"SCMP_ACT_ALLOW","sycalls":[]}"#);
        check(r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_ERRNO"}]}"#);
        check(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ERRNO"}]}"#,
        );
        check(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","action":"SCMP_ACT_ERRNO","includes":{"minKernel":"x"}}]}"#,
        );
        check(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
        );
    }

    #[test]
    fn versions() {
        assert_eq!(KernelVersion::parse("6.18.44-fc-v595"), Some(KernelVersion { major: 6, minor: 18 }));
        assert_eq!(KernelVersion::parse("4.8"), Some(KernelVersion { major: 4, minor: 8 }));
        assert_eq!(KernelVersion::parse("4"), None);
        assert_eq!(KernelVersion::parse("x.y"), None);
    }
}
