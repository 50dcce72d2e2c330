//! The routes as told by Serin, and which version a call goes to.
//!
//! Kept in memory and replaced by whatever has a higher revision. Where nobody tells routes, calls
//! go to the subject without a version. Choosing is a function of values. Start at [`choose`].

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serin_wire::{Route, Routes, subject};
use tokio::time::Instant;

use crate::call::post::{Letter, Post};

/// Serin answers from memory; who does not answer within this tells no routes.
const ASK_WITHIN: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    known: RwLock<Arc<Routes>>,
}

impl Routing {
    pub(crate) fn now(&self) -> Arc<Routes> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes routes that were told, unless they are older than those known.
    pub(crate) fn take(&self, message: &[u8]) {
        self.put(message, false);
    }

    /// Asks for the routes. On a connection that is `new` their revision does not matter: a bus that
    /// was made anew begins at one.
    pub(crate) async fn ask(&self, post: &Post, is_new: bool, until: Instant) {
        let answer = post.send(Letter {
            subject: subject::ROUTES_GET.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            until: until.min(Instant::now() + ASK_WITHIN),
            gives_up_when_broken: true,
            is_told: false,
        });
        match answer.await {
            Ok(answer) => self.put(&answer.payload, is_new),
            Err(reason) => tracing::debug!(?reason, "nobody tells routes"),
        }
    }

    fn put(&self, message: &[u8], is_new: bool) {
        let told: Routes = match serde_json::from_slice(message) {
            Ok(told) => told,
            Err(error) => {
                tracing::warn!(%error, "cannot read the routes that were told");
                return;
            }
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if is_new || told.revision > known.revision {
            *known = Arc::new(told);
        }
    }
}

/// The version at this slot, but not the one to avoid where another takes calls.
pub(crate) fn choose<'a>(route: &'a Route, slot: u32, avoid: Option<&str>) -> Option<&'a str> {
    let chosen = route.version(slot)?;
    if avoid != Some(chosen) {
        return Some(chosen);
    }
    let others = route.versions.iter();
    let others = others.filter(|other| other.weight > 0 && other.version != chosen);
    let heaviest = others.max_by_key(|other| other.weight);
    Some(heaviest.map_or(chosen, |other| other.version.as_str()))
}

#[cfg(test)]
mod tests {
    use serin_wire::Weight;

    use super::*;

    #[test]
    fn a_version_without_instances_is_avoided_where_there_is_another() {
        let weight = |version: &str, weight| Weight {
            version: version.to_owned(),
            weight,
        };
        let mut route = Route {
            versions: vec![weight("v2", 500), weight("v1", 9_500), weight("v0", 0)],
            idempotent: Vec::new(),
        };
        assert_eq!(choose(&route, 10, None), Some("v2"));
        assert_eq!(choose(&route, 10, Some("v2")), Some("v1"));
        assert_eq!(choose(&route, 10, Some("v1")), Some("v2"));
        route.versions = vec![weight("v1", 10_000), weight("v0", 0)];
        assert_eq!(choose(&route, 10, Some("v1")), Some("v1"));
        assert_eq!(choose(&Route::default(), 10, None), None);
    }

    #[test]
    fn older_routes_are_ignored() {
        let routing = Routing::default();
        routing.take(br#"{"revision": 5, "services": {}}"#);
        routing.take(br#"{"revision": 4, "services": {"cart": {"versions": []}}}"#);
        routing.take(b"nonsense");
        assert_eq!(
            (routing.now().revision, routing.now().services.len()),
            (5, 0)
        );
    }
}
