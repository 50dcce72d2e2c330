//! Compaction and expiry: fewer files, the same rows; then fewer rows, a smaller disk and catalogue.

use std::path::Path;
use std::time::Duration;

use serin_lake::check::Audit;
use serin_lake::{Compacted, LakeOptions};

use crate::kit::{self, DAY_US, START_US};

fn bytes_below(dir: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        bytes += match entry.file_type().unwrap().is_dir() {
            true => bytes_below(&entry.path()),
            false => entry.metadata().unwrap().len(),
        };
    }
    bytes
}

#[test]
fn compaction_keeps_rows_order_and_imports_apart() {
    let dir = tempfile::tempdir().unwrap();
    let options = kit::hasty(dir.path());
    let (lake, _) = kit::open(&options);
    for part in 0..6 {
        let mut flush = kit::flush(part + 1, "order.paid", part * 500, part * 500 + 500);
        flush.tables[0].is_import = part % 2 == 1;
        lake.commit(flush).unwrap();
    }
    let before = Audit::open(&options.dir)
        .unwrap()
        .row_sum("order.paid")
        .unwrap();
    let held = lake.snapshot();
    let mut merged = Vec::new();
    loop {
        let compacted = lake.compact(START_US + DAY_US / 2).unwrap();
        if compacted.files == 0 {
            assert_eq!(compacted, Compacted::default());
            break;
        }
        merged.push((compacted.files, compacted.rows));
    }
    assert_eq!(merged, [(3, 1500), (3, 1500)]);
    let audit = Audit::open(&options.dir).unwrap();
    assert_eq!(audit.rows_are_kept("order.paid", before).unwrap(), []);
    drop(audit);
    let snapshot = lake.snapshot();
    let view = &snapshot.tables["order.paid"];
    let kinds: Vec<bool> = view.files.iter().map(|file| file.is_import).collect();
    assert!(kinds == [true, false] || kinds == [false, true]);
    kit::assert_ids(&kit::ids(&snapshot, "order.paid"), 0, 3000);
    for batch in kit::batches(view) {
        let service = batch.column_by_name("service").unwrap();
        let sorted = arrow::compute::sort(service, None).unwrap();
        assert_eq!(&sorted, service, "a merged file is not sorted");
    }
    // Whoever holds the old snapshot reads the old files, whatever expires.
    lake.expire(START_US + DAY_US / 2).unwrap();
    kit::assert_ids(&kit::ids(&held, "order.paid"), 0, 3000);
    drop(held);
    let expired = lake.expire(START_US + DAY_US / 2 + 1).unwrap();
    assert_eq!(expired.files_removed, 6);
    let counted = kit::duckdb(
        lake.catalogue_path(),
        &["SELECT count(*), count(DISTINCT id) FROM \"order.paid\""],
    );
    assert_eq!(counted[0], serde_json::json!([[3000, 3000]]));
    drop(lake);
    assert_eq!(kit::findings(&options, 0, 3000), []);
}

#[test]
fn files_of_a_day_that_is_over_become_one() {
    let dir = tempfile::tempdir().unwrap();
    let options = kit::options(dir.path());
    let (lake, _) = kit::open(&options);
    for part in 0..3 {
        lake.commit(kit::flush(part + 1, "cart.add", part * 10, part * 10 + 10))
            .unwrap();
    }
    assert_eq!(lake.compact(START_US + DAY_US / 2).unwrap().files, 0);
    assert_eq!(lake.compact(START_US + DAY_US).unwrap().files, 3);
    assert_eq!(lake.compact(START_US + DAY_US).unwrap().files, 0);
}

#[test]
fn expiry_by_age_shrinks_disk_and_catalogue_and_spares_imports() {
    let dir = tempfile::tempdir().unwrap();
    let options = LakeOptions {
        snapshot_keep: Duration::from_secs(3600),
        delete_grace: Duration::from_secs(600),
        ..kit::options(dir.path())
    };
    let (lake, _) = kit::open(&options);
    for part in 0..60 {
        let mut flush = kit::flush(part + 1, "order.paid", part * 200, part * 200 + 200);
        flush.now_us = START_US + part as i64 * DAY_US;
        flush.tables[0].is_import = part == 3;
        lake.commit(flush).unwrap();
    }
    let full = (
        bytes_below(&options.dir.join("data")),
        lake.totals().unwrap(),
    );
    let now_us = START_US + 59 * DAY_US + DAY_US / 2;
    let held = lake.snapshot();
    let expired = lake.expire(now_us).unwrap();
    assert_eq!((expired.files, expired.rows), (29, 29 * 200));
    assert_eq!(expired.files_removed, 0);
    // The files leave when the snapshots that name them left, the grace passed and no one holds them.
    let later_us = now_us + DAY_US / 24 + 1;
    assert_eq!(lake.expire(later_us).unwrap().files_removed, 0);
    assert_eq!(
        lake.expire(later_us + DAY_US / 24).unwrap().files_removed,
        0
    );
    drop(held);
    assert_eq!(
        lake.expire(later_us + DAY_US / 24).unwrap().files_removed,
        29
    );
    let left = (
        bytes_below(&options.dir.join("data")),
        lake.totals().unwrap(),
    );
    assert!(left.0 < full.0 * 6 / 10, "{left:?} {full:?}");
    assert_eq!(left.1.files, 31);
    assert_eq!(left.1.retired_files, 0);
    assert!(left.1.snapshots < 3, "{left:?}");
    let counted = kit::duckdb(
        lake.catalogue_path(),
        &[
            "SELECT count(*), min(amount) FROM \"order.paid\"",
            "SELECT count(*) FROM \"order.paid\" WHERE amount < 800",
        ],
    );
    assert_eq!(counted[0], serde_json::json!([[31 * 200, 600]]));
    drop(lake);
    let rows = |table: &str| -> u64 {
        let catalogue = rusqlite::Connection::open(options.dir.join("catalogue.sqlite")).unwrap();
        catalogue
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get(0)
            })
            .unwrap()
    };
    assert_eq!(rows("ducklake_data_file"), 31);
    assert_eq!(rows("ducklake_file_column_stats"), 31 * 6);
    assert_eq!(rows("serin_file"), 31);
    assert_eq!(rows("ducklake_files_scheduled_for_deletion"), 0);
    assert!(rows("serin_commit") < 4, "old commits were not folded");
    assert!(rows("serin_seen") <= 1);
    assert_eq!(Audit::open(&options.dir).unwrap().all().unwrap(), []);
}

#[test]
fn expiry_by_bytes_takes_the_oldest_of_the_table_that_is_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = kit::hasty(dir.path());
    let (lake, _) = kit::open(&options);
    for part in 0..10 {
        let mut flush = kit::flush(part + 1, "order.paid", part * 100, part * 100 + 100);
        flush.tables.push(kit::table_rows(
            "cart.add",
            vec![kit::batch(5000 + part, 5001 + part)],
        ));
        flush.progress.account = None;
        lake.commit(flush).unwrap();
    }
    let bytes: u64 = lake.snapshot().tables["order.paid"]
        .files
        .iter()
        .map(|file| file.bytes)
        .sum();
    drop(lake);
    options
        .retention
        .bytes_max_by_table
        .insert("order.paid".to_owned(), bytes / 2);
    let (lake, _) = kit::open(&options);
    let expired = lake.expire(START_US + DAY_US).unwrap();
    assert_eq!(expired.files, 5);
    let snapshot = lake.snapshot();
    kit::assert_ids(&kit::ids(&snapshot, "order.paid"), 500, 1000);
    assert_eq!(snapshot.tables["cart.add"].files.len(), 10);
}

/// Whole files go, so that merged ones must stay small beside what the table may keep.
#[test]
fn a_table_keeps_its_newest_rows_up_to_its_bound_though_they_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = kit::hasty(dir.path());
    let (lake, _) = kit::open(&options);
    let bytes = |lake: &serin_lake::Lake| -> u64 {
        let files = &lake.snapshot().tables["order.paid"].files;
        files.iter().map(|file| file.bytes).sum()
    };
    for part in 0..64 {
        let flush = kit::flush(part + 1, "order.paid", part * 100, part * 100 + 100);
        lake.commit(flush).unwrap();
    }
    let bytes_max = bytes(&lake) / 2;
    drop(lake);
    options.retention.bytes_max = Some(bytes_max);
    let (lake, _) = kit::open(&options);
    while lake.compact(START_US + DAY_US / 2).unwrap().files > 0 {}
    assert!(lake.snapshot().tables["order.paid"].files.len() < 64);
    lake.expire(START_US + DAY_US).unwrap();
    let kept = bytes(&lake);
    assert!(
        kept <= bytes_max && kept > bytes_max / 2,
        "{kept} of {bytes_max}"
    );
    drop(lake);

    // One set far too low leaves the newest file.
    options.retention.bytes_max = Some(1);
    let (lake, _) = kit::open(&options);
    lake.expire(START_US + DAY_US).unwrap();
    let snapshot = lake.snapshot();
    let ids = kit::ids(&snapshot, "order.paid");
    assert_eq!(snapshot.tables["order.paid"].files.len(), 1);
    kit::assert_ids(&ids, 6400 - ids.len() as u64, 6400);
}

/// A clock that jumps ahead and back must not cost a row.
#[test]
fn a_clock_that_jumped_deletes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = kit::options(dir.path());
    let (lake, _) = kit::open(&options);
    lake.commit(kit::flush(1, "order.paid", 0, 10)).unwrap();
    let jumped_us = START_US + 60 * DAY_US;
    let expired = lake.expire(jumped_us).unwrap();
    assert_eq!((expired.files, expired.is_held), (0, true));
    // It goes on there: commits come with the wrong time, and a restart knows nothing else.
    let mut flush = kit::flush(2, "order.paid", 10, 20);
    flush.now_us = jumped_us;
    lake.commit(flush).unwrap();
    drop(lake);
    let (lake, recovered) = kit::open(&options);
    assert_eq!(recovered.producers.len(), 1);
    let expired = lake.expire(jumped_us + DAY_US / 2).unwrap();
    assert_eq!((expired.files, expired.is_held), (0, true));
    // A day later it is believed.
    let expired = lake.expire(jumped_us + DAY_US).unwrap();
    assert_eq!((expired.files, expired.is_held), (1, false));
    assert_eq!(expired.rows, 10);
}
