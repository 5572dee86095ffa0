//! Any bytes as the `config.json` of a bundle, or the limits of an update: they become a plan, or a refusal with a sentence.
//!
//! The first byte chooses which; the same bytes must be understood the same way twice.

#![no_main]

use std::path::Path;

use atoll_container::plan::{self, Plan};
use atoll_oci::runtime::{Resources, Spec};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = data.split_first() else { return };
    match kind {
        b'c' => {
            let Ok(spec) = serde_json::from_slice::<Spec>(body) else { return };
            let read = || Plan::new(&spec, Path::new("/bundle")).map_err(|error| error.to_string());
            assert_eq!(format!("{:?}", read()), format!("{:?}", read()));
        }
        b'l' => {
            let Ok(resources) = serde_json::from_slice::<Resources>(body) else { return };
            drop(plan::limits(&resources));
        }
        _ => {}
    }
});
