//! The ingester between a real `nats-server` and a real lake, recounted with DuckDB.

mod disk;
mod faults;
mod kit;
mod lineage;
mod telemetry;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serin_ingest::{Edge, Ingest, IngestOptions, Limits};
use serin_lake::accept::Numbered;
use serin_lake::check::Watch;
use serin_lake::{AcceptError, Door};

use disk::Failing;
use kit::{Place, duckdb, rows, until};

const COUNT: &str = r#"SELECT count(*), count(DISTINCT id) FROM lake.main."a""#;

fn quick() -> IngestOptions {
    IngestOptions {
        flush_age: Duration::from_millis(50),
        ..IngestOptions::default()
    }
}

fn lazy() -> IngestOptions {
    IngestOptions {
        flush_age: Duration::from_secs(3600),
        ..IngestOptions::default()
    }
}

/// I1, I2: each acknowledged event exactly once, wherever the commit is cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_once_wherever_it_stops() {
    let place = Place::new().await;
    let mut number = 0;
    for steps in 0..40 {
        place.publish("Nats-Msg-Id", number + 1, 3).await;
        place.publish("Nats-Msg-Id", number + 2, 2).await;
        number += 2;
        let disk = Arc::new(Failing::after(steps));
        if let Some(ingest) = place.start_on(disk.clone(), lazy()).await {
            let last = place.events.state().await.expect("the stream").last;
            until(&ingest, "it is read", |stats| stats.taken.sequence == last).await;
            // Either it commits, or it fails and has nothing more to say.
            let stopped = ingest.stop().await;
            assert!(stopped.is_ok() || disk.has_failed(), "{stopped:?}");
        }
    }
    let (_lake, ingest) = place.start(lazy()).await;
    ingest.flush().await.expect("a flush");
    ingest.stop().await.expect("it stops");
    let due = r#"SELECT sum(n)::BIGINT FROM (SELECT if(number % 2 = 1, 3, 2) AS n FROM lake.main."a" GROUP BY number)"#;
    let numbers = r#"SELECT count(DISTINCT number), max(number) FROM lake.main."a""#;
    let found = duckdb(&place.catalogue(), &[COUNT, due, numbers]);
    assert_eq!(
        found[2][0],
        serde_json::json!([number, number]),
        "no message missing"
    );
    assert_eq!(found[0][0][0], found[0][0][1], "no row twice");
    assert_eq!(found[0][0][0], found[1][0][0], "no row missing");
    place.end().await;
}

/// I14: a number sent again, past the broker's own window (which reads the header by its exact
/// name), before and after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_sent_again_is_taken_once() {
    let place = Place::new().await;
    let (lake, ingest) = place.start(quick()).await;
    for number in [1, 3, 1, 2, 3] {
        place.publish("nats-msg-id", number, 4).await;
    }
    ingest.flush().await.expect("a flush");
    assert_eq!(rows(&lake.snapshot(), "a"), 12);
    assert_eq!(ingest.stats().duplicates, 2);
    ingest.stop().await.expect("it stops");
    drop(lake);
    let (lake, ingest) = place.start(quick()).await;
    for number in [2, 1, 4, 3] {
        place.publish("nats-msg-id", number, 4).await;
    }
    ingest.flush().await.expect("a flush");
    assert_eq!(rows(&lake.snapshot(), "a"), 16);
    let state = place.events.state().await.expect("the stream");
    assert_eq!(ingest.stats().committed.sequence, state.last);
    ingest.stop().await.expect("it stops");
    place.end().await;
}

async fn post(
    ingest: &Ingest,
    door: Door,
    body: &str,
    number: Option<&str>,
) -> serin_lake::Receipt {
    let numbered = number.map(|number| Numbered {
        declared: None,
        number: number.to_owned(),
        is_import: true,
    });
    let body = Bytes::copy_from_slice(body.as_bytes());
    ingest
        .door()
        .accept(door, body, numbered)
        .await
        .expect("it is taken")
}

/// An import sent twice adds nothing, also after a restart and when the broker has forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_sent_twice_adds_nothing() {
    let place = Place::new().await;
    let (lake, ingest) = place.start(lazy()).await;
    let line =
        |n: u64| format!(r#"{{"type":"a","time":"2015-05-17T10:05:03Z","data":{{"n":{n}}}}}"#);
    // Over 128 KiB, so that it becomes more than one message.
    let body: Vec<String> = (0..3000).map(line).collect();
    let body = body.join("\n");
    let first = post(&ingest, Door::Ndjson, &body, Some("file/0/1")).await;
    assert_eq!((first.accepted, first.duplicates), (3000, 0));
    let second = post(&ingest, Door::Ndjson, &line(7), Some("file/0/2")).await;
    assert_eq!(second.accepted, 1);
    ingest.flush().await.expect("a flush");
    let again = post(&ingest, Door::Ndjson, &body, Some("file/0/1")).await;
    assert_eq!((again.accepted, again.duplicates), (0, 3000));
    ingest.stop().await.expect("it stops");
    drop(lake);
    let (lake, ingest) = place.start(lazy()).await;
    let again = post(&ingest, Door::Ndjson, &body, Some("file/0/1")).await;
    assert_eq!((again.accepted, again.duplicates), (0, 3000));
    ingest.flush().await.expect("a flush");
    assert_eq!(rows(&lake.snapshot(), "a"), 3001);
    assert_eq!(ingest.stats().refused, [].into());
    ingest.stop().await.expect("it stops");
    let count = duckdb(
        &place.catalogue(),
        &[COUNT, r#"SELECT min(time)::VARCHAR FROM lake.main."a""#],
    );
    assert_eq!(count[0][0][1], 3001);
    assert_eq!(count[1][0][0], "2015-05-17 10:05:03+00");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_answers_by_line() {
    let place = Place::new().await;
    let (lake, ingest) = place.start(lazy()).await;
    let body = r#"{"type":"a","source":"/shop/Cart","id":"x","data":{"n":1}}

{"type":"a","data":[1]}
{"type":"serin.decision"}
not json
{"type":"b","time":"2999-01-01T00:00:00Z"}
{"type":"b"}"#;
    let receipt = post(&ingest, Door::Ndjson, body, None).await;
    assert_eq!(receipt.accepted, 2);
    let lines: Vec<u64> = receipt.refused.iter().map(|refused| refused.line).collect();
    assert_eq!(lines, [3, 4, 5, 6]);
    until(&ingest, "both are taken", |stats| stats.events == 2).await;
    // The same identity of the same service, a second time.
    let again = r#"[{"type":"a","source":"cart","id":"x"},{"type":"a","source":"pay","id":"x"}]"#;
    let receipt = post(&ingest, Door::Batch, again, None).await;
    assert_eq!((receipt.accepted, receipt.duplicates), (1, 1));
    let bad = ingest
        .door()
        .accept(Door::One, Bytes::from_static(b"{}"), None)
        .await;
    assert!(matches!(bad, Err(AcceptError::Bad(_))), "{bad:?}");
    let bad = ingest
        .door()
        .accept(Door::Batch, Bytes::from_static(b"{}"), None)
        .await;
    assert!(matches!(bad, Err(AcceptError::Bad(_))), "{bad:?}");
    until(&ingest, "the third is taken", |stats| stats.events == 3).await;
    let snapshot = lake.snapshot();
    assert_eq!((rows(&snapshot, "a"), rows(&snapshot, "b")), (2, 1));
    // The door seals time like an SDK, with nothing else that beats.
    let before = snapshot.watermark_us;
    until(&ingest, "the watermark moves", |stats| {
        stats.watermark_us > before
    })
    .await;
    ingest.stop().await.expect("it stops");
    place.end().await;
}

/// What a door said is taken is never refused afterwards: neither by the bus's clock, which may be
/// another, nor for want of room for its type and attributes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_door_takes_is_stored() {
    const HOUR_US: i64 = 3600 * 1_000_000;
    let place = Place::new().await;
    let options = IngestOptions {
        limits: Limits {
            types_max: 1,
            columns_per_type_max: 2,
            ..Limits::default()
        },
        ..lazy()
    };
    let ahead = || {
        let edge = kit::edge();
        let machine = Arc::clone(&edge.now_us);
        Edge {
            now_us: Arc::new(move || machine() + HOUR_US),
            ..edge
        }
    };
    let (lake, ingest) = place.start_at(options, ahead()).await;
    let body = r#"{"type":"a","data":{"x":1,"y":2}}"#;
    assert_eq!(post(&ingest, Door::Ndjson, body, None).await.accepted, 1);
    until(&ingest, "it is taken", |stats| stats.events == 1).await;
    let body = r#"{"type":"b"}
{"type":"a","data":{"x":1,"z":null}}
{"type":"a","data":{"y":1,"z":1}}
{"type":"A","data":{"x":1}}"#;
    let receipt = post(&ingest, Door::Ndjson, body, None).await;
    assert_eq!(receipt.accepted, 1, "{receipt:?}");
    let told: Vec<u64> = receipt.refused.iter().map(|refused| refused.line).collect();
    assert_eq!(told, [1, 3, 4]);
    assert!(receipt.refused[1].error.contains("\"z\""), "{receipt:?}");
    ingest.flush().await.expect("a flush");
    let snapshot = lake.snapshot();
    // What its client was told is kept too, for whoever looks after Serin.
    assert_eq!((rows(&snapshot, "a"), rows(&snapshot, "refused")), (2, 3));
    ingest.stop().await.expect("it stops");
    place.end().await;
}

/// What is new in one body counts together: as many types are taken as may be, and the others are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_of_one_body_count_together() {
    let place = Place::new().await;
    let options = IngestOptions {
        limits: Limits {
            types_max: 500,
            ..Limits::default()
        },
        ..lazy()
    };
    let (lake, ingest) = place.start_at(options, kit::edge()).await;
    let line = |n| {
        format!(
            r#"{{"type":"t{n}","data":{{"text":"{}"}}}}"#,
            "x".repeat(2_000)
        )
    };
    // More than one message: what the first brings is taken or not while the second is looked at.
    let body: Vec<String> = (0..600).chain(0..600).map(line).collect();
    let body = body.join("\n") + "\n{\"type\":\"T1\"}";
    let receipt = post(&ingest, Door::Ndjson, &body, None).await;
    assert_eq!(receipt.accepted, 1_000);
    let told: Vec<u64> = receipt.refused.iter().map(|refused| refused.line).collect();
    let wanted: Vec<u64> = (501..=600).chain(1_101..=1_201).collect();
    assert_eq!(told, wanted);
    let why = &receipt.refused[0].error;
    assert!(
        why.contains("500 event types already and \"t500\""),
        "{why}"
    );
    let why = &receipt.refused[200].error;
    assert!(why.contains("differs from \"t1\" only in case"), "{why}");
    until(&ingest, "they are taken", |stats| stats.events == 1_000).await;
    ingest.flush().await.expect("a flush");
    let snapshot = lake.snapshot();
    assert_eq!(
        (rows(&snapshot, "t499"), rows(&snapshot, "refused")),
        (2, 201)
    );
    ingest.stop().await.expect("it stops");
    place.end().await;
}

/// Two files that have events in common: those with an identity are taken once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_in_two_imports_is_taken_once() {
    let place = Place::new().await;
    let (lake, ingest) = place.start(lazy()).await;
    let lines = |from: u64, to: u64| -> String {
        let line = |n| {
            format!(r#"{{"type":"a","source":"/shop","id":"o-{n}","time":"2015-05-17T10:05:03Z"}}"#)
        };
        (from..to).map(line).collect::<Vec<_>>().join("\n")
    };
    let first = post(&ingest, Door::Ndjson, &lines(0, 10), Some("one/0/1")).await;
    assert_eq!((first.accepted, first.duplicates), (10, 0));
    until(&ingest, "they are taken", |stats| stats.events == 10).await;
    let second = post(&ingest, Door::Ndjson, &lines(5, 15), Some("two/0/1")).await;
    assert_eq!((second.accepted, second.duplicates), (5, 5));
    let again = post(&ingest, Door::Ndjson, &lines(0, 10), Some("one/0/1")).await;
    assert_eq!((again.accepted, again.duplicates), (0, 10));
    // By another way, and twice in one file, which only the reader of the bus can tell.
    let live = post(&ingest, Door::Ndjson, &lines(9, 10), None).await;
    assert_eq!((live.accepted, live.duplicates), (0, 1));
    let twice = format!("{}\n{}", lines(20, 21), lines(20, 21));
    post(&ingest, Door::Ndjson, &twice, Some("three/0/1")).await;
    ingest.flush().await.expect("a flush");
    assert_eq!(rows(&lake.snapshot(), "a"), 16);
    ingest.stop().await.expect("it stops");
    drop(lake);
    // After a restart as before it.
    let (lake, ingest) = place.start(lazy()).await;
    let third = post(&ingest, Door::Ndjson, &lines(0, 30), Some("four/0/1")).await;
    assert_eq!((third.accepted, third.duplicates), (14, 16));
    ingest.flush().await.expect("a flush");
    assert_eq!(rows(&lake.snapshot(), "a"), 30);
    ingest.stop().await.expect("it stops");
    place.end().await;
}

/// I5: a reader never sees a row twice or not at all, whatever is flushed meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_sees_every_row_once() {
    let place = Place::new().await;
    let options = IngestOptions {
        flush_age: Duration::from_millis(20),
        ..IngestOptions::default()
    };
    let (lake, ingest) = place.start(options).await;
    let is_done = Arc::new(AtomicBool::new(false));
    let looks = Arc::new(AtomicU64::new(0));
    let reader = std::thread::spawn({
        let (lake, is_done, looks) = (lake.clone(), Arc::clone(&is_done), Arc::clone(&looks));
        move || {
            let mut watch = Watch::default();
            while !is_done.load(Ordering::SeqCst) {
                let found = watch.look(&lake.snapshot(), "a", 0);
                assert_eq!(found.expect("it is read"), []);
                looks.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    // Until either has had its share, whichever is the slower one here.
    let mut published = 0;
    while published < 200 || looks.load(Ordering::SeqCst) <= 10 || ingest.stats().flushes <= 2 {
        assert!(!reader.is_finished(), "the reader saw each row once");
        published += 1;
        place.publish("Nats-Msg-Id", published, 50).await;
    }
    let count = published * 50;
    until(&ingest, "all are taken", |stats| stats.events == count).await;
    ingest.flush().await.expect("a flush");
    is_done.store(true, Ordering::SeqCst);
    reader.join().expect("the reader saw each row once");
    assert_eq!(rows(&lake.snapshot(), "a"), count);
    ingest.stop().await.expect("it stops");
    assert_eq!(duckdb(&place.catalogue(), &[COUNT])[0][0][1], count);
    place.end().await;
}

/// A stream that was wiped while we read, and one wiped while we were away, begin a new lineage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_stream_begins_a_new_lineage() {
    let place = Place::new().await;
    let jetstream = || async_nats::jetstream::new(place.bus.client().clone());
    let (lake, ingest) = place.start(lazy()).await;
    place.publish("Nats-Msg-Id", 1, 5).await;
    until(&ingest, "it is taken", |stats| stats.events == 5).await;
    let before = ingest.stats().taken.incarnation;
    jetstream()
        .delete_stream(place.events.name())
        .await
        .expect("it goes");
    until(&ingest, "it begins again", |stats| stats.lineages == 1).await;
    place.publish("Nats-Msg-Id", 2, 5).await;
    ingest.flush().await.expect("a flush");
    let stats = ingest.stats();
    assert_ne!(stats.committed.incarnation, before);
    assert_eq!(rows(&lake.snapshot(), "a"), 10);
    ingest.stop().await.expect("it stops");
    drop(lake);
    jetstream()
        .delete_stream(place.events.name())
        .await
        .expect("it goes");
    let (lake, ingest) = place.start(lazy()).await;
    assert_eq!(ingest.stats().lineages, 1);
    place.publish("Nats-Msg-Id", 3, 5).await;
    ingest.flush().await.expect("a flush");
    assert_eq!(rows(&lake.snapshot(), "a"), 15);
    ingest.stop().await.expect("it stops");
    place.end().await;
}

/// Messages purged by somebody else are a gap, recorded and counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purged_messages_are_a_recorded_gap() {
    let place = Place::new().await;
    let (lake, ingest) = place.start(lazy()).await;
    place.publish("Nats-Msg-Id", 1, 1).await;
    ingest.flush().await.expect("a flush");
    ingest.stop().await.expect("it stops");
    drop(lake);
    for number in 2..=5 {
        place.publish("Nats-Msg-Id", number, 1).await;
    }
    place.events.purge_to(4).await.expect("they go");
    let (lake, ingest) = place.start(lazy()).await;
    ingest.flush().await.expect("a flush");
    assert_eq!(
        (ingest.stats().lost_messages, rows(&lake.snapshot(), "a")),
        (3, 2)
    );
    ingest.stop().await.expect("it stops");
    place.end().await;
}

/// What a door refuses is kept as what the bus brought: once a body, whole bodies too, within the same
/// bound; and the event may come again, mended, under its own identity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_door_refuses_rests_in_the_same_table() {
    let place = Place::new().await;
    let options = IngestOptions {
        limits: Limits {
            string_bytes_max: 10,
            refused_bytes_max: 2_000,
            ..Limits::default()
        },
        ..lazy()
    };
    let (lake, ingest) = place.start(options).await;
    let body = |text: &str| {
        format!(
            "{{\"type\":\"order.paid\",\"source\":\"/shop\",\"id\":\"o-1\",\"data\":{{\"t\":\"{text}\"}}}}\nnonsense"
        )
    };
    for _ in 0..2 {
        // The second time it is known: nothing is kept again.
        let receipt = post(
            &ingest,
            Door::Ndjson,
            &body("too long a text"),
            Some("file/0/1"),
        )
        .await;
        assert_eq!(receipt.refused.len(), 2, "{receipt:?}");
        until(&ingest, "its number is taken", |stats| {
            stats.taken.sequence == 1
        })
        .await;
    }
    let mended = post(&ingest, Door::Ndjson, &body("short"), Some("file/0/2")).await;
    assert_eq!((mended.accepted, mended.refused.len()), (1, 1));
    let whole = Bytes::from_static(b"no array");
    let whole = ingest.door().accept(Door::Batch, whole, None).await;
    assert!(matches!(whole, Err(AcceptError::Bad(_))), "{whole:?}");
    until(&ingest, "the mended one is taken", |stats| {
        stats.events == 1
    })
    .await;
    let counted = &ingest.stats().refused;
    let reasons = ["not-an-event", "string-length", "unreadable"];
    assert_eq!(reasons.map(|reason| counted[reason]), [2, 1, 1]);
    ingest.flush().await.expect("a flush");
    assert_eq!(rows(&lake.snapshot(), "refused"), 4);
    for _ in 0..100 {
        let one = Bytes::from_static(b"nonsense");
        drop(ingest.door().accept(Door::One, one, None).await);
    }
    ingest.flush().await.expect("a flush");
    let kept = rows(&lake.snapshot(), "refused") - 4;
    assert!((2..30).contains(&kept), "{kept}");
    assert_eq!(ingest.stats().refused_not_kept, 100 - kept);
    ingest.stop().await.expect("it stops");
    let sql = r#"SELECT type, service, reason, explanation, payload FROM lake.main."refused"
        WHERE reason = 'string-length'"#;
    let found = duckdb(&place.catalogue(), &[sql])[0][0].clone();
    let text = |column: usize| found[column].as_str().unwrap_or_default();
    assert_eq!((text(0), text(1)), ("order.paid", "shop"));
    assert!(text(3).contains("ingest.string_kib_max"), "{found}");
    assert!(text(4).contains("too long a text"), "{found}");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_events_rest_in_a_bounded_table() {
    let place = Place::new().await;
    let options = IngestOptions {
        limits: Limits {
            refused_bytes_max: 20_000,
            ..Limits::default()
        },
        ..lazy()
    };
    let (lake, ingest) = place.start(options).await;
    let payload = format!("{{{}", "x".repeat(1000));
    for _ in 0..200 {
        let payload = Bytes::from(payload.clone());
        place
            .events
            .publish("ev.cart.a", &[], payload)
            .await
            .expect("taken");
    }
    until(&ingest, "all are refused", |stats| {
        stats.refused.get("json") == Some(&200)
    })
    .await;
    ingest.flush().await.expect("a flush");
    let kept = rows(&lake.snapshot(), "refused");
    assert!((5..30).contains(&kept), "{kept}");
    assert_eq!(ingest.stats().refused_not_kept, 200 - kept);
    ingest.stop().await.expect("it stops");
    let sql = r#"SELECT service, type, reason, count(*) FROM lake.main."refused" GROUP BY ALL"#;
    let found = duckdb(&place.catalogue(), &[sql]);
    assert_eq!(found[0][0], serde_json::json!(["cart", "a", "json", kept]));
    place.end().await;
}
