//! Takes connections, and keeps slow clients within bounds.
//!
//! A connection that sends no head of a request in time, the first or a later one, or takes nothing of
//! its answer, gives its place back; when all places are taken, new ones wait in the system's queue.
//! A tunnel has the place of the connection it began as.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Request, StatusCode, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serin_steady::Steady;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::gateway::Shared;
use crate::pass::{Client, pass};

/// How long the head of a request may be.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// The pause when the system has no more file descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves until the gateway closes.
pub(crate) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(shared.options.connections_max));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = shared.leave.cancelled() => return,
            () = shared.stop.cancelled() => return,
        };
        let Ok(place) = place else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.leave.cancelled() => return,
            () = shared.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let client = Client {
                    address,
                    place: Arc::new(place),
                };
                let connection = serve(Arc::clone(&shared), stream, client);
                shared.tasks.spawn(connection);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, client: Client) {
    shared.counts.connections.rise();
    shared.counts.connections_open.rise();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off delays on a connection");
    }
    let (stop, kill) = (shared.stop.clone(), shared.kill.clone());
    let asked = Arc::clone(&shared);
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, client) = (Arc::clone(&asked), client.clone());
        async move {
            let mut answer = pass(Arc::clone(&shared), request, client).await;
            let is_upgraded = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            if shared.leave.is_cancelled() && !is_upgraded {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let io = TokioIo::new(Steady::new(stream, shared.options.taken_within));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.options.header_within)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = kill.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
    shared.counts.connections_open.fall();
}
