//! The main job: a real access log comes in through the command line, twice, and every number of the
//! weblog dashboard equals an independent computation over the raw file, and DuckDB's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use serin_tests::wait::until;
use serin_tests::{Serin, duck, place};

/// Approximate distinct counts may be off by this share.
const DISTINCT_ERROR_MAX: f64 = 0.02;
const SEEN_DEADLINE: Duration = Duration::from_secs(60);
const REQUESTS: i64 = 10_000;

/// A Serin with the shipped example in its folder and the shipped log imported.
pub(crate) async fn imported() -> Result<Serin> {
    let serin = Serin::start_with(&["examples/weblog/kpis", "examples/weblog/dashboards"]).await?;
    import(&serin).await?;
    seen(&serin).await?;
    Ok(serin)
}

async fn import(serin: &Serin) -> Result<()> {
    let log = place::weblog();
    let log = log.to_str().context("the path of the log is text")?;
    serin
        .run(&["import", log, "--type", "http.request"])
        .await?;
    Ok(())
}

async fn seen(serin: &Serin) -> Result<()> {
    until("all requests are visible", SEEN_DEADLINE, async || {
        let count = serin
            .sql_number("SELECT count(*) FROM \"http.request\"")
            .await?;
        ensure!(count <= REQUESTS, "{count} rows, {REQUESTS} were imported");
        Ok((count == REQUESTS).then_some(()))
    })
    .await
}

/// What must come out, by `tests/weblog/expected.py`.
pub(crate) fn expected(step_s: u64) -> Result<Value> {
    let output = place::python()
        .arg(place::repository().join("tests/weblog/expected.py"))
        .arg(place::weblog())
        .args(["--step", &step_s.to_string()])
        .output()
        .context("cannot start Python")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test]
async fn importing_twice_adds_nothing_and_the_columns_are_right() -> Result<()> {
    let serin = imported().await?;
    import(&serin).await?;
    serin.run(&["flush"]).await?;
    seen(&serin).await?;
    let expected = expected(60)?;
    let sql = "SELECT count(*), sum(bytes), count(*) - count(bytes), count(DISTINCT client), \
               min(epoch(time)), max(epoch(time)) FROM \"http.request\"";
    let rows = duck::query(serin.catalogue(), sql)?;
    let numbers: Vec<f64> = rows[0].iter().map(number).collect();
    let wanted: Vec<f64> = [
        "requests",
        "bytes",
        "bytes_missing",
        "visitors",
        "from",
        "to",
    ]
    .iter()
    .map(|key| number(&expected[key]))
    .collect();
    assert_eq!(numbers, wanted, "DuckDB and the raw log");
    for (column, key) in [
        ("path", "pages"),
        ("referrer", "referrers"),
        ("status", "statuses"),
    ] {
        let sql = format!(
            "SELECT {column}, count(*) FROM \"http.request\" WHERE {column} IS NOT NULL GROUP BY 1"
        );
        let mut stored = duck::query(serin.catalogue(), &sql)?;
        let wanted = expected[key].as_array().context("an array")?;
        let mut wanted: Vec<Vec<Value>> = wanted
            .iter()
            .filter_map(|row| row.as_array().cloned())
            .collect();
        stored.sort_by_key(|row| row[0].to_string());
        wanted.sort_by_key(|row| row[0].to_string());
        assert_eq!(stored, wanted, "{column}");
    }
    Ok(())
}

/// A number, however wide its reader printed it.
pub(crate) fn number(value: &Value) -> f64 {
    let text = || value.as_str().and_then(|text| text.parse().ok());
    value.as_f64().or_else(text).unwrap_or(f64::NAN)
}

/// Whether an approximate count is near enough.
pub(crate) fn is_near(got: f64, wanted: f64) -> bool {
    (got - wanted).abs() <= (wanted * DISTINCT_ERROR_MAX).max(1.0)
}
