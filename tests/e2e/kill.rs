//! kill -9 of Serin, of its bus, or of both, at random points under load: nothing acknowledged is
//! lost, nothing is stored twice, and a restart is quick.
//!
//! `SERIN_KILLS` sets how many crashes, `SERIN_SEED` repeats a run. Slow form: 100.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serin_tests::random::Random;
use serin_tests::report::{quantile, report};
use serin_tests::{Serin, place};

use crate::writers::{self, Writers};

#[tokio::test]
async fn every_acknowledged_event_is_stored_once_after_kills() -> Result<()> {
    let kills = place::number("SERIN_KILLS", if place::is_slow() { 100 } else { 10 });
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = place::number("SERIN_SEED", now.as_secs());
    println!("SERIN_SEED={seed} SERIN_KILLS={kills}");
    let mut random = Random::new(seed);
    let mut serin = Serin::start().await?;
    let writers = Writers::start(&serin, 0);
    let mut ready_s = Vec::new();
    for _ in 0..kills {
        // The point of time is the input of this test, not a wait for something.
        tokio::time::sleep(Duration::from_millis(50 + random.below(1_500))).await;
        let victim = random.below(3);
        if victim != 1 {
            serin.kill()?;
        }
        if victim != 0 {
            serin.kill_bus_if_running()?;
        }
        if victim != 1 {
            ready_s.push(serin.start_again().await?.as_secs_f64());
            writers.moved(&serin);
        }
    }
    let acknowledged = writers.stop().await?;
    writers::recount(&serin, &acknowledged).await?;
    ready_s.sort_by(f64::total_cmp);
    report(
        &format!("{kills} kills at random points: acknowledged events lost or doubled"),
        &format!("0 of {}", acknowledged.len()),
        "0",
    );
    report(
        "restart ready after kill -9 (debug build, under load)",
        &format!(
            "median {:.2} s, worst {:.2} s",
            quantile(&ready_s, 0.5),
            quantile(&ready_s, 1.0)
        ),
        "2 s",
    );
    Ok(())
}
