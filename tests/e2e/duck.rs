//! DuckDB opens the folder with one line, while Serin runs and after it stopped, and reads the same.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use serin_tests::load::Load;
use serin_tests::wait::until;
use serin_tests::{Serin, duck};

const EVENTS: u64 = 4_000;

/// The same statement for both readers: rows, a sum of a typed column, texts, time.
const STATEMENTS: [&str; 4] = [
    "SELECT count(*), count(DISTINCT id) FROM \"order.paid\"",
    "SELECT country, count(*), sum(items), round(sum(amount), 2) FROM \"order.paid\" GROUP BY 1 ORDER BY 1",
    "SELECT count(*), sum(bytes), sum(status), count(DISTINCT path) FROM \"http.request\"",
    "SELECT sku, sum(pieces) FROM \"stock.moved\" GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20",
];

#[tokio::test]
async fn duckdb_reads_the_same_rows_and_sums_while_serin_runs_and_after() -> Result<()> {
    let mut serin = Serin::start().await?;
    let mut load = Load::new(7);
    let mut data = String::new();
    let mut lines = String::new();
    for _ in 0..EVENTS {
        let made = load.next(&mut data);
        writeln!(
            lines,
            r#"{{"id":"d-{}","type":"{}","source":"/shop","data":{}}}"#,
            made.number, made.kind, made.data
        )?;
    }
    let (status, answer) = serin.post(lines).await?;
    assert_eq!(
        (status, &answer["accepted"]),
        (200, &Value::from(EVENTS)),
        "{answer}"
    );
    until(
        "all events are visible",
        Duration::from_secs(30),
        async || {
            let sql = "SELECT count(*) FROM events WHERE service = 'shop'";
            Ok((serin.sql_number(sql).await? == EVENTS as i64).then_some(()))
        },
    )
    .await?;
    let ours = answers(&serin).await?;

    serin.run(&["flush"]).await?;
    assert_eq!(answers(&serin).await?, ours, "a flush changes no answer");
    let catalogue = serin.catalogue().to_owned();
    for (sql, ours) in STATEMENTS.iter().zip(&ours) {
        assert_eq!(
            &rounded(duck::query(&catalogue, sql)?),
            ours,
            "while running: {sql}"
        );
    }
    serin.stop().await?;
    for (sql, ours) in STATEMENTS.iter().zip(&ours) {
        assert_eq!(
            &rounded(duck::query(&catalogue, sql)?),
            ours,
            "after stop: {sql}"
        );
    }
    Ok(())
}

async fn answers(serin: &Serin) -> Result<Vec<Vec<Vec<String>>>> {
    let mut all = Vec::new();
    for sql in STATEMENTS {
        all.push(rounded(serin.sql(sql).await?));
    }
    Ok(all)
}

/// Cells as text; DuckDB gives sums of integers as wide ones, and 12.0 is 12.
fn rounded(rows: Vec<Vec<Value>>) -> Vec<Vec<String>> {
    let text = |cell: Value| match cell.as_f64() {
        Some(number) => format!("{number:.2}"),
        None => match cell {
            Value::String(text) => text.parse().map_or(text, |n: f64| format!("{n:.2}")),
            other => other.to_string(),
        },
    };
    rows.into_iter()
        .map(|row| row.into_iter().map(text).collect())
        .collect()
}
