//! A request that was handled, told by whoever saw it end; a row of the table `requests`.
//!
//! They travel on `tel.req.…` as NDJSON, many lines per message: the gateway tells those it passed
//! on, an SDK those it handled over the bus, and of those it made, the ones that nobody answered. A web
//! request is told by the gateway alone, so that each is counted once.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::call;
use crate::name::{self, NameError};
use crate::time::Micros;

/// Our entry of W3C's `tracestate`: the span of the gateway, which tells the request that it passes on.
const TOLD_BY: &str = "serin=";
/// Entries of a trace state, as W3C bounds them.
const ENTRIES_MAX: usize = 32;

/// Instead of a version or an instance, where none took the request, or a number is of the service as a
/// whole.
pub const NONE: &str = "none";

/// One request, a line of the message. The subject says who handled it, or where there is a
/// [`Callee`], who asked in vain.
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
    /// Whom the sender called, where nobody answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callee: Option<Callee<'a>>,
}

/// Who was called and did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callee<'a> {
    /// The service.
    pub service: Cow<'a, str>,
    /// Its version, as the routes have it; absent where they name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Cow<'a, str>>,
}

impl Callee<'_> {
    /// Whether a service and a version can have these names.
    pub fn check(&self) -> Result<(), NameError> {
        name::check_service(&self.service)?;
        self.version.as_deref().map_or(Ok(()), name::check_service)
    }
}

/// The trace state of a request that is told by whoever passes it on, with this span, to a service.
pub fn tell_on(trace_state: &str, span_id: u64) -> String {
    let own = format!("{TOLD_BY}{span_id:016x}");
    let others = entries(trace_state).filter(|entry| !entry.starts_with(TOLD_BY));
    let all = std::iter::once(&*own).chain(others.take(ENTRIES_MAX - 1));
    all.collect::<Vec<_>>().join(",")
}

/// Whether the request of a server's span is told by who passed it on. The trace state goes on from
/// service to service; it speaks of the span right below alone.
pub fn is_told(trace_state: &str, parent_id: Option<&str>) -> bool {
    let mut told_by = entries(trace_state).filter_map(|entry| entry.strip_prefix(TOLD_BY));
    parent_id.is_some_and(|parent| told_by.any(|span| span == parent))
}

fn entries(trace_state: &str) -> impl Iterator<Item = &str> {
    let entries = trace_state.split(',').map(str::trim);
    entries.filter(|entry| !entry.is_empty())
}

impl Request<'_> {
    /// Whether it counts as failed: the service's fault, not the caller's. A call that is not answered
    /// in time is; a web request with that status is one whose visitor was slow.
    pub fn has_failed(&self) -> bool {
        match self.method {
            Some(_) => self.status >= call::CODE_FAILED,
            None => call::has_failed(self.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_was_not_answered_in_time_has_failed() {
        let line = |status, rest: &str| {
            format!(r#"{{"time":1,"endpoint":"add","status":{status},"duration_us":1{rest}}}"#)
        };
        for (status, rest, has_failed) in [
            (200, "", false),
            (404, "", false),
            (408, "", true),
            (408, r#","method":"GET""#, false),
            (500, "", true),
            (502, r#","method":"GET""#, true),
        ] {
            let line = line(status, rest);
            let request: Request<'_> = serde_json::from_str(&line).expect("a row");
            assert_eq!(request.has_failed(), has_failed, "{line}");
        }
    }

    #[test]
    fn a_request_is_told_for_the_span_below_alone() {
        let parent = Some("00000000000000ab");
        let state = tell_on("", 0xab);
        assert_eq!(state, "serin=00000000000000ab");
        assert!(is_told(&state, parent));
        assert!(!is_told(&state, Some("00000000000000ac")));
        assert!(!is_told(&state, None) && !is_told("", parent));
        // Others' entries stay, an older one of ours goes.
        let state = tell_on(" a=1, serin=00000000000000ab,b=2,", 0xac);
        assert_eq!(state, "serin=00000000000000ac,a=1,b=2");
        assert!(!is_told(&state, parent));
        assert_eq!(tell_on(&"x=1,".repeat(40), 1).split(',').count(), 32);
    }
}
