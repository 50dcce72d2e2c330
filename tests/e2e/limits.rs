//! Whoever meets a limit is told which it is and what sets it: statements, KPIs, events.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use serin_tests::Serin;
use serin_tests::wait::until;

/// Low, so that each is met soon; but a sort must hold enough to write more aside than it may.
const SETTINGS: &str = "
ingest: {types_max: 2, columns_per_type_max: 2, string_kib_max: 1, event_kib_max: 2, skew_future_s: 60}
query: {deadline_s: 120, memory_mib: 256, spill_mib_max: 16, result_mib_max: 1, sql_kib_max: 1, rows_max: 1000, points_max: 1000, running_max: 1, queued_max: 1}
";
const KPIS: &str = "kpis:\n  rows: {event: big.row, measure: count()}\n";
const ROWS: usize = 5_000;
const SEEN_DEADLINE: Duration = Duration::from_secs(30);
const ENDLESS: &str =
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";

/// What needs too much memory may write aside what it likes, else either limit could come first.
const MEMORY_SETTINGS: &str = "query: {deadline_s: 120, memory_mib: 256}\n";
const ENDLESS_SETTINGS: &str = "query: {deadline_s: 4, running_max: 1, queued_max: 1}\n";

/// A Serin with rows of some 200 bytes, no two alike.
async fn filled(settings: &str) -> Result<Serin> {
    let files = [("serin.yaml", settings), ("kpis/rows.yaml", KPIS)];
    let serin = Serin::start_with_files(&files).await?;
    let line =
        |n| json!({"type": "big.row", "data": {"n": n, "t": format!("{n:06}{}", "x".repeat(200))}});
    let lines = (0..ROWS).map(|n| format!("{}\n", line(n)));
    serin.give(lines.collect()).await?;
    until("all are visible", SEEN_DEADLINE, async || {
        let rows = serin.sql_number("SELECT count(*) FROM big.row").await?;
        Ok((rows == ROWS as i64).then_some(()))
    })
    .await?;
    Ok(serin)
}

/// What is said of a statement that meets a limit.
async fn said(serin: &Serin, sql: &str) -> Result<String> {
    serin.refused(&["query", sql]).await
}

fn names(said: &str, limit: &str, code: &str) -> Result<()> {
    ensure!(
        said.contains(&format!("limit {limit})")) && said.contains(code),
        "{limit}, {code}: {said}"
    );
    Ok(())
}

#[tokio::test]
async fn each_limit_of_questions_is_named_with_its_setting() -> Result<()> {
    let serin = filled(SETTINGS).await?;
    let long = format!("SELECT '{}'", "x".repeat(1100));
    for (sql, limit, code) in [
        (&*long, "query.sql_kib_max", "SER-SQL-002"),
        (
            "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY a.t || b.t) AS n \
             FROM big.row a, big.row b)",
            "query.spill_mib_max",
            "SER-QRY-003",
        ),
        (
            "SELECT t || t || t || t || t || t AS x FROM big.row",
            "query.result_mib_max",
            "SER-QRY-004",
        ),
    ] {
        names(&said(&serin, sql).await?, limit, code)?;
    }
    let told = serin.remarks(&["query", "SELECT n FROM big.row"]).await?;
    ensure!(told.contains("query.rows_max"), "{told}");
    let kpi = ["kpi", "rows", "--last", "1h", "--step", "1s"];
    names(
        &serin.refused(&kpi).await?,
        "query.points_max",
        "SER-QRY-005",
    )?;
    Ok(())
}

#[tokio::test]
async fn what_needs_too_much_memory_is_told_so() -> Result<()> {
    let serin = filled(MEMORY_SETTINGS).await?;
    let sql =
        "SELECT count(DISTINCT a.t || b.t), count(DISTINCT a.n + b.n) FROM big.row a, big.row b";
    names(&said(&serin, sql).await?, "query.memory_mib", "SER-QRY-002")
}

#[tokio::test]
async fn what_has_no_end_is_ended_and_who_comes_meanwhile_is_told() -> Result<()> {
    let serin = Serin::start_set(ENDLESS_SETTINGS).await?;
    names(
        &said(&serin, ENDLESS).await?,
        "query.deadline_s",
        "SER-QRY-001",
    )?;
    // One runs, one waits, and who comes then is told at once.
    let all = futures::future::join_all((0..4).map(|_| said(&serin, ENDLESS))).await;
    let all = all.into_iter().collect::<Result<Vec<_>>>()?;
    let busy = all
        .iter()
        .filter(|said| said.contains("query.running_max and query.queued_max"));
    ensure!(busy.count() >= 1, "{all:?}");
    Ok(())
}

#[tokio::test]
async fn each_limit_of_events_is_named_with_its_setting_and_kept() -> Result<()> {
    let serin = Serin::start_set(SETTINGS).await?;
    let event = |kind: &str, data: Value| json!({"type": kind, "source": "/shop", "data": data});
    for kind in ["a", "b"] {
        serin
            .give(event(kind, json!({"x": 1, "y": 2})).to_string())
            .await?;
    }
    until("both are taken", SEEN_DEADLINE, async || {
        let types =
            serin.sql_number("SELECT count(DISTINCT type) FROM events WHERE service = 'shop'");
        Ok((types.await? == 2).then_some(()))
    })
    .await?;
    // What rises is told from the second look on.
    until("counters are looked at", SEEN_DEADLINE, async || {
        let sql = "SELECT count(*) FROM metrics WHERE name = 'serin_ingest_refused_total'";
        Ok((serin.sql_number(sql).await? > 0).then_some(()))
    })
    .await?;
    let mut ahead = event("a", json!({}));
    ahead["time"] = json!("2199-01-01T00:00:00Z");
    let texts: Vec<String> = (0..3).map(|_| "x".repeat(1000)).collect();
    let wrong = [
        (event("c", json!({"x": 1})), "ingest.types_max", "types"),
        (
            event("a", json!({"z": 1})),
            "ingest.columns_per_type_max",
            "columns",
        ),
        (
            event("a", json!({"x": "x".repeat(1100)})),
            "ingest.string_kib_max",
            "string-length",
        ),
        (
            event("a", json!({"x": texts})),
            "ingest.event_kib_max",
            "event-size",
        ),
        (ahead, "ingest.skew_future_s", "clock-skew"),
    ];
    let lines = wrong.iter().map(|(event, ..)| format!("{event}\n"));
    let (status, answer) = serin.post(lines.collect()).await?;
    ensure!(status == 207, "{status}: {answer}");
    for (line, (_, limit, _)) in wrong.iter().enumerate() {
        let error = answer["refused"][line]["error"]
            .as_str()
            .context("an error")?;
        names(error, limit, "")?;
    }
    // Who looks after Serin finds the same, and the first of each reason is counted.
    until("they are on the dashboard", SEEN_DEADLINE, async || {
        let data = serin.get("/api/v1/dashboards/supporting/data?panels=refused");
        let shown = &data.await?["panels"]["refused"]["data"]["value"];
        Ok((*shown == json!(wrong.len() as f64)).then_some(()))
    })
    .await?;
    let kept = serin
        .sql("SELECT reason, explanation, type, service FROM refused")
        .await?;
    ensure!(kept.len() == wrong.len(), "{kept:?}");
    for (event, limit, reason) in &wrong {
        let row = kept.iter().find(|row| row[0] == *reason);
        let row = row.with_context(|| format!("no row of {reason}: {kept:?}"))?;
        names(row[1].as_str().unwrap_or_default(), limit, "")?;
        ensure!(row[2] == event["type"] && row[3] == "shop", "{row:?}");
    }
    Ok(())
}
