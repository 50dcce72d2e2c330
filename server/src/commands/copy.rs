//! `serin copy`: a built-in dashboard becomes a file of the folder.

use anyhow::Result;
use reqwest::Method;
use serde_json::Value;

use super::print;
use crate::cli::{Copy, Global};
use crate::client::Client;

pub(crate) async fn run(global: &Global, copy: &Copy) -> Result<()> {
    let client = Client::find(global)?;
    let path = format!("/api/v1/dashboards/{}/copy", copy.dashboard);
    let copied: Value = client.json(client.request(Method::POST, &path)).await?;
    match (global.json, copied["file"].as_str()) {
        (false, Some(file)) => print(&format!("{file} is yours; saving it shows in the browser")),
        _ => print(&copied.to_string()),
    }
    Ok(())
}
