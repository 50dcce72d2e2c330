//! What the engine counts: questions by kind, how they ended, how long they took.
//!
//! A question that is dropped counts as cancelled. Start at [`Counters::count`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::QueryError;

/// The upper bounds of the buckets of a duration, seconds: from what costs nothing to the deadline.
pub const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// How the engine is at this moment. Counts are since its start.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryStats {
    /// KPIs that were asked for.
    pub kpis: Asked,
    /// Statements that were asked for.
    pub statements: Asked,
    /// Bytes of answers, and of their steps, that are kept.
    pub cache_bytes: u64,
    /// Steps of KPIs that were known from before.
    pub steps_kept: u64,
    /// Steps of KPIs that were read.
    pub steps_read: u64,
    /// Bytes that queries in this process hold now.
    pub memory_bytes: u64,
}

/// Questions of one kind.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Asked {
    /// Under way now.
    pub running: u64,
    /// Ended with an answer.
    pub answered: u64,
    /// Ended with an error.
    pub failed: u64,
    /// Given up by whoever asked.
    pub cancelled: u64,
    /// All of them together, seconds.
    pub seconds: f64,
    /// By how long they took: a count for each of [`SECONDS`], and one above.
    pub buckets: Vec<u64>,
}

/// The counters behind [`Asked`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    begun: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; SECONDS.len() + 1],
}

impl Counters {
    /// Counts a question and how it ends.
    pub(crate) async fn count<T>(
        &self,
        asked: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        self.begun.fetch_add(1, Relaxed);
        let mut open = Open {
            counters: self,
            start: Instant::now(),
            end: &self.cancelled,
        };
        let ended = asked.await;
        open.end = match &ended {
            Ok(_) => &self.answered,
            Err(_) => &self.failed,
        };
        ended
    }

    pub(crate) fn read(&self) -> Asked {
        let (answered, failed) = (self.answered.load(Relaxed), self.failed.load(Relaxed));
        let cancelled = self.cancelled.load(Relaxed);
        let ended = answered + failed + cancelled;
        Asked {
            running: self.begun.load(Relaxed).saturating_sub(ended),
            answered,
            failed,
            cancelled,
            seconds: self.micros.load(Relaxed) as f64 / 1e6,
            buckets: self
                .buckets
                .iter()
                .map(|count| count.load(Relaxed))
                .collect(),
        }
    }

    fn took(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = SECONDS.iter().position(|bound| seconds <= *bound);
        self.buckets[place.unwrap_or(SECONDS.len())].fetch_add(1, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Relaxed);
    }
}

/// A question under way.
struct Open<'a> {
    counters: &'a Counters,
    start: Instant,
    /// Where its end is counted.
    end: &'a AtomicU64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.counters.took(self.start.elapsed());
        self.end.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_question_ends_in_one_way() {
        let counters = Counters::default();
        let answered = counters.count(std::future::ready(Ok(7)));
        assert_eq!(answered.await.expect("an answer"), 7);
        let deadline = Duration::from_secs(1);
        let failed = counters.count(async { Err::<(), _>(QueryError::Deadline { deadline }) });
        assert!(failed.await.is_err());
        let mut never = Box::pin(counters.count(std::future::pending::<Result<(), QueryError>>()));
        assert!(futures::poll!(&mut never).is_pending());
        assert_eq!(counters.read().running, 1);
        drop(never);
        let found = counters.read();
        assert_eq!((found.answered, found.failed, found.cancelled), (1, 1, 1));
        assert_eq!((found.running, found.buckets.iter().sum()), (0, 3));
    }

    #[test]
    fn durations_fall_into_their_buckets() {
        let counters = Counters::default();
        for millis in [1, 20, 40_000] {
            counters.took(Duration::from_millis(millis));
        }
        let found = counters.read();
        let places = [
            found.buckets[0],
            found.buckets[4],
            found.buckets[SECONDS.len()],
        ];
        assert_eq!((places, found.seconds), ([1, 1, 1], 40.021));
    }
}
