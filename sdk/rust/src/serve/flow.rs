//! How far an answer of many messages may be ahead of whoever reads it.
//!
//! Each message but the last names a subject of ours. There the reader says how many it took, and we
//! send no more than its window ahead; anything else said there, or that nobody listens, means that
//! nobody reads any more. A reader that says no window is not waited for.

use std::time::Duration;

use async_nats::{HeaderMap, Message};
use serin_wire::call;
use tokio::time::Instant;

use crate::call::post::{Post, Reader};
use crate::call::read;

/// A reader that takes nothing for so long holds a place in vain.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Flow<'a> {
    reader: Reader<'a>,
    window: Option<u64>,
    sent: u64,
    taken: u64,
}

impl Flow<'_> {
    /// Begins an answer to a request with these headers.
    pub(crate) fn begin<'a>(post: &'a Post, request: &HeaderMap) -> Flow<'a> {
        let window = read(request, call::WEB_WINDOW).and_then(|window| window.parse().ok());
        Flow {
            reader: post.reader(),
            window: window.filter(|&window| window > 0),
            sent: 0,
            taken: 0,
        }
    }

    /// The subject that a message names.
    pub(crate) fn subject(&self) -> &str {
        &self.reader.subject
    }

    /// Waits until one message more may be sent; `false` where nobody reads any more.
    pub(crate) async fn may_send(&mut self) -> bool {
        while let Ok(said) = self.reader.said.try_recv() {
            if !self.hear(&said) {
                return false;
            }
        }
        let until = Instant::now() + STALLED_AFTER;
        while self
            .window
            .is_some_and(|window| self.sent >= self.taken + window)
        {
            let said = tokio::time::timeout_at(until, self.reader.said.recv()).await;
            let Ok(Some(said)) = said else {
                tracing::warn!("gave up an answer that nobody takes");
                return false;
            };
            if !self.hear(&said) {
                return false;
            }
        }
        self.sent += 1;
        true
    }

    /// Returns once nobody reads any more.
    pub(crate) async fn gone(&mut self) {
        while let Some(said) = self.reader.said.recv().await {
            if !self.hear(&said) {
                return;
            }
        }
    }

    fn hear(&mut self, said: &Message) -> bool {
        let headers = said.headers.as_ref();
        let taken = headers.and_then(|headers| read(headers, call::WEB_TAKEN)?.parse().ok());
        self.taken = self.taken.max(taken.unwrap_or_default());
        if taken.is_none() {
            tracing::debug!("nobody reads an answer any more");
        }
        taken.is_some()
    }
}
