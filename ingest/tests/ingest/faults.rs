//! What goes wrong around the ingester: a full stream, a disk that cannot sync, a bus that lost its
//! tail. Each with the real `nats-server`, recounted with DuckDB.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serin_ingest::{Ingest, IngestError};
use serin_lake::{AcceptError, CommitError, Door, Lake, Position, Receipt};

use crate::disk::{Sync, Syncless};
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

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &to),
            false => {
                std::fs::copy(entry.path(), to).expect("a copy");
            }
        }
    }
}

/// A bus that comes back as it was before messages we have taken: a new life, with the gap recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_lost_its_tail_begins_a_new_lineage() {
    let place = Place::new().await;
    let (lake, ingest) = place.start(lazy()).await;
    place.publish("Nats-Msg-Id", 1, 1).await;
    place.publish("Nats-Msg-Id", 2, 1).await;
    let before = ingest.flush().await.expect("a flush");
    ingest.stop().await.expect("it stops");
    drop(lake);
    let kept = tempfile::TempDir::new().expect("a folder");
    let place = place
        .restart(|jetstream| copy(jetstream, kept.path()))
        .await;
    let (lake, ingest) = place.start(lazy()).await;
    for number in 3..=5 {
        place.publish("Nats-Msg-Id", number, 1).await;
    }
    let last = ingest.flush().await.expect("a flush");
    assert_eq!((before.sequence, last.sequence), (2, 5));
    ingest.stop().await.expect("it stops");
    drop(lake);
    let restore = |jetstream: &Path| {
        std::fs::remove_dir_all(jetstream).expect("it goes");
        copy(kept.path(), jetstream);
    };
    let place = place.restart(restore).await;
    let (lake, ingest) = place.start(lazy()).await;
    let stats = ingest.stats();
    assert_eq!((stats.lineages, stats.lost_messages), (1, 3));
    assert_ne!(stats.committed.incarnation, last.incarnation);
    assert_eq!(stats.committed.sequence, 2);
    place.publish("Nats-Msg-Id", 6, 7).await;
    let new = ingest.flush().await.expect("a flush");
    assert_eq!(
        new,
        Position {
            incarnation: stats.committed.incarnation,
            sequence: 3
        }
    );
    assert_eq!(rows(&lake.snapshot(), "a"), 12);
    ingest.stop().await.expect("it stops");
    drop(lake);
    let findings =
        serin_lake::check::Audit::open(&place.options().dir).and_then(|audit| audit.all());
    assert_eq!(findings.expect("it is read"), []);
    let (_lake, recovered) = Lake::open(place.options(), edge().now_us()).expect("a lake");
    let gaps: Vec<_> = recovered
        .gaps
        .iter()
        .map(|gap| (gap.incarnation, gap.first, gap.last, gap.reason))
        .collect();
    assert_eq!(gaps, [(last.incarnation, 3, 5, "regressed")]);
    place.end().await;
}
