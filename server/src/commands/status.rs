//! `serin status`: what runs and how it is, the worst first, and a fresh link to sign in.
//!
//! Services, instances and supporting systems are panels of the built-in dashboards, so that the
//! terminal shows what the browser shows. One who copied a dashboard and left a panel out does not
//! see it here either.

use anyhow::Result;
use serde_json::Value;
use serin_dashboards::format::format_value;
use serin_wire::time::to_rfc3339;

use super::print;
use crate::cli::{Global, Status};
use crate::client::Client;
use crate::table::{Table, cell};

/// The panels of the supporting systems that are one number each.
const SUPPORTING: &str = "watermark,lag,refused,slow,failed,full";
/// What is told in any case; `--json` has all.
const FACTS: [&str; 3] = ["version", "started", "events"];
/// Counts that are told once they are more than none.
const TROUBLES: [(&str, &str); 4] = [
    (
        "lost_messages",
        "messages went with a bus that lost its stream",
    ),
    (
        "telemetry_lost",
        "messages of telemetry came too fast and are lost",
    ),
    ("telemetry_bad", "lines of telemetry were not understood"),
    (
        "refused_not_kept",
        "refused events are counted only, `refused` was full",
    ),
];

pub(crate) async fn run(global: &Global, asked: &Status) -> Result<()> {
    let client = Client::find(global)?;
    let mut status: Value = client.get("/api/v1/status", &[]).await?;
    let cluster = panels(&client, "cluster", "services,instances").await?;
    let supporting = panels(&client, "supporting", SUPPORTING).await?;
    let services: Value = client.get("/api/v1/services", &[]).await?;
    if global.json {
        if asked.all {
            status["ended"] = ended(&services).into_iter().cloned().collect();
        }
        status["services"] = rows(&cluster["services"]);
        status["instances"] = rows(&cluster["instances"]);
        status["signin"] = client.sign_in_link("/").await?.into();
        print(&status.to_string());
        return Ok(());
    }
    print(&format!("{:<12} {}", "server", client.base()));
    if let Some(dir) = &client.dir {
        print(&format!("{:<12} {}", "folder", dir.display()));
    }
    for name in FACTS {
        print(&format!("{name:<12} {}", cell(&status[name])));
    }
    if let Some(what) = status["not_ready"].as_str() {
        print(&format!("{:<12} {what}", "trouble"));
    }
    for (name, what) in TROUBLES {
        if status[name].as_u64().is_some_and(|count| count > 0) {
            print(&format!("{:<12} {} {what}", "trouble", cell(&status[name])));
        }
    }
    for line in SUPPORTING
        .split(',')
        .filter_map(|name| stat(&supporting[name]))
    {
        print(&line);
    }
    for name in ["services", "instances"] {
        if let Some(text) = table(&cluster[name]) {
            print(&format!("\n{}", text.trim_end()));
        }
    }
    if asked.all {
        print(&format!("\n{}", ended_table(&ended(&services)).trim_end()));
    }
    for line in deploying(&services).into_iter().chain(not_held(&services)) {
        print(&format!("\n{line}"));
    }
    if let Some(link) = client.sign_in_link("/").await? {
        print(&format!("\n{:<12} {link}", "sign in"));
    }
    Ok(())
}

/// The instances that ended and are remembered, the latest first.
fn ended(services: &Value) -> Vec<&Value> {
    let services = services["services"].as_array().into_iter().flatten();
    let instances = services.filter_map(|service| service["instances"].as_array());
    let ended = instances.flatten().filter(|one| one["state"] == "ended");
    let mut ended: Vec<&Value> = ended.collect();
    ended.sort_by_key(|one| std::cmp::Reverse(one["ended_us"].as_i64()));
    ended
}

fn ended_table(ended: &[&Value]) -> String {
    let columns = ["ended", "version", "time", "exit"];
    let mut table = Table::new(columns.map(|name| (name, false)));
    for one in ended {
        let time = one["ended_us"].as_i64().map(to_rfc3339);
        table.push([
            cell(&one["name"]),
            cell(&one["version"]),
            time.unwrap_or_default(),
            cell(&one["exit"]),
        ]);
    }
    table.to_text()
}

/// Deploys that are no version yet, and those that came to nothing.
fn deploying(services: &Value) -> Vec<String> {
    let services = services["services"].as_array().into_iter().flatten();
    let lines = services.filter_map(|service| {
        let (name, since_us) = (
            service["name"].as_str()?,
            service["deploy"]["since_us"].as_i64()?,
        );
        Some(match service["deploy"]["why"].as_str() {
            Some(why) => format!("the last deploy of {name} failed: {why}"),
            None => format!("{name} is being built since {}", to_rfc3339(since_us)),
        })
    });
    lines.collect()
}

/// Limits that this machine does not hold, a line for each service.
fn not_held(services: &Value) -> Vec<String> {
    let services = services["services"].as_array().into_iter().flatten();
    let lines = services.filter_map(|service| {
        let mut instances = service["instances"].as_array()?.iter();
        let missing = instances.find_map(|one| {
            let is_over = one["state"] == "ended";
            one["limits_missing"].as_str().filter(|_| !is_over)
        })?;
        Some(format!(
            "limits of {}: {missing}",
            service["name"].as_str()?
        ))
    });
    lines.collect()
}

/// Panels of a dashboard by name.
async fn panels(client: &Client, dashboard: &str, names: &str) -> Result<Value> {
    let path = format!("/api/v1/dashboards/{dashboard}/data");
    let asked = [("panels", names.to_owned())];
    let mut data: Value = client.get(&path, &asked).await?;
    Ok(data["panels"].take())
}

/// The rows of a table panel, as objects.
fn rows(panel: &Value) -> Value {
    let columns = panel["data"]["columns"].as_array();
    let names: Vec<&str> = columns
        .into_iter()
        .flatten()
        .filter_map(|column| column["name"].as_str())
        .collect();
    let rows = panel["data"]["rows"].as_array().into_iter().flatten();
    rows.map(|row| {
        let cells = row.as_array().into_iter().flatten().cloned();
        let named = names.iter().map(|name| (*name).to_owned()).zip(cells);
        Value::Object(named.collect())
    })
    .collect()
}

/// A table panel as text; `None` where it has no rows.
fn table(panel: &Value) -> Option<String> {
    let columns = panel["data"]["columns"].as_array()?;
    let rows = panel["data"]["rows"].as_array()?;
    if rows.is_empty() {
        return None;
    }
    let is_number = |column: &Value| matches!(column["type"].as_str(), Some("int" | "double"));
    let mut table = Table::new(columns.iter().map(|column| {
        let name = column["name"].as_str().unwrap_or_default();
        (name, is_number(column))
    }));
    for row in rows {
        let cells = row.as_array()?.iter().zip(columns);
        table.push(cells.map(|(value, column)| match value.as_f64() {
            Some(number) => format_value(Some(number), column["unit"].as_str()),
            None => cell(value),
        }));
    }
    Some(table.to_text())
}

/// A stat panel as a line, marked where its value crosses a bound.
fn stat(panel: &Value) -> Option<String> {
    let number = panel["data"]["value"].as_f64();
    let bounds = panel["thresholds"].as_array().into_iter().flatten();
    let crossed = bounds.filter(|bound| {
        let is_above = bound["above"]
            .as_f64()
            .zip(number)
            .is_some_and(|(b, n)| n > b);
        let is_below = bound["below"]
            .as_f64()
            .zip(number)
            .is_some_and(|(b, n)| n < b);
        is_above || is_below
    });
    let words: Vec<&str> = crossed.filter_map(|bound| bound["name"].as_str()).collect();
    let mark = match words.is_empty() {
        true => String::new(),
        false => format!("  ! {}", words.join(", ")),
    };
    Some(format!(
        "{:<28} {}{mark}",
        panel["title"].as_str()?.to_lowercase(),
        format_value(number, panel["unit"].as_str())
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn those_that_ended_are_listed_with_the_latest_first() {
        let one = |name: &str, state: &str, ended_us: Value| json!({"name": name, "version": "v1", "state": state, "ended_us": ended_us, "exit": "signal 9"});
        let services = json!({"services": [
            {"instances": [one("cart-v1-1", "ended", json!(1)), one("cart-v1-3", "ready", Value::Null)]},
            {"instances": [one("shop-v1-1", "ended", json!(2))]},
        ]});
        let table = ended_table(&ended(&services));
        let lines = table.lines().filter_map(|line| line.split(' ').next());
        let listed: Vec<&str> = lines.skip(2).collect();
        assert_eq!(listed, ["shop-v1-1", "cart-v1-1"], "{table}");
    }

    #[test]
    fn a_limit_that_is_not_held_is_told_once_for_a_service_that_runs() {
        let missing = "the processor is not limited: no cgroup can be written here";
        let one = |state: &str| json!({"state": state, "limits_missing": missing});
        let services = json!({"services": [
            {"name": "cart", "instances": [one("ready"), one("ready")]},
            {"name": "gone", "instances": [one("ended")]},
            {"name": "free", "instances": [{"state": "ready", "limits_missing": null}]},
        ]});
        let expected = format!("limits of cart: {missing}");
        assert_eq!(not_held(&services), [expected]);
    }
}
