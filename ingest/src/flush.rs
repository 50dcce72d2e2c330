//! When to flush, and the commit itself with its retries.
//!
//! A commit that failed before its transaction left nothing behind and is tried again: the disk may
//! have room later. A failed sync is never tried again: the process must end and recover.

use std::time::Duration;

use serin_lake::{CommitError, Committed, Flush, Lake};
use tokio::sync::watch;

use crate::buffer::Fill;
use crate::options::IngestOptions;
use crate::stats::{Counters, add};

/// Between two tries to commit, doubling from the first to the last.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];

/// Whether a flush is to begin. `since_us` is when the oldest thing not yet cut was taken.
pub(crate) fn is_due(
    fill: Fill,
    since_us: Option<i64>,
    options: &IngestOptions,
    now_us: i64,
) -> bool {
    let Some(since_us) = since_us else {
        return false;
    };
    let age_us_max = i64::try_from(options.flush_age.as_micros()).unwrap_or(i64::MAX);
    // Half the memory is for the buffer that fills while the other half is flushed.
    let bytes = options.flush_rows_bytes.min(options.memory_bytes_max / 2);
    let age_us = now_us.saturating_sub(since_us);
    // A clock that went back says nothing of the age: better a flush too early than none for long.
    fill.filling >= bytes || age_us >= age_us_max || age_us < 0
}

/// Commits a flush, trying again while the cause may go away and nobody wants to stop.
pub(crate) async fn commit(
    lake: Lake,
    flush: Flush,
    counters: &Counters,
    stopping: watch::Receiver<bool>,
) -> Result<Committed, CommitError> {
    let mut pause = RETRY[0];
    loop {
        let attempt = {
            let (lake, flush) = (lake.clone(), flush.clone());
            tokio::task::spawn_blocking(move || lake.commit(flush)).await
        };
        let error = match attempt {
            Ok(Ok(committed)) => {
                add(&counters.flushes, 1);
                return Ok(committed);
            }
            Ok(Err(error)) => error,
            // A panic inside the commit: nobody knows what is on disk.
            Err(panic) => CommitError::Durability {
                number: flush.number,
                source: panic.into(),
            },
        };
        add(&counters.flush_failures, 1);
        if !may_pass(&error) || *stopping.borrow() {
            return Err(error);
        }
        tracing::error!(
            error = &error as &dyn std::error::Error,
            pause_s = pause.as_secs_f64(),
            "cannot commit; events stay on the bus, trying again"
        );
        let mut stopping = stopping.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
        pause = (pause * 2).min(RETRY[1]);
    }
}

/// Whether the cause of an error may go away without us: a full disk, a folder made read-only.
fn may_pass(error: &CommitError) -> bool {
    matches!(
        error,
        CommitError::Encode { .. } | CommitError::File(_) | CommitError::Catalogue(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_age_make_a_flush() {
        let options = IngestOptions {
            flush_rows_bytes: 1000,
            flush_age: Duration::from_secs(60),
            memory_bytes_max: 10_000,
            ..IngestOptions::default()
        };
        let due = |filling, since_us, now_us| {
            let fill = Fill {
                filling,
                total: filling,
            };
            is_due(fill, since_us, &options, now_us)
        };
        assert!(!due(0, None, 1_000_000_000));
        assert!(!due(999, Some(0), 59_999_999));
        assert!(due(1000, Some(0), 0));
        assert!(due(1, Some(0), 60_000_000));
        // The clock went back.
        assert!(due(1, Some(1_000_000), 0));
    }
}
