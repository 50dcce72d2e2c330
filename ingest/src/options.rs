//! How the ingester is set up: when it flushes, what it refuses, and where time and chance enter.
//!
//! Every number here is a bound with a reason. [`Edge`] is the only place of this crate that reads
//! the clock and the system's random bytes; everything else takes them as values.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When to flush, and what to refuse.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// A flush begins when the rows of the hot buffer take this many bytes in Arrow. Larger files
    /// are better files; 128 MiB of rows are 10 to 30 MiB of Parquet.
    pub flush_rows_bytes: usize,
    /// A flush begins when the oldest row of the hot buffer is this old.
    pub flush_age: Duration,
    /// The hot buffer, with the part that is being flushed, never takes much more than this: beyond
    /// it nothing is pulled from the bus.
    pub memory_bytes_max: usize,
    /// What is refused.
    pub limits: Limits,
}

impl Default for IngestOptions {
    fn default() -> Self {
        IngestOptions {
            flush_rows_bytes: 128 << 20,
            flush_age: Duration::from_secs(60),
            // Two buffers, one filling while the other is flushed.
            memory_bytes_max: 256 << 20,
            limits: Limits::default(),
        }
    }
}

/// What an event may be; one that is more is refused, with its reason.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Event types, each of which is a table.
    pub types_max: usize,
    /// Attributes of one type, each of which is a column.
    pub columns_per_type_max: usize,
    /// Bytes of one text, as written in JSON.
    pub string_bytes_max: usize,
    /// Bytes of the data of one event.
    pub event_bytes_max: usize,
    /// How far an event's time may lie in the future. Imports are exempt.
    pub skew_future: Duration,
    /// Bytes of refused events kept in the table `refused` per flush; beyond it they are counted.
    pub refused_bytes_max: usize,
    /// Identities given by clients that are remembered; beyond it the oldest go before their 24 hours.
    pub seen_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            types_max: 500,
            columns_per_type_max: 300,
            string_bytes_max: 64 << 10,
            event_bytes_max: 256 << 10,
            skew_future: Duration::from_secs(300),
            refused_bytes_max: 4 << 20,
            // 23 a second for a day; some 100 MiB.
            seen_max: 2_000_000,
        }
    }
}

/// Where time and chance come from.
#[derive(Clone)]
pub struct Edge {
    /// Microseconds since 1970 UTC.
    pub now_us: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// 128 bits nobody else has; names this run's own producer and its identities.
    pub seed: u128,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").finish_non_exhaustive()
    }
}

impl Edge {
    /// The machine's clock and random bytes.
    pub fn of_machine() -> std::io::Result<Edge> {
        let mut seed = [0; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
        Ok(Edge {
            now_us: Arc::new(machine_now_us),
            seed: u128::from_ne_bytes(seed),
        })
    }

    /// The time by this edge.
    pub fn now_us(&self) -> i64 {
        (self.now_us)()
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge where time enters")]
fn machine_now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}
