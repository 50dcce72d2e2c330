//! Sends a file's bodies, several at a time, and adds up what became of them.
//!
//! A full bus is waited for; a server that went away is tried again for a while. What was sent is
//! known by its number, so stopping anywhere and starting again is safe.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use serin_lake::Declared;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::bodies::{self, Body, Found};
use super::records::{BadLine, Records};
use super::source::Progress;

/// Requests under way: the bus syncs each message, so that several share a sync.
const IN_FLIGHT: usize = 6;
/// Bodies read ahead.
const READ_AHEAD: usize = 4;
const REFUSED_SHOWN_MAX: usize = 10;

/// Where bodies go: the door of a server, or the ingester of this one.
pub(crate) trait Sink: Send + Sync {
    /// Sends one body; asks again by itself while the bus is full.
    fn send(
        &self,
        number: String,
        declared: Option<Declared>,
        body: Bytes,
    ) -> BoxFuture<'_, Result<Sent>>;
}

/// What became of a body.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) accepted: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused_total: u64,
    /// Line within the body, from 1, and why.
    pub(crate) refused: Vec<(u64, String)>,
}

/// What became of a file.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    pub(crate) accepted: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused: u64,
    pub(crate) first_refused: Vec<BadLine>,
    pub(crate) found: Found,
}

/// Reads, cuts and sends the whole file; `epoch` is 0 unless the file is to be taken once more.
pub(crate) async fn run(
    records: Arc<Records>,
    epoch: u32,
    sink: &dyn Sink,
    progress: Progress,
) -> Result<Imported> {
    let (tx, rx) = mpsc::channel::<Body>(READ_AHEAD);
    let producer = records.producer();
    let declared = records.declared();
    let reading = tokio::task::spawn_blocking(move || {
        bodies::cut(&records, epoch > 0, progress, &mut |body| {
            tx.blocking_send(body).context("the import was given up")
        })
    });
    let mut imported = Imported::default();
    let mut answers = ReceiverStream::new(rx)
        .map(|body| {
            let number = format!("{producer}/{epoch}/{}", body.number);
            let declared = declared.clone();
            async move {
                let sent = sink.send(number, declared, body.text.clone()).await?;
                anyhow::Ok((body, sent))
            }
        })
        .buffer_unordered(IN_FLIGHT);
    while let Some(answer) = answers.next().await {
        let (body, sent) = answer?;
        imported.add(&body, sent);
    }
    drop(answers);
    imported.found = reading.await.context("cannot read the file")??;
    imported.first_refused.sort_by_key(|bad| bad.line);
    Ok(imported)
}

impl Imported {
    fn add(&mut self, body: &Body, sent: Sent) {
        self.accepted += sent.accepted;
        self.duplicates += sent.duplicates;
        self.refused += sent.refused_total;
        for (line, why) in sent.refused {
            if self.first_refused.len() == REFUSED_SHOWN_MAX {
                break;
            }
            let at = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
            let line = body.lines.get(at).copied().unwrap_or(line);
            self.first_refused.push(BadLine { line, why });
        }
    }
}

/// How often a server that does not answer is asked again, and how long between.
pub(crate) const ATTEMPTS: u32 = 20;
pub(crate) const PAUSE: Duration = Duration::from_millis(500);
