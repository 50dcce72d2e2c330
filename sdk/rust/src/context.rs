//! What the work under way was caused by, carried along: trace, canary arms, deadline, depth.
//!
//! A served request runs inside [`Context::scope`] with what its headers said (elsewhere use that, or
//! [`Context::run`] where nothing is awaited), and every `emit` and `call` in there takes it up by
//! itself. A task that is spawned does not: give it `Context::current().scope(…)`.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use serin_wire::event::{Arm, Trace};

tokio::task_local! {
    static SCOPE: Context;
}

thread_local! {
    /// Traces of the spans entered on this thread, innermost last; see `layer`.
    static SPANS: RefCell<Vec<Trace>> = const { RefCell::new(Vec::new()) };
}

/// What caused the work under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    pub(crate) trace: Option<Trace>,
    pub(crate) arm: Option<Arc<str>>,
    /// When whoever waits for this work stops waiting.
    pub(crate) deadline: Option<Instant>,
    /// Calls that enclose this work.
    pub(crate) depth: u32,
    /// Of these, calls of chains.
    pub(crate) chain_depth: u32,
}

impl Context {
    /// Reads the headers `traceparent` and `serin-arm`; what is not valid is left out.
    pub fn from_headers(traceparent: Option<&str>, arm: Option<&str>) -> Context {
        Context {
            trace: traceparent.and_then(Trace::parse),
            arm: arm.and_then(cut_arm),
            ..Context::default()
        }
    }

    /// Runs a future with this context.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        SCOPE.scope(self, work).await
    }

    /// Runs a function with this context.
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        SCOPE.sync_scope(self, work)
    }

    /// The context of the work under way, with the innermost span where there is one.
    pub fn current() -> Context {
        let mut context = with_scope(|scope| scope.cloned()).unwrap_or_default();
        context.trace = current_span().or(context.trace);
        context
    }

    /// When whoever waits for this work stops waiting.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Calls that enclose the work.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Of these, calls of chains.
    pub fn chain_depth(&self) -> u32 {
        self.chain_depth
    }

    /// The header `traceparent` to send along.
    pub fn traceparent(&self) -> Option<String> {
        self.trace.map(Trace::to_traceparent)
    }

    /// The header `serin-arm` to send along.
    pub fn arm(&self) -> Option<&str> {
        self.arm.as_deref()
    }
}

/// Calls with the context set by [`Context::scope`], without copying it.
pub(crate) fn with_scope<R>(take: impl FnOnce(Option<&Context>) -> R) -> R {
    let mut take = Some(take);
    let taken = SCOPE.try_with(|scope| take.take().map(|take| take(Some(scope))));
    match (taken, take) {
        (Ok(Some(result)), _) => result,
        (_, Some(take)) => take(None),
        _ => unreachable!("the function is called once, above or here"),
    }
}

/// The trace of the innermost span entered on this thread.
pub(crate) fn current_span() -> Option<Trace> {
    SPANS.with_borrow(|spans| spans.last().copied())
}

pub(crate) fn enter_span(trace: Trace) {
    SPANS.with_borrow_mut(|spans| spans.push(trace));
}

pub(crate) fn exit_span(span_id: u64) {
    SPANS.with_borrow_mut(|spans| {
        if let Some(at) = spans.iter().rposition(|trace| trace.span_id == span_id) {
            spans.remove(at);
        }
    });
}

/// An arm that fits: cut at its oldest hops, `None` where nothing is left.
pub(crate) fn cut_arm(arm: &str) -> Option<Arc<str>> {
    let mut rest = arm;
    while rest.len() > Arm::BYTES_MAX {
        rest = rest.split_once(',')?.1;
    }
    (!rest.is_empty()).then(|| Arc::from(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_scope_is_seen_inside_and_not_after() {
        let context = Context::from_headers(Some(PARENT), Some("cart=v8"));
        let inside = context.clone().run(Context::current);
        assert_eq!(inside, context);
        assert_eq!(inside.traceparent().as_deref(), Some(PARENT));
        assert_eq!(Context::current(), Context::default());
    }

    #[test]
    fn an_arm_loses_its_oldest_hops() {
        let long: Vec<String> = (0..40).map(|hop| format!("service-{hop}=v1")).collect();
        let cut = cut_arm(&long.join(",")).expect("something is left");
        assert!(cut.len() <= Arm::BYTES_MAX);
        assert!(cut.ends_with("service-39=v1"));
        assert_eq!(cut_arm(&"x".repeat(300)), None);
        assert_eq!(cut_arm(""), None);
    }
}
