//! Any bytes as what a client sends to the API: they become a request, or a refusal with a sentence.
//!
//! The first byte chooses which request; the same bytes must be understood the same way twice.

#![no_main]

use atoll_api::docker::{
    EventQuery, ExecCreateRequest, ExecStartRequest, Filters, RegistryAuth, VolumeCreateRequest, parse, parse_create,
    parse_time,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = data.split_first() else { return };
    let text = std::str::from_utf8(body);
    match kind {
        b'c' => {
            let read = || parse_create(body).ok().map(|draft| format!("{draft:?}"));
            assert_eq!(read(), read());
        }
        b'e' => drop(parse::<ExecCreateRequest>(body)),
        b's' => drop(parse::<ExecStartRequest>(body)),
        b'v' => drop(parse::<VolumeCreateRequest>(body)),
        b'f' => drop(Filters::parse(text.ok(), &EventQuery::FILTERS)),
        b't' => drop(text.map(parse_time)),
        b'a' => {
            let Ok(Ok(auth)) = text.map(RegistryAuth::from_header) else { return };
            assert!(RegistryAuth::from_header(&auth.to_header()).is_ok_and(|again| again == auth));
        }
        _ => {}
    }
});
