//! `serin logs`: what instances wrote, oldest first; with `-f` also what they write from now on.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::query::range_of;
use super::{print, remark};
use crate::cli::{Global, Logs, RangeArgs};
use crate::client::Client;

/// How often is looked for more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Lines that come late by up to this are still seen, and none twice.
const OVERLAP_S: u32 = 5;
/// Lines of one answer; what the API gives at most.
const PAGE_LINES: u32 = 2_000;
/// Before the first line of any service.
const EVER: &str = "1970-01-01T00:00:00Z";

/// What `GET /api/v1/logs` answers.
#[derive(Debug, Deserialize)]
struct Page {
    /// The oldest first.
    lines: Vec<Value>,
    has_more: bool,
}

pub(crate) async fn run(global: &Global, logs: &Logs) -> Result<()> {
    let client = Client::find(global)?;
    let range = range(&logs.range)?;
    let mut lines = read(&client, logs, &range, logs.lines).await?;
    if lines.is_empty() {
        check_known(&client, &logs.name).await?;
        if !logs.follow {
            remark("nothing was logged; try a longer time with --last 1d");
            return Ok(());
        }
    }
    let newest = (format!("now-{OVERLAP_S}s"), None);
    let mut seen = BTreeSet::new();
    loop {
        for line in lines {
            if seen.insert(cursor(&line).to_owned()) {
                show(global, &line);
            }
        }
        if !logs.follow {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
        // Cursors begin with the time, so that the oldest go first.
        while seen.len() > 2 * logs.lines as usize + 10_000 {
            seen.pop_first();
        }
        lines = read(&client, logs, &newest, 10_000).await?;
    }
}

/// Fails where there is no such service; of one that was removed, the lines are still there.
async fn check_known(client: &Client, name: &str) -> Result<()> {
    let answer: Value = client.get("/api/v1/services", &[]).await?;
    let services = answer["services"].as_array().into_iter().flatten();
    let names: Vec<&str> = services
        .filter_map(|service| service["name"].as_str())
        .collect();
    if names.contains(&name) {
        return Ok(());
    }
    let ever = [
        ("service", name.to_owned()),
        ("from", EVER.to_owned()),
        ("limit", "1".to_owned()),
    ];
    let page: Page = client.get("/api/v1/logs", &ever).await?;
    match page.lines.is_empty() {
        true => bail!(
            "no service {name:?}; {}",
            serin_yaml::meant(name, names.into_iter())
        ),
        false => Ok(()),
    }
}

/// When the lines were written, in the words of the API; the last hour where nothing is said.
fn range(asked: &RangeArgs) -> Result<(String, Option<String>)> {
    let (from, to) = range_of(asked);
    match from {
        Some(from) => Ok((from, to)),
        None if to.is_some() => bail!("--to wants a beginning; say --from too"),
        None => Ok((String::from("now-1h"), None)),
    }
}

/// The newest so many lines that are wanted, page by page, oldest first.
async fn read(
    client: &Client,
    logs: &Logs,
    (from, to): &(String, Option<String>),
    count: u32,
) -> Result<Vec<Value>> {
    let mut lines: Vec<Value> = Vec::new();
    loop {
        let left = count.saturating_sub(u32::try_from(lines.len()).unwrap_or(u32::MAX));
        let mut query = vec![
            ("service", logs.name.clone()),
            ("from", from.clone()),
            ("limit", left.clamp(1, PAGE_LINES).to_string()),
        ];
        let wanted = [
            ("to", to),
            ("instance", &logs.instance),
            ("level", &logs.level),
            ("text", &logs.text),
        ];
        for (name, value) in wanted {
            query.extend(value.clone().map(|value| (name, value)));
        }
        if let Some(oldest) = lines.first() {
            query.push(("before", cursor(oldest).to_owned()));
        }
        let mut page: Page = client.get("/api/v1/logs", &query).await?;
        let is_last = !page.has_more || page.lines.len() as u64 >= u64::from(left);
        page.lines.append(&mut lines);
        lines = page.lines;
        if is_last {
            return Ok(lines);
        }
    }
}

fn cursor(line: &Value) -> &str {
    line["cursor"].as_str().unwrap_or_default()
}

fn show(global: &Global, line: &Value) {
    if global.json {
        return print(&line.to_string());
    }
    let text = |key: &str| line[key].as_str().unwrap_or("-");
    print(&format!(
        "{} {:<5} {} {}",
        text("time"),
        text("level"),
        text("instance"),
        text("message")
    ));
}
