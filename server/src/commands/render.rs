//! `serin render`: a dashboard as a picture, drawn by the server.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::print;
use super::query::{download, range_of};
use crate::cli::{Global, Render};
use crate::client::Client;

pub(crate) async fn run(global: &Global, render: &Render) -> Result<()> {
    let output = render
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.png", render.dashboard)));
    let format = match output.extension().and_then(|end| end.to_str()) {
        Some("png") => "png",
        Some("svg") => "svg",
        _ => bail!("{} must end in .png or .svg", output.display()),
    };
    let mut query = vec![("format", String::from(format))];
    let (from, to) = range_of(&render.range);
    query.extend(from.map(|from| ("from", from)));
    query.extend(to.map(|to| ("to", to)));
    let client = Client::find(global)?;
    let path = format!("/api/v1/dashboards/{}/picture", render.dashboard);
    let picture = download(&client, &path, &query).await?;
    std::fs::write(&output, &picture)
        .with_context(|| format!("cannot write {}", output.display()))?;
    if global.json {
        let written = serde_json::json!({"file": output, "bytes": picture.len()});
        print(&written.to_string());
    } else {
        print(&output.display().to_string());
    }
    Ok(())
}
