//! Connections to one instance that wait for their next request.
//!
//! A program may close an idle connection at the moment a request goes out on it, and then nobody
//! knows whether it ran. So one that idled for long is not used, and one that idled at all is not
//! used for a request that must not run twice.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::answer::ServiceBody;

/// Node closes idle connections after 5 s, and many programs after no less.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// No program closes a connection so soon.
const IDLE_ONCE_MAX: Duration = Duration::from_millis(500);
/// Connections kept for one instance.
const KEPT_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: SendRequest<ServiceBody>,
    since: Instant,
}

impl Pool {
    /// A connection that waits, for a request that may run twice or not.
    pub(crate) fn take(
        &self,
        is_idempotent: bool,
        now: Instant,
    ) -> Option<SendRequest<ServiceBody>> {
        let most = if is_idempotent {
            IDLE_MAX
        } else {
            IDLE_ONCE_MAX
        };
        let mut idle = self.idle();
        idle.retain(|one| one.connection.is_ready() && now - one.since < IDLE_MAX);
        // The last one has idled least.
        let last = idle.pop_if(|one| now - one.since < most)?;
        Some(last.connection)
    }

    /// Keeps a connection for later.
    pub(crate) fn keep(&self, connection: SendRequest<ServiceBody>, now: Instant) {
        let mut idle = self.idle();
        if idle.len() < KEPT_MAX {
            idle.push(Idle {
                connection,
                since: now,
            });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
