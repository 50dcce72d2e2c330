//! A bus that is not the one we read any more: it lost its tail, was filled up again, or was wiped.
//! Each with the real `nats-server` and the files of JetStream as they were at an earlier moment.

use std::path::Path;

use serin_lake::{Lake, Position};
use tempfile::TempDir;

use crate::kit::{Place, duckdb, edge, rows, until};
use crate::{COUNT, lazy};

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

/// A place whose bus comes back as it was after two of five messages, all of which are in files.
async fn regressed() -> Place {
    let place = Place::new().await;
    let (lake, ingest) = place.start(lazy()).await;
    place.publish("Nats-Msg-Id", 1, 1).await;
    place.publish("Nats-Msg-Id", 2, 1).await;
    ingest.flush().await.expect("a flush");
    ingest.stop().await.expect("it stops");
    drop(lake);
    let kept = TempDir::new().expect("a folder");
    let place = place
        .restart(|jetstream| copy(jetstream, kept.path()))
        .await;
    let (lake, ingest) = place.start(lazy()).await;
    for number in 3..=5 {
        place.publish("Nats-Msg-Id", number, 1).await;
    }
    ingest.flush().await.expect("a flush");
    ingest.stop().await.expect("it stops");
    drop(lake);
    place
        .restart(|jetstream| {
            std::fs::remove_dir_all(jetstream).expect("it goes");
            copy(kept.path(), jetstream);
        })
        .await
}

/// All gaps the catalogue has.
fn gaps(place: &Place) -> Vec<(u64, u64, &'static str)> {
    let (_lake, recovered) = Lake::open(place.options(), edge().now_us()).expect("a lake");
    let gaps = recovered.gaps.iter();
    gaps.map(|gap| (gap.first, gap.last, gap.reason)).collect()
}

/// Publishers fill up the bus past our position before we look: the last sequence alone would say
/// that all is well, and what came at the old places would be passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_that_was_filled_up_again_is_still_found() {
    let place = regressed().await;
    for number in 11..=17 {
        place.publish("Nats-Msg-Id", number, 1).await;
    }
    let (lake, ingest) = place.start(lazy()).await;
    ingest.flush().await.expect("a flush");
    assert_eq!(rows(&lake.snapshot(), "a"), 12);
    let stats = ingest.stats();
    assert_eq!((stats.lineages, stats.lost_messages), (1, 3));
    assert_eq!((stats.events, stats.committed.sequence), (7, 9));
    ingest.stop().await.expect("it stops");
    drop(lake);
    assert_eq!(gaps(&place), [(3, 5, "regressed")]);
    let count = duckdb(&place.catalogue(), &[COUNT]);
    assert_eq!(count[0][0], serde_json::json!([12, 12]));
    place.end().await;
}

/// Killed after the stream got its new name and before the catalogue knew: it is no wiped stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_the_new_name_and_the_catalogue_is_no_riddle() {
    let place = regressed().await;
    place.events.renew_incarnation(2).await.expect("renewed");
    place.publish("Nats-Msg-Id", 11, 1).await;
    let (lake, ingest) = place.start(lazy()).await;
    ingest.flush().await.expect("a flush");
    assert_eq!(rows(&lake.snapshot(), "a"), 6);
    let stats = ingest.stats();
    assert_eq!((stats.events, stats.duplicates), (1, 0));
    ingest.stop().await.expect("it stops");
    drop(lake);
    assert_eq!(gaps(&place), [(3, 5, "regressed")]);
    place.end().await;
}

/// The server is killed while we run, and comes back without its tail but with as many messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_wiped_stream_still_had_is_a_gap() {
    let place = Place::new().await;
    let (lake, ingest) = place.start(lazy()).await;
    place.publish("Nats-Msg-Id", 1, 1).await;
    ingest.flush().await.expect("a flush");
    ingest.stop().await.expect("it stops");
    drop(lake);
    let context = async_nats::jetstream::new(place.bus.client().clone());
    context.delete_stream("EVENTS").await.expect("it goes");
    let events = place.bus.events().await.expect("made again");
    for number in 11..=14 {
        place.publish("Nats-Msg-Id", number, 1).await;
    }
    events.purge_to(2).await.expect("purged by another");
    let (lake, ingest) = place.start(lazy()).await;
    ingest.flush().await.expect("a flush");
    assert_eq!(rows(&lake.snapshot(), "a"), 3);
    let stats = ingest.stats();
    assert_eq!((stats.lineages, stats.lost_messages), (1, 2));
    until(&ingest, "it goes on", |stats| stats.committed.sequence == 4).await;
    ingest.stop().await.expect("it stops");
    drop(lake);
    assert_eq!(gaps(&place), [(1, 2, "purged")]);
    place.end().await;
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
    let kept = TempDir::new().expect("a folder");
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
    let (_lake, recovered) = Lake::open(place.options(), edge().now_us()).expect("a lake");
    let gaps: Vec<_> = recovered
        .gaps
        .iter()
        .map(|gap| (gap.incarnation, gap.first, gap.last, gap.reason))
        .collect();
    assert_eq!(gaps, [(last.incarnation, 3, 5, "regressed")]);
    place.end().await;
}
