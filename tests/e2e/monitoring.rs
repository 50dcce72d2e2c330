//! What is on screen without any set-up: the built-in dashboards, and how soon they show what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use serin_tests::live::Screen;
use serin_tests::report::judged;
use serin_tests::wait::until;
use serin_tests::{Serin, process};

use crate::services::{SOON, TICKS, instances, write};

/// What the issue asks for: a death and a birth are on screen within this. It is told and not held
/// here, where other tests run beside: the bound that is held is that of the wait.
const ON_SCREEN_WITHIN: Duration = Duration::from_secs(2);
const BUILT_IN: [&str; 3] = ["cluster", "service", "supporting"];

/// Waits until the rows of a table on a screen are as wanted.
async fn until_rows(
    screen: &mut Screen,
    panel: &str,
    wanted: impl Fn(&[Value]) -> bool,
) -> Result<()> {
    let look = async {
        loop {
            let panels = screen.next().await?;
            let error = &panels[panel]["error"];
            ensure!(error.is_null(), "{panel}: {error}");
            if panels[panel]["data"]["rows"]
                .as_array()
                .is_some_and(|rows| wanted(rows))
            {
                return Ok(());
            }
        }
    };
    let seen = tokio::time::timeout(SOON, look).await;
    seen.with_context(|| format!("{panel} never showed it"))?
}

/// Whether a row begins with a name and has a state.
fn is_row(row: &Value, name: &str, state: &str) -> bool {
    row[0] == name
        && row
            .as_array()
            .is_some_and(|row| row.iter().any(|cell| cell == state))
}

async fn panels(serin: &Serin, dashboard: &str, chosen: &str) -> Result<Value> {
    let path = format!("/api/v1/dashboards/{dashboard}/data?{chosen}");
    Ok(serin.get(&path).await?["panels"].take())
}

#[tokio::test]
async fn the_built_in_dashboards_work_in_an_empty_folder() -> Result<()> {
    let serin = Serin::start().await?;
    for dashboard in BUILT_IN {
        let shown = panels(&serin, dashboard, "").await?;
        for (name, panel) in shown.as_object().context("panels")? {
            assert_eq!(panel["error"], Value::Null, "{dashboard}/{name}");
        }
    }
    until("the supporting systems tell", SOON, async || {
        let shown = panels(&serin, "supporting", "").await?;
        let known = [
            "bus_connections",
            "bus_bytes",
            "host_disk",
            "lake_files",
            "own_memory",
            "watermark",
        ];
        Ok(known
            .iter()
            .all(|name| shown[name]["state"] == "ok")
            .then_some(()))
    })
    .await
}

#[tokio::test]
async fn what_is_counted_is_a_table() -> Result<()> {
    let serin = Serin::start().await?;
    let text = until("the bus was looked at", SOON, async || {
        let answer = serin.request(Method::GET, "/metrics").send().await?;
        let text = answer.error_for_status()?.text().await?;
        Ok(text.contains("serin_bus_connections ").then_some(text))
    })
    .await?;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    // A histogram has a row only once something was observed.
    let names: BTreeSet<&str> = types
        .filter(|line| !line.ends_with(" histogram"))
        .filter_map(|line| line.split(' ').next())
        .collect();
    ensure!(names.len() > 50, "{names:?}");
    until("every metric has a row", SOON, async || {
        let rows = serin.sql("SELECT DISTINCT name FROM metrics").await?;
        let known: BTreeSet<&str> = rows.iter().filter_map(|row| row[0].as_str()).collect();
        Ok(names.is_subset(&known).then_some(()))
    })
    .await?;
    until("an increase is told", SOON, async || {
        let sql = "SELECT CAST(sum(delta) AS BIGINT) FROM metrics WHERE name = 'serin_bus_in_messages_total'";
        Ok((serin.sql_number(sql).await? > 0).then_some(()))
    })
    .await?;
    let sql = "SELECT count(*) FROM metrics WHERE name = 'serin_bus_stream_bytes' AND labels_stream = 'EVENTS' AND service = 'serin'";
    assert!(serin.sql_number(sql).await? > 0);
    Ok(())
}

#[tokio::test]
async fn a_death_and_a_birth_are_on_screen_within_two_seconds() -> Result<()> {
    let serin = Serin::start().await?;
    write(&serin, "ticker", TICKS)?;
    serin.run(&["deploy", "ticker"]).await?;
    let mut screen = Screen::open(&serin, "cluster").await?;
    let both = |rows: &[Value]| {
        let ready = |name| rows.iter().any(|row| is_row(row, name, "ready"));
        ready("ticker-v1-1") && ready("ticker-v1-2")
    };
    until_rows(&mut screen, "instances", both).await?;

    let (name, pid) = instances(&serin, "ticker", "ready")
        .await?
        .into_iter()
        .next()
        .context("one")?;
    let killed = Instant::now();
    process::kill(pid)?;
    // The worst stands first.
    let is_dead = |rows: &[Value]| rows.first().is_some_and(|row| is_row(row, &name, "dead"));
    until_rows(&mut screen, "instances", is_dead).await?;
    let died = killed.elapsed();
    let is_born = |rows: &[Value]| rows.iter().any(|row| is_row(row, "ticker-v1-3", "ready"));
    until_rows(&mut screen, "instances", is_born).await?;
    let shown_us = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    let service = serin.get("/api/v1/services/ticker").await?;
    let all = service["instances"].as_array().context("instances")?;
    let new = all
        .iter()
        .find(|one| one["name"] == "ticker-v1-3")
        .context("the new one")?;
    let started_us = u128::from(new["started_us"].as_u64().context("a time")?);
    let born = Duration::from_micros(u64::try_from(shown_us.saturating_sub(started_us))?);
    for (what, took) in [
        ("a killed instance is shown dead", died),
        ("a new one is on screen", born),
    ] {
        let measured = format!("{:.2} s", took.as_secs_f64());
        judged(what, &measured, "2 s", took <= ON_SCREEN_WITHIN);
    }
    until("the death is counted", SOON, async || {
        let shown = panels(&serin, "cluster", "").await?;
        Ok((shown["deaths"]["data"]["value"] == 1.0).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_variable_narrows_a_dashboard_to_one_service() -> Result<()> {
    let serin = Serin::start().await?;
    for name in ["drummer", "ticker"] {
        write(&serin, name, TICKS)?;
        serin.run(&["deploy", name]).await?;
    }
    until("both can be chosen", SOON, async || {
        let variables = serin.get("/api/v1/dashboards/service/variables").await?;
        let values = variables[0]["values"].as_array().context("values")?;
        Ok((values.contains(&"drummer".into()) && values.contains(&"ticker".into())).then_some(()))
    })
    .await?;
    for (name, other) in [("ticker", "drummer"), ("drummer", "ticker")] {
        until("its instances are shown", SOON, async || {
            let shown = panels(&serin, "service", &format!("var.service={name}")).await?;
            let text = shown.to_string();
            assert!(
                !text.contains(&format!("{other}-v1")),
                "{other} among {name}"
            );
            let is_there = shown["instances"]["data"]["rows"]
                .as_array()
                .is_some_and(|rows| rows.len() == 2)
                && shown["cpu_by_instance"]["data"]["series"]
                    .as_array()
                    .is_some_and(|series| series.len() == 2)
                && shown["ready"]["data"]["value"] == 2.0
                && text.contains(&format!("{name}-v1-1"));
            Ok(is_there.then_some(()))
        })
        .await?;
    }
    // No value becomes more than text.
    let hostile = "var.service=x'%20OR%20'a'%3D'a";
    let shown = panels(&serin, "service", hostile).await?;
    for (name, panel) in shown.as_object().context("panels")? {
        assert_eq!(panel["error"], Value::Null, "{name}");
    }
    assert_eq!(shown["instances"]["state"], "empty");
    Ok(())
}

#[tokio::test]
async fn a_built_in_dashboard_is_copied_once_and_is_theirs_then() -> Result<()> {
    let serin = Serin::start().await?;
    let copy = || {
        serin
            .request(Method::POST, "/api/v1/dashboards/cluster/copy")
            .send()
    };
    let copied: Value = copy().await?.error_for_status()?.json().await?;
    assert_eq!(copied["file"], "dashboards/cluster.yaml");
    let file = serin.dir().join("dashboards/cluster.yaml");
    let text = std::fs::read_to_string(&file)?;
    let schema = "# yaml-language-server: $schema=../.serin/schema/dashboard.json\n";
    ensure!(text.starts_with(schema), "{text}");
    std::fs::write(&file, text.replace("title: Cluster", "title: Our cluster"))?;
    until("the file counts", SOON, async || {
        let dashboard = serin.get("/api/v1/dashboards/cluster").await?;
        Ok((dashboard["title"] == "Our cluster").then_some(dashboard))
    })
    .await
    .map(|dashboard| assert_eq!(dashboard["is_built_in"], false))?;
    assert_eq!(copy().await?.status(), StatusCode::CONFLICT);
    let checked = serin.output(&["check"]).await?;
    assert!(checked.status.success(), "{checked:?}");
    Ok(())
}

#[tokio::test]
async fn the_doctor_asks_the_gateway_and_none_was_refused_is_a_zero() -> Result<()> {
    let serin = Serin::start().await?;
    let told = serin.run(&["doctor", "--json"]).await?;
    let findings: Vec<Value> = serde_json::from_str(&told)?;
    let gateway = findings.iter().find(|one| one["check"] == "gateway");
    let gateway = gateway.context("a finding about the gateway")?;
    ensure!(gateway["state"] == "ok", "{gateway}");
    ensure!(
        gateway["found"]
            .to_string()
            .contains("answers at http://127.0.0.1:"),
        "{gateway}"
    );
    until("refused events are counted", SOON, async || {
        let shown = panels(&serin, "supporting", "panels=refused").await?;
        Ok((shown["refused"]["data"]["value"] == 0.0).then_some(()))
    })
    .await
}

const SLOW_BEATS: &str = "
kpis:
  slow_beats: {unit: ms, better: lower, event: beats, measure: p95(latency_buckets), where: service = 'hello', by: [service]}
  seconds_asked: {unit: s, event: metrics, measure: p95(buckets), where: name = 'serin_query_duration_seconds'}
rules:
  too_slow: {when: {kpi: slow_beats, above: 0, for: 5s, every: 5s}}
";

/// The p95 in milliseconds of buckets as beats tell them, counted anew.
fn p95_of_buckets(rows: &[Vec<Value>]) -> Result<f64> {
    let mut counts = BTreeMap::<u16, u64>::new();
    for row in rows {
        let told: Vec<(u16, u64)> = serde_json::from_str(row[0].as_str().context("a text")?)?;
        for (bucket, count) in told {
            *counts.entry(bucket).or_default() += count;
        }
    }
    let all: u64 = counts.values().sum();
    let mut above = all - (all as f64 * 0.95).ceil() as u64;
    for (bucket, count) in counts.into_iter().rev() {
        match above.checked_sub(count) {
            Some(rest) => above = rest,
            None => return Ok(0.01 * ((f64::from(bucket) + 0.5) / 4.0).exp2()),
        }
    }
    anyhow::bail!("nothing was counted")
}

/// Both instances of a service tell what they served; the quantile is that of all of it.
#[tokio::test]
async fn a_quantile_is_that_of_all_that_instances_beat() -> Result<()> {
    let serin = Serin::start_with_hello().await?;
    serin.write("kpis/beats.yaml", SLOW_BEATS)?;
    let address = format!("{}/hello/", serin.gateway());
    let instances = "SELECT count(DISTINCT instance) FROM beats WHERE service = 'hello' AND latency_p95_ms IS NOT NULL";
    until("both instances served some", SOON, async || {
        for _ in 0..20 {
            reqwest::get(&address).await?.error_for_status()?;
        }
        Ok((serin.sql_number(instances).await? == 2).then_some(()))
    })
    .await?;
    let last = serin.sql("SELECT max(time) FROM beats").await?;
    let last = last[0][0].as_str().context("a time")?;
    let told = format!("FROM beats WHERE service = 'hello' AND time <= '{last}'");
    let later = format!("SELECT count(*) FROM beats WHERE time - INTERVAL '2 seconds' > '{last}'");
    until("no beat of before is on its way", SOON, async || {
        Ok((serin.sql_number(&later).await? > 0).then_some(()))
    })
    .await?;
    let rows = serin.sql(&format!("SELECT latency_buckets {told}")).await?;
    let wanted = p95_of_buckets(&rows)?;
    let sql = format!("SELECT service, p95(latency_buckets) AS p95 {told} GROUP BY service");
    let said = serin.run(&["query", &sql, "--format", "json"]).await?;
    let said: Value = serde_json::from_str(&said)?;
    let found = said[0]["p95"].as_f64().context("a number")?;
    ensure!((found / wanted - 1.0).abs() < 1e-9, "{found} for {wanted}");

    let error = serin
        .refused(&["query", "SELECT p95(state) FROM beats"])
        .await?;
    ensure!(
        error.contains("is no histogram") && error.contains("SER-SQL-013"),
        "{error}"
    );
    until("a KPI and a rule say so too", SOON, async || {
        reqwest::get(&address).await?.error_for_status()?;
        let answers = ["slow_beats", "seconds_asked"].map(|name| {
            let serin = &serin;
            async move { serin.run(&["kpi", name, "--last", "10m", "--json"]).await }
        });
        for answer in answers {
            let Ok(said) = answer.await else {
                return Ok(None);
            };
            let said: Value = serde_json::from_str(&said)?;
            let points = said["series"][0]["points"].as_array();
            let mut points = points.into_iter().flatten();
            if said["approximate"] != true || !points.any(|point| point[1].as_f64() > Some(0.0)) {
                return Ok(None);
            }
        }
        let decided = serin.get("/api/v1/decisions?name=too_slow").await?;
        Ok(decided.get(0).map(drop))
    })
    .await?;
    let shown = panels(&serin, "supporting", "panels=query_p95").await?;
    ensure!(shown["query_p95"]["error"].is_null(), "{shown}");
    Ok(())
}
