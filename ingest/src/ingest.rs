//! The ingester as others hold it: starts the loop, asks it for flushes, ends it.
//!
//! Start at [`Ingest::start`]; what the loop then does is in `run`.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use serin_bus::{Bus, BusError, EventStream};
use serin_lake::accept::AcceptTelemetry;
use serin_lake::{Accept, CommitError, Fresh, Lake, LakeError, Position, Recovered};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::buffer::Buffer;
use crate::door::Post;
use crate::heard::Heard;
use crate::options::{Edge, IngestOptions};
use crate::pipeline::{Identities, Pipeline, Shared};
use crate::producer::Producers;
use crate::reader::Reader;
use crate::run::{Loop, Progress, Request};
use crate::seen::Seen;
use crate::stats::{Counters, IngestStats};
use crate::tell::Teller;

/// Requests to flush that wait at the same time.
const REQUESTS_MAX: usize = 64;

/// Why the ingester ended. The process must end too, and recover at its next start.
#[derive(Debug, Clone, Error)]
pub enum IngestError {
    /// The bus failed in a way that waiting does not mend.
    #[error("cannot read the bus")]
    Bus(#[source] Arc<BusError>),
    /// A flush cannot be committed.
    #[error("cannot commit what was read from the bus")]
    Commit(#[source] Arc<CommitError>),
    /// A new life of the stream cannot be recorded.
    #[error("cannot record a new lineage")]
    Lake(#[source] Arc<LakeError>),
    /// The task ended without a word.
    #[error("the ingester has ended")]
    Ended,
}

/// The running ingester.
#[derive(Debug)]
pub struct Ingest {
    shared: Arc<Shared>,
    door: Arc<Post>,
    teller: Arc<Teller>,
    events: EventStream,
    requests: mpsc::Sender<Request>,
    progress: watch::Receiver<Progress>,
    stop: watch::Sender<bool>,
    failed: watch::Receiver<Option<IngestError>>,
    /// Until it is stopped.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Ingest {
    /// Compares the catalogue with the stream, plugs the hot buffer into the lake and begins to read.
    pub async fn start(
        lake: Lake,
        recovered: Recovered,
        bus: &Bus,
        options: IngestOptions,
        edge: Edge,
    ) -> Result<Ingest, IngestError> {
        let bus_error = |error| IngestError::Bus(Arc::new(error));
        let events = bus.events().await.map_err(bus_error)?;
        let telemetry = bus.telemetry().await.map_err(bus_error)?;
        // Asked here, so that what is said once this returns is heard.
        let telemetry_end = telemetry.ensure().await.map_err(bus_error)?.last;
        let (position, taken_us) = (recovered.position, recovered.taken_us);
        let shared = Arc::new(shared_of(&lake, recovered, &options));
        let heard = Heard::open(lake.catalogue_path().parent().unwrap_or(Path::new(".")));
        let heard_before = heard.of(position.incarnation);
        shared.counters.last_heard.store(heard_before, Relaxed);
        lake.plug_fresh(Arc::clone(&shared.buffer) as Arc<dyn Fresh>);
        let door = Arc::new(Post::new(events.clone(), Arc::clone(&shared), edge.clone()));
        let teller = Arc::new(Teller::new(telemetry.clone(), Arc::clone(&shared)));
        let (requests, requested) = mpsc::channel(REQUESTS_MAX);
        let (progress_in, progress) = watch::channel(Progress::default());
        let (stop, stopping) = watch::channel(false);
        let (failed_in, failed) = watch::channel(None);
        let mut reader = Loop {
            pipeline: Pipeline::new(Arc::clone(&shared), position, taken_us),
            committed: position,
            lake,
            shared: Arc::clone(&shared),
            door: Arc::clone(&door),
            events: events.clone(),
            options,
            edge,
            waiting: Vec::new(),
            committing: None,
            purging: None,
            heard: Arc::new(Mutex::new(heard)),
            heard_before,
            progress: progress_in,
            stopping,
            ticks: 0,
            events_before: 0,
            moved: (Progress::default(), 0),
        };
        let messages = reader.resume().await?;
        let messages = Reader::of_events(messages);
        let beats = Reader::of_telemetry(telemetry, telemetry_end + 1);
        let task = tokio::spawn(async move {
            if let Err(error) = reader.run(messages, beats, requested).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the ingester has ended"
                );
                failed_in.send_replace(Some(error));
            }
        });
        Ok(Ingest {
            shared,
            door,
            teller,
            events,
            requests,
            progress,
            stop,
            failed,
            task: Mutex::new(Some(task)),
        })
    }

    /// What the doors hand events to.
    pub fn door(&self) -> Arc<dyn Accept> {
        Arc::clone(&self.door) as Arc<dyn Accept>
    }

    /// What the doors hand telemetry to.
    pub fn telemetry_door(&self) -> Arc<dyn AcceptTelemetry> {
        Arc::clone(&self.teller) as Arc<dyn AcceptTelemetry>
    }

    /// Commits everything the bus had acknowledged when this was called; how far the files reach.
    pub async fn flush(&self) -> Result<Position, IngestError> {
        let state = self.events.state().await;
        let state = state.map_err(|error| IngestError::Bus(Arc::new(error)))?;
        let (done, answer) = oneshot::channel();
        let request = Request {
            at_least: state.last,
            done,
        };
        let ended = || self.failed.borrow().clone().unwrap_or(IngestError::Ended);
        self.requests.send(request).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }

    /// How the ingester is at this moment.
    pub fn stats(&self) -> IngestStats {
        let mut stats = self.shared.counters.read();
        let progress = *self.progress.borrow();
        stats.taken = progress.taken;
        stats.committed = progress.committed;
        let identities = self.shared.identities();
        stats.identities_forgotten = identities.seen.forgotten();
        stats.producers_forgotten = identities.producers.forgotten();
        drop(identities);
        let buffer = self.shared.buffer.hold();
        stats.rest = buffer.misfits().filter(|(_, count)| *count > 0).collect();
        stats.buffer_bytes = buffer.fill().total as u64;
        stats.watermark_us = buffer.watermark_us();
        stats
    }

    /// Resolves with the reason once the ingester has failed; never while it runs.
    pub fn failed(&self) -> impl Future<Output = IngestError> + Send + use<> {
        let mut failed = self.failed.clone();
        async move {
            match failed.wait_for(Option::is_some).await {
                Ok(error) => error.clone().unwrap_or(IngestError::Ended),
                Err(_) => IngestError::Ended,
            }
        }
    }

    /// Takes what the bus has by now no further, flushes what was taken, and ends.
    pub async fn stop(&self) -> Result<(), IngestError> {
        self.stop.send_replace(true);
        let task = self.task.lock();
        let task = task.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the ingester's task broke");
            return Err(IngestError::Ended);
        }
        self.failed.borrow().clone().map_or(Ok(()), Err)
    }
}

/// Buffer, identities and counters as the catalogue leaves them.
fn shared_of(lake: &Lake, recovered: Recovered, options: &IngestOptions) -> Shared {
    let snapshot = lake.snapshot();
    let known = snapshot.tables.values();
    let known = known.map(|table| (&*table.name, &*table.columns));
    Shared {
        buffer: Arc::new(Buffer::new(known)),
        identities: Mutex::new(Identities {
            producers: Producers::from_marks(recovered.producers),
            seen: Seen::from_kept(recovered.seen, options.limits.seen_max),
        }),
        counters: Counters::default(),
        limits: options.limits.clone(),
    }
}
