//! Real DuckDB reads what we write, while the lake is open and after it was closed.

use serde_json::json;
use serin_lake::{Column, ColumnKind, Flush, TableRows};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Schema;

use crate::kit::{self, START_US};

#[test]
fn duckdb_reads_the_same_rows_while_open_and_after_close() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, _) = kit::open(&kit::options(dir.path()));
    lake.commit(kit::flush(1, "order.paid", 0, 10_000)).unwrap();
    lake.commit(kit::flush(2, "order.paid", 10_000, 12_345))
        .unwrap();
    let (rows, sum) = kit::count_and_sum(&lake.snapshot().tables["order.paid"]);
    let statements = [
        "SELECT count(*), sum(amount), count(*) - count(amount) FROM \"order.paid\"",
        "SELECT min(id), max(id), min(time)::VARCHAR, count(DISTINCT id), min(share), max(share) FROM \"order.paid\"",
        "SELECT count(*) FROM \"order.paid\" WHERE service = 'svc-3' AND amount IS NULL",
        "SELECT count(*) FROM \"order.paid\" WHERE time >= '2026-01-01 00:00:12+00' AND paid",
        "DESCRIBE \"order.paid\"",
    ];
    let open = kit::duckdb(lake.catalogue_path(), &statements);
    assert_eq!(open[0], json!([[rows, sum as u64, 12_345_u64.div_ceil(7)]]));
    assert_eq!(
        open[1],
        json!([[
            "id-00000000",
            "id-00012344",
            "2026-01-01 00:00:00+00",
            12_345,
            0.0,
            3086.0
        ]])
    );
    let nulls = (0..12_345).filter(|n| n % 5 == 3 && n % 7 == 0).count();
    assert_eq!(open[2], json!([[nulls]]));
    assert_eq!(open[3], json!([[173]]));
    assert_eq!(open[4][0][1], "TIMESTAMP WITH TIME ZONE");
    let path = lake.catalogue_path().to_path_buf();
    drop(lake);
    assert_eq!(kit::duckdb(&path, &statements), open);
}

#[test]
fn integers_that_widened_and_columns_that_came_later_read_right() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, _) = kit::open(&kit::options(dir.path()));
    lake.commit(kit::flush(1, "order.paid", 0, 100)).unwrap();
    let mut second = kit::flush(2, "order.paid", 100, 100);
    let columns = [
        Column::new("id", ColumnKind::Text),
        Column::new("amount", ColumnKind::Double),
        Column::new("coupon", ColumnKind::Text),
    ];
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(["a", "b", "c"])),
        Arc::new(Float64Array::from_iter([Some(0.5), Some(f64::NAN), None])),
        Arc::new(StringArray::from_iter([
            Some("x".repeat(500)),
            None,
            Some("\u{e9}'\"".into()),
        ])),
    ];
    let fields: Vec<_> = columns.iter().map(Column::field).collect();
    let doubles = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
    let mut all = kit::columns();
    all[3].kind = ColumnKind::Double;
    all.push(columns[2].clone());
    second.tables = vec![TableRows {
        columns: all,
        // The batch of integers was cut before the column widened.
        ..kit::table_rows("order.paid", vec![doubles, kit::batch(100, 110)])
    }];
    second.progress.account = None;
    lake.commit(second).unwrap();
    let expected: u64 = (0..110).filter(|n| n % 7 != 0).sum();
    let statements = [
        "SELECT count(*), sum(amount) FILTER (NOT isnan(amount)) FROM \"order.paid\"",
        "SELECT count(*) FROM \"order.paid\" WHERE isnan(amount)",
        "SELECT count(*) FROM \"order.paid\" WHERE amount = 3",
        "SELECT count(*) FROM \"order.paid\" WHERE amount < 1 AND amount > 0",
        "SELECT count(*), count(coupon), max(length(coupon)) FROM \"order.paid\" WHERE coupon IS NULL OR coupon >= 'x'",
        "SELECT count(*) FROM \"order.paid\" WHERE coupon IS NULL",
        "SELECT column_type FROM (DESCRIBE \"order.paid\") WHERE column_name = 'amount'",
        "SELECT max(coupon), min(coupon) FROM \"order.paid\"",
    ];
    let check = |answers: Vec<serde_json::Value>| {
        assert_eq!(answers[0], json!([[113, expected as f64 + 0.5]]));
        assert_eq!(answers[1], json!([[1]]));
        assert_eq!(answers[2], json!([[1]]));
        assert_eq!(answers[3], json!([[1]]));
        assert_eq!(answers[4], json!([[113, 2, 500]]));
        assert_eq!(answers[5], json!([[111]]));
        assert_eq!(answers[6], json!([["DOUBLE"]]));
        assert_eq!(answers[7], json!([["\u{e9}'\"", "x".repeat(500)]]));
    };
    check(kit::duckdb(lake.catalogue_path(), &statements));
    let path = lake.catalogue_path().to_path_buf();
    drop(lake);
    check(kit::duckdb(&path, &statements));
    let (lake, _) = kit::open(&kit::options(dir.path()));
    let snapshot = lake.snapshot();
    let view = &snapshot.tables["order.paid"];
    assert_eq!(view.columns[3].kind, ColumnKind::Double);
    assert_eq!(view.columns.len(), 7);
}

#[test]
fn odd_names_are_tables_and_columns_like_others() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, _) = kit::open(&kit::options(
        &dir.path().join("a folder's, \"quoted\" name"),
    ));
    let names = [
        "a.b.c",
        "with \"quotes\"",
        "it's",
        "\u{6f22}\u{5b57} \u{1f426}",
        "../up/and [away]*?",
        "semi;colon -- comment",
        "select",
        "percent%20",
    ];
    let tables = names
        .iter()
        .map(|name| {
            let column = Column::new(format!("col {name}"), ColumnKind::Int);
            let schema = Arc::new(Schema::new(vec![column.field()]));
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values([40, 2]));
            TableRows {
                columns: vec![column],
                sort: Vec::new(),
                ..kit::table_rows(
                    name,
                    vec![RecordBatch::try_new(schema, vec![values]).unwrap()],
                )
            }
        })
        .collect();
    let progress = serin_lake::Progress {
        from: kit::at(0),
        to: kit::at(1),
        ..Default::default()
    };
    lake.commit(Flush {
        number: 1,
        tables,
        progress,
        now_us: START_US,
    })
    .unwrap();
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let statements: Vec<String> = names
        .iter()
        .map(|name| {
            let column = quoted(&format!("col {name}"));
            format!("SELECT sum({column}) FROM {}", quoted(name))
        })
        .collect();
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    for answer in kit::duckdb(lake.catalogue_path(), &statements) {
        assert_eq!(answer, json!([[42]]));
    }
    drop(lake);
    let (lake, recovered) = kit::open(&kit::options(
        &dir.path().join("a folder's, \"quoted\" name"),
    ));
    assert!(recovered.removed.is_empty() && recovered.damaged.is_empty());
    assert_eq!(lake.snapshot().tables.len(), names.len());
}

#[test]
fn duckdb_reads_what_a_killed_server_left() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, _) = kit::open(&kit::options(dir.path()));
    lake.commit(kit::flush(1, "order.paid", 0, 1000)).unwrap();
    // What is on disk at this moment, without anyone having closed it: the commit is in the log.
    let left = dir.path().join("left");
    std::fs::create_dir(&left).unwrap();
    for name in ["catalogue.sqlite", "catalogue.sqlite-wal"] {
        let from = lake.catalogue_path().with_file_name(name);
        std::fs::copy(from, left.join(name)).unwrap();
    }
    let answers = kit::duckdb(
        &left.join("catalogue.sqlite"),
        &["SELECT count(*), count(DISTINCT id) FROM \"order.paid\""],
    );
    assert_eq!(answers[0], json!([[1000, 1000]]));
}

#[test]
fn one_flush_may_bring_a_table_twice_and_widen_it_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, _) = kit::open(&kit::options(dir.path()));
    let mut flush = kit::flush(1, "order.paid", 0, 50);
    let mut imported = kit::table_rows("order.paid", vec![kit::batch(50, 70)]);
    imported.is_import = true;
    imported.columns[3].kind = ColumnKind::Double;
    imported
        .columns
        .push(Column::new("later", ColumnKind::Bool));
    flush.tables.push(imported);
    flush.progress.account = None;
    lake.commit(flush).unwrap();
    lake.commit(kit::flush(2, "order.paid", 50, 60)).unwrap();
    let snapshot = lake.snapshot();
    let files = &snapshot.tables["order.paid"].files;
    let kinds: Vec<(bool, u64)> = files
        .iter()
        .map(|file| (file.is_import, file.rows))
        .collect();
    assert_eq!(kinds, [(false, 50), (true, 20), (false, 10)]);
    let answers = kit::duckdb(
        lake.catalogue_path(),
        &[
            "SELECT count(*), sum(share)::DOUBLE, count(amount), count(later) FROM \"order.paid\"",
            "SELECT count(*) FROM \"order.paid\" AT (VERSION => 1)",
            "SELECT column_type FROM (DESCRIBE \"order.paid\") WHERE column_name = 'amount'",
        ],
    );
    let shares: f64 = (0..70).chain(50..60).map(|n| f64::from(n) / 4.0).sum();
    let amounts = (0..70).chain(50..60).filter(|n| n % 7 != 0).count();
    assert_eq!(answers[0], json!([[80, shares, amounts, 0]]));
    assert_eq!(answers[1], json!([[70]]));
    assert_eq!(answers[2], json!([["DOUBLE"]]));
}

#[test]
fn times_at_the_ends_of_the_calendar_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, _) = kit::open(&kit::options(dir.path()));
    let column = Column::new("time", ColumnKind::Time);
    let far = [0, -1, 253_402_300_800_000_000, -62_135_596_800_000_000];
    let times = arrow::array::TimestampMicrosecondArray::from_iter_values(far).with_timezone("UTC");
    let schema = Arc::new(Schema::new(vec![column.field()]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(times)]).unwrap();
    let mut flush = kit::flush(1, "odd", 0, 4);
    flush.tables = vec![TableRows {
        columns: vec![column],
        ..kit::table_rows("odd", vec![batch])
    }];
    lake.commit(flush).unwrap();
    let answers = kit::duckdb(
        lake.catalogue_path(),
        &[
            "SELECT count(*) FROM odd WHERE time > '9999-12-31 00:00:00+00'",
            "SELECT count(*) FROM odd WHERE time < '1970-01-01 00:00:00+00'",
        ],
    );
    assert_eq!(answers, [json!([[1]]), json!([[2]])]);
}

#[test]
fn duckdb_reads_while_we_commit_compact_and_expire() {
    let dir = tempfile::tempdir().unwrap();
    let options = serin_lake::LakeOptions {
        // Twenty flushes: DuckDB asks for the newest snapshot and then for its row.
        snapshot_keep: std::time::Duration::from_secs(2),
        delete_grace: std::time::Duration::from_secs(600),
        ..kit::hasty(dir.path())
    };
    let (lake, _) = kit::open(&options);
    lake.commit(kit::flush(1, "order.paid", 0, 100)).unwrap();
    let path = lake.catalogue_path().to_path_buf();
    let reader = std::thread::spawn(move || {
        let statement =
            "SELECT count(*), count(DISTINCT id), sum(share)::DOUBLE FROM \"order.paid\"";
        kit::duckdb(&path, &[statement; 40])
    });
    let mut flushes = 1;
    while !reader.is_finished() {
        flushes += 1;
        let (from, to) = ((flushes - 1) * 100, flushes * 100);
        lake.commit(kit::flush(flushes, "order.paid", from, to))
            .unwrap();
        let now_us = START_US + to as i64 * 1000;
        lake.compact(now_us).unwrap();
        lake.expire(now_us).unwrap();
    }
    let mut least = 0;
    for answer in reader.join().unwrap() {
        let rows = answer[0][0].as_u64().unwrap();
        assert!(rows >= least && rows % 100 == 0, "{rows} after {least}");
        assert_eq!(answer[0][1], rows);
        assert_eq!(answer[0][2], (rows * (rows - 1)) as f64 / 8.0);
        least = rows;
    }
    assert!(flushes > 5, "only {flushes} flushes");
}

#[test]
fn a_table_without_rows_is_empty_and_not_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = kit::hasty(dir.path());
    options.retention.raw_days = 1;
    let (lake, _) = kit::open(&options);
    let mut flush = kit::flush(1, "order.paid", 0, 10);
    flush.tables.push(kit::table_rows("never.had", Vec::new()));
    lake.commit(flush).unwrap();
    assert_eq!(lake.expire(START_US + 3 * kit::DAY_US).unwrap().files, 1);
    let statements = [
        "SELECT count(*), max(amount) FROM \"order.paid\"",
        "SELECT count(*), min(id) FROM \"never.had\" WHERE amount > 0 OR amount IS NULL",
    ];
    let answers = kit::duckdb(lake.catalogue_path(), &statements);
    assert_eq!(answers, [json!([[0, null]]), json!([[0, null]])]);
}
