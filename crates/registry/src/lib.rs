//! The OCI distribution protocol: getting images from registries.
//!
//! A reference becomes a manifest, a configuration and layers; each blob streams from the registry straight into the store,
//! which checks digest and size and unpacks it on the way. Whatever a registry says is bounded and checked before it is
//! believed; credentials go to the registry that they are for and to the token server it names, never along a redirect.
//!
//! Left out: Docker's schema 1, layers that lie elsewhere (`urls`), mirrors. Serving and pushing come with the builder.

#![forbid(unsafe_code)]

mod body;
mod challenge;
mod credentials;
mod error;
mod pull;
mod session;
mod settings;
mod token;

pub use credentials::Credentials;
pub use error::Error;
pub use pull::{Phase, Progress, Pulled, pull};
pub use settings::{Registries, Trust};
