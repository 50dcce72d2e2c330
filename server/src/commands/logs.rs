//! `serin logs`: what instances wrote, oldest first; with `-f` also what they write from now on.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};

use super::{print, remark};
use crate::cli::{Global, Logs};
use crate::client::Client;

/// How often is looked for more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Lines that come late by up to this are still seen, and none twice.
const OVERLAP_S: u32 = 5;

pub(crate) async fn run(global: &Global, logs: &Logs) -> Result<()> {
    let client = Client::find(global)?;
    let mut lines = read(&client, logs, &format!("now-{}", logs.last), logs.lines).await?;
    if lines.is_empty() && !logs.follow {
        remark("nothing was logged; try a longer time with --last 1d");
        return Ok(());
    }
    let mut seen = BTreeSet::new();
    loop {
        for line in lines {
            if seen.insert(line["id"].as_str().unwrap_or_default().to_owned()) {
                show(global, &line);
            }
        }
        if !logs.follow {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
        // Identities begin with the time, so that the oldest go first.
        while seen.len() > 2 * logs.lines as usize + 10_000 {
            seen.pop_first();
        }
        lines = read(&client, logs, &format!("now-{OVERLAP_S}s"), 10_000).await?;
    }
}

async fn read(client: &Client, logs: &Logs, from: &str, limit: u32) -> Result<Vec<Value>> {
    let body = json!({"sql": sql(logs, limit), "from": from, "to": "now"});
    let request = client.request(Method::POST, "/api/v1/query").json(&body);
    let answer: Value = match client.json(request).await {
        Ok(answer) => answer,
        // The table comes with the first line.
        Err(error)
            if error
                .to_string()
                .contains("table 'serin.main.logs' not found") =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let rows = answer["rows"].as_array().into_iter().flatten();
    let mut lines: Vec<Value> = rows
        .map(|row| {
            json!({
                "id": row[0], "time": row[1], "level": row[2], "instance": row[3], "message": row[4],
            })
        })
        .collect();
    lines.reverse();
    Ok(lines)
}

/// The newest lines that are wanted.
fn sql(logs: &Logs, limit: u32) -> String {
    let mut wanted = vec![
        String::from("$__range"),
        format!("service = {}", quoted(&logs.name)),
    ];
    if let Some(instance) = &logs.instance {
        wanted.push(format!("instance = {}", quoted(instance)));
    }
    if let Some(level) = &logs.level {
        wanted.push(format!("level = {}", quoted(level)));
    }
    if let Some(text) = &logs.text {
        wanted.push(format!("strpos(message, {}) > 0", quoted(text)));
    }
    format!(
        "SELECT id, time, level, instance, message FROM logs WHERE {} ORDER BY time DESC, id DESC LIMIT {limit}",
        wanted.join(" AND ")
    )
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_cannot_break_out_of_its_quotes() {
        let logs = Logs {
            name: String::from("cart"),
            follow: false,
            level: None,
            instance: None,
            text: Some(String::from("it's")),
            last: String::from("1h"),
            lines: 5,
        };
        assert_eq!(
            sql(&logs, 5),
            "SELECT id, time, level, instance, message FROM logs WHERE $__range AND service = 'cart' \
             AND strpos(message, 'it''s') > 0 ORDER BY time DESC, id DESC LIMIT 5"
        );
    }
}
