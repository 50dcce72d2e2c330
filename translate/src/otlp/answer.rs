//! What an exporter is told: how many records were not taken and why, or that nothing was.
//!
//! The answer is written as the request was. The shapes are `Export<Signal>ServiceResponse` and
//! `google.rpc.Status`.

use prost::Message;
use serde_json::json;

use super::{Encoding, Signal};
use crate::lines::Refused;

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The answer to a body that was read; where all was taken it is empty, as the protocol wants it.
pub fn taken(signal: Signal, encoding: Encoding, refused: &Refused) -> Vec<u8> {
    let rejected = i64::try_from(refused.count).unwrap_or(i64::MAX);
    let is_partial = refused.count > 0;
    match encoding {
        Encoding::Protobuf => Response {
            partial_success: is_partial.then(|| PartialSuccess {
                rejected,
                error_message: refused.why.clone(),
            }),
        }
        .encode_to_vec(),
        Encoding::Json if is_partial => {
            let name = match signal {
                Signal::Traces => "rejectedSpans",
                Signal::Logs => "rejectedLogRecords",
                Signal::Metrics => "rejectedDataPoints",
            };
            // A 64-bit number is text in the JSON of protobuf.
            let told = json!({name: rejected.to_string(), "errorMessage": refused.why});
            json!({"partialSuccess": told}).to_string().into_bytes()
        }
        Encoding::Json => b"{}".to_vec(),
    }
}

/// The answer to a body of which nothing was taken; `code` is one of gRPC's.
pub fn failed(encoding: Encoding, code: i32, message: &str) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => Status {
            code,
            message: message.to_owned(),
        }
        .encode_to_vec(),
        Encoding::Json => json!({"code": code, "message": message})
            .to_string()
            .into_bytes(),
    }
}
