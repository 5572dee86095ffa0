//! Wire types of the APIs that Atoll speaks, and their conversions to and from `model`.
//!
//! Bytes of a request become a typed value ([`docker::parse`]), and that a `model::Draft`; the model's values become the
//! bodies of answers. Everything is a pure function, so that each rule has its own tiny test.
//! Left out on purpose: handlers, sockets, storage, and what only the engine knows (it is passed in).

#![forbid(unsafe_code)]

pub mod atoll;
pub mod docker;
