//! Flipped bits: a query over a damaged file fails and names it; there is never a wrong row.

use std::sync::Arc;

use serin_query::{KpiRequest, Limits, QueryError, kpi};

use crate::fixture::{Fixture, range};

const SQL: &str = r#"SELECT service, "user", amount FROM "order.paid""#;

/// Flips one bit of a file's byte and gives the file's length.
fn flip(fixture: &Fixture, name: &str, at: usize) -> usize {
    let path = fixture.folder.path().join("lake").join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    bytes.len()
}

fn assert_named(error: &QueryError) {
    assert_eq!(error.code(), "SER-QRY-009", "{error:?}");
    let text = error.to_string();
    assert!(text.contains("orders-2.parquet is damaged"), "{text}");
}

#[tokio::test]
async fn a_flipped_bit_is_seen_in_the_worker() {
    let fixture = Fixture::new();
    let engine = fixture.engine(Limits::default());
    let rows = engine.sql(&fixture.snapshot, SQL, None).await.unwrap();
    assert_eq!(
        rows.batches
            .iter()
            .map(|batch| batch.num_rows())
            .sum::<usize>(),
        6
    );
    // Another worker, another first look: one that has read a block does not read it again for this.
    flip(&fixture, "orders-2.parquet", 10);
    let engine = fixture.engine(Limits::default());
    assert_named(&engine.sql(&fixture.snapshot, SQL, None).await.unwrap_err());
    // Other tables are not concerned.
    let carts = r#"SELECT count("user") AS n FROM "cart.add""#;
    let carts = engine.sql(&fixture.snapshot, carts, None).await.unwrap();
    assert_eq!(serin_query::render::csv(&carts), "n\n5\n");
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_seen_in_process() {
    let mut at = 0;
    loop {
        let fixture = Fixture::new();
        let length = flip(&fixture, "orders-2.parquet", at);
        let engine = fixture.engine_within();
        assert_named(&engine.sql(&fixture.snapshot, SQL, None).await.unwrap_err());
        at += 97;
        if at >= length {
            break;
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_is_seen_by_kpis() {
    let fixture = Fixture::new();
    flip(&fixture, "orders-2.parquet", 40);
    let definition = kpi::Definition::simple("sum", "order.paid", "sum(amount)", None);
    let plan = Arc::clone(&kpi::compile(vec![definition]).unwrap()["sum"]);
    let request = KpiRequest {
        range: range(0, 180),
        step_us: None,
        by: vec![],
        filters: vec![],
        shift_us: 0,
        series_max: 1,
    };
    let engine = fixture.engine_within();
    assert_named(
        &engine
            .kpi(&fixture.snapshot, &plan, &request)
            .await
            .unwrap_err(),
    );
}

/// A file that the store was never told of is not read, whatever the snapshot says.
#[tokio::test]
async fn an_unknown_file_is_not_read() {
    let fixture = Fixture {
        store: Arc::default(),
        ..Fixture::new()
    };
    for engine in [fixture.engine(Limits::default()), fixture.engine_within()] {
        let error = engine.sql(&fixture.snapshot, SQL, None).await.unwrap_err();
        assert_eq!(error.code(), "SER-QRY-009", "{error:?}");
        assert!(
            error.to_string().contains("is not a file of this lake"),
            "{error}"
        );
    }
}
