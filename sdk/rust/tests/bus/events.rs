//! Events and spans as they arrive.

use std::collections::BTreeMap;

use futures::StreamExt;
use serde_json::json;
use serin_sdk::{Context, Event, Serin, event};
use serin_wire::span;
use tracing_subscriber::layer::SubscriberExt;

use crate::folder::Folder;
use crate::{PATIENCE, flush, stream};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[derive(serde::Serialize, Event)]
#[event("cart.filled")]
struct Filled<'a> {
    by: &'a str,
}

#[tokio::test]
async fn what_is_emitted_is_in_the_stream() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    serin.emit("order.paid", &json!({"amount": 3}));
    event!(serin, "order.paid", amount = 4.5, "order.id" = "x");
    serin.emit_event(&Filled { by: "me" });
    serin
        .with_trace(PARENT)
        .with_arm("cart=v8")
        .emit("a", &json!({}));
    let context = Context::from_headers(Some(PARENT), Some("pay=v2"));
    let emit = async {
        serin.emit("b", &json!({}));
        // A handle with a trace of its own keeps the arm of what it is called by.
        serin.with_trace(PARENT).emit("b", &json!({}));
    };
    context.scope(emit).await;
    for refused in [json!(3), json!([1]), json!(null)] {
        serin.emit("c", &refused);
    }
    serin.emit("no good", &json!({}));
    serin.emit("serin.decision", &json!({}));
    serin.emit("large", &json!({"text": "x".repeat(600 << 10)}));
    flush(&serin).await;
    let found = stream(&bus).await;
    let told: Vec<_> = found
        .iter()
        .map(|event| (&*event.kind, event.data.clone()))
        .collect();
    assert_eq!(
        told,
        [
            ("order.paid", json!({"amount": 3})),
            ("order.paid", json!({"amount": 4.5, "order.id": "x"})),
            ("cart.filled", json!({"by": "me"})),
            ("a", json!({})),
            ("b", json!({})),
            ("b", json!({})),
        ]
    );
    assert_eq!(found[0].trace, None);
    for (at, arm) in [(3, "cart=v8"), (4, "pay=v2"), (5, "pay=v2")] {
        assert_eq!(found[at].trace.as_deref(), Some(PARENT));
        assert_eq!(found[at].arm.as_deref(), Some(arm));
    }
    let counts = serin.counts();
    assert_eq!((counts.emitted, counts.acknowledged), (6, 6));
    let dropped = [("bad-type", 2), ("not-an-object", 3), ("too-large", 1)];
    let dropped = dropped.map(|(reason, count)| (reason.to_owned(), count));
    assert_eq!(counts.dropped, BTreeMap::from(dropped));
    drop(serin);
    bus.stop().await;
}

#[tokio::test]
async fn tracing_becomes_events_and_spans() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let mut spans = bus
        .client()
        .subscribe("tel.span.cart.v3.cart-v3-1")
        .await
        .expect("listening");
    bus.client().flush().await.expect("subscribed");
    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    let subscriber = tracing_subscriber::registry().with(serin.layer());
    tracing::subscriber::with_default(subscriber, || {
        let outer = tracing::info_span!("checkout", user = 7);
        outer.in_scope(|| {
            tracing::info!("not marked");
            let inner = tracing::info_span!("pay");
            inner.in_scope(|| {
                tracing::info!(event = "order.paid", amount = 3, currency = "EUR");
                tracing::error!("card refused");
            });
        });
    });
    flush(&serin).await;
    let found = stream(&bus).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, "order.paid");
    assert_eq!(found[0].data, json!({"amount": 3, "currency": "EUR"}));
    let message = tokio::time::timeout(PATIENCE, spans.next())
        .await
        .expect("in time");
    let message = message.expect("a message");
    let told: Vec<_> = span::read_lines(&message.payload)
        .map(|line| line.expect("a span"))
        .collect();
    let [pay, checkout] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((&*pay.name, &*checkout.name), ("pay", "checkout"));
    assert_eq!(
        (pay.status, checkout.status),
        (span::SpanStatus::Error, span::SpanStatus::Ok)
    );
    assert_eq!(
        (&pay.trace_id, pay.parent_id.as_ref()),
        (&checkout.trace_id, Some(&checkout.span_id))
    );
    assert_eq!(checkout.attributes["user"], json!(7));
    assert!(pay.duration_us <= checkout.duration_us);
    let trace = found[0].trace.clone().expect("the event's trace");
    assert_eq!(trace, format!("00-{}-{}-01", pay.trace_id, pay.span_id));
    drop(serin);
    bus.stop().await;
}
