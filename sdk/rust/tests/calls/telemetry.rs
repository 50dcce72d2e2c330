//! What a call leaves behind: a row, two spans of one trace, counts in the beat, the arm.

use async_nats::Message;
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use serin_sdk::Failure;
use serin_wire::span::SpanStatus;
use serin_wire::{Beat, Request, Span, span};

use crate::{Fixture, PATIENCE};

/// Rows and spans until there are so many of them.
async fn told(
    messages: &mut (impl Stream<Item = Message> + Unpin),
    rows: usize,
    spans: usize,
) -> (Vec<Value>, Vec<Span<'static>>) {
    let (mut requests, mut found) = (Vec::new(), Vec::new());
    while requests.len() < rows || found.len() < spans {
        let message = tokio::time::timeout(PATIENCE, messages.next())
            .await
            .expect("in time");
        let message = message.expect("a message");
        if message.subject.starts_with("tel.req.") {
            assert_eq!(message.subject.as_str(), "tel.req.cart.v1.cart-v1-1");
            for line in message
                .payload
                .split(|&byte| byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                let row: Request<'_> = serde_json::from_slice(line).expect("a row");
                requests.push(serde_json::to_value(row).expect("JSON"));
            }
        } else {
            for line in span::read_lines(&message.payload) {
                let json = serde_json::to_string(&line.expect("a span")).expect("JSON");
                found.push(serde_json::from_str::<Span<'_>>(json.leak()).expect("a span"));
            }
        }
    }
    (requests, found)
}

#[tokio::test]
async fn a_call_is_told_once_with_two_spans_of_one_trace() {
    let fixture = Fixture::new().await;
    let telling = fixture
        .tell_routes(1, "cart", &[("v2", 1), ("v1", 9_999)], &[])
        .await;
    let client = fixture.client();
    let rows = client.subscribe("tel.req.>").await.expect("subscribed");
    let spans = client.subscribe("tel.span.>").await.expect("subscribed");
    let mut messages = stream::select(rows, spans);
    let mut beats = client
        .subscribe("tel.beat.cart.>")
        .await
        .expect("subscribed");
    let mut events = client.subscribe("ev.>").await.expect("subscribed");
    fixture.round_trip().await;
    let cart = fixture.run("cart", "v1", 1, |service| {
        service.endpoint("add", |call, item: u32| async move {
            if item == 0 {
                return Err(Failure::new(500, "broken"));
            }
            call.serin().emit("cart.added", &json!({"n": item}));
            Ok(item)
        })
    });
    let cart = cart.await;
    let web = fixture.join("web", "v1", 1);
    // A key of version v1, whatever the weights say.
    assert_eq!(
        web.call::<u32>("cart", "add", &1)
            .key("ada")
            .await
            .expect("added"),
        1
    );
    let failed = web.call::<u32>("cart", "add", &0).key("ada").await;
    assert!(failed.is_err());
    let (rows, spans) = told(&mut messages, 2, 4).await;
    assert_eq!(
        (
            &rows[0]["endpoint"],
            &rows[0]["caller"],
            &rows[0]["status"],
            &rows[0]["arm"]
        ),
        (&json!("add"), &json!("web"), &json!(200), &json!("cart=v1"))
    );
    assert_eq!(
        (&rows[1]["status"], &rows[0]["bytes"]),
        (&json!(500), &json!(1))
    );
    for row in &rows {
        let trace: Vec<_> = spans
            .iter()
            .filter(|span| *span.trace_id == row["trace_id"])
            .collect();
        let of = |service: &str| {
            let found = trace.iter().find(|span| span.service == service);
            (*found.expect("a span of each end")).clone()
        };
        let (from, to) = (of("web"), of("cart"));
        assert_eq!(to.parent_id.as_ref(), Some(&from.span_id));
        assert_eq!((&*from.name, &*to.name), ("cart.add", "add"));
        assert_eq!(to.attributes["caller"], "web");
        assert!(to.attributes["queue_us"].is_u64());
        let is_failed = row["status"] == 500;
        assert_eq!(to.status == SpanStatus::Error, is_failed);
        assert_eq!(from.attributes.contains_key("network_us"), !is_failed);
        assert!(to.duration_us <= from.duration_us);
    }
    let event = tokio::time::timeout(PATIENCE, events.next())
        .await
        .expect("in time");
    let event = event.expect("an event");
    let event = serin_wire::batch::read(&event.payload)
        .expect("a batch")
        .next();
    let event = event.expect("one").expect("an event");
    assert_eq!(event.arm.as_ref().map(|arm| &*arm.0), Some("cart=v1"));
    let trace = event.trace.expect("a trace");
    assert_eq!(format!("{:032x}", trace.trace_id), rows[0]["trace_id"]);
    let (mut requests, mut errors) = (0, 0);
    while requests < 2 {
        let beat = tokio::time::timeout(PATIENCE, beats.next())
            .await
            .expect("in time");
        let beat: Beat = serde_json::from_slice(&beat.expect("a beat").payload).expect("a beat");
        requests += beat.requests.count;
        errors += beat.errors;
    }
    assert_eq!((requests, errors), (2, 1));
    telling.abort();
    cart.stop().await;
}
