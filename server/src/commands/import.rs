//! `serin import`: a file over the HTTP door, with a bar, the rate and the time left.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use serin_lake::Declared;

use super::{print, remark};
use crate::cli::{Global, Import, Source};
use crate::client::{Client, error_of};
use crate::edge;
use crate::import::send::{self, ATTEMPTS, Imported, PAUSE, Sent, Sink};
use crate::import::{Again, Asked, Progress, Records, told};
use crate::run_file::data_dir;

const DRAW_EVERY: Duration = Duration::from_millis(200);
const BAR_CHARS: u64 = 24;
/// Said of what may be gone with the next run; a file or a command that is wrong stays wrong.
const GO_ON: &str = "the import stopped; run the same command again to go on";

pub(crate) async fn run(global: &Global, import: &Import) -> Result<ExitCode> {
    let client = Client::find(global)?;
    let asked = asked(&import.source);
    let looked = tokio::task::spawn_blocking(move || Records::look(asked));
    let records = Arc::new(looked.await.context("looking at the file broke")??);
    let again = match (import.source.again, &client.dir) {
        (false, _) => None,
        (true, Some(dir)) => Some(Again::begin(
            &data_dir(dir),
            &records.producer(),
            edge::now_us(),
        )?),
        (true, None) => bail!(
            "--again wants to remember how far it came: run it in the server's folder, without --server"
        ),
    };
    if again.as_ref().is_some_and(|again| again.goes_on) && !global.json {
        remark("going on with an --again that was cut off");
    }
    let epoch = again.as_ref().map_or(0, |again| again.epoch);
    let progress = Progress::default();
    let begun_us = edge::now_us();
    let sink = HttpSink {
        client: client.clone(),
        waits: Mutex::default(),
    };
    let sending = send::run(Arc::clone(&records), epoch, &sink, progress.clone());
    let mut sending = std::pin::pin!(sending);
    let is_drawn = std::io::stderr().is_terminal() && !global.json;
    let imported = loop {
        tokio::select! {
            imported = &mut sending => break imported,
            () = tokio::time::sleep(DRAW_EVERY), if is_drawn => {
                draw(&bar(progress.done(), records.bytes, edge::now_us() - begun_us));
            }
        }
    };
    if is_drawn {
        draw("");
    }
    let imported = imported?;
    client
        .post("/api/v1/flush")
        .await
        .context("everything is sent, but not committed yet")?;
    if let Some(again) = again {
        again.done()?;
    }
    report(global, &records, &imported, edge::now_us() - begun_us)
}

pub(crate) fn asked(source: &Source) -> Asked {
    Asked {
        file: source.file.clone(),
        kind: source.kind.clone(),
        time: source.time.clone(),
        service: source.service.clone(),
        has_header: !source.no_header,
    }
}

fn report(
    global: &Global,
    records: &Records,
    imported: &Imported,
    took_us: i64,
) -> Result<ExitCode> {
    let found = &imported.found;
    let bad = found.bad + imported.refused;
    if global.json {
        let report = json!({
            "accepted": imported.accepted,
            "duplicates": imported.duplicates,
            "refused": bad,
            "without_time": found.without_time,
            "time_column": records.time_found,
            "seconds": took_us as f64 / 1e6,
        });
        print(&report.to_string());
    } else {
        tell(records, imported, took_us);
    }
    let nothing_was_good = imported.accepted + imported.duplicates == 0 && bad > 0;
    Ok(match nothing_was_good {
        true => ExitCode::from(1),
        false => ExitCode::SUCCESS,
    })
}

fn tell(records: &Records, imported: &Imported, took_us: i64) {
    let events = told::events(imported);
    let rate = imported.accepted as f64 / (took_us.max(1) as f64 / 1e6);
    match (imported.accepted, imported.duplicates) {
        (0, 0) => remark(&events),
        (1.., 0) => print(&format!("{events}, {rate:.0} a second")),
        _ => print(&events),
    }
    for line in told::remarks(records, imported) {
        remark(&line);
    }
}

pub(super) fn bar(done: u64, total: u64, took_us: i64) -> String {
    let done = done.min(total);
    let filled = done * BAR_CHARS / total.max(1);
    let rate = done as f64 / (took_us.max(1) as f64 / 1e6);
    let left_s = (total - done) as f64 / rate.max(1.0);
    let whole = "█".repeat(usize::try_from(filled).unwrap_or(0));
    let rest = "░".repeat(usize::try_from(BAR_CHARS - filled).unwrap_or(0));
    format!(
        "{whole}{rest} {:>3} %  {:.1} MB/s  {left_s:.0} s left",
        done * 100 / total.max(1),
        rate / 1e6,
    )
}

/// Draws over the last line; an empty text clears it.
pub(super) fn draw(text: &str) {
    let mut err = std::io::stderr().lock();
    if let Err(error) = write!(err, "\r\u{1b}[2K{text}").and_then(|()| err.flush()) {
        tracing::debug!(%error, "nobody looks at the bar");
    }
}

/// The HTTP door of a running server.
struct HttpSink {
    client: Client,
    /// Why it waited last: each reason is told once, not with each try of each body.
    waits: Mutex<String>,
}

impl HttpSink {
    fn tell_why(&self, why: String) {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if *waits != why {
            if std::io::stderr().is_terminal() {
                draw("");
            }
            remark(&format!("waiting: {why}"));
            *waits = why;
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    accepted: u64,
    duplicates: u64,
    refused: Vec<RefusedLine>,
    refused_total: u64,
}

#[derive(Deserialize)]
struct RefusedLine {
    line: u64,
    error: String,
}

impl Sink for HttpSink {
    fn send(
        &self,
        number: String,
        declared: Option<Declared>,
        body: Bytes,
    ) -> BoxFuture<'_, Result<Sent>> {
        Box::pin(async move {
            let mut attempts = 0;
            loop {
                let request = self
                    .client
                    .request(Method::POST, "/api/v1/events")
                    .header("content-type", "application/x-ndjson")
                    .header("serin-number", &number)
                    .header("serin-import", "true")
                    .body(body.clone());
                let request = match &declared {
                    Some(declared) => request.header("serin-columns", declared.to_string()),
                    None => request,
                };
                let answer = match self.client.send_any(request).await {
                    Ok(answer) => answer,
                    Err(error) if attempts == ATTEMPTS => return Err(error.context(GO_ON)),
                    Err(_) => {
                        attempts += 1;
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                };
                if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
                    // The bus is full or away: nothing is lost by waiting.
                    let pause = retry_after(&answer);
                    self.tell_why(error_of(answer).await.to_string());
                    tokio::time::sleep(pause).await;
                    continue;
                }
                if answer.status().is_server_error() {
                    return Err(error_of(answer).await.context(GO_ON));
                }
                if !answer.status().is_success() {
                    bail!(error_of(answer).await);
                }
                let answer: Answer = answer
                    .json()
                    .await
                    .context("cannot understand the server")?;
                return Ok(Sent {
                    accepted: answer.accepted,
                    duplicates: answer.duplicates,
                    refused_total: answer.refused_total,
                    refused: answer
                        .refused
                        .into_iter()
                        .map(|line| (line.line, line.error))
                        .collect(),
                });
            }
        })
    }
}

fn retry_after(answer: &reqwest::Response) -> Duration {
    let seconds = answer
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok());
    seconds.map_or(PAUSE, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_tells_rate_and_time_left() {
        assert_eq!(
            bar(50_000_000, 100_000_000, 10_000_000),
            "████████████░░░░░░░░░░░░  50 %  5.0 MB/s  10 s left"
        );
        assert!(bar(0, 0, 0).contains("0 %"));
    }
}
