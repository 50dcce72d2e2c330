//! Calls of clients that know no versions, on a bus that cannot spread them: taken and sent on.
//!
//! On our own bus the broker does this by weighted mappings; on a joined one somebody has to. The
//! answer goes straight back to the caller.

use std::sync::Arc;

use async_nats::Client;
use futures::StreamExt;
use serin_wire::route::SLOTS;
use serin_wire::{Routes, subject};
use tokio::sync::watch;

/// The golden section of all slots: steps of it fall evenly on them, however many were made.
const STRIDE: u32 = 6_180;
/// Several Serins on one bus share the work.
const QUEUE: &str = "serin";

/// Forwards until the connection is closed.
pub(super) async fn forward(client: &Client, routes: watch::Receiver<Arc<Routes>>) {
    let Ok(mut calls) = client
        .queue_subscribe(subject::call_any("*", "*"), QUEUE.to_owned())
        .await
    else {
        return;
    };
    tracing::info!("this bus is not ours: calls without a version are forwarded by Serin");
    let mut slot = 0;
    while let Some(call) = calls.next().await {
        slot = (slot + STRIDE) % SLOTS;
        let Some(to) = target(&call.subject, &routes.borrow(), slot) else {
            continue;
        };
        let headers = call.headers.unwrap_or_default();
        let sent = match call.reply {
            Some(reply) => {
                client
                    .publish_with_reply_and_headers(to, reply, headers, call.payload)
                    .await
            }
            None => client.publish_with_headers(to, headers, call.payload).await,
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "cannot forward a call");
        }
    }
}

/// Where a call to `svc.<service>.<endpoint>` goes.
fn target(subject: &str, routes: &Routes, slot: u32) -> Option<String> {
    let (service, endpoint) = subject.strip_prefix("svc.")?.split_once('.')?;
    let version = routes.services.get(service)?.version(slot)?;
    Some(subject::call(service, version, endpoint))
}

#[cfg(test)]
mod tests {
    use serin_wire::{Route, Weight};

    use super::*;

    #[test]
    fn calls_fall_on_versions_by_their_weights() {
        let weight = |version: &str, weight| Weight {
            version: version.to_owned(),
            weight,
        };
        let route = Route {
            versions: vec![weight("v2", 100), weight("v1", SLOTS - 100)],
            idempotent: Vec::new(),
        };
        let routes = Routes {
            revision: 1,
            services: [(String::from("cart"), route)].into(),
        };
        let mut slot = 0;
        let mut to_new = 0;
        for _ in 0..10_000 {
            slot = (slot + STRIDE) % SLOTS;
            let to = target("svc.cart.add", &routes, slot).expect("a version");
            to_new += u32::from(to == "svc.cart.v2.add");
        }
        assert!((90..=110).contains(&to_new), "{to_new} of 10000 for 1 %");
        assert_eq!(target("svc.pay.add", &routes, 0), None);
    }
}
