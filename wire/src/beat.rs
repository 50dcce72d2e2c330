//! A health beat of one instance, every second, on `tel.beat.…`.
//!
//! A beat says how the instance is and up to when its events are complete ([`Sealed`]). JSON: one a
//! second and instance is not hot, and any client can read it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::time::Micros;

/// How an instance is, as it says itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// The service.
    pub service: String,
    /// Its version.
    pub version: String,
    /// The instance.
    pub instance: String,
    /// Counts up by one from 1 for each beat of this process.
    pub number: u64,
    /// When it was sent, by the instance's clock.
    pub time_us: Micros,
    /// When the process started.
    pub started_us: Micros,
    /// Whether it takes work.
    pub state: State,
    /// Share of one core used since the last beat; 1.5 is one and a half cores.
    pub cpu: f64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// Requests being handled at this moment.
    pub in_flight: u64,
    /// Events waiting in the SDK for the bus.
    pub queued_events: u64,
    /// Requests finished since the last beat, and how long they took.
    pub requests: Histogram,
    /// Of these, how many failed.
    pub errors: u64,
    /// Gauges the service registered, sampled now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gauges: BTreeMap<String, f64>,
    /// Events dropped since the process started, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
    /// Up to when this producer's events are complete; absent where it emits none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
}

/// Whether an instance takes work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Started, not yet taking work.
    Starting,
    /// Taking work.
    Ready,
    /// Finishing what it has; takes no new work.
    Draining,
}

/// "Every event I emitted with a time up to `time_us` is in my messages up to `number`, and the bus
/// has acknowledged them all."
///
/// The beat may overtake those messages on its way, since it travels on another stream. So the
/// ingester counts it only once it has taken the producer's numbers up to `number` without a hole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Who numbers the messages: `<producer>/<epoch>`, see [`crate::producer`].
    pub producer: String,
    /// The run of that producer.
    pub epoch: u32,
    /// The last message that had to arrive; 0 when none was sent yet.
    pub number: u64,
    /// The sealed time.
    pub time_us: Micros,
}
