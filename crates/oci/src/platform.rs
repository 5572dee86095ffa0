//! Platforms (OCI image spec, image index): for which system and processor an image was made.
//!
//! A text such as `linux/arm64/v8` or a manifest's platform object is normalised to Go's names; [`Platform::select`] picks
//! the entry of an index that runs best here. Windows' `os.version` rules are left out: it is kept, and not compared.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::descriptor::{Descriptor, media_type};
use crate::digest::excerpt;
use crate::manifest::Index;
use crate::wire::nullable;

/// A platform, in the form of an index entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Processor, as `GOARCH`: `amd64`, `arm64`, `riscv64`.
    #[serde(default)]
    pub architecture: String,
    /// System, as `GOOS`: `linux`.
    #[serde(default)]
    pub os: String,
    /// Version of the system (Windows).
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features that the system must have (Windows).
    #[serde(default, rename = "os.features", deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the processor: `v7` for arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Empty parts, too many parts, or characters that no platform has.
    #[error("platform {0:?} must look like linux/arm64 or linux/arm/v7")]
    Form(String),
}

impl Platform {
    /// A normalised platform of two or three parts.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let platform = Self {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
            ..Self::default()
        };
        platform.normalised()
    }

    /// The platform on which this program runs.
    #[must_use]
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// The same platform under Go's names: `aarch64` is `arm64`, `x86_64` is `amd64`, `armhf` is `arm/v7`; the first
    /// variant of amd64 and arm64 is the unnamed one, plain arm is `v7`.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let mut out = self.clone();
        out.os = out.os.to_ascii_lowercase();
        if out.os == "macos" {
            out.os = "darwin".into();
        }
        let arch = out.architecture.to_ascii_lowercase();
        let mut variant = out.variant.take().map(|v| v.to_ascii_lowercase()).filter(|v| !v.is_empty());
        let arch = match arch.as_str() {
            "aarch64" => "arm64",
            "x86_64" | "x86-64" => "amd64",
            "i386" | "i486" | "i586" | "i686" | "x86" => "386",
            "powerpc64le" | "ppc64el" => "ppc64le",
            "armhf" => {
                variant = Some("v7".into());
                "arm"
            }
            "armel" => {
                variant = Some("v6".into());
                "arm"
            }
            other => other,
        };
        out.variant = match (arch, variant.as_deref()) {
            ("arm64", Some("8" | "v8")) | ("amd64", Some("v1")) => None,
            ("arm", None) => Some("v7".into()),
            ("arm" | "arm64", Some(digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(format!("v{digits}")),
            (_, other) => other.map(Into::into),
        };
        out.architecture = arch.into();
        out
    }

    /// What runs here, best first: the platform itself, then older variants (arm v7 runs v6 and v5; amd64 v3 runs v2 and
    /// the base), then the 32-bit relatives of amd64 and arm64, in the order that containerd and Docker use.
    #[must_use]
    pub fn candidates(&self) -> Vec<Self> {
        let me = self.normalised();
        let level = |variant: &Option<String>| {
            variant.as_deref().and_then(|v| v.strip_prefix('v')).and_then(|v| v.parse::<u8>().ok())
        };
        let of = |arch: &str, variant: Option<String>| Self::new(&me.os, arch, variant.as_deref());
        let mut list = vec![Self { os_version: None, os_features: Vec::new(), ..me.clone() }];
        match (me.architecture.as_str(), level(&me.variant)) {
            ("arm", Some(from)) => {
                list.extend((5..from.min(8)).rev().map(|v| of("arm", Some(format!("v{v}")))));
            }
            ("amd64", from) => {
                list.extend((1..from.unwrap_or(1).min(4)).rev().map(|v| of("amd64", Some(format!("v{v}")))));
                list.push(of("386", None));
            }
            ("arm64", from) => {
                if from.is_some_and(|v| v > 8) {
                    list.push(of("arm64", None));
                }
                list.extend((5..=8).rev().map(|v| of("arm", Some(format!("v{v}")))));
            }
            _ => {}
        }
        list
    }

    /// Whether an image for `offered` runs on this platform.
    #[must_use]
    pub fn matches(&self, offered: &Self) -> bool {
        self.rank(offered).is_some()
    }

    /// How well `offered` fits: 0 is exact, more is worse, `None` does not run.
    #[must_use]
    pub fn rank(&self, offered: &Self) -> Option<usize> {
        let offered = offered.normalised();
        self.candidates()
            .iter()
            .position(|c| c.os == offered.os && c.architecture == offered.architecture && c.variant == offered.variant)
    }

    /// The entry of `index` that fits best; of equals the first. An only manifest without a platform is taken as fitting.
    #[must_use]
    pub fn select<'a>(&self, index: &'a Index) -> Option<&'a Descriptor> {
        let best = index
            .manifests
            .iter()
            .filter_map(|d| Some((self.rank(d.platform.as_ref()?)?, d)))
            .min_by_key(|(rank, _)| *rank);
        if let Some((_, descriptor)) = best {
            return Some(descriptor);
        }
        match index.manifests.as_slice() {
            [only] if only.platform.is_none() && !media_type::is_layer(&only.media_type) => Some(only),
            _ => None,
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Parses `os/architecture[/variant]`, or an architecture alone, which means Linux.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let wrong = || PlatformError::Form(excerpt(text));
        let sound = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| sound(part)) {
            return Err(wrong());
        }
        match parts[..] {
            ["linux"] => Ok(Self::host()),
            [architecture] => Ok(Self::new("linux", architecture, None)),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}
