//! Merges small files and lets old ones go, in the background, one step at a time.

use std::time::Duration;

use serin_lake::Lake;
use serin_sdk::Serin;
use tokio_util::sync::CancellationToken;

use crate::edge;

/// How often it is looked whether there are files to merge; a flush comes at most once a minute.
const COMPACT_EVERY: Duration = Duration::from_secs(30);
/// The first look is soon: who is killed again and again must not collect small files for ever.
const FIRST_AFTER: Duration = Duration::from_secs(1);
/// So many looks between two expiries: ten minutes.
const LOOKS_PER_EXPIRY: u64 = 20;

pub(crate) async fn run(lake: Lake, serin: Serin, stop: CancellationToken) {
    for look in 1.. {
        let pause = if look == 1 {
            FIRST_AFTER
        } else {
            COMPACT_EVERY
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        // Again at once while there is something to merge, but stopping goes first.
        while !stop.is_cancelled() && compact(&lake, &serin).await {}
        if look % LOOKS_PER_EXPIRY == 0 {
            expire(&lake, &serin).await;
        }
    }
}

/// One merge; whether there was one.
async fn compact(lake: &Lake, serin: &Serin) -> bool {
    let merging = lake.clone();
    match tokio::task::spawn_blocking(move || merging.compact(edge::now_us())).await {
        Ok(Ok(merged)) if merged.files > 0 => {
            serin.emit(
                "serin.compacted",
                &serde_json::json!({
                    "table": merged.table,
                    "files": merged.files,
                    "rows": merged.rows,
                    "bytes_before": merged.bytes_before,
                    "bytes_after": merged.bytes_after,
                }),
            );
            true
        }
        Ok(Ok(_)) => false,
        Ok(Err(error)) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot merge files"
            );
            false
        }
        Err(error) => {
            tracing::error!(%error, "merging files broke");
            false
        }
    }
}

async fn expire(lake: &Lake, serin: &Serin) {
    let expiring = lake.clone();
    match tokio::task::spawn_blocking(move || expiring.expire(edge::now_us())).await {
        Ok(Ok(expired)) if expired.files > 0 => serin.emit(
            "serin.expired",
            &serde_json::json!({
                "files": expired.files,
                "rows": expired.rows,
                "bytes": expired.bytes,
            }),
        ),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot let old files go"
            );
        }
        Err(error) => tracing::error!(%error, "letting old files go broke"),
    }
}
