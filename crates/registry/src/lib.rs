//! The OCI distribution protocol: getting images from registries, and putting them there.
//!
//! A reference becomes a manifest, a configuration and layers; each blob streams from the registry straight into the store,
//! which checks digest and size and unpacks it on the way. Whatever a registry says is bounded and checked before it is
//! believed; credentials go to the registry that they are for and to the token server it names, never along a redirect.
//!
//! A push goes the other way, and sends only what the registry lacks.
//!
//! Left out: Docker's schema 1, layers that lie elsewhere (`urls`). Serving comes with the builder.

#![forbid(unsafe_code)]

mod body;
mod challenge;
mod credentials;
mod describe;
mod error;
mod login;
mod pull;
mod push;
mod reading;
mod retry;
mod session;
mod settings;
mod token;
mod upload;

pub use credentials::Credentials;
pub use describe::{Described, describe};
pub use error::Error;
pub use login::{LoginError, login};
pub use pull::{Phase, Progress, Pulled, pull};
pub use push::{PushPhase, PushProgress, push};
pub use settings::{Registries, Trust};
