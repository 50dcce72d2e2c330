use std::collections::BTreeMap;

use arrow::array::AsArray;
use serin_lake::{Fresh, Incarnation};
use serin_wire::batch::{BatchWriter, Head, IMPORTED, Id};

use super::*;

fn pipeline(limits: Limits) -> Pipeline {
    let shared = Shared {
        buffer: Arc::new(Buffer::new([])),
        identities: Mutex::new(Identities {
            producers: Producers::default(),
            seen: Seen::from_kept(Vec::new(), limits.seen_max),
        }),
        counters: Counters::default(),
        limits,
    };
    Pipeline::new(Arc::new(shared), Position::default(), None)
}

fn batch(flags: u8, ids: &[Id<'_>], time_us: i64, data: &str) -> Vec<u8> {
    let mut writer = BatchWriter::new("cart", "v1", "cart-v1-1", flags);
    for &id in ids {
        let head = Head {
            id,
            kind: "a",
            service: None,
            time_us,
            trace: None,
            arm: None,
        };
        writer.push(&head, data.as_bytes());
    }
    writer.take()
}

fn take(pipeline: &mut Pipeline, message_id: &str, payload: &[u8]) {
    let incoming = Incoming {
        sequence: pipeline.taken().sequence + 1,
        taken_us: 1_000_000,
        subject: "ev.cart._batch",
        headers: &[("Nats-Msg-Id", message_id)],
        payload,
    };
    pipeline.take(&incoming, 1_000_000);
}

/// Rows of each table that has some: our own tables are there before their first row.
fn rows(pipeline: &Pipeline) -> BTreeMap<String, usize> {
    let fresh = pipeline.shared.buffer.rows(0);
    let count = |table: &serin_lake::FreshTable| -> usize {
        table.batches.iter().map(|batch| batch.num_rows()).sum()
    };
    let counted = fresh.tables.iter();
    counted
        .map(|(name, table)| (name.clone(), count(table)))
        .filter(|(_, rows)| *rows > 0)
        .collect()
}

#[test]
fn numbers_and_identities_are_taken_once() {
    let mut pipeline = pipeline(Limits::default());
    let ulids = batch(0, &[Id::Ulid(1), Id::Ulid(2)], 0, "{}");
    let texts = batch(0, &[Id::Text("x"), Id::Text("y"), Id::Text("x")], 0, "{}");
    take(&mut pipeline, "p/0/1", &ulids);
    take(&mut pipeline, "p/0/1", &ulids);
    take(&mut pipeline, "p/0/2", &texts);
    take(&mut pipeline, "p/0/3", &texts);
    assert_eq!(rows(&pipeline)["a"], 4);
    assert_eq!(pipeline.shared.counters.read().duplicates, 5);
    let flush = pipeline.cut(0).expect("rows");
    assert_eq!(
        flush.progress.account,
        Some(Account {
            messages: 4,
            rows: 4
        })
    );
    assert_eq!(flush.progress.to.sequence, 4);
    assert_eq!(flush.progress.seen.len(), 2);
    assert_eq!(flush.progress.producers[0].contiguous, 3);
    assert!(pipeline.cut(0).is_none());
}

#[test]
fn what_is_refused_may_come_again_mended() {
    let mut pipeline = pipeline(Limits {
        string_bytes_max: 5,
        ..Limits::default()
    });
    let long = batch(0, &[Id::Text("x")], 0, r#"{"a":"longer"}"#);
    take(&mut pipeline, "p/0/1", &long);
    let ids = || {
        let batches = &pipeline.shared.buffer.rows(0).tables["refused"].batches;
        batches[0]["id"].as_string::<i32>().value(0).to_owned()
    };
    assert_ne!(ids(), "x", "the mended one will be that");
    let mended = batch(0, &[Id::Text("x")], 0, r#"{"a":"short"}"#);
    take(&mut pipeline, "p/0/2", &mended);
    take(&mut pipeline, "p/0/3", &mended);
    assert_eq!(rows(&pipeline)["a"], 1);
    assert_eq!(pipeline.shared.counters.read().duplicates, 1);
}

#[test]
fn many_short_texts_overflow_into_a_long_one() {
    let mut pipeline = pipeline(Limits {
        columns_per_type_max: 12,
        string_bytes_max: 50,
        ..Limits::default()
    });
    let names: String = (0..40)
        .map(|at| format!(r#","name_{at}":"text {at}""#))
        .collect();
    let line = format!(r#"{{"time":5,"message":"m"{names}}}"#);
    pipeline.take_telemetry("tel.log.cart.v1.cart-v1-1", line.as_bytes(), 5_000);
    assert_eq!(pipeline.shared.counters.read().telemetry_bad, 0);
    assert_eq!(rows(&pipeline)["logs"], 1);
}

#[test]
fn a_message_behind_too_many_holes_is_refused_and_told() {
    let mut pipeline = pipeline(Limits::default());
    let event = batch(0, &[Id::Ulid(1), Id::Ulid(2)], 0, "{}");
    for n in 1..=RANGES_MAX as u64 {
        take(&mut pipeline, &format!("p/0/{}", 2 * n + 1), b"SB\x01");
    }
    take(&mut pipeline, "p/0/100000", &event);
    let refused = &pipeline.shared.counters.read().refused;
    assert_eq!(refused.get("holes"), Some(&2));
    take(&mut pipeline, "p/0/1", &event);
    assert_eq!(rows(&pipeline)["a"], 2);
}

#[test]
fn imports_keep_old_times_and_their_own_files() {
    let mut pipeline = pipeline(Limits::default());
    let far_us = 40_000_000_000;
    take(
        &mut pipeline,
        "p/0/1",
        &batch(IMPORTED, &[Id::Ulid(1)], far_us, "{}"),
    );
    take(
        &mut pipeline,
        "p/0/2",
        &batch(0, &[Id::Ulid(2)], far_us, "{}"),
    );
    take(&mut pipeline, "p/0/3", &batch(0, &[Id::Ulid(3)], 1, "{}"));
    assert_eq!(
        rows(&pipeline),
        [("a".into(), 2), ("refused".into(), 1)].into()
    );
    assert_eq!(
        pipeline.shared.counters.read().refused,
        [("clock-skew", 1)].into()
    );
    let flush = pipeline.cut(0).expect("rows");
    let mut parts: Vec<_> = flush
        .tables
        .iter()
        .map(|t| (&*t.name, t.is_import))
        .collect();
    parts.sort_unstable();
    assert_eq!(parts, [("a", false), ("a", true), ("refused", false)]);
}

#[test]
fn what_is_refused_is_kept_within_bounds_and_counted() {
    let mut pipeline = pipeline(Limits {
        types_max: 1,
        columns_per_type_max: 2,
        string_bytes_max: 50,
        event_bytes_max: 100,
        refused_bytes_max: 3000,
        ..Limits::default()
    });
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(51));
    let longer = format!("{{\"a\":\"{}\"}}", "x".repeat(101));
    let bodies = [
        r#"{"a":1,"b":2}"#,
        r#"{"a":1,"c":2}"#,
        &long,
        &longer,
        "{",
        "[1]",
    ];
    for (at, data) in bodies.iter().enumerate() {
        let message = batch(0, &[Id::Ulid(at as u128)], 0, data);
        take(&mut pipeline, &format!("p/0/{}", at + 1), &message);
    }
    take(&mut pipeline, "p/0/99", b"nonsense");
    let counted = pipeline.shared.counters.read().refused;
    let expected = [
        ("columns", 1),
        ("string-length", 1),
        ("event-size", 1),
        ("json", 2),
        ("unreadable", 1),
    ];
    assert_eq!(counted, expected.into());
    assert_eq!(
        rows(&pipeline),
        [("a".into(), 1), ("refused".into(), 6)].into()
    );
    for n in 100..1100 {
        take(&mut pipeline, &format!("p/0/{n}"), b"nonsense");
    }
    assert!(rows(&pipeline)["refused"] < 40);
    let stats = pipeline.shared.counters.read();
    assert_eq!(stats.refused["unreadable"], 1001);
    assert_eq!(
        stats.refused_not_kept,
        1007 - rows(&pipeline)["refused"] as u64 - 1
    );
}

#[test]
fn a_late_row_is_taken_and_counted() {
    let mut pipeline = pipeline(Limits::default());
    let seal = Sealed {
        producer: String::from("p"),
        epoch: 0,
        number: 1,
        time_us: 900_000,
    };
    pipeline.hear_seal(&seal, 1_000_000);
    pipeline.seal(1_000_000);
    assert_eq!(pipeline.shared.buffer.rows(0).watermark_us, None);
    take(&mut pipeline, "p/0/1", &batch(0, &[Id::Ulid(1)], 5, "{}"));
    pipeline.seal(1_000_000);
    assert_eq!(pipeline.shared.buffer.rows(0).watermark_us, Some(900_000));
    // Sealed means that every event up to that time is in: one of that very time is late.
    for (number, time_us) in [(2, 899_999), (3, 900_000), (4, 900_001)] {
        let message = batch(0, &[Id::Ulid(number)], time_us, "{}");
        take(&mut pipeline, &format!("p/0/{number}"), &message);
    }
    assert_eq!(pipeline.shared.counters.read().late, 2);
    assert_eq!(rows(&pipeline)["a"], 4);
}

#[test]
fn lines_are_told_apart_in_the_order_of_their_arrival() {
    let mut pipeline = pipeline(Limits::default());
    let line = br#"{"time":5,"message":"same"}"#;
    for _ in 0..12 {
        pipeline.take_telemetry("tel.log.cart.v1.cart-v1-1", line, 5_000);
    }
    let batches = &pipeline.shared.buffer.rows(0).tables["logs"].batches;
    let ids: Vec<&str> = batches
        .iter()
        .flat_map(|batch| batch["id"].as_string::<i32>().iter().flatten())
        .collect();
    assert_eq!(ids.len(), 12);
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}

#[test]
fn a_subject_nobody_knows_is_counted() {
    let mut pipeline = pipeline(Limits::default());
    pipeline.take_telemetry("tel.span.gateway.0.1.0.gateway-1", b"{}", 5);
    assert_eq!(pipeline.shared.counters.read().telemetry_bad, 1);
}

#[test]
fn a_gap_is_part_of_the_progress() {
    let mut pipeline = pipeline(Limits::default());
    let gap = Gap {
        incarnation: Incarnation(0),
        first: 1,
        last: 7,
        reason: "purged",
    };
    pipeline.gap(gap.clone(), 0);
    let flush = pipeline.cut(0).expect("progress");
    assert_eq!(
        (flush.progress.to.sequence, flush.progress.gaps),
        (7, vec![gap])
    );
}
