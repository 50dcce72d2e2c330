//! Where time, chance and the environment enter the server.

use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// The machine's clock, microseconds since 1970 UTC.
#[expect(clippy::disallowed_methods, reason = "the edge where time enters")]
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}

/// Tells this program from another build of it: the size and the time of its file.
pub(crate) fn build() -> Result<String> {
    let file = std::env::current_exe().and_then(std::fs::metadata);
    let file = file.context("cannot tell which program this is")?;
    Ok(format!(
        "{}-{}.{}",
        file.len(),
        file.mtime(),
        file.mtime_nsec()
    ))
}

/// 256 random bits.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

/// 256 random bits as 64 hex digits.
pub(crate) fn random_token() -> String {
    random().iter().map(|byte| format!("{byte:02x}")).collect()
}
