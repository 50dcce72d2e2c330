//! What is said of what is not there, or not yet: a table, a name, a header, an empty object.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use serin_tests::Serin;
use serin_tests::wait::until;

const SOON: Duration = Duration::from_secs(30);

const KPIS: &str = "
kpis:
  share: {unit: ratio, ratio: {numerator: some, denominator: some}}
  some: {event: order.paid, measure: count()}
  slow: {event: order.paid, measure: p95(amount)}
rules:
  many_errors: {when: {kpi: share, above: 0.5, for: 1m}}
";
const DASHBOARD: &str = "
dashboard: shop
panels:
  never: {sql: 'SELECT count(*) AS n FROM order.refunded WHERE $__range', draw: stat}
  typo: {sql: 'SELECT count(*) AS n FROM order.payed WHERE $__range', draw: stat}
";

async fn shop() -> Result<Serin> {
    let files = [
        ("kpis/shop.yaml", KPIS),
        ("dashboards/shop.yaml", DASHBOARD),
    ];
    let serin = Serin::start_with_files(&files).await?;
    let paid =
        json!({"type": "order.paid", "source": "/shop", "data": {"amount": 12.5, "country": "de"}});
    serin.give(paid.to_string()).await?;
    until("it is visible", SOON, async || {
        let count = serin.sql_number("SELECT count(*) FROM order.paid").await;
        Ok((count.ok() == Some(1)).then_some(()))
    })
    .await?;
    Ok(serin)
}

#[tokio::test]
async fn what_is_not_there_is_told_from_what_is_mistyped() -> Result<()> {
    let mut serin = shop().await?;
    serin.run(&["query", "SELECT * FROM order.paid"]).await?;
    let data = serin.get("/api/v1/dashboards/shop/data").await?;
    let (never, typo) = (&data["panels"]["never"], &data["panels"]["typo"]);
    ensure!(
        never["state"] == "empty" && never["error"].is_null(),
        "{never}"
    );
    ensure!(typo["error"]["code"] == "SER-SQL-011", "{typo}");
    for (command, words) in [
        (
            &["query", "SELECT * FROM order.payed"][..],
            "no table \"order.payed\"; did you mean \"order.paid\"?",
        ),
        (&["query", "SELECT 1/0"], "a division by zero"),
        (
            &["query", "SELECT country + 1 FROM order.paid"],
            "these do not go together: text + whole number",
        ),
        (
            &["decisions", "many_erors"],
            "has the name \"many_erors\"; did you mean \"many_errors\"?",
        ),
        (
            &["decisions", "xyz"],
            "has the name \"xyz\"; there are many_errors",
        ),
        (
            &["kpi", "some", "--from", "2026-02-30"],
            "a date such as 2026-11-24 (its midnight in UTC)",
        ),
    ] {
        let said = serin.refused(command).await?;
        ensure!(said.contains(words), "{command:?}: {said}");
        for jargon in ["Arrow", "planning", "Utf8", "DataFusion", "Schema error"] {
            ensure!(!said.contains(jargon), "{command:?}: {said}");
        }
    }
    // A name that is there and about which nothing was decided is another thing.
    let said = serin.remarks(&["decisions", "many_errors"]).await?;
    ensure!(said.contains("nothing was decided about"), "{said}");
    // A day is a range wherever one is asked for.
    let day = ["--from", "2026-01-01", "--to", "2026-01-02"];
    serin.run(&[&["kpi", "some"][..], &day].concat()).await?;
    let sql = [
        "query",
        "SELECT count(*) AS n FROM order.paid WHERE $__range",
    ];
    serin.run(&[&sql[..], &day].concat()).await?;
    serin
        .run(&[&["render", "shop", "-o", "shop.svg"][..], &day].concat())
        .await?;
    let said = serin.run(&["kpi", "slow", "--last", "1h"]).await?;
    ensure!(said.contains("approximate"), "{said}");
    serin.stop().await
}

#[tokio::test]
async fn a_file_without_a_header_loses_no_row() -> Result<()> {
    let serin = Serin::start().await?;
    let bare = "2026-01-31T12:00:00Z,de,12.5\n2026-01-31T12:01:00Z,fr,30\n";
    fs::write(serin.dir().join("bare.csv"), bare)?;
    for command in [
        &["import", "bare.csv", "--type", "sent"][..],
        &["open", "bare.csv", "--no-browser"],
    ] {
        let said = serin.refused(command).await?;
        ensure!(said.contains("--no-header"), "{command:?}: {said}");
    }
    serin
        .run(&["import", "bare.csv", "--type", "sent", "--no-header"])
        .await?;
    let rows = serin
        .sql("SELECT column_2, column_3 FROM sent ORDER BY time")
        .await?;
    assert_eq!(json!(rows), json!([["de", 12.5], ["fr", 30.0]]));
    serin
        .run(&["open", "bare.csv", "--no-header", "--no-browser"])
        .await?;
    assert_eq!(serin.sql_number("SELECT count(*) FROM bare").await?, 2);
    Ok(())
}

/// Serin's own telemetry has a column for all it says.
#[tokio::test]
async fn our_own_rows_leave_no_rest() -> Result<()> {
    let serin = Serin::start().await?;
    let beats = "SELECT count(*) FROM beats";
    serin_tests::wait::until("beats", std::time::Duration::from_secs(60), async || {
        Ok((serin.sql_number(beats).await? > 2).then_some(()))
    })
    .await?;
    for table in ["beats", "metrics", "logs", "requests", "spans"] {
        let sql = format!("SELECT _rest FROM {table} WHERE _rest IS NOT NULL LIMIT 1");
        let rest: Vec<Vec<Value>> = serin.sql(&sql).await?;
        ensure!(rest.is_empty(), "{table}: {rest:?}");
    }
    let said = serin.run(&["doctor"]).await?;
    ensure!(said.contains("no service dropped events"), "{said}");
    Ok(())
}
