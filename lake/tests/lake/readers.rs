//! Readers beside a writer: no row twice, none missing; and no flipped bit is served.

use std::collections::HashSet;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use object_store::ObjectStoreExt;
use object_store::path::Path;
use serin_lake::check::Audit;
use serin_lake::{Damage, Fresh};

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
                let (mut least, mut version) = (0, 0);
                while !is_over.load(Ordering::SeqCst) {
                    let floor = pushed.load(Ordering::SeqCst);
                    let snapshot = lake.snapshot();
                    let ids = kit::ids(&snapshot, "order.paid");
                    let unique: HashSet<&String> = ids.iter().collect();
                    assert_eq!(unique.len(), ids.len(), "a row was seen twice");
                    assert!(ids.len() as u64 >= floor.max(least), "a row was missing");
                    assert!(snapshot.version >= version);
                    (least, version) = (ids.len() as u64, snapshot.version);
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
    let audit = Audit::open(&kit::hasty(dir.path()).dir).unwrap();
    assert_eq!(audit.all().unwrap(), []);
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

#[tokio::test]
async fn a_flipped_bit_is_an_error_and_never_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let options = kit::options(&dir.path().join("My d\u{e4}ta #1 %20"));
    let (lake, _) = kit::open(&options);
    lake.commit(kit::flush(1, "order.paid", 0, 120_000))
        .unwrap();
    let file = lake.snapshot().tables["order.paid"].files[0].clone();
    let store = lake.store();
    let path = Path::from_absolute_path(&file.path).unwrap();
    let whole = std::fs::read(&file.path).unwrap();
    assert!(file.bytes > 600_000, "{}", file.bytes);
    // Ranges within, across and at the end of blocks are the file's bytes.
    for (start, end) in [
        (5, 9),
        (0, 1),
        (262_143, 262_145),
        (1, file.bytes),
        (file.bytes - 8, file.bytes),
    ] {
        let part = store.get_range(&path, start..end).await.unwrap();
        assert!(
            part == whole[start as usize..end as usize],
            "{start}..{end}"
        );
    }
    assert!(store.get(&path).await.unwrap().bytes().await.unwrap() == whole);
    assert!(store.get(&Path::from("etc/passwd")).await.is_err());
    assert!(store.put(&path, "x".into()).await.is_err());
    drop((lake, store));

    // Bit rot while nobody looks.
    let opened = std::fs::File::options()
        .write(true)
        .open(&file.path)
        .unwrap();
    opened.write_all_at(&[whole[300_000] ^ 4], 300_000).unwrap();
    let (lake, recovered) = kit::open(&options);
    assert!(recovered.damaged.is_empty(), "only reading it can tell");
    let store = lake.store();
    assert!(store.get_range(&path, 0..1000).await.is_ok());
    for _ in 0..2 {
        let error = store.get_range(&path, 400_000..400_010).await.unwrap_err();
        assert!(
            error.to_string().contains("block 1 has another checksum"),
            "{error}"
        );
    }
    let damaged = lake.verify();
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].why, Damage::Block { index: 1 });
    let findings = Audit::open(&options.dir).unwrap().checksums_match();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].invariant, "I12");
    // The bit is put back: everything is well again.
    opened
        .write_all_at(&whole[300_000..=300_000], 300_000)
        .unwrap();
    assert!(store.get_range(&path, 400_000..400_010).await.is_ok());
    assert_eq!(lake.verify(), []);
}

#[test]
fn a_file_that_is_missing_or_cut_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let options = kit::options(dir.path());
    let (lake, _) = kit::open(&options);
    lake.commit(kit::flush(1, "order.paid", 0, 100)).unwrap();
    lake.commit(kit::flush(2, "order.paid", 100, 200)).unwrap();
    lake.commit(kit::flush(3, "order.paid", 200, 300)).unwrap();
    let files = lake.snapshot().tables["order.paid"].files.clone();
    drop(lake);
    std::fs::remove_file(&files[0].path).unwrap();
    let opened = std::fs::File::options()
        .write(true)
        .open(&files[1].path)
        .unwrap();
    opened.set_len(files[1].bytes - 1).unwrap();
    let (_lake, recovered) = kit::open(&options);
    let why: Vec<_> = recovered
        .damaged
        .iter()
        .map(|damaged| damaged.why)
        .collect();
    let cut = Damage::Length {
        found: files[1].bytes - 1,
        expected: files[1].bytes,
    };
    assert_eq!(why, [Damage::Missing, cut]);
    assert_eq!(recovered.damaged[0].rows, 100);
}

#[test]
fn a_damaged_page_of_the_catalogue_is_found() {
    use std::os::unix::fs::FileExt;
    const PAGE: u64 = 4096;
    // The flag of a leaf of a table, and where its page counts fragmented bytes (SQLite's file format, 1.6).
    const LEAF: u8 = 0x0d;
    const FRAGMENTED: u64 = 7;
    let dir = tempfile::tempdir().unwrap();
    let options = kit::options(dir.path());
    let (lake, _) = kit::open(&options);
    lake.commit(kit::flush(1, "order.paid", 0, 100)).unwrap();
    drop(lake);
    // A start brings what is in the log beside the file into the file.
    drop(kit::open(&options));
    assert_eq!(Audit::open(&options.dir).unwrap().all().unwrap(), []);
    let path = options.dir.join("catalogue.sqlite");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let pages = file.metadata().unwrap().len() / PAGE;
    let mut byte = [0];
    let is_leaf = |page: &u64| {
        file.read_exact_at(&mut byte, page * PAGE).unwrap();
        byte[0] == LEAF
    };
    let leaf = (1..pages).find(is_leaf).unwrap() * PAGE;
    file.read_exact_at(&mut byte, leaf + FRAGMENTED).unwrap();
    file.write_all_at(&[byte[0] ^ 1], leaf + FRAGMENTED)
        .unwrap();
    let findings = Audit::open(&options.dir).unwrap().all().unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].invariant, "I12");
    assert!(
        findings[0].what.contains("catalogue is damaged"),
        "{findings:?}"
    );
}
