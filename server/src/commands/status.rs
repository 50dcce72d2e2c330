//! `serin status`: what runs, where, and a fresh link to sign in.

use anyhow::Result;
use serde_json::Value;

use super::print;
use crate::cli::Global;
use crate::client::Client;

pub(crate) async fn run(global: &Global) -> Result<()> {
    let client = Client::find(global)?;
    let status: Value = client.get("/api/v1/status", &[]).await?;
    if global.json {
        print(&status.to_string());
        return Ok(());
    }
    print(&format!("{:<12} {}", "server", client.base()));
    if let Some(dir) = &client.dir {
        print(&format!("{:<12} {}", "folder", dir.display()));
    }
    for (name, value) in status.as_object().into_iter().flatten() {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Null => String::from("-"),
            other => other.to_string(),
        };
        print(&format!("{name:<12} {value}"));
    }
    services(&client).await?;
    print(&format!("{:<12} {}", "sign in", client.sign_in_link("/")));
    Ok(())
}

/// A line for each service, and one for each of its instances that runs.
async fn services(client: &Client) -> Result<()> {
    let answer: Value = client.get("/api/v1/services", &[]).await?;
    for service in answer["services"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let instances = service["instances"].as_array().into_iter().flatten();
        let running: Vec<String> = instances
            .filter(|one| one["state"] != "ended")
            .map(|one| format!("{} {}", text(&one["name"]), text(&one["state"])))
            .collect();
        let missing = service["instances"].as_array().into_iter().flatten();
        let missing = missing.filter(|one| one["state"] != "ended");
        let missing = missing
            .filter_map(|one| one["limits_missing"].as_str())
            .next();
        print(&format!(
            "{:<12} {} {} {}: {}",
            "service",
            text(&service["name"]),
            text(&service["route"]["versions"][0]["version"]),
            text(&service["state"]),
            running.join(", ")
        ));
        if let Some(missing) = missing {
            print(&format!(
                "{:<12} {}: {missing}",
                "limits",
                text(&service["name"])
            ));
        }
    }
    Ok(())
}
