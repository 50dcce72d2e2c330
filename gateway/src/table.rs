//! What the gateway is told: which web services there are, where their instances are, and how much
//! each version is called.
//!
//! The server fills a [`Table`] from the runtime and sends a new one with each change; nothing here
//! is found out by the gateway itself. Start at [`Service`].

use std::net::SocketAddr;
use std::time::Duration;

use hyper::Method;
use serde::{Deserialize, Serialize};
use serin_wire::{Route, Weight, call};

/// Every web service of this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Rises with every change; told back once new requests see it.
    pub revision: u64,
    /// In any order; where two have the same prefix, the first is taken.
    pub services: Vec<Service>,
}

impl Table {
    /// Whether requests can come to a version of a service.
    pub fn reaches(&self, service: &str, version: &str) -> bool {
        let mut services = self.services.iter();
        services.any(|one| {
            let is_called = |of: &Weight| of.version == version && of.weight > 0;
            one.name == service
                && one.route.versions.iter().any(is_called)
                && one.instances.iter().any(|one| one.version == version)
        })
    }
}

/// A service with a `web:` path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name, `cart`.
    pub name: String,
    /// Its path, `/cart`; `/` takes what no other does. It is taken off before the service sees it.
    pub prefix: String,
    /// Its versions and their weights.
    pub route: Route,
    /// Those that take requests.
    pub instances: Vec<Instance>,
    /// Those whose process ended: what was at them is lost.
    pub ended: Vec<Instance>,
    /// Whether instances are to be there.
    pub standing: Standing,
    /// What keeps a visitor on one version.
    pub sticky: Option<Sticky>,
    /// From the request's end to the beginning of the answer, and between two pieces of it.
    pub timeout: Duration,
    /// The longest body of a request.
    pub body_bytes_max: usize,
    /// Paths below the prefix that may be asked twice for one request, whatever the method.
    pub idempotent: Vec<String>,
}

/// Whether a service is to have instances; where it is not, waiting for one is in vain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It has, or is about to.
    #[default]
    Wanted,
    /// Somebody stopped it.
    Stopped,
    /// Its newest version never got ready, and no other serves.
    Failed,
}

/// One that runs, or did.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Instance {
    /// Its version, `v7`.
    pub version: String,
    /// Its name, `cart-v7-3`.
    pub name: String,
    /// How it is reached.
    pub reach: Reach,
}

/// How an instance is reached; two versions of a service may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reach {
    /// By its own subject on the bus.
    Bus,
    /// By HTTP/1.1.
    Port(SocketAddr),
}

/// What a visitor's version depends on, instead of chance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sticky {
    /// A cookie of this name; one who has none gets it.
    Cookie(String),
    /// A header of this name; a request without it goes by chance.
    Header(String),
}

impl Service {
    /// From the end of a request to the beginning of the answer.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
    /// The longest body, unless said otherwise: it goes in one message of the bus.
    pub const BODY_BYTES_MAX: usize = 1 << 20;

    /// A service as it is when nothing more is said.
    pub fn new(name: impl Into<String>, prefix: impl Into<String>) -> Service {
        Service {
            name: name.into(),
            prefix: prefix.into(),
            route: Route::default(),
            instances: Vec::new(),
            ended: Vec::new(),
            standing: Standing::default(),
            sticky: None,
            timeout: Service::TIMEOUT,
            body_bytes_max: Service::BODY_BYTES_MAX,
            idempotent: Vec::new(),
        }
    }

    /// Whether a request may be sent twice though it ran once: RFC 9110, 9.2.2, or by declaration.
    pub(crate) fn is_idempotent(&self, method: &Method, path: &str) -> bool {
        let is_by_path = || {
            let mut declared = self.idempotent.iter();
            declared.any(|prefix| below(prefix, path).is_some())
        };
        method.is_idempotent()
            || self
                .route
                .idempotent
                .iter()
                .any(|one| one == call::WEB_ENDPOINT)
            || is_by_path()
    }

    /// What is left of a path that is this service's: at least `/`.
    pub(crate) fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        below(&self.prefix, path)
    }
}

/// The rest of a path under a prefix, by whole segments.
fn below<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
    match rest {
        "" => Some("/"),
        _ => rest.starts_with('/').then_some(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_takes_whole_segments() {
        for (prefix, path, rest) in [
            ("/cart", "/cart", Some("/")),
            ("/cart", "/cart/", Some("/")),
            ("/cart/", "/cart/items/7", Some("/items/7")),
            ("/cart", "/carts", None),
            ("/cart", "/", None),
            ("/", "/any/thing", Some("/any/thing")),
            ("/a/b", "/a/b/c", Some("/c")),
        ] {
            assert_eq!(below(prefix, path), rest, "{prefix} {path}");
        }
    }

    #[test]
    fn what_may_be_sent_twice() {
        let mut cart = Service::new("cart", "/cart");
        assert!(cart.is_idempotent(&Method::GET, "/"));
        assert!(cart.is_idempotent(&Method::PUT, "/items/7"));
        assert!(!cart.is_idempotent(&Method::POST, "/search"));
        assert!(!cart.is_idempotent(&Method::PATCH, "/"));
        cart.idempotent.push("/search".into());
        assert!(cart.is_idempotent(&Method::POST, "/search"));
        assert!(!cart.is_idempotent(&Method::POST, "/pay"));
        cart.route.idempotent.push("http".into());
        assert!(cart.is_idempotent(&Method::POST, "/pay"));
    }
}
