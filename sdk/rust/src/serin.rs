//! The handle a service holds.
//!
//! `emit` writes the data as JSON into memory of the calling thread and appends it to the queue;
//! two threads of our own do everything that may wait. The last handle drains when it is dropped.
//! Start at [`Serin::connect`].

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_nats::Event as Connection;
use serde::Serialize;
use serin_wire::State;
use serin_wire::event::Trace;
use tokio::runtime::Runtime;
use tokio::sync::{RwLock, watch};
use tokio::time::Instant;

use crate::call::link::Link;
use crate::clock;
use crate::connect::connect;
use crate::context::{self, Context};
use crate::counts::Counts;
use crate::dropped::Reason;
use crate::layer::SerinLayer;
use crate::options::{ConnectError, Options};
use crate::queue::Entry;
use crate::send::Sender;
use crate::shared::Shared;
use crate::spill::{self, Spill};
use crate::typed::Event;
use crate::{beats, replay};

/// The memory a thread keeps for writing JSON; a larger event's is given back.
const SCRATCH_BYTES: usize = 64 << 10;
/// What a process that ended by SIGTERM reports: 128 + 15.
const EXIT_SIGTERM: i32 = 143;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The connection of a service to Serin. Clones are cheap and mean the same connection.
#[derive(Debug, Clone)]
pub struct Serin {
    inner: Arc<Inner>,
    context: Option<Context>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    stop: watch::Sender<Option<Instant>>,
    /// Whether everything was acknowledged, once the sender is done.
    finished: watch::Receiver<Option<bool>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The connection for calls, once one was made.
    link: RwLock<Option<Arc<Link>>>,
}

/// A request being handled; it ends when this is dropped.
#[derive(Debug)]
pub struct Request {
    shared: Arc<Shared>,
    started: std::time::Instant,
    has_failed: bool,
}

impl Serin {
    /// Connects. Returns at once: events wait in the queue until the bus is reached.
    pub fn connect(options: Options) -> Result<Serin, ConnectError> {
        options.check()?;
        let parent = options.spill_parent();
        let shared = Arc::new(Shared::new(options));
        let spill_bytes_max = shared.options.spill_bytes_max;
        let spill = parent.as_deref();
        let spill = spill.map(|parent| Spill::new(parent, &shared.producer, spill_bytes_max));
        let (stop, stopped) = watch::channel(None);
        let (done, finished) = watch::channel(None);
        let (beat_done, beat_finished) = watch::channel(false);

        let sending = Arc::clone(&shared);
        let sender = start("serin-send", move |runtime| {
            let result = runtime.block_on(async {
                let watching = Arc::clone(&sending);
                let host = sending.options.host().unwrap_or_default();
                let client = connect(&sending.options, move |event| {
                    if event == Connection::Connected {
                        watching.connections.fetch_add(1, Ordering::Relaxed);
                    }
                    watching.trouble.hear(&event, &host, clock::monotonic());
                    watching.queue.wake.notify_one();
                });
                let client = client.await?;
                let left = parent
                    .map(|parent| spill::left_under(&parent))
                    .unwrap_or_default();
                let others = replay::replay(Arc::clone(&sending), client.clone(), left);
                let others = tokio::spawn(others);
                let is_done = Sender::new(sending, client, spill).run(stopped).await;
                others.abort();
                // Who finds that we are finished may take over the folders that it held.
                let is_sent = others.await.is_ok();
                tracing::trace!(is_sent, "what earlier runs left");
                Ok::<bool, async_nats::ConnectError>(is_done)
            });
            let is_done = result.unwrap_or_else(|error| {
                tracing::error!(%error, "cannot send events");
                false
            });
            beat_done.send_replace(true);
            done.send_replace(Some(is_done));
        })?;
        let beating = Arc::clone(&shared);
        let beats = start("serin-beat", move |runtime| {
            runtime.block_on(async {
                let watching = Arc::clone(&beating);
                let client = connect(&beating.options, move |event| {
                    if event == Connection::Connected {
                        watching.beat_now.notify_one();
                    }
                });
                match client.await {
                    Ok(client) => beats::run(beating, client, beat_finished).await,
                    Err(error) => tracing::error!(%error, "cannot send beats"),
                }
            });
        })?;
        Ok(Serin {
            inner: Arc::new(Inner {
                shared,
                stop,
                finished,
                threads: Mutex::new(vec![sender, beats]),
                link: RwLock::new(None),
            }),
            context: None,
        })
    }

    /// Connects as the environment says, see [`Options::from_env`].
    pub fn from_env() -> Result<Serin, ConnectError> {
        Serin::connect(Options::from_env()?)
    }

    /// Emits an event: its type and its data, which must serialise to a JSON object.
    ///
    /// Never waits and never fails; what cannot be taken is counted and told with the beats.
    pub fn emit<T: Serialize + ?Sized>(&self, kind: &str, data: &T) {
        emit(&self.inner.shared, self.context.as_ref(), kind, data);
    }

    /// Emits a typed event.
    pub fn emit_event<E: Event>(&self, event: &E) {
        self.emit(E::TYPE, event);
    }

    /// A handle whose events belong to this trace; a `traceparent` that is not valid is left out.
    pub fn with_trace(&self, traceparent: &str) -> Serin {
        let mut context = self.context.clone().unwrap_or_default();
        context.trace = Trace::parse(traceparent).or(context.trace);
        self.with_context(context)
    }

    /// A handle whose events carry these canary arms (the header `serin-arm`).
    pub fn with_arm(&self, arm: &str) -> Serin {
        let mut context = self.context.clone().unwrap_or_default();
        context.arm = context::cut_arm(arm);
        self.with_context(context)
    }

    /// A handle whose events are caused by this.
    pub fn with_context(&self, context: Context) -> Serin {
        Serin {
            inner: Arc::clone(&self.inner),
            context: Some(context),
        }
    }

    /// What the work under way was caused by, as this handle has it.
    pub(crate) fn cause(&self) -> Context {
        let current = Context::current();
        match &self.context {
            Some(own) => Context {
                trace: own.trace.or(current.trace),
                arm: own.arm.clone().or(current.arm),
                deadline: own.deadline.or(current.deadline),
                depth: own.depth.max(current.depth),
                chain_depth: own.chain_depth.max(current.chain_depth),
            },
            None => current,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// The connection for calls; made where there is none, or its runtime ended.
    pub(crate) async fn link(&self) -> Result<Arc<Link>, async_nats::Error> {
        let alive = |link: &Arc<Link>| (!link.is_dead()).then(|| Arc::clone(link));
        let now = self.inner.link.read().await.as_ref().and_then(alive);
        if let Some(link) = now {
            return Ok(link);
        }
        let mut place = self.inner.link.write().await;
        if let Some(link) = place.as_ref().and_then(alive) {
            return Ok(link);
        }
        let link = Arc::new(Link::open(&self.inner.shared).await?);
        *place = Some(Arc::clone(&link));
        Ok(link)
    }

    /// The revision of the routes that calls follow now; for tests that tell some.
    #[doc(hidden)]
    pub async fn routes_revision(&self) -> Option<u64> {
        let link = self.link().await.ok()?;
        Some(link.routing.now().revision)
    }

    /// Becomes true when a drain begins.
    pub(crate) async fn stopping(&self) {
        let mut stop = self.inner.stop.subscribe();
        let asked = stop.wait_for(Option::is_some).await;
        debug_assert!(asked.is_ok(), "the handle has the other end");
    }

    /// Has a value sampled with each beat. The function must be quick and not hold this handle.
    pub fn gauge(&self, name: impl Into<String>, sample: impl Fn() -> f64 + Send + Sync + 'static) {
        self.inner
            .shared
            .gauges
            .insert(name.into(), Box::new(sample));
    }

    /// Counts a request as being handled until the returned value is dropped.
    pub fn request(&self) -> Request {
        self.inner.shared.requests.start();
        Request {
            shared: Arc::clone(&self.inner.shared),
            started: clock::monotonic(),
            has_failed: false,
        }
    }

    /// Says with the next beat whether the instance takes work; it is ready from the start.
    pub fn set_state(&self, state: State) {
        self.inner.shared.set_state(state);
    }

    /// A layer for `tracing`: marked events become events of Serin, spans become spans.
    pub fn layer(&self) -> SerinLayer {
        SerinLayer::new(Arc::clone(&self.inner.shared))
    }

    /// What was emitted, acknowledged and dropped so far.
    pub fn counts(&self) -> Counts {
        Counts::of(&self.inner.shared)
    }

    /// Returns once everything emitted before is on the bus's disk, however long it takes; `false`
    /// where a drain ended before that was so.
    pub async fn flush(&self) -> bool {
        let queue = &self.inner.shared.queue;
        let mut acked = queue.acked();
        let number = queue.seal(clock::now_us());
        queue.wake.notify_one();
        let is_reached = |acked: &u64| *acked >= number;
        let mut finished = self.inner.finished.clone();
        tokio::select! {
            biased;
            reached = acked.wait_for(is_reached) => reached.is_ok(),
            _ = finished.wait_for(Option::is_some) => is_reached(&queue.acked().borrow()),
        }
    }

    /// Takes no more events, and waits until all are acknowledged or the deadline is over; whether
    /// they were. What is left rests in the spill folder for the next run.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.inner.begin_drain(deadline);
        let mut finished = self.inner.finished.clone();
        let done = finished.wait_for(Option::is_some).await;
        done.is_ok_and(|done| *done == Some(true))
    }

    /// From now on SIGTERM drains within the deadline and then ends the process with code 143, also
    /// when the last handle is gone.
    pub fn drain_on_sigterm(&self, deadline: Duration) -> Result<(), ConnectError> {
        use tokio::signal::unix::{SignalKind, signal};
        let inner = Arc::downgrade(&self.inner);
        let mut finished = self.inner.finished.clone();
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let thread = start("serin-sigterm", move |runtime| {
            let is_asked = runtime.block_on(async {
                let listening = signal(SignalKind::terminate());
                let is_sent = ready.send(listening.as_ref().map(|_| ()).map_err(|e| e.kind()));
                let (Ok(mut listening), Ok(())) = (listening, is_sent) else {
                    return false;
                };
                listening.recv().await.is_some()
            });
            if !is_asked {
                return;
            }
            match inner.upgrade() {
                Some(inner) => {
                    inner.begin_drain(deadline);
                    inner.join();
                }
                // The last handle is gone, or being dropped, which drains as well.
                None => {
                    let is_over = runtime.block_on(finished.wait_for(Option::is_some)).is_ok();
                    tracing::trace!(is_over, "asked to end after the last handle");
                }
            }
            std::process::exit(EXIT_SIGTERM);
        })?;
        drop(thread);
        match is_ready.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(kind)) => Err(ConnectError::Thread("serin-sigterm", kind.into())),
            Err(_) => Err(ConnectError::Thread(
                "serin-sigterm",
                std::io::ErrorKind::BrokenPipe.into(),
            )),
        }
    }
}

impl Inner {
    fn begin_drain(&self, deadline: Duration) {
        if let Ok(link) = self.link.try_read()
            && let Some(link) = &*link
        {
            link.tell_now();
        }
        self.shared.set_state(State::Draining);
        self.shared.queue.close();
        self.stop.send_replace(Some(Instant::now() + deadline));
        self.shared.queue.wake.notify_one();
    }

    fn join(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // The last handle may be dropped on one of our own threads, in a gauge.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the SDK panicked");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.stop.borrow().is_none() {
            self.begin_drain(self.shared.options.drain_deadline);
        }
        self.join();
    }
}

impl Request {
    /// Counts the request as failed.
    pub fn failed(&mut self) {
        self.has_failed = true;
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let took = clock::monotonic().duration_since(self.started);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.shared.requests.finish(took_us, self.has_failed);
    }
}

/// Writes the event as JSON and appends it, or counts why not.
pub(crate) fn emit<T: Serialize + ?Sized>(
    shared: &Shared,
    own: Option<&Context>,
    kind: &str,
    data: &T,
) {
    let taken = SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => write_and_push(shared, own, kind, data, &mut scratch),
        // A `Serialize` that itself emits.
        Err(_) => write_and_push(shared, own, kind, data, &mut Vec::new()),
    });
    if let Err(reason) = taken
        && shared.queue.dropped.count(reason)
    {
        let reason = reason.name();
        tracing::warn!(
            reason,
            kind,
            "dropped an event; further ones are only counted"
        );
    }
}

fn write_and_push<T: Serialize + ?Sized>(
    shared: &Shared,
    own: Option<&Context>,
    kind: &str,
    data: &T,
    scratch: &mut Vec<u8>,
) -> Result<(), Reason> {
    scratch.clear();
    serde_json::to_writer(&mut *scratch, data).map_err(|_| Reason::NotJson)?;
    if scratch.first() != Some(&b'{') {
        return Err(Reason::NotAnObject);
    }
    let pushed = context::with_scope(|scope| {
        let both = || own.into_iter().chain(scope);
        let own_trace = own.and_then(|own| own.trace);
        let entry = Entry {
            kind,
            data: scratch,
            trace: own_trace
                .or_else(context::current_span)
                .or_else(|| scope.and_then(|scope| scope.trace)),
            arm: both().find_map(|context| context.arm.as_deref()),
        };
        shared.queue.push(&entry, clock::now_us)
    });
    scratch.shrink_to(SCRATCH_BYTES);
    pushed
}

/// A thread with a small runtime of its own, so that the service's may be as busy as it likes.
fn start(
    name: &'static str,
    work: impl FnOnce(Runtime) + Send + 'static,
) -> Result<JoinHandle<()>, ConnectError> {
    let failed = |source| ConnectError::Thread(name, source);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || work(runtime))
        .map_err(failed)
}
