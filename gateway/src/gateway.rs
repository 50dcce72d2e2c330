//! The gateway as a whole: what it is given, what its tasks share, how it opens and closes.
//!
//! It closes gracefully: no new connection, requests under way finish within a deadline, tunnels and
//! streams of events end at once since they never would themselves. Start at [`Gateway::open`].

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_nats::{Client, ConnectError, SubscribeError};
use serin_connect::Connector;
use serin_wire::event::Trace;
use serin_wire::subject;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch as channel};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{self, Name, Teller};
use crate::budget::Budget;
use crate::counts::{Counts, GatewayStats};
use crate::health::{Heard, Pulses};
use crate::inbox::{self, Inbox};
use crate::table::Table;
use crate::view::{Entry, View};
use crate::{serve, watch};

/// How long clients that keep a connection may take for their next request, before it is closed.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// What the gateway works with.
#[derive(Debug)]
pub struct Parts {
    /// Where the bus is, with user and password; the gateway has a connection of its own, so that
    /// nothing else waits behind bodies.
    pub bus: String,
    /// The web services, as they change.
    pub tables: channel::Receiver<Arc<Table>>,
}

/// How the gateway works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its version, for its spans.
    pub version: String,
    /// Its name as an instance, likewise.
    pub instance: String,
    /// A pulse older than this makes an instance suspect, while others' arrive.
    pub suspect_after: Duration,
    /// How long a request waits for an instance to take it, where none does.
    pub patience: Duration,
    /// How long the head of a request may take, also the first one after an idle time.
    pub header_within: Duration,
    /// How long a body may take where it is held, and how long between two pieces where it is not.
    pub body_within: Duration,
    /// How long a client may take nothing of an answer, and an instance nothing of a request. An answer
    /// of which nothing comes, such as a quiet stream of events, may take as long as it likes.
    pub taken_within: Duration,
    /// How long requests under way may take once the gateway closes.
    pub close_within: Duration,
    /// Connections at one moment.
    pub connections_max: usize,
    /// Bytes of bodies that are held at one moment.
    pub held_bytes_max: usize,
    /// Whether a proxy on this machine is believed what it says of its client.
    pub trusts_loopback: bool,
    /// The clock.
    pub now_us: fn() -> i64,
    /// Randomness, for choices, traces and cookies.
    pub random: fn() -> [u8; 32],
}

impl Options {
    /// The usual ones, for a gateway of this version, with clock and randomness.
    pub fn new(
        version: impl Into<String>,
        now_us: fn() -> i64,
        random: fn() -> [u8; 32],
    ) -> Options {
        Options {
            version: version.into(),
            instance: "gateway-1".to_owned(),
            // Two pulses of 250 ms and a little.
            suspect_after: Duration::from_millis(600),
            // Thrice what it takes to replace an instance.
            patience: Duration::from_secs(1),
            header_within: Duration::from_secs(10),
            body_within: Duration::from_secs(10),
            // Longer than a network usually is away.
            taken_within: Duration::from_secs(30),
            close_within: Duration::from_secs(10),
            // About 40 KiB each makes 200 MiB at the very worst.
            connections_max: 5_000,
            held_bytes_max: 128 << 20,
            trusts_loopback: false,
            now_us,
            random,
        }
    }
}

/// Why the gateway cannot open.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The address cannot be read.
    #[error("cannot read the address of the bus; it is nats://user:password@host:port")]
    Address(#[source] std::io::Error),
    /// The bus is not there, or does not let us in.
    #[error("cannot connect the gateway to the bus; is it there, and are user and password right?")]
    Connect(#[from] ConnectError),
    /// The bus refused.
    #[error("cannot listen for answers and pulses on the bus")]
    Listen(#[from] SubscribeError),
}

/// The gateway, open.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    revision: channel::Receiver<u64>,
    /// What goes on beside the requests, and ends after them.
    beside: TaskTracker,
    end: CancellationToken,
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) bus: Client,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) teller: Arc<Teller>,
    pub(crate) options: Options,
    /// Another gateway has the listener too: clients are to connect again.
    pub(crate) leave: CancellationToken,
    /// The gateway closes.
    pub(crate) stop: CancellationToken,
    /// Its time to close is over.
    pub(crate) kill: CancellationToken,
    /// Connections of clients, and tunnels.
    pub(crate) tasks: TaskTracker,
    /// Connections to instances, which are kept beyond the requests on them.
    pub(crate) drivers: TaskTracker,
    /// A table, a pulse or a probe says that a request may find an instance now.
    pub(crate) changed: Notify,
    /// An instance failed, so that it is to be probed.
    pub(crate) failed: Notify,
    view: RwLock<Arc<View>>,
    heard: Mutex<Heard>,
}

impl Gateway {
    /// Opens the gateway on a bound listener.
    pub async fn open(
        listener: TcpListener,
        parts: Parts,
        options: Options,
    ) -> Result<Gateway, OpenError> {
        let counts = Arc::new(Counts::default());
        let budget = Budget::new(options.held_bytes_max);
        let connector = Connector::new(&parts.bus, access::GATEWAY).map_err(OpenError::Address)?;
        let bus = connector.now().await?;
        let (inbox, answers) = Inbox::open(&bus, Arc::clone(&budget), Arc::clone(&counts)).await?;
        let pulses = bus.subscribe(subject::PULSES).await?;
        let name = Name {
            version: options.version.clone(),
            instance: options.instance.clone(),
        };
        let (teller, sender) = access::open(bus.clone(), name, Arc::clone(&counts));
        let first = View::build(&parts.tables.borrow(), &View::default());
        let shared = Arc::new(Shared {
            bus,
            inbox: Arc::clone(&inbox),
            budget,
            counts,
            teller,
            options,
            leave: CancellationToken::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            tasks: TaskTracker::new(),
            drivers: TaskTracker::new(),
            changed: Notify::new(),
            failed: Notify::new(),
            view: RwLock::new(Arc::new(first)),
            heard: Mutex::default(),
        });
        let (end, beside) = (CancellationToken::new(), TaskTracker::new());
        let (told, revision) = channel::channel(shared.view().revision);
        let share = || Arc::clone(&shared);
        beside.spawn(inbox::run(inbox, answers, end.clone()));
        beside.spawn(sender.run(end.clone()));
        beside.spawn(watch::follow(share(), parts.tables, told, end.clone()));
        beside.spawn(watch::hear(share(), pulses, end.clone()));
        beside.spawn(watch::probe(share(), end.clone()));
        shared.tasks.spawn(serve::run(share(), listener));
        Ok(Gateway {
            shared,
            revision,
            beside,
            end,
        })
    }

    /// The revision of the table that new requests see.
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Returns once new requests see this revision of the table, or a later one.
    pub async fn taken(&self, revision: u64) {
        let mut told = self.revision.clone();
        // It ends with the gateway alone, which is borrowed here.
        drop(told.wait_for(|&taken| taken >= revision).await);
    }

    /// What it has counted.
    pub fn stats(&self) -> GatewayStats {
        let (now, pulses) = (Instant::now(), self.shared.pulses());
        let mut stats = self.shared.counts.read();
        stats.held_bytes = self.shared.budget.held() as u64;
        for peer in self.shared.view().peers() {
            stats.instances_down += u64::from(!peer.health().is_up(now, pulses));
        }
        stats
    }

    /// Leaves new connections to another gateway on the same listener, tells each client with its next
    /// answer to connect again, and closes; says how many requests had to be cut. So no client meets
    /// a connection that is closed just as it asks.
    pub async fn hand_over(self) -> u64 {
        self.shared.leave.cancel();
        self.shared.tasks.close();
        let left = tokio::time::timeout(LEAVE_WITHIN, self.shared.tasks.wait()).await;
        tracing::debug!(all_left = left.is_ok(), "the listener is another gateway's");
        self.close().await
    }

    /// Takes no new connection, lets the requests under way finish, and says how many had to be cut.
    pub async fn close(self) -> u64 {
        let shared = &self.shared;
        shared.stop.cancel();
        shared.tasks.close();
        let within = shared.options.close_within;
        let mut cut = 0;
        if tokio::time::timeout(within, shared.tasks.wait())
            .await
            .is_err()
        {
            cut = shared.counts.read().requests;
            tracing::warn!(cut, "requests under way did not end in time and are left");
            shared.kill.cancel();
            shared.tasks.wait().await;
        }
        shared.kill.cancel();
        shared.drivers.close();
        shared.drivers.wait().await;
        self.end.cancel();
        self.beside.close();
        self.beside.wait().await;
        cut
    }
}

impl Shared {
    /// The services of this moment.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_view(&self, view: View) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        self.changed.notify_waiters();
    }

    /// The same service as it is now.
    pub(crate) fn entry_after(&self, entry: &Arc<Entry>) -> Arc<Entry> {
        let found = self.view().service(&entry.service.name).cloned();
        found.unwrap_or_else(|| Arc::clone(entry))
    }

    /// How often the bus was found; it changes with every interruption.
    pub(crate) fn connects(&self) -> u64 {
        self.bus.statistics().connects.load(Ordering::Relaxed)
    }

    /// Whose pulses came, and when.
    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pulses(&self) -> Pulses {
        Pulses {
            last: self.heard().last(),
            suspect_after: self.options.suspect_after,
        }
    }

    /// 64 random bits.
    pub(crate) fn chance(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = (self.options.random)();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// The gateway's own span in a client's trace, or in a new one.
    pub(crate) fn trace(&self, parent: Option<Trace>) -> Trace {
        let random = (self.options.random)();
        let (trace, rest) = random.split_at(16);
        let trace = trace
            .iter()
            .fold(0, |all, &byte| all << 8 | u128::from(byte));
        let span = rest[..8]
            .iter()
            .fold(0, |all, &byte| all << 8 | u64::from(byte));
        let trace_id = parent.map_or(trace.max(1), |parent| parent.trace_id);
        let flags = parent.map(|parent| parent.flags);
        Trace {
            trace_id,
            span_id: span.max(1),
            flags: flags.unwrap_or_else(|| self.teller.flags(trace_id)),
        }
    }
}
