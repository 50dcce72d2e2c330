//! Waits for conditions, with a deadline, and says what it waited for when there was none.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Between two looks; short beside what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is a value. An error while looking counts as "not yet" and is told at the end.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let seen = look().await;
        if let Ok(Some(value)) = seen {
            return Ok(value);
        }
        if start.elapsed() > deadline {
            match seen {
                Err(error) => return Err(error).with_context(|| too_late(what, deadline)),
                _ => bail!(too_late(what, deadline)),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn too_late(what: &str, deadline: Duration) -> String {
    format!("waited {} s for this, in vain: {what}", deadline.as_secs())
}
