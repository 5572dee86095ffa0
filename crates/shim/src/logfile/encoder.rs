//! Records as bytes, in the format of the log.

use atoll_model::Timestamp;
use atoll_wall::launch::LogFormat;
use atoll_wall::log::{Record, Stream, json};

/// Makes bytes of records.
#[derive(Debug)]
pub(super) enum Encoder {
    Records,
    Json(json::Encoder),
    Nothing,
}

impl Encoder {
    pub(super) fn of(format: &LogFormat) -> Self {
        match format {
            LogFormat::Records => Self::Records,
            LogFormat::Json { attributes, .. } => Self::Json(json::Encoder::new(attributes)),
            LogFormat::Nothing => Self::Nothing,
        }
    }

    pub(super) fn encode(
        &mut self,
        (stream, at): (Stream, Timestamp),
        payload: &[u8],
        partial: bool,
        buffer: &mut Vec<u8>,
    ) {
        let record = Record { stream, at, partial, payload };
        match self {
            Self::Records => record.encode_into(buffer),
            Self::Json(encoder) => encoder.encode_into(&record, buffer),
            Self::Nothing => {}
        }
    }
}
