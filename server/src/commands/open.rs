//! `serin open`: hands a file to the server, which imports it and proposes a dashboard; shows it.

use std::io::IsTerminal;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use reqwest::Method;
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use super::import::{bar, draw};
use super::{print, remark};
use crate::browser;
use crate::cli::{Global, Open};
use crate::client::Client;
use crate::edge;

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    At {
        stage: String,
        done: u64,
        total: u64,
        /// Why it goes no further at the moment.
        waits: Option<String>,
    },
    Done(Opened),
    Failed {
        error: String,
    },
}

#[derive(Deserialize)]
struct Opened {
    dashboard: String,
    from: String,
    to: String,
    events: u64,
    refused: u64,
    /// What became of the file, a sentence each.
    said: Vec<String>,
}

pub(crate) async fn run(global: &Global, open: &Open) -> Result<()> {
    let client = Client::find(global)?;
    let path = &open.source.file;
    let file = tokio::fs::File::open(path)
        .await
        .with_context(|| format!("cannot read {}", path.display()))?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut query = vec![("name", name), ("service", open.source.service.clone())];
    query.extend(open.source.kind.clone().map(|kind| ("type", kind)));
    query.extend(open.source.time.clone().map(|time| ("time", time)));
    if open.source.again {
        query.push(("again", String::from("true")));
    }
    if open.source.no_header {
        query.push(("no_header", String::from("true")));
    }
    let request = client
        .request(Method::POST, "/api/v1/open")
        .query(&query)
        .body(reqwest::Body::wrap_stream(ReaderStream::new(file)));
    let answer = client.send(request).await?;
    let opened = follow(global, answer).await?;
    let Opened {
        dashboard,
        from,
        to,
        ..
    } = &opened;
    let page = format!("/d/{dashboard}?from={from}&to={to}");
    let link = client.sign_in_link(&page).await?;
    let link = link.unwrap_or_else(|| format!("{}{page}", client.base()));
    if global.json {
        let told = serde_json::json!({
            "dashboard": dashboard,
            "from": from,
            "to": to,
            "link": link,
            "events": opened.events,
            "refused": opened.refused,
            "said": opened.said,
        });
        print(&told.to_string());
        return Ok(());
    }
    for line in &opened.said {
        remark(line);
    }
    print(&link);
    if !open.no_browser && std::io::stdout().is_terminal() {
        browser::open(&link);
    }
    Ok(())
}

/// Reads the lines of progress up to the last.
async fn follow(global: &Global, answer: reqwest::Response) -> Result<Opened> {
    let mut stream = answer.bytes_stream();
    let mut text = Vec::new();
    let mut progress = Shown::new(global);
    while let Some(piece) = stream.next().await {
        text.extend_from_slice(
            &piece.context("the server went away; run the command again to go on")?,
        );
        while let Some(end) = text.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            match serde_json::from_slice(&line).context("cannot understand the server")? {
                Line::Failed { error } => {
                    progress.clear();
                    bail!("{error}");
                }
                Line::Done(opened) => {
                    progress.clear();
                    return Ok(opened);
                }
                Line::At {
                    stage,
                    done,
                    total,
                    waits,
                } => {
                    progress.tell_why(waits);
                    progress.show(&stage, done, total);
                }
            }
        }
    }
    bail!("the server ended its answer early; run the command again to go on")
}

/// The progress on standard error: one line that is drawn over, or a line for each stage where
/// nobody looks at a terminal.
struct Shown {
    is_terminal: bool,
    is_quiet: bool,
    stage: String,
    begun_us: i64,
    /// Why it waits: each reason is told once, not with each line.
    waits: Option<String>,
}

impl Shown {
    fn new(global: &Global) -> Shown {
        Shown {
            is_terminal: std::io::stderr().is_terminal(),
            is_quiet: global.json,
            stage: String::new(),
            begun_us: edge::now_us(),
            waits: None,
        }
    }

    fn tell_why(&mut self, waits: Option<String>) {
        if let Some(why) = waits.as_ref().filter(|_| waits != self.waits) {
            self.clear();
            remark(&format!("waiting: {why}"));
        }
        self.waits = waits;
    }

    fn show(&mut self, stage: &str, done: u64, total: u64) {
        let is_new = self.stage != stage;
        if is_new {
            stage.clone_into(&mut self.stage);
            self.begun_us = edge::now_us();
        }
        match (self.is_quiet, self.is_terminal) {
            (true, _) => {}
            (false, true) => draw(&format!(
                "{stage} {}",
                bar(done, total, edge::now_us() - self.begun_us)
            )),
            (false, false) if is_new => remark(&format!("{stage} …")),
            (false, false) => {}
        }
    }

    fn clear(&self) {
        if self.is_terminal && !self.is_quiet {
            draw("");
        }
    }
}
