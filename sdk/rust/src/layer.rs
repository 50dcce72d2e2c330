//! A layer for `tracing`: events with a field `event` become events of Serin, spans become spans.
//!
//! `info!(event = "order.paid", amount = 3)` emits `order.paid` with the other fields as data. A
//! span is told when it closes, with its duration from creation to close; it is an error when an
//! ERROR event happened in it. Spans form traces, under the trace of [`Context`] where there is one.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value};
use serin_wire::Span;
use serin_wire::event::Trace;
use serin_wire::span::SpanStatus;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context as LayerContext;
use tracing_subscriber::registry::LookupSpan;

use crate::clock;
use crate::context::{self, Context};
use crate::dropped::Reason;
use crate::serin;
use crate::shared::Shared;

/// The field that marks an event, and names its type.
const MARK: &str = "event";
/// W3C's flag "sampled".
const SAMPLED: u8 = 1;

/// The layer; made by [`crate::Serin::layer`]. It does not keep the connection open.
#[derive(Debug, Clone)]
pub struct SerinLayer {
    shared: Arc<Shared>,
}

/// What is kept with a span while it is open.
#[derive(Debug)]
struct OpenSpan {
    trace: Trace,
    parent_id: Option<u64>,
    time_us: i64,
    started: Instant,
    status: SpanStatus,
    attributes: Map<String, Value>,
}

impl SerinLayer {
    pub(crate) fn new(shared: Arc<Shared>) -> SerinLayer {
        SerinLayer { shared }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SerinLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: LayerContext<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let parent = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            extensions.get::<OpenSpan>().map(|open| open.trace)
        });
        let above =
            parent.or_else(|| context::with_scope(|scope| scope.and_then(|scope| scope.trace)));
        let trace = Trace {
            trace_id: above.map_or_else(random_u128, |above| above.trace_id),
            span_id: clock::random_u64().max(1),
            flags: above.map_or(SAMPLED, |above| above.flags),
        };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(OpenSpan {
            trace,
            parent_id: above.map(|above| above.span_id),
            time_us: clock::now_us(),
            started: clock::monotonic(),
            status: SpanStatus::Ok,
            attributes: fields.values,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: LayerContext<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<OpenSpan>() {
            let mut fields = Fields::default();
            values.record(&mut fields);
            open.attributes.extend(fields.values);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: LayerContext<'_, S>) {
        if *event.metadata().level() == Level::ERROR
            && let Some(span) = ctx.event_span(event)
            && let Some(open) = span.extensions_mut().get_mut::<OpenSpan>()
        {
            open.status = SpanStatus::Error;
        }
        if event.metadata().fields().field(MARK).is_none() {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(Value::String(kind)) = fields.values.remove(MARK) {
            let own = Context::current();
            serin::emit(&self.shared, Some(&own), &kind, &fields.values);
        }
    }

    fn on_enter(&self, id: &Id, ctx: LayerContext<'_, S>) {
        if let Some(span) = ctx.span(id)
            && let Some(open) = span.extensions().get::<OpenSpan>()
        {
            context::enter_span(open.trace);
        }
    }

    fn on_exit(&self, id: &Id, ctx: LayerContext<'_, S>) {
        if let Some(span) = ctx.span(id)
            && let Some(open) = span.extensions().get::<OpenSpan>()
        {
            context::exit_span(open.trace.span_id);
        }
    }

    fn on_close(&self, id: Id, ctx: LayerContext<'_, S>) {
        let Some(span) = ctx.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<OpenSpan>() else {
            return;
        };
        let took = clock::monotonic().duration_since(open.started);
        let options = &self.shared.options;
        let told = Span {
            trace_id: format!("{:032x}", open.trace.trace_id).into(),
            span_id: format!("{:016x}", open.trace.span_id).into(),
            parent_id: open.parent_id.map(|id| format!("{id:016x}").into()),
            name: span.name().into(),
            service: options.service.as_str().into(),
            version: options.version.as_str().into(),
            instance: options.instance.as_str().into(),
            time: open.time_us,
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            status: open.status,
            attributes: open.attributes,
        };
        if !self.shared.spans.push(&told) {
            self.shared.queue.dropped.count(Reason::SpanFull);
        }
    }
}

fn random_u128() -> u128 {
    let high = u128::from(clock::random_u64()) << 64;
    (high | u128::from(clock::random_u64())).max(1)
}

/// Fields as JSON; what has no JSON of its own comes as its debug text.
#[derive(Default)]
struct Fields {
    values: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.values.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}
