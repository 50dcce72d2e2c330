//! A layer for `tracing`: events with a field `event` become events of Serin, spans become spans.
//!
//! `info!(event = "order.paid", amount = 3)` emits `order.paid` with the other fields as data. A
//! span is told when it closes, with its duration from creation to close; it is an error when an
//! ERROR event happened in it. Spans form traces, under the trace of [`Context`] where there is one.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use serin_wire::span::SpanStatus;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context as LayerContext;
use tracing_subscriber::registry::LookupSpan;

use crate::context::{self, Context};
use crate::serin;
use crate::shared::Shared;
use crate::span::OpenSpan;

/// The field that marks an event, and names its type.
const MARK: &str = "event";

/// The layer; made by [`crate::Serin::layer`]. It does not keep the connection open.
#[derive(Debug, Clone)]
pub struct SerinLayer {
    shared: Arc<Shared>,
}

/// What is kept with a span while it is open.
#[derive(Debug)]
struct Entered {
    span: OpenSpan,
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
            extensions.get::<Entered>().map(|open| open.span.trace)
        });
        let above =
            parent.or_else(|| context::with_scope(|scope| scope.and_then(|scope| scope.trace)));
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(Entered {
            span: self.shared.spans.begin(above),
            status: SpanStatus::Ok,
            attributes: fields.values,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: LayerContext<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Entered>() {
            let mut fields = Fields::default();
            values.record(&mut fields);
            open.attributes.extend(fields.values);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: LayerContext<'_, S>) {
        if *event.metadata().level() == Level::ERROR
            && let Some(span) = ctx.event_span(event)
            && let Some(open) = span.extensions_mut().get_mut::<Entered>()
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
            && let Some(open) = span.extensions().get::<Entered>()
        {
            context::enter_span(open.span.trace);
        }
    }

    fn on_exit(&self, id: &Id, ctx: LayerContext<'_, S>) {
        if let Some(span) = ctx.span(id)
            && let Some(open) = span.extensions().get::<Entered>()
        {
            context::exit_span(open.span.trace.span_id);
        }
    }

    fn on_close(&self, id: Id, ctx: LayerContext<'_, S>) {
        let Some(span) = ctx.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Entered>() else {
            return;
        };
        self.shared
            .end_span(open.span, span.name(), open.status, || open.attributes);
    }
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
