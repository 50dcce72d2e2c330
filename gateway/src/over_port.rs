//! A request to an unmodified HTTP/1.1 program, and its answer as it comes.
//!
//! Both bodies are passed on piece by piece. A connection that says yes to another protocol becomes
//! a tunnel. What was not sent, because nobody listens or a kept connection was closed meanwhile, is
//! sent elsewhere; what was sent and not answered is lost.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use serin_steady::Steady;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::answer::{Attempt, BodyError, ServiceBody};
use crate::gateway::Shared;
use crate::head;
use crate::health::Fault;
use crate::load::{Fate, Load};
use crate::page::Refusal;
use crate::pass::{Asked, Upgrade};
use crate::view::{InFlight, Peer};

/// On one machine a connection is made at once, or not at all.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// How long a connection may take to be ready for its next request, else it is not kept.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// Where a request goes.
pub(crate) struct To<'a> {
    pub(crate) peer: &'a Arc<Peer>,
    pub(crate) address: SocketAddr,
    pub(crate) in_flight: InFlight,
}

/// Sends a request to an instance.
pub(crate) async fn attempt(
    shared: &Arc<Shared>,
    asked: &Asked,
    load: &mut Load,
    upgrade: &mut Option<Upgrade>,
    to: To<'_>,
) -> Attempt {
    let Some((body, fate)) = load.take() else {
        return Attempt::Lost(to.peer.broke_off());
    };
    let mut request = request(asked, to.peer, body);
    if let Some(upgrade) = upgrade {
        head::set_upgrade(request.headers_mut(), upgrade.protocol.clone());
    }
    let start = Instant::now();
    loop {
        let kept = match upgrade {
            Some(_) => None,
            None => to.peer.pool.take(asked.is_idempotent, start),
        };
        let is_new = kept.is_none();
        let mut connection = match kept {
            Some(kept) => kept,
            None => match connect(shared, to.address).await {
                Some(connection) => connection,
                None => return give_back(load, request, Fault::Gone),
            },
        };
        let sending = connection.try_send_request(request);
        let answered = match in_time(asked.entry.service.timeout, &fate, sending).await {
            Some(answered) => answered,
            None => return Attempt::Lost(too_late(asked, &fate)),
        };
        let mut error = match answered {
            Ok(response) => return answer(shared, asked, upgrade, response, (connection, to)),
            Err(error) => error,
        };
        match (fate.fault.get(), error.take_message()) {
            (Some(fault), _) => return Attempt::Refused(fault.clone()),
            // It was closed before the request left it: the next one, or a new one.
            (None, Some(unsent)) if !is_new => request = unsent,
            (None, Some(unsent)) => return give_back(load, unsent, Fault::Gone),
            (None, None) if error.error().is_parse() => {
                return Attempt::Refused(bad(to.peer, "with something that is not HTTP"));
            }
            (None, None) => return Attempt::Lost(to.peer.broke_off()),
        }
    }
}

/// Whether a program answers at this address, whatever it says.
pub(crate) async fn is_there(address: SocketAddr) -> bool {
    let Some((mut connection, driver)) = open(address, CONNECT_WITHIN).await else {
        return false;
    };
    let mut ping = Request::new(
        Empty::<Bytes>::new()
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    *ping.method_mut() = Method::OPTIONS;
    *ping.uri_mut() = Uri::from_static("*");
    ping.headers_mut()
        .insert(header::HOST, HeaderValue::from_static("localhost"));
    let asking = connection.send_request(ping);
    tokio::select! {
        answered = asking => answered.is_ok(),
        _ = driver => false,
    }
}

fn request(asked: &Asked, peer: &Peer, body: ServiceBody) -> Request<ServiceBody> {
    let mut request = Request::new(body);
    *request.method_mut() = asked.head.method.clone();
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = asked
        .target
        .parse()
        .unwrap_or_else(|_| Uri::from_static("/"));
    *request.headers_mut() = asked.head.headers.clone();
    head::set_arm(request.headers_mut(), asked.arm(peer).as_deref());
    request
}

/// Nothing was sent: the body is there for the next instance.
fn give_back(load: &mut Load, request: Request<ServiceBody>, fault: Fault) -> Attempt {
    load.restore(request.into_body());
    Attempt::NotRun(fault)
}

/// Waits for an answer; the time runs from the end of the request.
async fn in_time<T>(within: Duration, fate: &Fate, answer: impl Future<Output = T>) -> Option<T> {
    let late = async {
        fate.is_over.cancelled().await;
        tokio::time::sleep(within).await;
    };
    tokio::select! {
        biased;
        answer = answer => Some(answer),
        () = late => None,
    }
}

type Driver = http1::Connection<TokioIo<Steady<TcpStream>>, ServiceBody>;

async fn open(
    address: SocketAddr,
    taken_within: Duration,
) -> Option<(SendRequest<ServiceBody>, Driver)> {
    let connecting = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address));
    let stream = connecting.await.ok()?.ok()?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off delays on a connection");
    }
    let io = TokioIo::new(Steady::new(stream, taken_within));
    http1::handshake(io).await.ok()
}

async fn connect(shared: &Shared, address: SocketAddr) -> Option<SendRequest<ServiceBody>> {
    let (connection, driver) = open(address, shared.options.taken_within).await?;
    let kill = shared.kill.clone();
    shared.drivers.spawn(async move {
        tokio::select! {
            ended = driver.with_upgrades() => if let Err(error) = ended {
                tracing::debug!(%error, "a connection to an instance ended early");
            },
            () = kill.cancelled() => {}
        }
    });
    Some(connection)
}

fn answer(
    shared: &Arc<Shared>,
    asked: &Asked,
    upgrade: &mut Option<Upgrade>,
    mut response: Response<Incoming>,
    (connection, to): (SendRequest<ServiceBody>, To<'_>),
) -> Attempt {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let protocol = head::upgrade(response.headers());
        let (Some(upgrade), Some(protocol)) = (upgrade.take(), protocol) else {
            return Attempt::Refused(bad(to.peer, "with a protocol that nobody asked for"));
        };
        let service = hyper::upgrade::on(&mut response);
        tunnel(shared, upgrade, service, to.in_flight);
        head::take_off_hop_by_hop(response.headers_mut());
        head::set_upgrade(response.headers_mut(), protocol);
        let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
        return Attempt::Answer {
            response: response.map(|_| empty),
            queue_us: None,
            pattern: None,
        };
    }
    let is_endless = head::is_event_stream(response.headers());
    let within = asked.entry.service.timeout;
    let response = response.map(|incoming| {
        Coming {
            incoming,
            is_over: false,
            late: (!is_endless).then(|| Box::pin(tokio::time::sleep(within))),
            within,
            connection: Some(connection),
            peer: Arc::clone(to.peer),
            shared: Arc::clone(shared),
            _in_flight: to.in_flight,
        }
        .boxed_unsync()
    });
    Attempt::Answer {
        response,
        queue_us: None,
        pattern: None,
    }
}

/// Lets both ends talk, in whatever protocol, until one ends or the gateway closes.
fn tunnel(
    shared: &Arc<Shared>,
    upgrade: Upgrade,
    service: hyper::upgrade::OnUpgrade,
    in_flight: InFlight,
) {
    let (stop, counts) = (shared.stop.clone(), Arc::clone(&shared.counts));
    counts.tunnels.rise();
    let Upgrade { client, place, .. } = upgrade;
    let talking = async move {
        let (client, service) = tokio::try_join!(client, service)?;
        let (mut client, mut service) = (TokioIo::new(client), TokioIo::new(service));
        let copied = tokio::io::copy_bidirectional(&mut client, &mut service).await;
        if let Err(error) = copied {
            tracing::debug!(%error, "a tunnel ended early");
        }
        Ok::<_, hyper::Error>(())
    };
    shared.tasks.spawn(async move {
        tokio::select! {
            ended = talking => if let Err(error) = ended {
                tracing::debug!(%error, "a tunnel did not begin");
            },
            () = stop.cancelled() => {}
        }
        counts.tunnels.fall();
        drop((in_flight, place));
    });
}

fn too_late(asked: &Asked, fate: &Fate) -> Refusal {
    let service = &asked.entry.service;
    fate.fault.get().cloned().unwrap_or(Refusal::TooLate {
        service: service.name.clone(),
        after: service.timeout,
    })
}

fn bad(peer: &Peer, what: &'static str) -> Refusal {
    Refusal::BadAnswer {
        service: peer.service.clone(),
        instance: peer.instance.name.clone(),
        what,
    }
}

/// The body of an answer as it comes; its connection is kept once it is over.
struct Coming {
    incoming: Incoming,
    is_over: bool,
    late: Option<Pin<Box<Sleep>>>,
    within: Duration,
    connection: Option<SendRequest<ServiceBody>>,
    peer: Arc<Peer>,
    shared: Arc<Shared>,
    _in_flight: InFlight,
}

impl Body for Coming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(ctx) else {
            let within = self.within;
            let late = self.late.as_mut();
            return match late.map(|late| late.as_mut().poll(ctx)) {
                Some(Poll::Ready(())) => Poll::Ready(Some(Err(BodyError::TooSlow(within)))),
                _ => Poll::Pending,
            };
        };
        let until = Instant::now() + self.within;
        if let Some(late) = &mut self.late {
            late.as_mut().reset(until);
        }
        self.is_over = frame.is_none();
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Connection)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let is_over = self.is_over || self.incoming.is_end_stream();
        let Some(mut connection) = self.connection.take().filter(|_| is_over) else {
            return;
        };
        if connection.is_ready() {
            self.peer.pool.keep(connection, Instant::now());
            return;
        }
        let peer = Arc::clone(&self.peer);
        self.shared.drivers.spawn(async move {
            let ready = tokio::time::timeout(READY_WITHIN, connection.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                peer.pool.keep(connection, Instant::now());
            }
        });
    }
}
