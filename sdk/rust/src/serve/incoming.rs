//! What a handler knows of the call it handles, beside the body.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use serin_wire::{call, event};

use crate::call::read;
use crate::clock;
use crate::context::Context;
use crate::serin::Serin;

/// A call being handled.
#[derive(Debug, Clone)]
pub struct Incoming {
    serin: Serin,
    context: Context,
    caller: Option<String>,
    headers: HeaderMap,
}

impl Incoming {
    pub(crate) fn new(
        serin: &Serin,
        context: Context,
        caller: Option<String>,
        headers: HeaderMap,
    ) -> Incoming {
        Incoming {
            serin: serin.with_context(context.clone()),
            context,
            caller,
            headers,
        }
    }

    /// A handle whose events and calls are caused by this call, also in tasks that are spawned.
    pub fn serin(&self) -> &Serin {
        &self.serin
    }

    /// Trace, arm and deadline of this call.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The service that called, where it says so.
    pub fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    /// A header of the call.
    pub fn header(&self, name: &str) -> Option<&str> {
        read(&self.headers, name)
    }

    /// How long the caller still waits; `None` where it did not say.
    pub fn time_left(&self) -> Option<Duration> {
        let deadline = self.context.deadline?;
        Some(deadline.saturating_duration_since(clock::monotonic()))
    }
}

/// The context a call's headers ask for; `arm` is our own, where our version is under trial.
pub(crate) fn context_of(headers: &HeaderMap, arrived: Instant, arm: Option<&str>) -> Context {
    let number = |name| read(headers, name).and_then(|text| text.parse::<u64>().ok());
    let mut context = Context::from_headers(read(headers, call::TRACEPARENT), None);
    let taken = read(headers, call::ARM);
    let arms = match (taken, arm) {
        (Some(taken), Some(own)) if !has_hop(taken, own) => Some(format!("{taken},{own}")),
        (Some(taken), _) => Some(taken.to_owned()),
        (None, own) => own.map(str::to_owned),
    };
    context.arm = arms.as_deref().and_then(crate::context::cut_arm);
    context.deadline = number(call::TIMEOUT_MS)
        .and_then(|left_ms| arrived.checked_add(Duration::from_millis(left_ms)));
    let depth = |name| u32::try_from(number(name).unwrap_or_default()).unwrap_or(u32::MAX);
    context.depth = depth(call::DEPTH);
    context.chain_depth = depth(call::CHAIN_DEPTH);
    context
}

/// Whether the arms already name the service of `own`, `cart=v8`.
fn has_hop(taken: &str, own: &str) -> bool {
    let service = own.split('=').next().unwrap_or(own);
    event::Arm(taken.into()).version_of(service).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_become_a_context() {
        let mut headers = HeaderMap::new();
        headers.insert(call::TIMEOUT_MS, "250");
        headers.insert(call::ARM, "pay=v2");
        headers.insert(call::DEPTH, "3");
        let arrived = clock::monotonic();
        let context = context_of(&headers, arrived, Some("cart=v8"));
        assert_eq!(
            context.deadline(),
            Some(arrived + Duration::from_millis(250))
        );
        assert_eq!(context.arm(), Some("pay=v2,cart=v8"));
        assert_eq!((context.depth, context.chain_depth), (3, 0));
        let again = context_of(&headers, arrived, Some("pay=v3"));
        assert_eq!(again.arm(), Some("pay=v2"));
    }
}
