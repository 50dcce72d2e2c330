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
    print(&format!("{:<12} {}", "sign in", client.sign_in_link("/")));
    Ok(())
}
