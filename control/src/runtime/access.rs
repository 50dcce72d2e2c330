//! Who may use the bus, and where callers go: what the runtime asks of whoever owns the bus.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use serin_wire::{Routes, Weight};

/// An instance that is let onto the bus.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its service.
    pub service: String,
    /// Its version.
    pub version: String,
    /// Its name.
    pub instance: String,
}

/// The bus, as the runtime needs it. Implemented by the server; an error is one line for people.
pub trait Access: Send + Sync {
    /// The address of the bus with credentials of this member's own; the same for as long as the
    /// data folder lives.
    fn url(&self, member: &Member) -> String;
    /// Lets these on and nobody else; returns once it holds.
    fn admit(&self, members: Vec<Member>) -> BoxFuture<'_, Result<(), String>>;
    /// Spreads calls without a version by these routes; returns once it holds.
    fn spread(&self, routes: &Routes) -> BoxFuture<'_, Result<(), String>>;
    /// Returns once the gateway sends requests to this version of a web service.
    fn reaches(&self, service: &str, version: &str) -> BoxFuture<'_, ()>;
    /// Whether the broker cannot spread them, so that somebody has to forward them.
    fn needs_forwarding(&self) -> bool;
}

/// How much each version of a service is called: what the broker hears of routes.
type Weights = BTreeMap<String, Vec<Weight>>;

/// Has calls without a version spread, unless the weights are those that were `there` before: what
/// else changes in routes is not worth the broker's reading all again.
pub(super) async fn spread_weights(
    access: &dyn Access,
    routes: &Routes,
    there: &mut Option<Weights>,
) -> Result<(), String> {
    let services = routes.services.iter();
    let weights = services.map(|(name, route)| (name.clone(), route.versions.clone()));
    let weights: Option<Weights> = Some(weights.collect());
    if *there != weights {
        access.spread(routes).await?;
        *there = weights;
    }
    Ok(())
}
