//! Networks of one host.

#![forbid(unsafe_code)]
