//! What a service does again and again beside its calls, for as long as it serves.
//!
//! A run that takes long makes the next one late, and none runs beside it; what one fails with is
//! logged, also a panic, and the next comes all the same. Start at [`run`].

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::serin::Serin;
use crate::serve::failure::Failure;

/// A function, and how often it runs.
pub(crate) struct Periodic {
    pub(crate) every: Duration,
    pub(crate) task: Task,
}

pub(crate) type Task = Box<dyn Fn(Serin) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// Runs it until the service leaves; a run under way ends.
pub(crate) async fn run(periodic: Periodic, serin: Serin, mut leaving: watch::Receiver<bool>) {
    let every = periodic.every;
    let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = leaving.wait_for(|leaving| *leaving) => return,
        }
        // Within the future, since the function may panic before it makes one.
        let work = async { (periodic.task)(serin.clone()).await };
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                tracing::error!(error = failure.message(), ?every, "a periodic task failed");
            }
            Err(_) => tracing::error!(?every, "a periodic task panicked"),
        }
    }
}

impl fmt::Debug for Periodic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Periodic");
        shown.field("every", &self.every).finish_non_exhaustive()
    }
}
