//! A request that was handled, told by whoever saw it end; a row of the table `requests`.
//!
//! They travel on `tel.req.…` as NDJSON, many lines per message: the gateway tells those it passed
//! on, an SDK those it handled over the bus. A web request is told by the gateway alone, so that
//! each is counted once.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::time::Micros;

/// One request, a line of the message. The subject says who handled it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request<'a> {
    /// When it began, microseconds since 1970 UTC.
    pub time: Micros,
    /// The endpoint, or for web requests the route (`/cart`).
    pub endpoint: Cow<'a, str>,
    /// The service that called; `gateway` for web requests; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Cow<'a, str>>,
    /// As HTTP has it; 200 for a call that went well, else its error code.
    pub status: u16,
    /// From beginning to end, microseconds.
    pub duration_us: u64,
    /// Of these, waiting before the handler ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_us: Option<u64>,
    /// The method, for web requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Cow<'a, str>>,
    /// Bytes of the answer's body.
    #[serde(default)]
    pub bytes: u64,
    /// The trace, 32 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Cow<'a, str>>,
    /// The canary arms it was served under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<Cow<'a, str>>,
}

impl Request<'_> {
    /// Whether it counts as failed: the service's fault, not the caller's.
    pub fn has_failed(&self) -> bool {
        self.status >= 500
    }
}
