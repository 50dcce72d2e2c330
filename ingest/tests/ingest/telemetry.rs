//! What comes by the stream of telemetry becomes rows: beats, spans, logs, requests, metrics; over the
//! real bus, recounted with DuckDB.

use bytes::Bytes;
use serde_json::{Value, json};
use serin_bus::EventStream;
use serin_ingest::{IngestOptions, Limits};

use crate::kit::{self, Place, duckdb, rows, until};
use crate::lazy;

async fn publish(telemetry: &EventStream, subject: &str, lines: &[Value]) {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    let payload = Bytes::from(lines.join("\n"));
    telemetry
        .publish(subject, &[], payload)
        .await
        .expect("taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn telemetry_becomes_rows() {
    let place = Place::new().await;
    let telemetry = place.bus.telemetry().await.expect("the stream");
    let (lake, ingest) = place.start(lazy()).await;
    let now_us = kit::edge().now_us();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let beat = json!({
        "service": "cart", "version": "v1", "instance": "cart-v1-1", "number": 1, "time_us": now_us,
        "started_us": now_us, "state": "ready", "cpu": 0.5, "memory_bytes": 7, "in_flight": 0,
        "queued_events": 0, "requests": {"count": 1, "sum_us": 100, "buckets": [[13, 1]]}, "errors": 0,
        "gauges": {"queue.depth": 3.0}
    });
    let hostile = json!({
        "service": "x", "version": "x", "instance": "x", "number": 1, "time_us": i64::MIN,
        "started_us": i64::MAX, "state": "ready", "cpu": 0.5, "memory_bytes": 7, "in_flight": 0,
        "queued_events": 0, "requests": {"count": 0, "sum_us": 0, "buckets": []}, "errors": 0
    });
    let span = json!({
        "trace_id": trace, "span_id": "00f067aa0ba902b7", "name": "pay", "service": "cart",
        "version": "v1", "instance": "cart-v1-1", "time": now_us, "duration_us": 70,
        "status": "error", "attributes": {"tries": 2}
    });
    let log = json!({
        "time": now_us, "level": "warn", "message": "slow\t\u{1f600}", "source": "stderr",
        "trace_id": trace, "dropped": 3, "fields": {"order": {"id": 7}}
    });
    let request = json!({
        "time": now_us, "endpoint": "add", "caller": "web", "status": 503, "duration_us": 1500,
        "queue_us": 250, "method": "POST", "bytes": 12, "trace_id": trace, "arm": "cart=v8"
    });
    let bare = json!({"time": now_us, "endpoint": "add", "status": 200, "duration_us": 1});
    // Told by who called in vain: whom it names, but never in another's name.
    let untaken = |callee: Value| {
        json!({
            "time": now_us, "endpoint": "charge", "caller": "spoofed", "status": 408, "duration_us": 2000,
            "trace_id": trace, "callee": callee
        })
    };
    let untaken = [
        untaken(json!({"service": "pay", "version": "v2"})),
        untaken(json!({"service": "mail"})),
        untaken(json!({"service": "no name", "version": "v2"})),
    ];
    publish(&telemetry, "tel.beat.cart.v1.cart-v1-1", &[beat]).await;
    publish(&telemetry, "tel.beat.cart.v1.cart-v1-2", &[hostile]).await;
    publish(
        &telemetry,
        "tel.beat.cart.v1.cart-v1-1",
        &[json!("no beat")],
    )
    .await;
    publish(&telemetry, "tel.span.cart.v1.cart-v1-1", &[span, json!(1)]).await;
    publish(&telemetry, "tel.log.cart.v1.cart-v1-1", &[log, json!({})]).await;
    let counter = json!({
        "time": now_us, "name": "jobs_total", "kind": "counter", "value": 7, "delta": 2,
        "labels": {"queue": "mail", "code": "200"}
    });
    let histogram = json!({
        "time": now_us, "name": "took", "kind": "histogram", "unit": "ms",
        "observed": {"count": 4, "sum": 50, "max": 30, "bounds": [10, 20], "counts": [2, 2, 0]}
    });
    let unknown = json!({"time": now_us, "name": "x", "kind": "secret", "value": 1});
    let metrics = [counter, histogram, unknown];
    publish(&telemetry, "tel.metric.cart.v1.cart-v1-1", &metrics).await;
    publish(&telemetry, "tel.req.cart.v1.cart-v1-1", &[request, bare]).await;
    publish(&telemetry, "tel.req.cart.v1.cart-v1-1", &untaken).await;
    // The stream is read in order: the last are there when the four of them are.
    until(&ingest, "all are taken", |stats| {
        stats.telemetry_bad == 5 && rows(&lake.snapshot(), "requests") == 4
    })
    .await;
    ingest.flush().await.expect("a flush");
    ingest.stop().await.expect("it stops");
    let found = duckdb(
        &place.catalogue(),
        &[
            r#"SELECT instance, state, cpu, requests, "gauges_queue.depth" FROM lake.main.beats ORDER BY instance"#,
            "SELECT service, name, trace_id, span_id, duration_us, status, attributes_tries FROM lake.main.spans",
            "SELECT instance, level, message, source, dropped, trace_id, fields_order_id FROM lake.main.logs",
            "SELECT service, version, endpoint, caller, status, has_failed, duration_ms, queue_ms, method, \
             bytes, trace_id, _arm FROM lake.main.requests WHERE endpoint = 'add' ORDER BY status DESC",
            "SELECT service, instance, name, kind, value, delta, labels_queue, labels_code FROM lake.main.metrics \
             WHERE kind = 'counter'",
            "SELECT name, kind, unit, value, count, sum, min, max, p50, p95, buckets FROM lake.main.metrics \
             WHERE kind = 'histogram'",
            "SELECT service, version, instance, caller, status, has_failed, duration_ms FROM lake.main.requests \
             WHERE endpoint = 'charge' ORDER BY service",
        ],
    );
    assert_eq!(
        found[0],
        json!([
            ["cart-v1-1", "ready", 0.5, 1, 3.0],
            ["cart-v1-2", "ready", 0.5, 0, null]
        ])
    );
    assert_eq!(
        found[1],
        json!([["cart", "pay", trace, "00f067aa0ba902b7", 70, "error", 2]])
    );
    assert_eq!(
        found[2],
        json!([[
            "cart-v1-1",
            "warn",
            "slow\t\u{1f600}",
            "stderr",
            3,
            trace,
            7
        ]])
    );
    assert_eq!(
        found[3],
        json!([
            [
                "cart", "v1", "add", "web", 503, true, 1.5, 0.25, "POST", 12, trace, "cart=v8"
            ],
            [
                "cart", "v1", "add", null, 200, false, 0.001, null, null, 0, null, null
            ],
        ])
    );
    assert_eq!(
        found[4],
        json!([[
            "cart",
            "cart-v1-1",
            "jobs_total",
            "counter",
            7.0,
            2.0,
            "mail",
            "200"
        ]])
    );
    let buckets = r#"{"bounds":[10.0,20.0],"counts":[2,2,0]}"#;
    assert_eq!(
        found[5],
        json!([[
            "took",
            "histogram",
            "ms",
            null,
            4,
            50.0,
            null,
            30.0,
            10.0,
            19.0,
            buckets
        ]])
    );
    assert_eq!(
        found[6],
        json!([
            ["mail", "none", "none", "cart", 408, true, 2.0],
            ["pay", "v2", "none", "cart", 408, true, 2.0]
        ])
    );
    place.end().await;
}

/// A service that invents names of fields loses no line: they go into one text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_fields_than_columns_lose_no_line() {
    let place = Place::new().await;
    let telemetry = place.bus.telemetry().await.expect("the stream");
    let options = IngestOptions {
        limits: Limits {
            columns_per_type_max: 6,
            ..Limits::default()
        },
        ..lazy()
    };
    let (lake, ingest) = place.start(options).await;
    let line = |n: u64| {
        let name = format!("n{n}");
        json!({"time": 1, "message": "m", "fields": {name: n}})
    };
    let lines: Vec<Value> = (0..5).map(line).collect();
    publish(&telemetry, "tel.log.cart.v1.cart-v1-1", &lines).await;
    until(&ingest, "all are taken", |_| {
        rows(&lake.snapshot(), "logs") == 5
    })
    .await;
    assert_eq!(ingest.stats().telemetry_bad, 0);
    ingest.flush().await.expect("a flush");
    ingest.stop().await.expect("it stops");
    let sql = "SELECT more FROM lake.main.logs WHERE more IS NOT NULL ORDER BY more";
    let found = duckdb(&place.catalogue(), &[sql]);
    assert_eq!(
        found[0],
        json!([
            [r#"{"n1":1}"#],
            [r#"{"n2":2}"#],
            [r#"{"n3":3}"#],
            [r#"{"n4":4}"#]
        ])
    );
    place.end().await;
}
