//! Accepts connections, of HTTP/1 or HTTP/2, and keeps slow ones from crowding out the others.
//!
//! A client gets ten seconds for the head of a request. When all places are taken, the connection
//! that has waited longest without sending a whole head gives up its place, so that thousands of
//! half-open ones never keep a real client waiting. The end comes in two steps, see [`Ending`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use serin_steady::Steady;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Connections at one moment: about 40 KiB each makes 200 MiB at the very worst.
pub(crate) const CONNECTIONS_MAX: usize = 5_000;
/// How long the head of a request may take, also the first one after an idle time.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// How long the head of a request may be; hyper wants at least 8 KiB.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// Requests at one moment on one connection of HTTP/2: an exporter has one under way, or a few.
const STREAMS_MAX: u32 = 16;
/// What a connection of HTTP/2 may send ahead, of one request and of all.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// How long a client may take nothing of an answer: longer than a network usually is away.
const STALL_MAX: Duration = Duration::from_secs(30);
/// A connection of HTTP/2 is asked so often whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// The pause when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A listener and what is spoken there.
pub(crate) struct Listening {
    pub(crate) listener: TcpListener,
    pub(crate) protocol: Protocol,
    pub(crate) connections_max: usize,
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    /// From the first byte on, as gRPC does without TLS.
    Http2,
}

/// When all connections end: first each after the request that is under way, then those that still
/// have one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    pub(crate) begun: CancellationToken,
    pub(crate) cut: CancellationToken,
}

/// Counters of the connections.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounts {
    pub(crate) opened: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) evicted: AtomicU64,
}

/// Connections that have not sent a whole head yet, oldest first.
#[derive(Debug, Default)]
struct Silent {
    queue: Mutex<VecDeque<Arc<Newcomer>>>,
}

#[derive(Debug, Default)]
struct Newcomer {
    has_spoken: AtomicBool,
    evict: CancellationToken,
}

impl Silent {
    fn enter(&self) -> Arc<Newcomer> {
        let newcomer = Arc::new(Newcomer::default());
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have spoken or are gone leave when they reach the front.
        while queue.front().is_some_and(|oldest| oldest.is_settled()) {
            queue.pop_front();
        }
        if queue.len() >= 2 * CONNECTIONS_MAX {
            queue.retain(|newcomer| !newcomer.is_settled());
        }
        queue.push_back(Arc::clone(&newcomer));
        newcomer
    }

    /// Ends the one that has been silent longest; false where all have spoken.
    fn evict_oldest(&self) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(oldest) = queue.pop_front() {
            if !oldest.is_settled() {
                oldest.evict.cancel();
                return true;
            }
        }
        false
    }
}

impl Newcomer {
    fn is_settled(self: &Arc<Newcomer>) -> bool {
        // The queue's own reference is the only one left where the connection has ended.
        self.has_spoken.load(Ordering::Relaxed) || Arc::strong_count(self) == 1
    }
}

/// Serves until the end begins; connections are tracked, so that the caller can wait for the last.
pub(crate) async fn run(
    listening: Listening,
    router: Router,
    counts: Arc<ConnectionCounts>,
    ending: Ending,
    tasks: TaskTracker,
) {
    let Listening {
        listener, protocol, ..
    } = listening;
    let places = Arc::new(Semaphore::new(listening.connections_max));
    let silent = Silent::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending.begun.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                silent.evict_oldest();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let permit = match Arc::clone(&places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                if silent.evict_oldest() {
                    counts.evicted.fetch_add(1, Ordering::Relaxed);
                }
                tokio::select! {
                    permit = Arc::clone(&places).acquire_owned() => match permit {
                        Ok(permit) => permit,
                        Err(_) => return,
                    },
                    () = ending.begun.cancelled() => return,
                }
            }
        };
        counts.opened.fetch_add(1, Ordering::Relaxed);
        let connection = Connection {
            stream,
            protocol,
            newcomer: silent.enter(),
            counts: Arc::clone(&counts),
            _permit: permit,
        };
        tasks.spawn(connection.serve(router.clone(), ending.clone()));
    }
}

struct Connection {
    stream: TcpStream,
    protocol: Protocol,
    newcomer: Arc<Newcomer>,
    counts: Arc<ConnectionCounts>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(self, router: Router, ending: Ending) {
        self.counts.open.fetch_add(1, Ordering::Relaxed);
        // Small answers and pushed lines should leave at once.
        if let Err(error) = self.stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot turn off delays on a connection");
        }
        let newcomer = Arc::clone(&self.newcomer);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            newcomer.has_spoken.store(true, Ordering::Relaxed);
            router.clone().oneshot(request.map(Body::new))
        });
        let io = TokioIo::new(Steady::new(self.stream, STALL_MAX));
        let ended = match self.protocol {
            Protocol::Http1 => {
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_DEADLINE)
                    .max_buf_size(HEADER_BYTES_MAX)
                    .serve_connection(io, service);
                until_told(connection, &self.newcomer, &ending).await
            }
            Protocol::Http2 => {
                let connection = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .max_concurrent_streams(STREAMS_MAX)
                    .initial_stream_window_size(STREAM_WINDOW_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                    .max_header_list_size(HEADER_BYTES_MAX as u32)
                    .keep_alive_interval(PING_EVERY)
                    .serve_connection(io, service);
                until_told(connection, &self.newcomer, &ending).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves to the end of the connection, or until it gives up its place or all end.
async fn until_told<C: GracefulConnection<Error = hyper::Error>>(
    connection: C,
    newcomer: &Newcomer,
    ending: &Ending,
) -> Result<(), hyper::Error> {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = newcomer.evict.cancelled() => Ok(()),
        () = ending.begun.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = ending.cut.cancelled() => Ok(()),
            }
        }
    }
}
