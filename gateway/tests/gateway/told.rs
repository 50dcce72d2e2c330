//! What is told of each request on the bus: its row and its span.

use std::time::Duration;

use async_nats::Subscriber;
use futures::StreamExt;
use futures::future::BoxFuture;
use serin_wire::{Request, Span, call, span};

use crate::kit::{Asked, Fixture, PATIENCE, service, until};

fn answers(asked: Asked) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        if asked.target() == "/fail" {
            return asked.answer(500, "no").await;
        }
        if asked.target() == "/items/seed-mix" {
            let headers = [
                (call::WEB_STATUS, "404"),
                (call::WEB_PATTERN, "/items/{sku}"),
            ];
            return asked.send(&headers, "").await;
        }
        let headers = [(call::WEB_STATUS, "200"), (call::QUEUE_US, "7")];
        asked.send(&headers, "finch").await;
    })
}

/// What is told on these subjects from now on.
async fn hear(fixture: &Fixture, subjects: &'static str) -> Subscriber {
    let client = fixture.bus.client();
    let told = client.subscribe(subjects).await.expect("subscribed");
    client.flush().await.expect("flushed");
    told
}

/// The lines of a subject as they come.
async fn lines(messages: &mut Subscriber) -> Vec<(String, String)> {
    let message = tokio::time::timeout(PATIENCE, messages.next()).await;
    let message = message.expect("in time").expect("a message");
    let text = String::from_utf8(message.payload.to_vec()).expect("text");
    let lines = text
        .lines()
        .map(|line| (message.subject.to_string(), line.to_owned()));
    lines.collect()
}

#[tokio::test]
async fn each_request_is_a_row_and_a_span() {
    let fixture = Fixture::with(|options| options.patience = Duration::from_millis(50)).await;
    let one = fixture.on_bus("cart", "v2", 1, answers).await;
    let weights = [("v2", 9_999), ("v1", 1)];
    let none = service("mail", &weights, &[]);
    fixture
        .tell([service("cart", &weights, &[&one]), none])
        .await;
    let mut rows = hear(&fixture, "tel.req.>").await;
    let mut spans = hear(&fixture, "tel.span.gateway.>").await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let sent = fixture
        .http
        .get(fixture.at("/cart/a?b=c"))
        .header("traceparent", parent)
        .send();
    sent.await.expect("answered").bytes().await.expect("a body");
    fixture.text("/cart/fail").await;
    fixture.text("/mail").await;
    let mut found = Vec::new();
    while found.len() < 3 {
        found.extend(lines(&mut rows).await);
    }
    let told = |start: &str, at: usize| {
        let mut all = found
            .iter()
            .filter(|(subject, _)| subject.starts_with(start));
        let line = &all.nth(at).expect("told").1;
        serde_json::from_str::<Request<'_>>(line).expect("a row")
    };
    let first = told("tel.req.cart.v2.cart-v2-1", 0);
    assert_eq!(
        (&*first.endpoint, first.caller.as_deref()),
        ("/cart/a", Some("gateway"))
    );
    assert_eq!(
        (first.status, first.bytes, first.queue_us),
        (200, 5, Some(7))
    );
    assert_eq!(first.method.as_deref(), Some("GET"));
    assert_eq!(first.arm.as_deref(), Some("cart=v2"));
    assert_eq!(
        first.trace_id.as_deref(),
        Some("4bf92f3577b34da6a3ce929d0e0e4736")
    );
    assert!(first.duration_us > 0 && first.time > 1_700_000_000_000_000);
    assert!(told("tel.req.cart.v2.cart-v2-1", 1).has_failed());
    assert_eq!(told("tel.req.mail.none.none", 0).status, 503);
    let mut found = Vec::new();
    while found.len() < 3 {
        found.extend(lines(&mut spans).await);
    }
    assert!(
        found
            .iter()
            .all(|(subject, _)| subject == "tel.span.gateway.v1.gateway-1")
    );
    let text: Vec<_> = found.iter().map(|(_, line)| line.as_str()).collect();
    let text = text.join("\n");
    let spans: Vec<Span<'_>> = span::read_lines(text.as_bytes())
        .map(|span| span.expect("a span"))
        .collect();
    let root = spans
        .iter()
        .find(|span| span.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736");
    let root = root.expect("the continued trace");
    assert_eq!(root.parent_id.as_deref(), Some("00f067aa0ba902b7"));
    assert_eq!(root.name, "GET /cart/a");
    assert_eq!(root.attributes["http.route"], "/cart/a");
    assert_eq!(root.attributes["url.path"], "/cart/a");
    assert_eq!(root.attributes["serin.instance"], "cart-v2-1");
    let failed = spans
        .iter()
        .filter(|span| span.status == span::SpanStatus::Error);
    assert_eq!(failed.count(), 2);
    let stats = fixture.gateway.stats();
    assert_eq!((stats.requests_total, stats.requests), (3, 0));
    assert_eq!(stats.answers_total, [0, 1, 0, 0, 2]);
    assert_eq!(stats.dropped_rows_total, 0);
}

#[tokio::test]
async fn requests_are_told_by_the_pattern_that_matched_or_the_shape_of_their_path() {
    let fixture = Fixture::new().await;
    let one = fixture.on_bus("cart", "v1", 1, answers).await;
    fixture
        .tell([service("cart", &crate::kit::ALL_V1, &[&one])])
        .await;
    let mut rows = hear(&fixture, "tel.req.>").await;
    for path in [
        "/cart/",
        "/cart/items/seed-mix",
        "/cart/orders/17",
        "/cart/orders/18?x=1",
    ] {
        fixture.text(path).await;
    }
    let mut found = Vec::new();
    while found.len() < 4 {
        found.extend(lines(&mut rows).await);
    }
    let endpoints = found.iter().map(|(_, line)| {
        let row: Request<'_> = serde_json::from_str(line).expect("a row");
        row.endpoint.into_owned()
    });
    let endpoints: Vec<String> = endpoints.collect();
    let orders = "/cart/orders/{id}";
    assert_eq!(endpoints, ["/cart", "/cart/items/{sku}", orders, orders]);
}

#[tokio::test]
async fn a_client_that_leaves_is_told_as_such() {
    fn never(_: Asked) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
    let fixture = Fixture::new().await;
    let one = fixture.on_bus("cart", "v1", 1, never).await;
    fixture
        .tell([service("cart", &crate::kit::ALL_V1, &[&one])])
        .await;
    let mut rows = hear(&fixture, "tel.req.>").await;
    let asking = tokio::spawn(fixture.http.get(fixture.at("/cart")).send());
    until("it is asked", async || one.asked() == 1).await;
    asking.abort();
    let found = lines(&mut rows).await;
    let row: Request<'_> = serde_json::from_str(&found[0].1).expect("a row");
    assert_eq!(row.status, 499);
    assert_eq!(fixture.gateway.stats().abandoned_total, 1);
}
