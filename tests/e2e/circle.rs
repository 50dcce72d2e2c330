//! The circle closes: what services emit becomes a decision, and the decision is an event again.
//!
//! And what is on the way round holds nobody up: a panel that is slow is slow alone, and ends with
//! those who look at it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use serin_tests::live::Screen;
use serin_tests::wait::until;
use serin_tests::{Serin, process};

/// Longer than any step takes on a busy machine, and much shorter than the slow panel's deadline.
const SOON: Duration = Duration::from_secs(60);
const SETTINGS: &str = "query: {deadline_s: 600}\n";

const KPIS: &str = "
kpis:
  failed: {event: shop.request, measure: count(), where: status >= 500}
  requests: {event: shop.request, measure: count()}
  error_share: {title: Errors, better: lower, ratio: {numerator: failed, denominator: requests}}
rules:
  many_errors:
    when: {kpi: error_share, above: 0.5, for: 2s, every: 1s}
    message: The shop fails.
";

const DASHBOARD: &str = "
dashboard: shop
title: Shop
range: 15m
refresh: 1s
panels:
  errors: {kpi: error_share, draw: line}
  share: {kpi: error_share, draw: stat}
";

/// A statement that ends at its deadline, beside a KPI that is there at once.
const SLOW: &str = "
dashboard: slow
title: Slow
refresh: 1s
panels:
  slow: {sql: \"WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS i FROM n\", draw: table}
  quick: {kpi: requests, draw: stat}
";

async fn shop() -> Result<Serin> {
    Serin::start_with_files(&[
        ("serin.yaml", SETTINGS),
        ("kpis/shop.yaml", KPIS),
        ("dashboards/shop.yaml", DASHBOARD),
        ("dashboards/slow.yaml", SLOW),
    ])
    .await
}

async fn emit(serin: &Serin, status: u16) -> Result<()> {
    let lines = (0..10).map(|_| {
        let event = json!({"type": "shop.request", "data": {"status": status}});
        format!("{event}\n")
    });
    serin.give(lines.collect()).await
}

/// Goes on emitting until a rule has decided so.
async fn until_decided(serin: &Serin, status: u16, action: &str) -> Result<Value> {
    until(action, Duration::from_secs(60), async || {
        emit(serin, status).await?;
        let decisions = serin.get("/api/v1/decisions?name=many_errors").await?;
        let newest = decisions.get(0).cloned();
        Ok(newest.filter(|newest| newest["action"] == action))
    })
    .await
}

#[tokio::test]
async fn events_become_a_decision_that_is_an_event_again() -> Result<()> {
    let mut serin = shop().await?;
    let decision = until_decided(&serin, 500, "notify").await?;
    ensure!(decision["kpi"] == "error_share", "{decision}");
    ensure!(
        decision["value"] == 1.0 && decision["bound"] == 0.5,
        "{decision}"
    );
    let why = decision["why"].as_str().context("why")?;
    ensure!(why.contains("The shop fails."), "{why}");
    // A mark on the chart, and on the number.
    let path = "/api/v1/dashboards/shop/data";
    for panel in ["errors", "share"] {
        let text = until("a mark", SOON, async || {
            let data = serin.get(path).await?;
            let mark = data["panels"][panel]["marks"].get(0).cloned();
            Ok(mark.filter(|mark| mark["kind"] == "notify"))
        })
        .await?;
        ensure!(
            text["text"].as_str().is_some_and(|t| t.contains(why)),
            "{text}"
        );
    }
    // It came by everyone's way: the bus, the lake, the table of its type.
    let sql = "SELECT count(*) FROM decisions WHERE rule = 'many_errors' AND action = 'notify'";
    ensure!(serin.sql_number(sql).await? == 1, "told once");
    let resolved = until_decided(&serin, 200, "resolve").await?;
    ensure!(
        resolved["value"].as_f64().is_some_and(|share| share <= 0.5),
        "{resolved}"
    );
    let listed = serin.run(&["decisions"]).await?;
    for word in ["many_errors", "notify", "resolve"] {
        ensure!(listed.contains(word), "{listed}");
    }
    serin.stop().await
}

/// The processes that compute statements for this server, the warm one among them.
fn workers(serin: &Serin) -> Result<usize> {
    let server = serin.pid().context("it runs")?;
    let is_worker = |pid: &u32| {
        let is_its = process::parent(*pid) == Some(server);
        is_its
            && process::command(*pid)
                .iter()
                .any(|word| word.contains("query-worker"))
    };
    Ok(process::all()?.iter().filter(|pid| is_worker(pid)).count())
}

#[tokio::test]
async fn a_slow_panel_is_slow_alone_and_ends_with_its_viewers() -> Result<()> {
    let mut serin = shop().await?;
    emit(&serin, 200).await?;
    let mut screen = Screen::open(&serin, "slow").await?;
    let mut seen = 0.0;
    // The quick one is shown, and shown again with new events, while the slow one is under way.
    for _ in 0..2 {
        emit(&serin, 200).await?;
        loop {
            let panels = tokio::time::timeout(SOON, screen.next()).await??;
            ensure!(panels.get("slow").is_none(), "{panels}");
            let value = panels["quick"]["data"]["value"].as_f64().unwrap_or(0.0);
            if value > seen {
                seen = value;
                break;
            }
        }
    }
    until("the slow one at work", SOON, async || {
        Ok((workers(&serin)? >= 2).then_some(()))
    })
    .await?;
    // What is marked on charts and listed waits for no statement.
    serin.get("/api/v1/decisions").await?;
    ensure!(workers(&serin)? >= 2, "the slow one ended before");
    drop(screen);
    until("its process gone", SOON, async || {
        Ok((workers(&serin)? <= 1).then_some(()))
    })
    .await?;
    // The end waits for no panel either.
    let mut screen = Screen::open(&serin, "slow").await?;
    screen.next().await?;
    serin.stop().await?;
    let said = serin.said();
    ensure!(!said.contains("did not finish in time"), "{said}");
    Ok(())
}
