//! Chromium looks at the weblog dashboard: every number, new events, an edited file, a crash.
//!
//! What is right is decided here, by the same comparison that the API passes.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use serin_tests::Serin;
use serin_tests::report::{judged, report};

use crate::chromium::Browser;
use crate::weblog;

/// An edited file is to be on the page within this; told and not held here, where other tests run beside.
const EDIT_SHOWN_WITHIN: Duration = Duration::from_secs(1);

async fn sign_in(serin: &Serin) -> Result<String> {
    serin.sign_in_link("%2Fd%2Fweblog").await
}

#[tokio::test]
async fn every_number_on_the_page_is_right() -> Result<()> {
    let serin = weblog::imported().await?;
    let mut browser = Browser::start()?;
    browser.dashboard(&sign_in(&serin).await?).await?;
    let states = browser.ask("states", json!({})).await?;
    let states = states.as_object().context("states by panel")?;
    let mut wrong = Vec::new();
    for (panel, state) in states {
        ensure!(state == "ok", "{panel} is {state}");
        let table = browser.ask("table", json!({"panel": panel})).await?;
        if let Err(error) = shown(&serin, panel, &table).await {
            wrong.push(format!("{panel}: {error:#}"));
        }
    }
    ensure!(states.len() == weblog::PANELS, "{} panels", states.len());
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    browser.is_faultless().await
}

/// Makes panel data of what the page shows, and compares these as the API's own are compared.
async fn shown(serin: &Serin, panel: &str, table: &Value) -> Result<()> {
    let range = "from=2015-05-17T00:00:00Z&to=2015-05-21T00:00:00Z";
    let path = format!("/api/v1/dashboards/weblog/data?{range}&panels={panel}");
    let mut data = serin.get(&path).await?["panels"][panel]["data"].take();
    let rows: Vec<Vec<Value>> = serde_json::from_value(table["rows"].clone())?;
    let rows: Vec<Vec<Value>> = rows
        .into_iter()
        .map(|row| row.into_iter().map(read).collect())
        .collect();
    match data["kind"].as_str() {
        Some("stat") => {
            let value = rows
                .iter()
                .find(|row| row[0] == "value")
                .context("a row with the value")?;
            data["value"] = value[1].clone();
        }
        Some("series") => {
            let all = data["series"].as_array_mut().context("series")?;
            for (index, series) in all.iter_mut().enumerate() {
                let points = rows.iter().map(|row| json!([row[0], row[index + 1]]));
                series["points"] = points.collect();
            }
        }
        Some("bars") => {
            let bars = rows
                .iter()
                .map(|row| json!({"label": row[0], "value": row[1]}));
            data["bars"] = bars.filter(|bar| bar["label"] != "others").collect();
        }
        Some("heatmap") => data["cells"] = rows.iter().map(|row| json!(row[1..])).collect(),
        _ => data["rows"] = json!(rows),
    }
    weblog::panel_is_right(panel, &data)
}

/// A cell as it was before it became text; an empty one is a gap.
fn read(cell: Value) -> Value {
    let Value::String(text) = cell else {
        return cell;
    };
    if text.is_empty() {
        return Value::Null;
    }
    let number = text.replace(',', "").parse::<f64>();
    number.map_or(Value::String(text), Value::from)
}

#[tokio::test]
async fn new_events_and_edits_are_seen_without_a_reload_and_a_crash_is_told() -> Result<()> {
    let mut serin = weblog::imported().await?;
    let mut browser = Browser::start()?;
    browser.dashboard(&sign_in(&serin).await?).await?;
    let total = r#"document.querySelector('[data-panel="total"] [data-testid="stat-value"]')"#;
    browser
        .until(&format!("{total}?.title.replaceAll(',', '') === '10000'"))
        .await?;

    let event = json!({"type": "http.request", "source": "/web", "time": "2015-05-18T12:00:00Z",
        "data": {"client": "1.1.1.1", "path": "/new", "status": 200, "bytes": 5}});
    serin.give(event.to_string()).await?;
    let took = browser
        .until(&format!("{total}?.title.replaceAll(',', '') === '10001'"))
        .await?;
    let seen = format!("{:.1} s", took.as_secs_f64());
    report(
        "a new event is on the page, dashboard with refresh 5 s",
        &seen,
        "without reload",
    );

    let file = serin.dir().join("dashboards/weblog.yaml");
    let text = fs::read_to_string(&file)?;
    fs::write(
        &file,
        text.replace("title: Top pages", "title: Pages seen most"),
    )?;
    let expression =
        "document.querySelector('[data-panel=\"pages\"] h2')?.textContent === 'Pages seen most'";
    let took = browser.until(expression).await?;
    judged(
        "an edited dashboard is on the page",
        &format!("{:.1} s", took.as_secs_f64()),
        "1 s",
        took <= EDIT_SHOWN_WITHIN,
    );
    fs::write(&file, text.replace("draw: heatmap", "draw: hetmap"))?;
    browser
        .until("document.querySelector('[data-testid=\"problems\"]') !== null")
        .await?;
    fs::write(&file, &text)?;
    browser
        .until("document.querySelector('[data-testid=\"problems\"]') === null")
        .await?;

    serin.kill()?;
    browser
        .until("document.querySelector('[data-panel=\"total\"]').dataset.state === 'stale'")
        .await?;
    serin.start_again().await?;
    let took = browser
        .until("document.querySelector('[data-panel=\"total\"]').dataset.state === 'ok'")
        .await?;
    let seen = format!("{:.1} s", took.as_secs_f64());
    report(
        "the page has recovered after a restart of Serin",
        &seen,
        "recovery",
    );
    browser.is_faultless().await
}
