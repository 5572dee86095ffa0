//! OCI formats as values: digests, references, descriptors, manifests, indexes, image configurations, runtime specs.
//!
//! Hostile bytes come in, checked values go out; everything is pure and bounded by named limits. Files, sockets and the
//! nouns of Atoll itself are left out on purpose: they live in `store`, `registry` and `model`.

#![forbid(unsafe_code)]

pub mod config;
pub mod descriptor;
pub mod digest;
pub mod manifest;
pub mod platform;
pub mod reference;
pub mod runtime;
mod wire;

#[cfg(test)]
mod tests;

pub use config::{Config, ImageConfig};
pub use descriptor::{Compression, Descriptor, media_type};
pub use digest::{Digest, Hasher};
pub use manifest::{Index, Manifest, Parsed, parse_any};
pub use platform::Platform;
pub use reference::Reference;
