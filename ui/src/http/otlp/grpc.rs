//! OTLP over gRPC: three services with one method each, every call one message for one.
//!
//! So little of gRPC is needed that it stands here: a message has a flag "packed" and its length
//! before it, the outcome comes in trailers. A call fails with a code of gRPC's and never with a
//! status of HTTP. The protocol: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full};
use serin_translate::otlp::{Encoding, Signal, answer};

use super::super::App;
use super::super::body::{self, Coding};
use super::super::error::ApiError;
use super::take::{DECODED_BYTES_MAX, take};

const KIND: &str = "application/grpc";
/// The flag and the length before each message.
const HEAD_BYTES: usize = 5;
const SERVICES: [(&str, Signal); 3] = [
    (
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Traces,
    ),
    (
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        Signal::Logs,
    ),
    (
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Metrics,
    ),
];

/// The codes of gRPC that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    /// The only one after which exporters send again.
    Unavailable = 14,
}

impl Code {
    /// What stands for a status of HTTP.
    pub(super) fn of(status: StatusCode) -> Code {
        match status {
            StatusCode::REQUEST_TIMEOUT => Code::DeadlineExceeded,
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::PAYLOAD_TOO_LARGE => Code::ResourceExhausted,
            StatusCode::NOT_FOUND | StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::Unimplemented,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            status if status.is_client_error() => Code::InvalidArgument,
            _ => Code::Internal,
        }
    }
}

/// The listener for exporters of this machine.
pub(super) fn router() -> Router<App> {
    let mut router = Router::new();
    for (path, signal) in SERVICES {
        let export = move |State(app): State<App>, headers: HeaderMap, body: Body| async move {
            match call(&app, signal, &headers, body).await {
                Ok(message) => answered(&message),
                Err(error) => failed(&error),
            }
        };
        router = router.route(path, post(export));
    }
    router.fallback(|| async {
        failed(&ApiError::not_found(
            "here are the services of OTLP: Export of traces, logs and metrics",
        ))
    })
}

async fn call(
    app: &App,
    signal: Signal,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<u8>, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(KIND.as_bytes())) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "SER-HTTP-007",
            "content-type must be application/grpc",
        ));
    }
    let mut body = body::read_encoded(&app.budget, headers, body).await?;
    let is_packed = strip_head(&mut body.bytes)?;
    let coding = match is_packed {
        true => packed_by(headers)?,
        false => Coding::Identity,
    };
    let body = body.unpack(coding, DECODED_BYTES_MAX).await?;
    let refused = take(app, signal, Encoding::Protobuf, body).await?;
    Ok(answer::taken(signal, Encoding::Protobuf, &refused))
}

/// Takes away what stands before the message; whether it is packed.
fn strip_head(bytes: &mut Bytes) -> Result<bool, ApiError> {
    let bad = || ApiError::bad("the call must have one message, whole");
    if bytes.len() < HEAD_BYTES {
        return Err(bad());
    }
    let flag = bytes.get_u8();
    let length = bytes.get_u32();
    match (usize::try_from(length), flag) {
        (Ok(length), 0 | 1) if length == bytes.len() => Ok(flag == 1),
        _ => Err(bad()),
    }
}

fn packed_by(headers: &HeaderMap) -> Result<Coding, ApiError> {
    match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
        Some(b"gzip") => Ok(Coding::Gzip),
        _ => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "SER-HTTP-007",
            "messages may be packed by gzip alone",
        )),
    }
}

fn answered(message: &[u8]) -> Response {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(framed)).with_trailers(async { Some(Ok(trailers)) });
    ([(header::CONTENT_TYPE, KIND)], Body::new(body)).into_response()
}

fn failed(error: &ApiError) -> Response {
    let code = Code::of(error.status) as i32;
    let mut response = [(header::CONTENT_TYPE, KIND)].into_response();
    let headers = response.headers_mut();
    headers.insert("grpc-status", HeaderValue::from(code));
    headers.insert(
        "grpc-accept-encoding",
        HeaderValue::from_static("identity,gzip"),
    );
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&error.message)) {
        headers.insert("grpc-message", message);
    }
    response
}

/// A header may have visible ASCII only, and `%` begins what is not.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_whole_message_is_taken() {
        let mut whole = Bytes::from_static(&[1, 0, 0, 0, 2, b'a', b'b']);
        assert!(strip_head(&mut whole).expect("it is whole"));
        assert_eq!(&*whole, b"ab");
        for broken in [
            &[][..],
            &[0, 0, 0, 0][..],
            &[0, 0, 0, 0, 2, b'a'][..],
            &[0, 0, 0, 0, 0, b'a'][..],
            &[2, 0, 0, 0, 0][..],
        ] {
            assert!(strip_head(&mut Bytes::from_static(broken)).is_err());
        }
    }

    #[test]
    fn messages_become_headers() {
        assert_eq!(percent_encoded("no 50 % \u{e9}\n"), "no 50 %25 %C3%A9%0A");
    }
}
