//! An endpoint of a service: its name, its bounds, its handler, and what became of its calls.

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::serve::failure::Failure;
use crate::serve::incoming::Incoming;
use crate::serve::web::WebResponse;

/// Calls handled at a time: handlers mostly wait for others, and a hundred waits cost little.
const LIMIT: usize = 128;
/// Calls that wait for a place: at 1 ms each and the limit above, 4 ms of work.
const WAITING: usize = 512;

/// How an endpoint is served; a name alone takes the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) name: String,
    pub(crate) limit: usize,
    pub(crate) waiting: usize,
    pub(crate) is_idempotent: bool,
    pub(crate) description: Option<String>,
}

impl Endpoint {
    /// An endpoint of this name: 1 to 32 of a-z, 0-9 and '-'.
    pub fn new(name: impl Into<String>) -> Endpoint {
        Endpoint {
            name: name.into(),
            limit: LIMIT,
            waiting: WAITING,
            is_idempotent: false,
            description: None,
        }
    }

    /// How many calls are handled at a time, at least one; 128 unless said otherwise.
    pub fn limit(mut self, limit: usize) -> Endpoint {
        self.limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How many more may wait; further ones are refused at once. 512 unless said otherwise.
    pub fn waiting(mut self, waiting: usize) -> Endpoint {
        self.waiting = waiting;
        self
    }

    /// Says that running a call twice does no harm, so that callers ask again where an answer is
    /// lost; told by the micro protocol, whence Serin takes it into the routes.
    pub fn idempotent(mut self) -> Endpoint {
        self.is_idempotent = true;
        self
    }

    /// Says what it is for; told by the micro protocol.
    pub fn description(mut self, text: impl Into<String>) -> Endpoint {
        self.description = Some(text.into());
        self
    }
}

impl From<&str> for Endpoint {
    fn from(name: &str) -> Endpoint {
        Endpoint::new(name)
    }
}

/// What a handler answers.
#[derive(Debug)]
pub(crate) enum Answer {
    Json(Bytes),
    Bytes(Bytes),
    Web(WebResponse),
}

/// A handler, whatever its types.
pub(crate) type Handler = Box<
    dyn Fn(Incoming, HeaderMap, Bytes) -> BoxFuture<'static, Result<Answer, Failure>> + Send + Sync,
>;

/// An endpoint being served.
pub(crate) struct Served {
    pub(crate) endpoint: Endpoint,
    pub(crate) handler: Handler,
    /// Places of calls that are handled.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) waiting: AtomicUsize,
    /// Whether it is the endpoint of the web, whose requests the gateway tells.
    pub(crate) is_web: bool,
    tally: Mutex<Tally>,
}

/// What became of an endpoint's calls since the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) last_error: String,
    pub(crate) processing_ns: u64,
}

impl Served {
    pub(crate) fn new(endpoint: Endpoint, is_web: bool, handler: Handler) -> Served {
        Served {
            places: Arc::new(Semaphore::new(endpoint.limit)),
            waiting: AtomicUsize::new(0),
            tally: Mutex::new(Tally::default()),
            endpoint,
            handler,
            is_web,
        }
    }

    pub(crate) fn count(&self, took: std::time::Duration, failure: Option<&Failure>) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.requests += 1;
        tally.processing_ns += u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(failure) = failure {
            tally.errors += 1;
            tally.last_error = format!("{}:{}", failure.code, failure.message);
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.clone()
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Served").field(&self.endpoint).finish()
    }
}
