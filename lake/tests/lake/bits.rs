//! Bits that flip while nobody looks, in files and in the catalogue: an error, and never a wrong row.

use std::os::unix::fs::FileExt;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use rusqlite::Connection;
use serin_lake::check::Audit;
use serin_lake::{CatalogueError, Damage, Lake, LakeError, LakeOptions};

use crate::kit::{self, START_US};

/// A lake of two tables and three files, at rest.
fn stored(dir: &std::path::Path) -> LakeOptions {
    let options = kit::options(dir);
    let (lake, _) = kit::open(&options);
    lake.commit(kit::flush(1, "order.paid", 0, 100)).unwrap();
    lake.commit(kit::flush(2, "order.paid", 100, 200)).unwrap();
    lake.commit(kit::flush(3, "cart.add", 200, 300)).unwrap();
    drop(lake);
    // A start brings what is in the log beside the file into the file.
    drop(kit::open(&options));
    options
}

/// What readers are told: names, columns, files with their statistics, and where the bus is read on.
fn told(lake: &Lake) -> String {
    let snapshot = lake.snapshot();
    format!("{:?} {:?}", snapshot.position, snapshot.tables)
}

fn files(options: &LakeOptions) -> usize {
    let main = std::fs::read_dir(options.dir.join("data/main")).unwrap();
    main.map(|table| std::fs::read_dir(table.unwrap().path()).unwrap().count())
        .sum()
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

/// Each statement is what a flipped bit could make of a row that SQLite takes for whole.
#[test]
fn a_row_of_the_catalogue_that_changed_stops_the_start_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let options = stored(dir.path());
    let path = options.dir.join("catalogue.sqlite");
    let whole = std::fs::read(&path).unwrap();
    let file = "the rows of file 0";
    let table = "table \"order.paid\"";
    let other = "table \"cart.add\"";
    for (statement, named) in [
        (
            "UPDATE ducklake_data_file SET record_count = 36 WHERE data_file_id = 0",
            file,
        ),
        (
            "UPDATE ducklake_data_file SET file_size_bytes = file_size_bytes + 1 WHERE data_file_id = 0",
            file,
        ),
        (
            "UPDATE ducklake_data_file SET footer_size = footer_size - 1 WHERE data_file_id = 0",
            file,
        ),
        (
            "UPDATE ducklake_data_file SET row_id_start = 64 WHERE data_file_id = 0",
            file,
        ),
        (
            "UPDATE ducklake_data_file SET path = 'x' || path WHERE data_file_id = 0",
            file,
        ),
        (
            "UPDATE ducklake_data_file SET table_id = 2 WHERE data_file_id = 0",
            file,
        ),
        (
            "UPDATE ducklake_data_file SET end_snapshot = 2 WHERE data_file_id = 0",
            table,
        ),
        (
            "DELETE FROM ducklake_data_file WHERE data_file_id = 0",
            table,
        ),
        (
            "UPDATE ducklake_data_file SET end_snapshot = 2 WHERE data_file_id = 2",
            other,
        ),
        (
            "UPDATE ducklake_file_column_stats SET min_value = '99' WHERE data_file_id = 0 AND column_id = 4",
            file,
        ),
        (
            "UPDATE ducklake_file_column_stats SET max_value = NULL WHERE data_file_id = 0 AND column_id = 1",
            file,
        ),
        (
            "UPDATE ducklake_file_column_stats SET null_count = 100 WHERE data_file_id = 0 AND column_id = 4",
            file,
        ),
        (
            "UPDATE ducklake_file_column_stats SET column_id = 5 WHERE data_file_id = 0 AND column_id = 4",
            file,
        ),
        (
            "DELETE FROM ducklake_file_column_stats WHERE data_file_id = 0 AND column_id = 4",
            file,
        ),
        ("UPDATE serin_file SET sort = '' WHERE file_id = 0", file),
        (
            "UPDATE serin_file SET blocks = zeroblob(8) WHERE file_id = 0",
            file,
        ),
        (
            "UPDATE serin_file SET arrived_us = 0 WHERE file_id = 0",
            file,
        ),
        (
            "UPDATE serin_file SET digest = zeroblob(16) WHERE file_id = 0",
            file,
        ),
        ("DELETE FROM serin_file WHERE file_id = 0", file),
        (
            "UPDATE ducklake_column SET column_name = 'amounT' WHERE table_id = 1 AND column_id = 4",
            table,
        ),
        (
            "UPDATE ducklake_column SET column_type = 'float64' WHERE table_id = 1 AND column_id = 4",
            table,
        ),
        (
            "UPDATE ducklake_column SET end_snapshot = 1 WHERE table_id = 1 AND column_id = 4",
            table,
        ),
        (
            "UPDATE ducklake_table SET table_name = 'order.paie' WHERE table_id = 1",
            "table \"order.paie\"",
        ),
        (
            "UPDATE ducklake_table SET end_snapshot = 1 WHERE table_id = 1",
            table,
        ),
        (
            "DELETE FROM ducklake_table WHERE table_id = 1",
            "file list of table 1",
        ),
        (
            "UPDATE ducklake_table_stats SET record_count = 1 WHERE table_id = 1",
            table,
        ),
        (
            "UPDATE ducklake_table_column_stats SET max_value = '7' WHERE table_id = 1 AND column_id = 4",
            table,
        ),
        ("DELETE FROM serin_table WHERE table_id = 1", table),
        (
            "UPDATE serin_producer SET contiguous = 556",
            "producer \"p\"",
        ),
        ("UPDATE serin_producer SET above = x'01'", "producer \"p\""),
        ("UPDATE serin_position SET sequence = 812", "position"),
        (
            "UPDATE ducklake_snapshot SET next_file_id = 1",
            "next number of a file",
        ),
    ] {
        let connection = Connection::open(&path).unwrap();
        let changed = connection.execute(statement, []).unwrap();
        assert!(changed > 0, "{statement}");
        drop(connection);
        let refused = Lake::open(options.clone(), START_US).map(|_| ());
        let Err(LakeError::Catalogue(error @ CatalogueError::Altered { .. })) = refused else {
            panic!("{statement}: {refused:?}");
        };
        let said = error.to_string();
        assert!(
            said.contains(named) && said.contains("restore"),
            "{statement}: {said}"
        );
        let found = Audit::open(&options.dir).and_then(|audit| audit.catalogue_is_as_written());
        let found = found.unwrap();
        assert!(
            found
                .iter()
                .any(|f| f.invariant == "I12" && f.what.contains(named)),
            "{found:?}"
        );
        assert_eq!(files(&options), 3, "{statement}: a file was removed");
        std::fs::write(&path, &whole).unwrap();
    }
    kit::assert_ids(
        &kit::ids(&kit::open(&options).0.snapshot(), "order.paid"),
        0,
        200,
    );
}

/// Single bits all over the file: the start fails, or readers are told what they were told before.
#[test]
fn no_flipped_bit_of_the_catalogue_changes_what_readers_are_told() {
    // One bit in so many bytes; odd, so that every place within a page has its turn.
    const EVERY: usize = 499;
    let dir = tempfile::tempdir().unwrap();
    let options = stored(dir.path());
    let path = options.dir.join("catalogue.sqlite");
    let whole = std::fs::read(&path).unwrap();
    let (lake, _) = kit::open(&options);
    let right = told(&lake);
    drop(lake);
    let (mut refused, mut harmless) = (0, 0);
    for (flip, at) in (0..whole.len()).step_by(EVERY).enumerate() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (flip % 8);
        std::fs::write(&path, &bytes).unwrap();
        match Lake::open(options.clone(), START_US) {
            Ok((lake, _)) => {
                assert!(
                    told(&lake) == right,
                    "byte {at}, bit {}: {}",
                    flip % 8,
                    told(&lake)
                );
                harmless += 1;
            }
            Err(_) => refused += 1,
        }
        assert_eq!(files(&options), 3, "byte {at}: a file was removed");
        for left in ["catalogue.sqlite-wal", "catalogue.sqlite-shm"] {
            drop(std::fs::remove_file(path.with_file_name(left)));
        }
    }
    assert!(
        refused > 10 && harmless > 10,
        "{refused} refused, {harmless} harmless"
    );
    std::fs::write(&path, &whole).unwrap();
    drop(kit::open(&options));
    assert_eq!(kit::findings(&options, 0, 300), []);
}

/// A folder from before there were digests opens, has them from then on, and DuckDB reads it.
#[test]
fn a_catalogue_from_before_the_digests_gets_them() {
    let dir = tempfile::tempdir().unwrap();
    let options = stored(dir.path());
    let path = options.dir.join("catalogue.sqlite");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("ALTER TABLE serin_file DROP COLUMN digest; ALTER TABLE serin_producer DROP COLUMN digest;
             DROP TABLE serin_table;")
        .unwrap();
    drop(connection);
    assert_eq!(Audit::open(&options.dir).unwrap().all().unwrap(), []);
    drop(kit::open(&options));
    assert_eq!(kit::findings(&options, 0, 300), []);
    let counted = kit::duckdb(&path, &["SELECT count(*), max(amount) FROM \"order.paid\""]);
    assert_eq!(counted[0], serde_json::json!([[200, 199]]));
    let connection = Connection::open(&path).unwrap();
    connection
        .execute(
            "UPDATE ducklake_data_file SET record_count = 36 WHERE data_file_id = 0",
            [],
        )
        .unwrap();
    drop(connection);
    assert!(Lake::open(options, START_US).is_err());
}

#[tokio::test]
async fn a_file_that_goes_or_is_cut_while_it_is_read_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let options = kit::options(dir.path());
    let (lake, _) = kit::open(&options);
    lake.commit(kit::flush(1, "order.paid", 0, 100)).unwrap();
    let file = lake.snapshot().tables["order.paid"].files[0].clone();
    let path = Path::from_absolute_path(&file.path).unwrap();
    let whole = std::fs::read(&file.path).unwrap();
    let store = lake.store();
    let said = async || {
        let range = file.bytes - 8..file.bytes;
        store.get_range(&path, range).await.unwrap_err().to_string()
    };
    std::fs::write(&file.path, &whole[..whole.len() / 2]).unwrap();
    let cut = said().await;
    let expected = format!("bytes instead of {}", file.bytes);
    assert!(cut.contains(&expected) && cut.contains(": /"), "{cut}");
    std::fs::remove_file(&file.path).unwrap();
    let gone = said().await;
    assert!(gone.contains(" is not there; run `serin doctor`"), "{gone}");
    std::fs::write(&file.path, &whole).unwrap();
    assert!(store.get_range(&path, 0..8).await.is_ok());
}

#[test]
fn a_page_of_the_catalogue_that_was_overwritten_stops_the_start() {
    const PAGE: usize = 4_096;
    let dir = tempfile::tempdir().unwrap();
    let options = stored(dir.path());
    let path = options.dir.join("catalogue.sqlite");
    let whole = std::fs::read(&path).unwrap();
    let right = told(&kit::open(&options).0);
    let mut refused = 0;
    let pages = whole.len() / PAGE;
    for page in 0..pages {
        let mut broken = whole.clone();
        broken[page * PAGE..(page + 1) * PAGE].fill(0xa5);
        std::fs::write(&path, &broken).unwrap();
        match Lake::open(options.clone(), START_US) {
            // A page that nothing is in.
            Ok((lake, _)) => assert_eq!(told(&lake), right, "page {page}"),
            Err(_) => refused += 1,
        }
        for left in ["catalogue.sqlite-wal", "catalogue.sqlite-shm"] {
            drop(std::fs::remove_file(path.with_file_name(left)));
        }
    }
    assert!(refused * 10 >= pages * 9, "{refused} of {pages}");
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(told(&kit::open(&options).0), right);
}
