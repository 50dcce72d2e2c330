//! What a call between services carries beside its body: headers of the request and of the reply.
//!
//! A call is a NATS request on `svc.<service>.<version>.<endpoint>`; its body is the endpoint's own,
//! JSON unless said otherwise. Errors travel as the micro protocol has them (ADR-32): two headers
//! and, as body, whatever more the endpoint says. Names are lower case and compared exactly, except
//! those of the micro protocol. docs/decisions/005 says what each is for.

/// Milliseconds the caller will still wait, at the moment of sending.
pub const TIMEOUT_MS: &str = "serin-timeout-ms";
/// The service that calls.
pub const CALLER: &str = "serin-from";
/// The canary arms taken on the way here, see [`crate::Arm`].
pub const ARM: &str = "serin-arm";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// The `traceparent` of our own questions (is it ready, what are its metrics): it asks who has
/// OpenTelemetry for no span, so that they are nobody's requests.
pub const UNTRACED: &str = "00-5e4150000000000000000000000000a5-5e415000000000a5-00";
/// What others say beside it, and whether the gateway tells the request; see [`crate::request`].
pub const TRACESTATE: &str = "tracestate";
/// How many calls enclose this one: 0, or absent, where it comes from no call.
pub const DEPTH: &str = "serin-depth";
/// Calls that may enclose each other; services that call each other in a circle end here.
pub const DEPTH_MAX: u32 = 32;
/// How many calls of chains enclose this one.
pub const CHAIN_DEPTH: &str = "serin-chain-depth";
/// What the body is, of a request or a reply, where it is not JSON.
pub const CONTENT_TYPE: &str = "content-type";
/// The content type of a body of bytes.
pub const BYTES: &str = "application/octet-stream";

/// Reply: who answered.
pub const INSTANCE: &str = "serin-instance";
/// Reply: its version.
pub const VERSION: &str = "serin-version";
/// Reply: microseconds between taking the message and starting the handler.
pub const QUEUE_US: &str = "serin-queue-us";
/// Reply: microseconds in the handler.
pub const HANDLER_US: &str = "serin-handler-us";
/// Reply: the handler did not run, so that the call may be made again elsewhere.
pub const NOT_RUN: &str = "serin-not-run";

/// Reply: what went wrong, one line; ADR-32.
pub const ERROR: &str = "Nats-Service-Error";
/// Reply: its code; ADR-32.
pub const ERROR_CODE: &str = "Nats-Service-Error-Code";

/// The body could not be understood.
pub const CODE_BAD_REQUEST: u16 = 400;
/// The time was over before the handler ran or ended.
pub const CODE_TIMEOUT: u16 = 408;
/// A bound was passed: size, chain depth.
pub const CODE_TOO_LARGE: u16 = 413;
/// The handler failed without a code of its own.
pub const CODE_FAILED: u16 = 500;
/// Too much is being handled, or the instance drains; the handler did not run.
pub const CODE_BUSY: u16 = 503;

/// Whether a call that ended with this code counts as failed: by its service's fault, not its caller's.
pub const fn has_failed(code: u16) -> bool {
    code >= CODE_FAILED || code == CODE_TIMEOUT
}

/// The status of HTTP for what fails with this code: there 408 would be the visitor's fault.
pub const fn web_status(code: u16) -> u16 {
    match code {
        CODE_TIMEOUT => 504,
        400..=599 => code,
        _ => CODE_FAILED,
    }
}

/// A web request over the bus goes to the endpoint of this name.
pub const WEB_ENDPOINT: &str = "http";
/// Request: `GET /path?query`, the path without the service's own prefix.
pub const WEB_REQUEST: &str = "serin-http";
/// Reply: the status, `200`.
pub const WEB_STATUS: &str = "serin-http-status";
/// Reply: the pattern that the path matched, `/items/{id}`, where the service has patterns: its requests
/// are counted by it.
pub const WEB_PATTERN: &str = "serin-http-pattern";
/// Reply: more chunks of the body follow on the same subject; absent on the last. Chunks of a stream
/// carry a reply subject of the service for whoever reads it.
pub const WEB_MORE: &str = "serin-http-more";
/// Request: messages of the answer that may be sent ahead of those that were taken; absent: as many
/// as there are.
pub const WEB_WINDOW: &str = "serin-http-window";
/// To the reply subject of a chunk: how many messages of the answer were taken so far. A message there
/// without it, or that nobody listens, ends the answer.
pub const WEB_TAKEN: &str = "serin-http-taken";
/// Before the lower-case name of each HTTP header, both ways; repeated headers repeat.
pub const WEB_HEADER_PREFIX: &str = "h-";
