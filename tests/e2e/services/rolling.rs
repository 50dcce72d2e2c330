//! A steady rate of requests while versions roll and instances are killed: who fails, and why.
//!
//! What may run twice must not fail at all. What may not (a POST) fails only where it was under way at
//! a process that was killed; how many did is counted and shown. `SERIN_SLOW=1` is the whole: 1,000
//! requests a second for a minute, three deploys, twenty kills.

use std::fs;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::{Client, RequestErrorKind};
use reqwest::Method;
use serin_tests::report::{judged, quantile};
use serin_tests::wait::until;
use serin_tests::{Serin, bus, place, process};

use super::{SOON, instances};

/// Connections; each sends its share of the rate.
const CLIENTS: u64 = 32;
/// Each tenth request may not run twice.
const POST_EVERY: u64 = 10;
/// How long an answer is waited for, of who may be gone.
const PING_WITHIN: Duration = Duration::from_millis(50);
/// Of the rate asked for, so much must be reached, or nothing was measured.
const RATE_SHARE_MIN: f64 = 0.8;

/// How much of it.
struct Plan {
    rate: u64,
    seconds: u64,
    deploys: u64,
    kills: u64,
}

const SHORT: Plan = Plan {
    rate: 100,
    seconds: 12,
    deploys: 1,
    kills: 4,
};
const WHOLE: Plan = Plan {
    rate: 1_000,
    seconds: 60,
    deploys: 3,
    kills: 20,
};

/// A request that was not answered well.
#[derive(Debug)]
struct Failed {
    is_post: bool,
    what: String,
    from: Instant,
    to: Instant,
}

#[derive(Debug, Default)]
struct Got {
    latencies_ms: Vec<f64>,
    failed: Vec<Failed>,
}

/// Sends at its share of the rate until told to stop; a request that is late is sent at once.
async fn client(url: String, period: Duration, phase: Duration, stop: Arc<AtomicBool>) -> Got {
    let http = reqwest::Client::new();
    let mut got = Got::default();
    let start = tokio::time::Instant::now() + phase;
    for number in 0_u32.. {
        tokio::time::sleep_until(start + period * number).await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let is_post = u64::from(number) % POST_EVERY == POST_EVERY - 1;
        let method = if is_post { Method::POST } else { Method::GET };
        let from = Instant::now();
        let what = match http.request(method, &url).send().await {
            Ok(answer) if answer.status() == 200 => {
                got.latencies_ms
                    .push(from.elapsed().as_secs_f64() * 1_000.0);
                continue;
            }
            Ok(answer) => answer.status().to_string(),
            Err(error) => format!("{error:?}"),
        };
        got.failed.push(Failed {
            is_post,
            what,
            from,
            to: Instant::now(),
        });
    }
    got
}

/// Kills an instance that takes requests; from when to when the bus may have given it one that it does not
/// answer: until the bus knows that it is gone.
async fn kill_one(serin: &Serin, bus: &Client, round: u64) -> Result<RangeInclusive<Instant>> {
    let ready = until("an instance takes requests", SOON, async || {
        let ready = instances(serin, "page", "ready").await?;
        Ok((!ready.is_empty()).then_some(ready))
    })
    .await?;
    let nth = usize::try_from(round)? % ready.len();
    let (name, pid) = ready.into_iter().nth(nth).context("one of them")?;
    let from = Instant::now();
    process::kill(pid)?;
    let ping = format!("$SRV.PING.page.{name}");
    until("the bus knows that it is gone", SOON, async || {
        let asked = bus.request(ping.clone(), "".into());
        let Ok(Err(error)) = tokio::time::timeout(PING_WITHIN, asked).await else {
            return Ok(None);
        };
        Ok((error.kind() == RequestErrorKind::NoResponders).then_some(()))
    })
    .await?;
    Ok(from..=Instant::now())
}

/// Deploys and kills, spread over the time; when the kills were.
async fn disturb(serin: &Serin, plan: &Plan) -> Result<Vec<RangeInclusive<Instant>>> {
    let bus = bus::connect(serin.bus()).await?;
    let start = tokio::time::Instant::now();
    let page = serin.dir().join("services/page/page.html");
    let killing = async {
        let mut kills = Vec::new();
        let pause = Duration::from_secs(plan.seconds) / u32::try_from(plan.kills + 1)?;
        for round in 1..=plan.kills {
            tokio::time::sleep_until(start + pause * u32::try_from(round)?).await;
            kills.push(kill_one(serin, &bus, round).await?);
        }
        anyhow::Ok(kills)
    };
    let deploying = async {
        let pause = Duration::from_secs(plan.seconds) / u32::try_from(plan.deploys + 1)?;
        for round in 1..=plan.deploys {
            tokio::time::sleep_until(start + pause * u32::try_from(round)?).await;
            let text = fs::read_to_string(&page)?;
            fs::write(&page, format!("{text}<!-- {round} -->\n"))?;
            serin.run(&["deploy", "page"]).await?;
        }
        anyhow::Ok(())
    };
    let (kills, deployed) = tokio::join!(killing, deploying);
    deployed?;
    tokio::time::sleep_until(start + Duration::from_secs(plan.seconds)).await;
    kills
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_steady_rate_only_what_was_at_a_killed_process_fails() -> Result<()> {
    let plan = if place::is_slow() { WHOLE } else { SHORT };
    let serin = Serin::start().await?;
    serin.run(&["new", "page"]).await?;
    serin.run(&["deploy", "page"]).await?;
    let url = format!("{}/page/", serin.gateway());
    let stop = Arc::<AtomicBool>::default();
    let period = Duration::from_secs(1) * u32::try_from(CLIENTS)? / u32::try_from(plan.rate)?;
    let start = Instant::now();
    let clients: Vec<_> = (0..u32::try_from(CLIENTS)?)
        .map(|number| {
            let phase = period * number / u32::try_from(CLIENTS).unwrap_or(1);
            tokio::spawn(client(url.clone(), period, phase, Arc::clone(&stop)))
        })
        .collect();
    let kills = disturb(&serin, &plan).await?;
    stop.store(true, Ordering::Relaxed);
    let mut all = Got::default();
    for client in clients {
        let got = client.await?;
        all.latencies_ms.extend(got.latencies_ms);
        all.failed.extend(got.failed);
    }
    let took_s = start.elapsed().as_secs_f64();
    all.latencies_ms.sort_by(f64::total_cmp);
    let rate = all.latencies_ms.len() as f64 / took_s;
    let was_at_a_kill = |failed: &&Failed| {
        let overlaps = |kill: &RangeInclusive<Instant>| {
            failed.from <= *kill.end() && *kill.start() <= failed.to
        };
        failed.is_post && kills.iter().any(overlaps)
    };
    let at_kills = all.failed.iter().filter(was_at_a_kill).count();
    let other = all.failed.iter().filter(|one| !was_at_a_kill(one));
    let other: Vec<&str> = other.map(|failed| failed.what.as_str()).collect();
    judged(
        &format!(
            "gateway, {rate:.0} requests/s for {took_s:.0} s through {} deploys and {} kills: failed",
            plan.deploys, plan.kills
        ),
        &format!(
            "{} of {}; of POSTs at a killed process {at_kills}; p50 {:.1} ms, p99 {:.1} ms",
            other.len(),
            all.latencies_ms.len(),
            quantile(&all.latencies_ms, 0.5),
            quantile(&all.latencies_ms, 0.99),
        ),
        "0 but those at a killed process",
        other.is_empty(),
    );
    assert!(other.is_empty(), "{other:?}");
    assert!(
        at_kills <= usize::try_from(plan.kills * CLIENTS)?,
        "{at_kills}"
    );
    let is_loaded = rate >= plan.rate as f64 * RATE_SHARE_MIN;
    judged(
        &format!("requests a second while that, {} asked for", plan.rate),
        &format!("{rate:.0}"),
        &format!("{:.0} % of them", RATE_SHARE_MIN * 100.0),
        is_loaded,
    );
    assert!(is_loaded || place::is_slow(), "{rate:.0} requests/s");
    Ok(())
}
