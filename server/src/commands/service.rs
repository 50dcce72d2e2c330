//! `serin deploy`, `rollback`, `stop`, `rm`: commands about one service.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio_util::io::StreamReader;

use super::{print, remark};
use crate::cli::{Deploy, Global, Named};
use crate::client::Client;

/// How often it is looked whether a service has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A service, as far as it is asked for here.
#[derive(Debug, Deserialize)]
struct Service {
    instances: Vec<Instance>,
}

#[derive(Debug, Deserialize)]
struct Instance {
    exit: Option<String>,
    is_by_hand: bool,
}

/// How far a deploy is, as the server tells it.
#[derive(Debug, Deserialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
enum Stage {
    Copied {
        hash: String,
    },
    Building,
    Note {
        text: String,
    },
    Waiting {
        version: String,
        after: Vec<String>,
    },
    Starting {
        version: String,
        ready: u32,
        of: u32,
    },
    Serving {
        version: String,
        took_ms: u64,
    },
    Ended {
        version: String,
        took_ms: u64,
    },
    Unchanged {
        version: String,
    },
    Failed {
        version: Option<String>,
        why: String,
        lines: Vec<String>,
    },
}

pub(crate) async fn deploy(global: &Global, deploy: &Deploy) -> Result<()> {
    let body = match &deploy.version {
        Some(version) => json!({ "version": version }),
        None => json!({}),
    };
    followed(global, &deploy.name, "deploy", &body).await
}

pub(crate) async fn rollback(global: &Global, named: &Named) -> Result<()> {
    followed(global, &named.name, "rollback", &json!({})).await
}

/// Asks for what the server tells the stages of, and tells them.
async fn followed(global: &Global, name: &str, what: &str, body: &Value) -> Result<()> {
    let client = Client::find(global)?;
    let path = format!("/api/v1/services/{name}/{what}");
    let request = client.request(Method::POST, &path).json(body);
    let answer = client.send(request).await?;
    let bytes = answer.bytes_stream().map_err(std::io::Error::other);
    follow(name, global.json, StreamReader::new(Box::pin(bytes))).await
}

async fn follow(name: &str, is_json: bool, lines: impl AsyncBufRead + Unpin) -> Result<()> {
    let mut lines = lines.lines();
    let mut end = None;
    while let Some(line) = lines
        .next_line()
        .await
        .context("the server went away; `serin status` says how the deploy ended")?
    {
        if is_json {
            print(&line);
        }
        let stage = serde_json::from_str(&line).context("cannot understand the server's answer")?;
        if !is_json {
            tell(name, &stage);
        }
        end = Some(stage);
    }
    match end {
        Some(Stage::Failed {
            version,
            why,
            lines,
        }) => {
            let what = match version {
                Some(version) => format!("{name} {version} was not promoted: {why}"),
                None => why,
            };
            let said = match lines.is_empty() {
                true => String::new(),
                false => format!("\nit logged last:\n  {}", lines.join("\n  ")),
            };
            bail!("{what}{said}")
        }
        Some(Stage::Serving { .. } | Stage::Ended { .. } | Stage::Unchanged { .. }) => Ok(()),
        _ => {
            bail!("the server stopped telling how the deploy goes; `serin status` says where it is")
        }
    }
}

fn tell(name: &str, stage: &Stage) {
    match stage {
        Stage::Copied { hash } => remark(&format!(
            "copied services/{name} ({})",
            &hash[..hash.len().min(8)]
        )),
        Stage::Building => remark("building"),
        Stage::Waiting { version, after } => {
            remark(&format!("{name} {version} waits for {}", after.join(", ")));
        }
        Stage::Starting { version, ready, of } => {
            remark(&format!("starting {name} {version}: {ready} of {of} ready"));
        }
        Stage::Note { text } => remark(&format!("note: {text}")),
        Stage::Serving { version, took_ms } => {
            print(&format!("{name} {version} serves after {took_ms} ms"));
        }
        Stage::Ended { version, took_ms } => {
            print(&format!("{name} {version} ended well after {took_ms} ms"));
        }
        Stage::Unchanged { version } => {
            print(&format!(
                "nothing changed: {name} {version} serves this already"
            ));
        }
        Stage::Failed { .. } => {}
    }
}

/// Stops a service and waits until its instances have ended; those started by hand are not Serin's.
pub(crate) async fn stop(global: &Global, named: &Named) -> Result<()> {
    let client = Client::find(global)?;
    let path = format!("/api/v1/services/{}", named.name);
    client.post(&format!("{path}/stop")).await?;
    let mut told = 0;
    loop {
        let service: Service = client.get(&path, &[]).await?;
        let instances = service.instances.iter();
        let left = instances.filter(|one| !one.is_by_hand && one.exit.is_none());
        match left.count() {
            0 => return Ok(()),
            left if left != told => {
                remark(&format!("{left} to end"));
                told = left;
            }
            _ => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub(crate) async fn remove(global: &Global, named: &Named) -> Result<()> {
    let client = Client::find(global)?;
    let path = format!("/api/v1/services/{}", named.name);
    client.send(client.request(Method::DELETE, &path)).await?;
    Ok(())
}
