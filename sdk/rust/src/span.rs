//! Spans of this process: begun under the trace at hand, and told when they end.
//!
//! The tracing layer, calls, chains and served requests all begin and end their spans here, so that
//! they form one trace and the same rule says which are told.

use std::time::Instant;

use serde_json::{Map, Value};
use serin_wire::Span;
use serin_wire::event::Trace;
use serin_wire::sample::{Offer, SAMPLED, Sampler};
use serin_wire::span::SpanStatus;
use serin_wire::time::Micros;

use crate::clock;
use crate::dropped::Reason;
use crate::lines::{Lines, Pushed};
use crate::shared::Shared;

/// Spans that ended and wait for the sender.
#[derive(Debug)]
pub(crate) struct Spans {
    pub(crate) lines: Lines,
    sampler: Sampler,
}

/// A span under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenSpan {
    /// What is caused by it belongs to this.
    pub(crate) trace: Trace,
    parent_id: Option<u64>,
    pub(crate) time_us: Micros,
    pub(crate) started: Instant,
}

impl Spans {
    pub(crate) fn new(now: Instant) -> Spans {
        Spans {
            lines: Lines::default(),
            sampler: Sampler::new(now),
        }
    }

    /// Begins a span under `above`, or a trace where there is none.
    pub(crate) fn begin(&self, above: Option<Trace>) -> OpenSpan {
        let trace_id = above.map_or_else(random_u128, |above| above.trace_id);
        let flags = match above {
            Some(above) => above.flags,
            None if self.sampler.takes(trace_id) => SAMPLED,
            None => 0,
        };
        OpenSpan {
            trace: Trace {
                trace_id,
                span_id: clock::random_u64().max(1),
                flags,
            },
            parent_id: above.map(|above| above.span_id),
            time_us: clock::now_us(),
            started: clock::monotonic(),
        }
    }
}

impl Shared {
    /// Ends a span; it is told if the sampler keeps it and there is room. Its attributes are only
    /// made then.
    pub(crate) fn end_span(
        &self,
        span: OpenSpan,
        name: &str,
        status: SpanStatus,
        attributes: impl FnOnce() -> Map<String, Value>,
    ) {
        let now = clock::monotonic();
        let duration_us = micros(now.duration_since(span.started));
        let offer = Offer {
            trace_id: span.trace.trace_id,
            is_sampled: span.trace.flags & SAMPLED != 0,
            name,
            duration_us,
            has_failed: status == SpanStatus::Error,
        };
        if !self.spans.sampler.keeps(&offer, now) {
            self.queue.dropped.count(Reason::SpanSampled);
            return;
        }
        let told = Span {
            trace_id: format!("{:032x}", span.trace.trace_id).into(),
            span_id: format!("{:016x}", span.trace.span_id).into(),
            parent_id: span.parent_id.map(|id| format!("{id:016x}").into()),
            name: name.into(),
            service: self.options.service.as_str().into(),
            version: self.options.version.as_str().into(),
            instance: self.options.instance.as_str().into(),
            time: span.time_us,
            duration_us,
            status,
            attributes: attributes(),
        };
        match self.spans.lines.push(&told) {
            Pushed::News => self.queue.wake.notify_one(),
            Pushed::Joined => {}
            Pushed::Full => {
                self.queue.dropped.count(Reason::SpanFull);
            }
        }
    }
}

pub(crate) fn status_of<T, E>(result: &Result<T, E>) -> SpanStatus {
    match result {
        Ok(_) => SpanStatus::Ok,
        Err(_) => SpanStatus::Error,
    }
}

/// A duration as it travels.
pub(crate) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn random_u128() -> u128 {
    let high = u128::from(clock::random_u64()) << 64;
    (high | u128::from(clock::random_u64())).max(1)
}
