//! Names of architectures: Debian's beside those of OCI images (`GOARCH` and variant).
//!
//! People may write either; files of the archive carry Debian's and image configurations carry OCI's.

/// One architecture in the words of both worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arch {
    /// Debian's name, as in `binary-NAME`.
    pub debian: &'static str,
    /// OCI's `architecture`.
    pub oci: &'static str,
    /// OCI's `variant`.
    pub variant: Option<&'static str>,
    /// Other accepted spellings (`uname -m`, `GOARCH/variant`).
    aliases: &'static [&'static str],
    /// The extra library folder that base-files links into `/usr`.
    pub lib64: bool,
}

const fn arch(
    debian: &'static str,
    oci: &'static str,
    variant: Option<&'static str>,
    aliases: &'static [&'static str],
    lib64: bool,
) -> Arch {
    Arch { debian, oci, variant, aliases, lib64 }
}

/// Every architecture that a Debian suite since bookworm has had.
pub const ALL: [Arch; 11] = [
    arch("amd64", "amd64", None, &["x86_64", "x86-64"], true),
    arch("arm64", "arm64", Some("v8"), &["aarch64", "arm64/v8"], false),
    arch("armel", "arm", Some("v5"), &["arm/v5"], false),
    arch("armhf", "arm", Some("v7"), &["arm", "arm/v7", "armv7l"], false),
    arch("i386", "386", None, &["386", "i686", "x86"], false),
    arch("loong64", "loong64", None, &["loongarch64"], true),
    arch("mips64el", "mips64le", None, &["mips64le"], true),
    arch("mipsel", "mipsle", None, &["mipsle"], false),
    arch("ppc64el", "ppc64le", None, &["ppc64le"], true),
    arch("riscv64", "riscv64", None, &[], false),
    arch("s390x", "s390x", None, &[], false),
];

impl Arch {
    /// Finds an architecture by Debian's, OCI's (`arm/v7`) or the kernel's name.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.strip_prefix("linux/").unwrap_or(name);
        ALL.into_iter().find(|arch| arch.debian == name || arch.aliases.contains(&name))
    }

    /// The architecture that this program runs on.
    pub fn host() -> Option<Self> {
        Self::parse(std::env::consts::ARCH)
            .or_else(|| (std::env::consts::ARCH == "powerpc64").then(|| Self::parse("ppc64el")).flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        fn check(name: &str, expected: Option<(&str, &str)>) {
            assert_eq!(Arch::parse(name).map(|arch| (arch.debian, arch.oci)), expected, "{name}");
        }
        check("amd64", Some(("amd64", "amd64")));
        check("x86_64", Some(("amd64", "amd64")));
        check("linux/arm64", Some(("arm64", "arm64")));
        check("arm", Some(("armhf", "arm")));
        check("arm/v5", Some(("armel", "arm")));
        check("386", Some(("i386", "386")));
        check("ppc64le", Some(("ppc64el", "ppc64le")));
        check("riscv64", Some(("riscv64", "riscv64")));
        check("sparc", None);
        check("", None);
        assert!(Arch::host().is_some());
    }
}
