//! A request over HTTP that a service handled: the span of a server as a row of `requests`.
//!
//! So a service without gateway and SDK has rate, errors and latency too. What the gateway passed on
//! it has told itself: it marks the trace state of the request, and a span right below its mark is
//! left out here. Start at [`request`].

use serde_json::{Map, Value};
use serin_wire::Request;
use serin_wire::request::is_told;

/// `Span.SpanKind.SPAN_KIND_SERVER`.
const SERVER: i32 = 2;
/// The attributes, as [`super::value::attributes`] writes them; the second is that of conventions
/// before 1.21, which many instrumentations still follow.
const METHOD: [&str; 2] = ["http_request_method", "http_method"];
const STATUS: [&str; 2] = ["http_response_status_code", "http_status_code"];
const BYTES: [&str; 2] = ["http_response_body_size", "http_response_content_length"];
const ROUTE: &str = "http_route";
/// Of a server that does not say with what it answered.
const STATUS_WELL: u16 = 200;
const STATUS_FAILED: u16 = 500;

/// What of a span says whether it is a request, and which one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served<'a> {
    pub(super) kind: i32,
    pub(super) name: &'a str,
    pub(super) has_failed: bool,
    pub(super) attributes: &'a Map<String, Value>,
    pub(super) trace_id: &'a str,
    pub(super) parent_id: Option<&'a str>,
    pub(super) trace_state: &'a str,
    pub(super) time: i64,
    pub(super) duration_us: u64,
}

/// The row; `None` where it is no request over HTTP, or the gateway tells it.
pub(super) fn request<'a>(span: Served<'a>) -> Option<Request<'a>> {
    let text = |name: &str| span.attributes.get(name).and_then(Value::as_str);
    let number = |name: &str| span.attributes.get(name).and_then(Value::as_u64);
    let method = METHOD.iter().find_map(|name| text(name));
    let is_ours = span.kind == SERVER && !is_told(span.trace_state, span.parent_id);
    let method = method.filter(|_| is_ours)?;
    let status = STATUS.iter().find_map(|name| number(name));
    let status = status.and_then(|status| u16::try_from(status).ok());
    let without = match span.has_failed {
        true => STATUS_FAILED,
        false => STATUS_WELL,
    };
    Some(Request {
        time: span.time,
        // A path would make an endpoint of each item.
        endpoint: text(ROUTE).unwrap_or(span.name).into(),
        caller: None,
        status: status.unwrap_or(without),
        duration_us: span.duration_us,
        queue_us: None,
        method: Some(method.into()),
        bytes: BYTES.iter().find_map(|name| number(name)).unwrap_or(0),
        trace_id: Some(span.trace_id.into()),
        arm: None,
        callee: None,
    })
}
