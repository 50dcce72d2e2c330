//! Chromium looks at the weblog dashboard: every number, new events, an edited file, a crash.
//!
//! `tests/browser/weblog.mjs` drives it and answers what it sees; what is right is decided here,
//! by the same comparison that the API passes.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use serin_tests::report::report;
use serin_tests::{Serin, place};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::weblog;

/// A browser that cannot be reached is a failure, not a hang.
const ANSWER_DEADLINE: Duration = Duration::from_secs(90);

/// Chromium with one page.
struct Browser {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    fn start() -> Result<Browser> {
        let chosen = std::env::var("SERIN_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&folders).map(|folder| folder.join(&chosen));
        let path = found.into_iter().find(|path| path.is_file());
        let path = path.with_context(|| format!("no {chosen} on PATH; run `cargo xtask test`"))?;
        let mut child = Command::new("node")
            .arg(place::repository().join("tests/browser/weblog.mjs"))
            .env("SERIN_CHROMIUM_PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start node")?;
        let input = child.stdin.take().context("a pipe")?;
        let output = child.stdout.take().context("a pipe")?;
        Ok(Browser {
            _child: child,
            input,
            output: BufReader::new(output).lines(),
        })
    }

    async fn ask(&mut self, command: &str, given: Value) -> Result<Value> {
        let mut line = given.as_object().cloned().unwrap_or_else(Map::new);
        line.insert("command".to_owned(), Value::from(command));
        let text = format!("{}\n", Value::from(line.clone()));
        self.input.write_all(text.as_bytes()).await?;
        let answer = tokio::time::timeout(ANSWER_DEADLINE, self.output.next_line())
            .await
            .with_context(|| format!("no answer to {text}"))??;
        let mut answer: Value = serde_json::from_str(&answer.context("the browser went away")?)?;
        ensure!(answer.get("error").is_none(), "{text}: {}", answer["error"]);
        Ok(answer["ok"].take())
    }

    /// Waits for an expression in the page; says how long it took.
    async fn until(&mut self, expression: &str) -> Result<Duration> {
        let answer = self.ask("until", json!({"expression": expression})).await?;
        Ok(Duration::from_secs_f64(
            answer["ms"].as_f64().unwrap_or_default() / 1000.0,
        ))
    }
}

fn sign_in(serin: &Serin) -> String {
    format!(
        "{}/signin?token={}&next=%2Fd%2Fweblog",
        serin.url(),
        serin.token()
    )
}

#[tokio::test]
async fn every_number_on_the_page_is_right() -> Result<()> {
    let serin = weblog::imported().await?;
    let mut browser = Browser::start()?;
    browser.ask("open", json!({"url": sign_in(&serin)})).await?;
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
    let faults = browser.ask("faults", json!({})).await?;
    assert_eq!(faults, json!([]), "nothing is wrong in the page");
    Ok(())
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
    browser.ask("open", json!({"url": sign_in(&serin)})).await?;
    let total = r#"document.querySelector('[data-panel="total"] [data-testid="stat-value"]')"#;
    browser
        .until(&format!("{total}?.title.replaceAll(',', '') === '10000'"))
        .await?;

    let event = json!({"type": "http.request", "source": "/web", "time": "2015-05-18T12:00:00Z",
        "data": {"client": "1.1.1.1", "path": "/new", "status": 200, "bytes": 5}});
    let (status, answer) = serin.post(event.to_string()).await?;
    ensure!(status == 200, "{answer}");
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
    report(
        "an edited dashboard is on the page",
        &format!("{:.1} s", took.as_secs_f64()),
        "1 s",
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
    assert_eq!(
        browser.ask("faults", json!({})).await?,
        json!([]),
        "nothing is wrong in the page"
    );
    Ok(())
}
