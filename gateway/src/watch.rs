//! What goes on beside the requests: new tables, pulses, and probes of those that failed.
//!
//! Each is a task that ends with the gateway. A probe asks in a way that does nothing: the micro
//! protocol's PING on the bus, `OPTIONS *` over HTTP (RFC 9110, 9.3.7).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{RequestErrorKind, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use serin_wire::subject;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::gateway::Shared;
use crate::over_port;
use crate::table::{Reach, Table};
use crate::view::{Peer, View};

/// How often it is looked whom to probe: the first probe is due 50 ms after a failure.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// An instance that takes longer for a probe has not answered it.
const PROBE_WITHIN: Duration = Duration::from_secs(1);

/// Makes each new table the view of new requests.
pub(crate) async fn follow(
    shared: Arc<Shared>,
    mut tables: watch::Receiver<Arc<Table>>,
    revision: watch::Sender<u64>,
    end: CancellationToken,
) {
    loop {
        let table = Arc::clone(&tables.borrow_and_update());
        let view = View::build(&table, &shared.view());
        shared.set_view(view);
        for peer in shared.view().peers() {
            let heard = shared.heard().at(&peer.key);
            if let Some(at) = heard.filter(|_| !peer.health().has_pulse()) {
                peer.health().pulse(at);
            }
        }
        revision.send_replace(table.revision);
        tokio::select! {
            changed = tables.changed() => if changed.is_err() { return },
            () = end.cancelled() => return,
        }
    }
}

/// Takes pulses.
pub(crate) async fn hear(shared: Arc<Shared>, mut pulses: Subscriber, end: CancellationToken) {
    let prefix = subject::PULSES.trim_end_matches('>');
    loop {
        let pulse = tokio::select! {
            pulse = pulses.next() => pulse,
            () = end.cancelled() => return,
        };
        let Some(pulse) = pulse else { return };
        let now = Instant::now();
        let Some(name) = pulse.subject.strip_prefix(prefix) else {
            continue;
        };
        shared.heard().pulse(name, now);
        let Some(peer) = shared.view().peer(name) else {
            continue;
        };
        let pulses = shared.pulses();
        let is_back = {
            let mut health = peer.health();
            let was_up = health.is_up(now, pulses);
            health.pulse(now);
            !was_up && health.is_up(now, pulses)
        };
        // Only then: requests that wait would all try again with every pulse of anybody.
        if is_back {
            shared.changed.notify_waiters();
        }
    }
}

/// Probes those that failed until they answer again; sleeps while there are none.
pub(crate) async fn probe(shared: Arc<Shared>, end: CancellationToken) {
    let mut probes = JoinSet::new();
    let mut has_failed = false;
    loop {
        let due = async {
            match has_failed {
                true => tokio::time::sleep(LOOK_EVERY).await,
                false => shared.failed.notified().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = end.cancelled() => break,
        }
        while probes.try_join_next().is_some() {}
        let now = Instant::now();
        has_failed = false;
        for peer in shared.view().peers() {
            let probe_at = peer.health().probe_at();
            has_failed |= probe_at.is_some();
            let is_due = probe_at.is_some_and(|at| at <= now);
            // One probe of an instance at a time, so that their number is bounded by the table.
            if is_due && !peer.is_probed.swap(true, Ordering::AcqRel) {
                probes.spawn(ask(Arc::clone(&shared), Arc::clone(peer)));
            }
        }
    }
    probes.shutdown().await;
}

async fn ask(shared: Arc<Shared>, peer: Arc<Peer>) {
    let asking = async {
        match peer.instance.reach {
            Reach::Bus => is_on_bus(&shared, &peer).await,
            Reach::Port(address) => over_port::is_there(address).await,
        }
    };
    let is_back = tokio::time::timeout(PROBE_WITHIN, asking).await == Ok(true);
    match is_back {
        true => peer.health().answer(),
        false => peer.health().miss(Instant::now()),
    }
    peer.is_probed.store(false, Ordering::Release);
    if is_back {
        shared.changed.notify_waiters();
    }
}

async fn is_on_bus(shared: &Shared, peer: &Peer) -> bool {
    let to = format!("$SRV.PING.{}.{}", peer.service, peer.instance.name);
    match shared.bus.request(to, Bytes::new()).await {
        Ok(_) => true,
        // It may not know the micro protocol. If it is gone, the next request is told at once.
        Err(error) => error.kind() == RequestErrorKind::NoResponders,
    }
}
