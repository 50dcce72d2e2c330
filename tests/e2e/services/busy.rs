//! A busy machine: nobody is taken for dead who is not, and who is dead is seen.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serin_tests::busy::Busy;
use serin_tests::report::judged;
use serin_tests::wait::until;
use serin_tests::{Serin, place, process};

use super::{SOON, instances, write};

/// What each processor is kept busy with, beside Serin and its services.
const SHARE: f64 = 0.9;
/// Beats that each instance tells under load, one a second.
const BEATS: i64 = 15;
const BEATS_SLOW: i64 = 120;
/// A dead one is to be shown dead within this.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);
const SERVICES: [&str; 4] = ["hand", "snake", "types", "plain"];

/// All instances, by name and process.
async fn all(serin: &Serin) -> Result<BTreeSet<(String, u32)>> {
    let mut all = BTreeSet::new();
    for service in SERVICES {
        all.extend(instances(serin, service, "ready").await?);
    }
    Ok(all)
}

/// Instances that the gateway passes over, as `/metrics` says.
async fn passed_over(serin: &Serin) -> Result<u64> {
    let answer = serin
        .request(reqwest::Method::GET, "/metrics")
        .send()
        .await?;
    let text = answer.error_for_status()?.text().await?;
    let line = text
        .lines()
        .find(|line| line.starts_with("serin_gateway_instances_down"));
    let number = line.and_then(|line| line.split(' ').nth(1));
    Ok(number.context("a metric of the gateway")?.parse()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_busy_machine_nobody_is_taken_for_dead_but_the_dead() -> Result<()> {
    let serin = Serin::start().await?;
    for (service, language) in SERVICES.iter().zip(["script", "python", "typescript"]) {
        serin.run(&["new", service, "--lang", language]).await?;
    }
    // One without our SDK, known by its port.
    write(
        &serin,
        "plain",
        "run: sh -c 'exec python3 -m http.server --bind 127.0.0.1 $PORT'\nport: auto\nweb: /plain\n",
    )?;
    for service in SERVICES {
        serin.run(&["deploy", service]).await?;
    }
    let before = all(&serin).await?;
    ensure!(before.len() == 2 * SERVICES.len(), "{before:?}");

    let busy = Busy::start(SHARE);
    let beats = if place::is_slow() { BEATS_SLOW } else { BEATS };
    let told = "SELECT min(beats) FROM (SELECT count(*) AS beats FROM beats \
                WHERE service IN ('hand', 'snake', 'types', 'plain') GROUP BY instance)";
    let from = serin.sql_number(told).await?;
    let within = Duration::from_secs(4 * beats.unsigned_abs()) + SOON;
    let (mut looks, mut suspected) = (0, 0);
    until("each has told its beats", within, async || {
        looks += 1;
        suspected += u64::from(passed_over(&serin).await? > 0);
        let now = all(&serin).await?;
        // Not what is waited for, but what must not be: it ends the waiting.
        if now != before {
            return Ok(Some(Err(format!("{now:?} instead of {before:?}"))));
        }
        let told = serin.sql_number(told).await? - from;
        Ok((told >= beats).then_some(Ok(())))
    })
    .await?
    .map_err(anyhow::Error::msg)?;
    judged(
        "instances taken for silent with both cores 90 % busy",
        &format!("at {suspected} of {looks} looks, {beats} beats each"),
        "none",
        suspected == 0,
    );

    let (victim, pid) = before.first().context("an instance")?;
    process::kill(*pid)?;
    let killed = Instant::now();
    until("the dead one is not ready any more", SOON, async || {
        let now = all(&serin).await?;
        Ok((!now.iter().any(|(name, _)| name == victim)).then_some(()))
    })
    .await?;
    let shown = killed.elapsed();
    until("it is replaced", SOON, async || {
        Ok((all(&serin).await?.len() == before.len()).then_some(()))
    })
    .await?;
    let replaced = killed.elapsed();
    drop(busy);
    judged(
        "a killed instance with both cores 90 % busy: shown dead, replaced",
        &format!(
            "{:.2} s, {:.2} s",
            shown.as_secs_f64(),
            replaced.as_secs_f64()
        ),
        "2 s",
        shown <= SHOWN_WITHIN,
    );
    // All others are those that were there.
    let now = all(&serin).await?;
    ensure!(
        now.intersection(&before).count() == before.len() - 1,
        "{now:?}"
    );
    Ok(())
}
