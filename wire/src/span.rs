//! A span: one piece of work with a beginning, a duration and its place in a trace.
//!
//! Spans travel on `tel.span.…` as NDJSON: one [`Span`] as JSON per line, many lines per message.
//! They are telemetry: kept in memory by the bus, and the oldest go when there are too many.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::time::Micros;

/// One span, a line of the message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span<'a> {
    /// The trace, 32 hex digits.
    pub trace_id: Cow<'a, str>,
    /// This span, 16 hex digits.
    pub span_id: Cow<'a, str>,
    /// The span it is part of, 16 hex digits; absent at the root of a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<Cow<'a, str>>,
    /// What is done, `pay`.
    pub name: Cow<'a, str>,
    /// The service.
    pub service: Cow<'a, str>,
    /// Its version.
    pub version: Cow<'a, str>,
    /// The instance.
    pub instance: Cow<'a, str>,
    /// When it began, in microseconds since 1970 UTC.
    pub time: Micros,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// How it ended.
    pub status: SpanStatus,
    /// What else is known of it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub attributes: Map<String, Value>,
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpanStatus {
    /// As wanted.
    Ok,
    /// With an error.
    Error,
}

/// Reads a message of spans; a line that is no span comes as its error, and the rest is still read.
pub fn read_lines(message: &[u8]) -> impl Iterator<Item = Result<Span<'_>, serde_json::Error>> {
    message
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_back_line_by_line() {
        let span = Span {
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
            span_id: "00f067aa0ba902b7".into(),
            parent_id: None,
            name: "pay \"x\"".into(),
            service: "cart".into(),
            version: "v1".into(),
            instance: "cart-v1-1".into(),
            time: 5,
            duration_us: 7,
            status: SpanStatus::Error,
            attributes: Map::new(),
        };
        let mut message = serde_json::to_vec(&span).expect("a span is JSON");
        message.extend_from_slice(b"\nnonsense\n");
        let lines: Vec<_> = read_lines(&message).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(*lines[0].as_ref().expect("the first line"), span);
        assert!(lines[1].is_err());
    }
}
