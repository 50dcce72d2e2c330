//! What goes wrong around the ingester: a full stream, one that takes nothing, a disk that cannot
//! sync, a flood. Each with the real `nats-server`, recounted with DuckDB.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serin_ingest::{Ingest, IngestError};
use serin_lake::{AcceptError, CommitError, Door, Receipt};

use crate::disk::{Stalling, Sync, Syncless};
use crate::kit::{Place, duckdb, edge, rows, until};
use crate::{COUNT, lazy};

/// A body of `count` lines of about a kilobyte each, without identities.
fn lines(count: usize) -> Bytes {
    let line = format!(r#"{{"type":"a","data":{{"text":"{}"}}}}"#, "x".repeat(1000));
    Bytes::from(vec![line; count].join("\n"))
}

async fn send(ingest: &Ingest, body: Bytes) -> Result<Receipt, AcceptError> {
    ingest.door().accept(Door::Ndjson, body, None).await
}

/// Sends a body again as long as the bus is full, which it may not stay.
async fn send_until_taken(ingest: &Ingest, body: Bytes) -> Receipt {
    let sending = async {
        loop {
            match send(ingest, body.clone()).await {
                Ok(receipt) => return receipt,
                Err(AcceptError::Full { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let sent = tokio::time::timeout(Duration::from_secs(30), sending).await;
    sent.expect("a flush makes room")
}

/// The door refuses what has no room, keeps what it took, and takes again after a flush.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_refuses_and_loses_nothing() {
    let place = Place::with_room(1 << 20).await;
    let (lake, ingest) = place.start(lazy()).await;
    let mut accepted = 0;
    let refused = loop {
        assert!(accepted < 10_000, "it takes more than it has room for");
        match send(&ingest, lines(50)).await {
            Ok(receipt) => accepted += receipt.accepted,
            Err(error) => break error,
        }
    };
    let AcceptError::Full { retry_after } = refused else {
        panic!("{refused}");
    };
    assert!(retry_after >= Duration::from_secs(1));
    assert!(accepted >= 500, "{accepted}");
    ingest.flush().await.expect("a flush");
    assert_eq!(rows(&lake.snapshot(), "a"), accepted);
    accepted += send_until_taken(&ingest, lines(50)).await.accepted;
    // The number that was refused is closed, and does not hold the seal.
    let now_us = edge().now_us();
    until(&ingest, "the watermark passes the refusal", |stats| {
        stats.watermark_us > Some(now_us)
    })
    .await;
    ingest.flush().await.expect("a flush");
    ingest.stop().await.expect("it stops");
    assert_eq!(
        duckdb(&place.catalogue(), &[COUNT])[0][0],
        serde_json::json!([accepted, accepted])
    );
    place.end().await;
}

/// A body of several messages that ends in a full stream: what was taken and what was not is told
/// line by line, and the rest alone, sent again, makes it whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_taken_in_part_says_where_to_go_on() {
    let place = Place::with_room(1 << 20).await;
    let (lake, ingest) = place.start(lazy()).await;
    let whole = lines(1600);
    let receipt = send(&ingest, whole.clone()).await.expect("a part is taken");
    let unsent = receipt.unsent.expect("it is told");
    assert!(receipt.accepted > 0 && receipt.accepted < 1600);
    assert_eq!(unsent.from_line, receipt.accepted + 1);
    assert!(unsent.retry_after.is_some());
    let told: Vec<u64> = receipt.refused.iter().map(|refused| refused.line).collect();
    assert_eq!(told, (unsent.from_line..=1600).collect::<Vec<_>>());
    ingest.flush().await.expect("a flush");
    let mut rest: Vec<&[u8]> = whole.split(|byte| *byte == b'\n').collect();
    rest.drain(..receipt.accepted as usize);
    while !rest.is_empty() {
        let receipt = send_until_taken(&ingest, Bytes::from(rest.join(&b'\n'))).await;
        rest.drain(..receipt.accepted as usize);
        ingest.flush().await.expect("a flush");
    }
    assert_eq!(rows(&lake.snapshot(), "a"), 1600);
    ingest.stop().await.expect("it stops");
    assert_eq!(
        duckdb(&place.catalogue(), &[COUNT])[0][0],
        serde_json::json!([1600, 1600])
    );
    place.end().await;
}

/// A sync that failed is never tried again: the ingester ends, the bus keeps everything, and the
/// next start has each event once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_ends_the_ingester() {
    for what in [Sync::File, Sync::Folder] {
        let place = Place::new().await;
        let disk = Arc::new(Syncless::new(what));
        let ingest = place.start_on(disk.clone(), lazy()).await;
        let ingest = ingest.expect("the disk is well");
        place.publish("Nats-Msg-Id", 1, 3).await;
        let first = ingest.flush().await.expect("a flush");
        disk.break_it();
        place.publish("Nats-Msg-Id", 2, 4).await;
        let failed = ingest.failed();
        assert!(ingest.flush().await.is_err(), "{what:?}");
        let failed = tokio::time::timeout(Duration::from_secs(30), failed).await;
        let failed = failed.expect("it tells");
        assert!(
            matches!(&failed, IngestError::Commit(error) if matches!(**error, CommitError::Durability { .. })),
            "{failed:?}"
        );
        // No later acknowledgement: neither by an answer, nor by the position, nor by a purge.
        place.publish("Nats-Msg-Id", 3, 5).await;
        assert!(ingest.flush().await.is_err());
        let stats = ingest.stats();
        assert_eq!((stats.committed, stats.flushes), (first, 1));
        let state = place.events.state().await.expect("the stream");
        assert!(state.first <= first.sequence + 1, "{state:?}");
        assert!(ingest.stop().await.is_err());
        let (lake, ingest) = place.start(lazy()).await;
        ingest.flush().await.expect("a flush");
        assert_eq!(rows(&lake.snapshot(), "a"), 12);
        ingest.stop().await.expect("it stops");
        assert_eq!(
            duckdb(&place.catalogue(), &[COUNT])[0][0],
            serde_json::json!([12, 12])
        );
        place.end().await;
    }
}

/// What the bus says no to for another reason than its size may pass: the client is told to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_takes_nothing_is_no_fault_of_the_client() {
    let place = Place::new().await;
    let (_lake, ingest) = place.start(lazy()).await;
    let context = async_nats::jetstream::new(place.bus.client().clone());
    let mut stream = context.get_stream("EVENTS").await.expect("the stream");
    let mut config = stream.info().await.expect("its state").config.clone();
    config.sealed = true;
    context.update_stream(config).await.expect("sealed");
    let refused = send(&ingest, lines(1)).await.expect_err("it takes nothing");
    assert!(
        matches!(&refused, AcceptError::Refused { retry_after, .. } if *retry_after >= Duration::from_secs(1)),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("sealed"),
        "the bus's own words: {refused}"
    );
    drop(ingest);
    place.end().await;
}

/// A number that no signed integer holds is no number: the event is taken, and the commit passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_beyond_every_database_does_not_hold_the_commit() {
    let place = Place::new().await;
    let (lake, ingest) = place.start(lazy()).await;
    place.publish_as("test/0/18446744073709551615", 1, 1).await;
    place.publish_as("test/0/9223372036854775808", 2, 1).await;
    place.publish_as("test/0/9223372036854775807", 3, 1).await;
    let flushed = tokio::time::timeout(Duration::from_secs(20), ingest.flush()).await;
    flushed
        .expect("it does not retry for ever")
        .expect("a flush");
    assert_eq!(rows(&lake.snapshot(), "a"), 3);
    ingest.stop().await.expect("it stops");
    place.end().await;
}

/// A flood of spans while a commit cannot end: memory stays bounded, what the bus drops meanwhile is
/// counted, and events still come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_telemetry_is_bounded_and_counted() {
    const MEMORY: usize = 8 << 20;
    let place = Place::new().await;
    let disk = Arc::new(Stalling::default());
    let options = serin_ingest::IngestOptions {
        memory_bytes_max: MEMORY,
        ..lazy()
    };
    let ingest = place.start_on(disk.clone(), options).await;
    let ingest = ingest.expect("the disk is well");
    let telemetry = place.bus.telemetry().await.expect("the stream");
    place.publish("Nats-Msg-Id", 1, 1).await;
    until(&ingest, "it is taken", |stats| stats.events == 1).await;
    disk.stall();
    let flood = |count: usize| {
        let telemetry = telemetry.clone();
        let line = format!(r#"{{"time":1,"message":"{}"}}"#, "x".repeat(30_000));
        let payload = Bytes::from(vec![line; 16].join("\n"));
        async move {
            for _ in 0..count {
                let sent = telemetry.publish("tel.log.a.v1.a-v1-1", &[], payload.clone());
                sent.await.expect("taken");
            }
        }
    };
    // 8 MiB of memory, some in the readers' queues, and 64 MiB of stream hold less than 240 of 480 KB.
    flood(240).await;
    place.publish("Nats-Msg-Id", 2, 1).await;
    until(&ingest, "events come in beside it", |stats| {
        stats.events == 2
    })
    .await;
    let held = ingest.stats().buffer_bytes;
    assert!(held < (MEMORY + (1 << 20)) as u64, "{held}");
    assert_eq!(ingest.stats().flushes, 0);
    disk.go_on();
    until(&ingest, "what was dropped is counted", |stats| {
        stats.telemetry_lost > 0
    })
    .await;
    ingest.flush().await.expect("a flush");
    ingest.stop().await.expect("it stops");
    place.end().await;
}
