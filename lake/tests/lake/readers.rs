//! Readers beside a writer: no row twice, none missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serin_lake::Fresh;
use serin_lake::check::Watch;

use crate::kit::{self, Hot, SECOND_US, START_US};

#[test]
fn counts_never_fall_and_no_row_is_seen_twice_while_all_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, _) = kit::open(&kit::hasty(dir.path()));
    let hot = Arc::new(Hot::default());
    lake.plug_fresh(hot.clone());
    let is_over = AtomicBool::new(false);
    let pushed = AtomicU64::new(0);
    let looks = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for flush in 0..40 {
                for part in 0..4 {
                    let from = flush * 40 + part * 10;
                    hot.push(flush + 1, "order.paid", kit::batch(from, from + 10));
                    pushed.store(from + 10, Ordering::SeqCst);
                }
                let (from, to) = (flush * 40, flush * 40 + 40);
                lake.commit(kit::flush(flush + 1, "order.paid", from, to))
                    .unwrap();
            }
            is_over.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            let mut now_us = START_US;
            while !is_over.load(Ordering::SeqCst) {
                now_us += SECOND_US;
                lake.compact(now_us).unwrap();
                lake.expire(now_us).unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut watch = Watch::default();
                while !is_over.load(Ordering::SeqCst) {
                    let written = pushed.load(Ordering::SeqCst);
                    let snapshot = lake.snapshot();
                    let found = watch.look(&snapshot, "order.paid", written);
                    assert_eq!(found.unwrap(), []);
                    looks.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        writer.join().unwrap();
    });
    assert!(looks.load(Ordering::SeqCst) > 2);
    kit::assert_ids(&kit::ids(&lake.snapshot(), "order.paid"), 0, 1600);
    assert!(hot.rows(0).tables.is_empty());
    drop(lake);
    assert_eq!(kit::findings(&kit::hasty(dir.path()), 0, 1600), []);
}

#[test]
fn fresh_rows_show_with_their_new_and_widened_columns() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, _) = kit::open(&kit::options(dir.path()));
    let hot = Arc::new(Hot::default());
    lake.plug_fresh(hot.clone());
    hot.push(1, "cart.add", kit::batch(0, 5));
    let before = lake.snapshot();
    assert_eq!(kit::ids(&before, "cart.add").len(), 5);
    assert_eq!(before.watermark_us, Some(START_US));
    assert_eq!(
        before.data_range_us(["cart.add"].into_iter()),
        Some((START_US, START_US + 4000))
    );
    lake.commit(kit::flush(1, "cart.add", 0, 5)).unwrap();
    let after = lake.snapshot();
    assert_eq!(after.tables["cart.add"].fresh.len(), 0);
    assert_eq!(
        after.data_range_us(["cart.add"].into_iter()),
        Some((START_US, START_US + 4000))
    );
    // The older snapshot still reads what it saw.
    assert_eq!(kit::ids(&before, "cart.add").len(), 5);
}
