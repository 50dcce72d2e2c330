//! The way of a request: whose it is, which instance, what it answered, and once more if it may.
//!
//! What did certainly not run goes to the next instance, whatever it is. What may have run goes to
//! one other, if it may run twice. Where nobody takes it, it waits a moment for somebody who does:
//! an instance that was killed is replaced within that. Start at [`pass`].

use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::http::request::Parts as Head;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use serin_wire::event::Trace;
use serin_wire::route::slot_of;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::access::{AccessRecord, Facts};
use crate::answer::{Attempt, Leaving, ServiceBody};
use crate::choose::{choose, slot_by};
use crate::gateway::Shared;
use crate::head::{self, Caller};
use crate::health::Fault;
use crate::load::{Bounds, Load};
use crate::page::{NoInstance, NotAgain, Refusal};
use crate::table::{Reach, Standing, Sticky};
use crate::view::{Entry, Peer};
use crate::{over_bus, over_port};

/// Instances that are asked at most before the request waits for somebody who takes it; those that
/// refuse do so at once.
const TRIED_MAX: usize = 8;
/// A body up to this is held, so that it can be sent once more.
const HELD_BYTES_MAX: u64 = 64 << 10;

/// A request as services get it.
pub(crate) struct Asked {
    pub(crate) entry: Arc<Entry>,
    pub(crate) head: Head,
    /// Path and query below the service's prefix.
    pub(crate) target: String,
    pub(crate) trace: Trace,
    pub(crate) is_idempotent: bool,
    slot: u32,
}

/// A client's wish to go on with another protocol, and the way to do so.
pub(crate) struct Upgrade {
    pub(crate) protocol: HeaderValue,
    pub(crate) client: OnUpgrade,
    /// The connection's, which the tunnel keeps.
    pub(crate) place: Arc<OwnedSemaphorePermit>,
}

/// Who asks: a connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// Among as many connections as there may be.
    pub(crate) place: Arc<OwnedSemaphorePermit>,
}

impl Asked {
    /// The arm of the request at this instance.
    pub(crate) fn arm(&self, peer: &Peer) -> Option<String> {
        let service = &self.entry.service;
        head::arm_of(&service.name, &peer.instance.version, &service.route)
    }
}

/// Takes a request and gives its answer.
pub(crate) async fn pass(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    client: Client,
) -> Response<Leaving> {
    shared.counts.requests.rise();
    let start = Instant::now();
    let wants_page = head::wants_page(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let view = shared.view();
    let (entry, trace, parent) = match view.find(&path) {
        _ if matches!(method, Method::CONNECT | Method::TRACE) => {
            let access = AccessRecord::new(&shared.teller, None, start);
            return refuse(&shared, &Refusal::Method, wants_page, access);
        }
        None => {
            let services = view.prefixes().map(str::to_owned).collect();
            let access = AccessRecord::new(&shared.teller, None, start);
            let path = path.clone();
            let refusal = Refusal::NoPath { path, services };
            return refuse(&shared, &refusal, wants_page, access);
        }
        Some(entry) => {
            let parent = head::trace(request.headers());
            (Arc::clone(entry), shared.trace(parent), parent)
        }
    };
    let service = &entry.service;
    let mut facts = Facts::new(service, method, &path, trace);
    facts.began_us = (shared.options.now_us)();
    facts.parent = parent.map(|parent| parent.span_id);
    let mut access = AccessRecord::new(&shared.teller, Some(facts), start);
    match ask(&shared, request, entry, trace, client, &mut access).await {
        Ok(response) => leave(&shared, response, access),
        Err(refusal) => refuse(&shared, &refusal, wants_page, access),
    }
}

/// Prepares a request, sends it, and makes the answer one for the client.
async fn ask(
    shared: &Arc<Shared>,
    mut request: Request<Incoming>,
    entry: Arc<Entry>,
    trace: Trace,
    client: Client,
    access: &mut AccessRecord,
) -> Result<Response<ServiceBody>, Refusal> {
    let service = &entry.service;
    let protocol = head::upgrade(request.headers());
    let upgrade = protocol.map(|protocol| Upgrade {
        protocol,
        client: hyper::upgrade::on(&mut request),
        place: client.place,
    });
    let (mut head, incoming) = request.into_parts();
    let key = service.sticky.as_ref().map(|sticky| match sticky {
        Sticky::Cookie(name) => (head::key(&head.headers, sticky), Some(name.clone())),
        Sticky::Header(_) => (head::key(&head.headers, sticky), None),
    });
    // A visitor who has no cookie gets one; who lacks a header goes by chance.
    let (key, new_cookie) = match key {
        Some((None, Some(name))) => {
            let key = format!("{:016x}", shared.chance());
            (Some(key.clone()), Some((name, key)))
        }
        Some((key, _)) => (key, None),
        None => (None, None),
    };
    let slot = match key {
        Some(key) => slot_of(&service.name, &key),
        None => slot_by(shared.chance()),
    };
    let path = service.below(head.uri.path()).unwrap_or("/");
    let target = match head.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let is_idempotent = service.is_idempotent(&head.method, path);
    let load = load(shared, &entry, &head, incoming).await?;
    let caller = Caller {
        address: client.address,
        trusts_loopback: shared.options.trusts_loopback,
    };
    head::to_service(&mut head.headers, caller, &service.prefix, trace);
    let asked = Asked {
        head,
        target,
        trace,
        is_idempotent,
        slot,
        entry,
    };
    let mut response = send(shared, asked, load, upgrade, access).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        head::take_off_hop_by_hop(response.headers_mut());
    }
    if let Some((name, key)) = new_cookie {
        let prefix = access.facts().map_or("/", |facts| &facts.prefix);
        head::set_cookie(response.headers_mut(), &name, &key, prefix);
    }
    Ok(response)
}

async fn load(
    shared: &Shared,
    entry: &Entry,
    head: &Head,
    incoming: Incoming,
) -> Result<Load, Refusal> {
    use hyper::body::Body;
    let bounds = Bounds {
        bytes_max: entry.service.body_bytes_max,
        within: shared.options.body_within,
    };
    let length = incoming.size_hint().exact();
    if length.is_some_and(|length| length > bounds.bytes_max as u64) {
        return Err(Refusal::TooLarge {
            most: bounds.bytes_max,
        });
    }
    let is_short = length.is_some_and(|length| length <= HELD_BYTES_MAX);
    let is_for_bus = entry
        .peers
        .iter()
        .any(|peer| peer.instance.reach == Reach::Bus);
    if (is_short || is_for_bus) && head.method != Method::CONNECT {
        Load::whole(incoming, bounds, &shared.budget).await
    } else {
        Ok(Load::stream(incoming, bounds))
    }
}

/// Sends a request to instances until one answers.
async fn send(
    shared: &Arc<Shared>,
    mut asked: Asked,
    mut load: Load,
    mut upgrade: Option<Upgrade>,
    access: &mut AccessRecord,
) -> Result<Response<ServiceBody>, Refusal> {
    let give_up_at = Instant::now() + shared.options.patience;
    let mut tried: Vec<Arc<Peer>> = Vec::new();
    let (mut was_lost, mut has_waited) = (false, false);
    loop {
        // Before the choice, so that a change after it is not missed.
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let (now, pulses) = (Instant::now(), shared.pulses());
        let is_up = |peer: &Peer| peer.health().is_up(now, pulses);
        let chosen = choose(&asked.entry, asked.slot, shared.chance(), &tried, is_up);
        let Some(peer) = chosen.filter(|_| tried.len() < TRIED_MAX) else {
            let why = no_instance(&asked, &tried);
            let is_hopeless = why == NoInstance::Busy || !why.is_passing() || !load.is_there();
            if !has_waited && !is_hopeless {
                shared.counts.waits.rise();
                has_waited = true;
            }
            let waiting = tokio::time::timeout_at(give_up_at, changed);
            if is_hopeless || waiting.await.is_err() {
                return Err(Refusal::NoInstance {
                    service: asked.entry.service.name.clone(),
                    why,
                });
            }
            tried.clear();
            asked.entry = shared.entry_after(&asked.entry);
            continue;
        };
        if !tried.is_empty() {
            shared.counts.retries.rise();
        }
        let right = asked.entry.service.route.version(asked.slot);
        if right != Some(&peer.instance.version) {
            shared.counts.strays.rise();
        }
        if let Some(facts) = access.facts() {
            facts.version.clone_from(&peer.instance.version);
            facts.instance.clone_from(&peer.instance.name);
            facts.arm = asked.arm(&peer);
        }
        let outcome = one(shared, &mut asked, &mut load, &mut upgrade, &peer).await;
        let now = Instant::now();
        match outcome {
            Attempt::Answer {
                response,
                queue_us,
                pattern,
            } => {
                peer.health().answer();
                if let Some(facts) = access.facts() {
                    facts.queue_us = queue_us;
                    facts.pattern = pattern;
                }
                return Ok(response);
            }
            Attempt::NotRun(fault) => {
                peer.health().fail(fault, now);
                shared.failed.notify_one();
            }
            Attempt::Lost(why) => {
                peer.health().fail(Fault::Silent, now);
                shared.failed.notify_one();
                // Others may have come while it was awaited.
                asked.entry = shared.entry_after(&asked.entry);
                let mut peers = asked.entry.peers.iter();
                let not_again = if !asked.is_idempotent {
                    NotAgain::MayHaveRun
                } else if was_lost {
                    NotAgain::WasAlready
                } else if !load.is_there() {
                    NotAgain::BodyGone
                } else if peers.all(|other| Arc::ptr_eq(other, &peer)) {
                    NotAgain::NoOther
                } else {
                    was_lost = true;
                    tried.push(peer);
                    continue;
                };
                return Err(why.because(not_again));
            }
            Attempt::Refused(why) => return Err(why),
        }
        tried.push(peer);
    }
}

async fn one(
    shared: &Arc<Shared>,
    asked: &mut Asked,
    load: &mut Load,
    upgrade: &mut Option<Upgrade>,
    peer: &Arc<Peer>,
) -> Attempt {
    let in_flight = peer.enter();
    match (peer.instance.reach, &*load) {
        (Reach::Bus, Load::Whole(body, _)) => {
            over_bus::attempt(shared, asked, body, peer, in_flight).await
        }
        // Bodies are held wherever an instance is on the bus; this one came while the body went by.
        (Reach::Bus, Load::Stream(..)) => Attempt::NotRun(Fault::Busy),
        (Reach::Port(address), _) => {
            let to = over_port::To {
                peer,
                address,
                in_flight,
            };
            over_port::attempt(shared, asked, load, upgrade, to).await
        }
    }
}

fn no_instance(asked: &Asked, tried: &[Arc<Peer>]) -> NoInstance {
    let service = &asked.entry.service;
    if asked.entry.peers.is_empty() || service.route.versions.is_empty() {
        match service.standing {
            Standing::Stopped => NoInstance::Stopped,
            Standing::Failed => NoInstance::Failed,
            Standing::Wanted => NoInstance::None,
        }
    } else if tried
        .iter()
        .any(|peer| peer.health().is_busy(Instant::now()))
    {
        NoInstance::Busy
    } else {
        NoInstance::Unreachable
    }
}

fn leave(
    shared: &Shared,
    response: Response<ServiceBody>,
    mut access: AccessRecord,
) -> Response<Leaving> {
    let status = response.status();
    if let Some(facts) = access.facts() {
        facts.status = Some(status);
    }
    shared.counts.answer(status);
    let is_endless = head::is_event_stream(response.headers());
    let end = is_endless.then(|| shared.stop.clone().cancelled_owned());
    response.map(|body| Leaving::new(body, access, end))
}

fn refuse(
    shared: &Shared,
    refusal: &Refusal,
    wants_page: bool,
    access: AccessRecord,
) -> Response<Leaving> {
    let response = refusal.response(wants_page);
    let response = response.map(|body| body.map_err(|never| match never {}).boxed_unsync());
    leave(shared, response, access)
}
