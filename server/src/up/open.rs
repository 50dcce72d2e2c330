//! A dropped file: imported by the ingester of this process, then KPIs and a dashboard proposed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::future::BoxFuture;
use serin_dashboards::Library;
use serin_ingest::Ingest;
use serin_lake::accept::Numbered;
use serin_lake::{AcceptError, Declared, Door};
use serin_ui::{OpenProgress, Stage, Upload};
use serin_wire::time::to_rfc3339;
use tokio::sync::{mpsc, watch};

use crate::edge;
use crate::import::send::{self, Sent, Sink};
use crate::import::{Again, Asked, Progress, Records, told};
use crate::propose;
use crate::run_file::data_dir;

/// How often the progress is told.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// How long the watch on the YAML may take to see what was written.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

pub(crate) async fn run(
    dir: PathBuf,
    ingest: Weak<Ingest>,
    library: watch::Receiver<Arc<Library>>,
    upload: Upload,
    tx: mpsc::Sender<OpenProgress>,
) {
    let last = match open(dir, ingest, library, upload, &tx).await {
        Ok(done) => done,
        Err(error) => OpenProgress::Failed(format!("{error:#}")),
    };
    if tx.send(last).await.is_err() {
        tracing::debug!("nobody waits for the opened file");
    }
}

async fn open(
    dir: PathBuf,
    ingest: Weak<Ingest>,
    mut library: watch::Receiver<Arc<Library>>,
    upload: Upload,
    tx: &mpsc::Sender<OpenProgress>,
) -> Result<OpenProgress> {
    let asked = Asked {
        file: upload.file.to_path_buf(),
        kind: upload.kind,
        time: upload.time,
        service: upload.service.unwrap_or_else(|| String::from("import")),
        has_header: !upload.no_header,
    };
    let fallback = propose::kind_of_name(&upload.name);
    let looked = tokio::task::spawn_blocking(move || Records::look_or(asked, &fallback));
    let records = Arc::new(
        looked
            .await
            .context("looking at the file broke")?
            // The name under which the user knows it, not the one it was kept under.
            .map_err(|error| {
                let kept = upload.file.to_string_lossy();
                let parts = error.chain().map(ToString::to_string);
                let parts: Vec<_> = parts.filter(|part| !part.contains(&*kept)).collect();
                anyhow::anyhow!("cannot open {}: {}", upload.name, parts.join(": "))
            })?,
    );
    let total = records.bytes;
    let progress = Progress::default();
    let sink = Direct {
        ingest: ingest.clone(),
        waits: Mutex::default(),
    };
    let begun_us = edge::now_us();
    let again = match upload.again {
        true => Some(Again::begin(
            &data_dir(&dir),
            &records.producer(),
            begun_us,
        )?),
        false => None,
    };
    let epoch = again.as_ref().map_or(0, |again| again.epoch);
    let sending = send::run(Arc::clone(&records), epoch, &sink, progress.clone());
    let mut sending = std::pin::pin!(sending);
    let imported = loop {
        tokio::select! {
            imported = &mut sending => break imported?,
            () = tokio::time::sleep(TELL_EVERY) => {
                let at = OpenProgress::At {
                    stage: Stage::Import,
                    done: progress.done().min(total),
                    total,
                    waits: sink.waits().clone(),
                };
                if tx.send(at).await.is_err() {
                    bail!("the browser went away; open the file again to go on");
                }
            }
        }
    };
    if imported.accepted + imported.duplicates == 0 {
        let first = imported
            .found
            .first_bad
            .first()
            .map(|bad| format!("line {}: {}", bad.line, bad.why));
        bail!(
            "no line of {} could be read; {}",
            upload.name,
            first.unwrap_or_default()
        );
    }
    if let Some(ingest) = ingest.upgrade() {
        ingest.flush().await.context("cannot commit the import")?;
    }
    if let Some(again) = again {
        again.done()?;
    }
    let at = OpenProgress::At {
        stage: Stage::Propose,
        done: total,
        total,
        waits: None,
    };
    if tx.send(at).await.is_err() {
        bail!("the browser went away");
    }
    let taken: Vec<String> = library.borrow().kpis.keys().cloned().collect();
    let placed = propose::place(&dir, &upload.name, &imported.found.profile, &taken)?;
    let name = placed.dashboard.clone();
    let seen = library.wait_for(|library| library.dashboards.contains_key(&name));
    if tokio::time::timeout(SEEN_WITHIN, seen).await.is_err() {
        bail!("dashboards/{name}.yaml has a fault; run `serin check` to see it");
    }
    // Events without a time of their own got that of the import.
    let now = (begun_us, edge::now_us());
    let (first, last) = match imported.found.profile.times_us {
        Some(times) if imported.found.without_time == 0 => times,
        Some((first, last)) => (first.min(now.0), last.max(now.1)),
        None => now,
    };
    let mut said = vec![told::events(&imported)];
    said.extend(told::remarks(&records, &imported));
    said.push(placed.said);
    Ok(OpenProgress::Done {
        events: imported.accepted + imported.duplicates,
        refused: imported.found.bad + imported.refused,
        said,
        dashboard: placed.dashboard,
        from: to_rfc3339(first - first.rem_euclid(60_000_000)),
        to: to_rfc3339(last - last.rem_euclid(60_000_000) + 60_000_000),
    })
}

/// The ingester of this process.
struct Direct {
    ingest: Weak<Ingest>,
    /// Why nothing is taken at the moment.
    waits: Mutex<Option<String>>,
}

impl Direct {
    fn waits(&self) -> MutexGuard<'_, Option<String>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Direct {
    fn send(
        &self,
        number: String,
        declared: Option<Declared>,
        body: Bytes,
    ) -> BoxFuture<'_, Result<Sent>> {
        Box::pin(async move {
            loop {
                let Some(ingest) = self.ingest.upgrade() else {
                    bail!("the server is stopping");
                };
                let numbered = Numbered {
                    number: number.clone(),
                    is_import: true,
                    declared: declared.clone(),
                };
                let taken = ingest
                    .door()
                    .accept(Door::Ndjson, body.clone(), Some(numbered))
                    .await;
                drop(ingest);
                match taken {
                    Ok(receipt) => {
                        *self.waits() = None;
                        return Ok(Sent {
                            accepted: receipt.accepted,
                            duplicates: receipt.duplicates,
                            refused_total: receipt.refused.len() as u64,
                            refused: receipt
                                .refused
                                .into_iter()
                                .map(|refused| (refused.line, refused.error))
                                .collect(),
                        });
                    }
                    Err(AcceptError::Bad(why)) => bail!("{why}"),
                    // The bus is full or away: nothing is lost by waiting.
                    Err(
                        ref error @ (AcceptError::Full { retry_after }
                        | AcceptError::Refused { retry_after, .. }
                        | AcceptError::Unavailable { retry_after }),
                    ) => {
                        *self.waits() = Some(error.to_string());
                        tokio::time::sleep(retry_after).await;
                    }
                }
            }
        })
    }
}
