//! Where time and randomness enter the SDK; everything else takes them as parameters.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serin_wire::time::Micros;

/// Microseconds since 1970 UTC by the system's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the SDK's constructor and emit are where time enters"
)]
pub(crate) fn now_us() -> Micros {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    }
}

/// A clock that only goes forward, for durations.
#[expect(
    clippy::disallowed_methods,
    reason = "durations of requests and spans begin here"
)]
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// 64 unpredictable bits: the standard library seeds its hash maps from the system's randomness.
pub(crate) fn random_u64() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_i64(now_us());
    hasher.finish()
}
