//! Many services on one machine: what Serin itself costs then, and that nothing of them is left.
//!
//! `SERIN_SLOW=1` is the whole: 200 services with two light processes each.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serin_tests::cost::{cpu_seconds, family, pss_mib};
use serin_tests::report::{judged, report};
use serin_tests::wait::until;
use serin_tests::{Serin, place};

use super::{is_running, write};

const FEW: usize = 10;
const MANY: usize = 200;
/// A debug build beside other tests.
const ALL_WITHIN: Duration = Duration::from_secs(180);
const MEASURED: Duration = Duration::from_secs(20);
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// How many instances take work.
async fn ready(serin: &Serin) -> Result<usize> {
    let answer = serin.get("/api/v1/services").await?;
    let services = answer["services"].as_array().context("services")?;
    let instances = services
        .iter()
        .filter_map(|service| service["instances"].as_array())
        .flatten();
    Ok(instances.filter(|one| one["state"] == "ready").count())
}

#[tokio::test]
async fn many_services_cost_serin_little_and_end_with_it() -> Result<()> {
    let count = if place::is_slow() { MANY } else { FEW };
    let folder = tempfile::Builder::new().prefix("serin-test-").tempdir()?;
    fs::write(
        folder.path().join("serin.yaml"),
        "deploy: {on_start: true}\n",
    )?;
    let mut serin = Serin::prepared(folder.path())?;
    for number in 1..=count {
        let name = format!("light-{number}");
        write(&serin, &name, "run: sleep 100000\nready: started\n")?;
    }
    let start = Instant::now();
    serin.start_again().await?;
    until("all of them take work", ALL_WITHIN, async || {
        Ok((ready(&serin).await? == 2 * count).then_some(()))
    })
    .await?;
    let took_s = start.elapsed().as_secs_f64();
    report(
        &format!("{count} services with two instances each, from a cold start"),
        &format!("{took_s:.1} s"),
        "",
    );
    let all = family(&serin)?;
    let gateway = serin.get("/api/v1/status").await?["gateway_pid"].as_u64();
    let own = [
        serin.pid().context("it runs")?,
        serin.bus_pid()?,
        u32::try_from(gateway.context("the gateway's process")?)?,
    ];
    let shims: Vec<u32> = all
        .iter()
        .copied()
        .filter(|pid| !own.contains(pid))
        .collect();
    assert!(shims.len() >= count, "a shim for each: {}", shims.len());
    if place::is_slow() {
        cost(&own, &shims, count).await?;
    }
    serin.stop().await?;
    until("all shims are gone", GONE_WITHIN, async || {
        Ok((!shims.iter().copied().any(is_running)).then_some(()))
    })
    .await
}

/// What they cost while nothing happens.
async fn cost(own: &[u32], shims: &[u32], count: usize) -> Result<()> {
    let before = (cpu_seconds(own)?, cpu_seconds(shims)?);
    tokio::time::sleep(MEASURED).await;
    let share = |now: f64, before: f64| (now - before) / MEASURED.as_secs_f64();
    let of_own = share(cpu_seconds(own)?, before.0);
    let of_shims = share(cpu_seconds(shims)?, before.1);
    let pss = pss_mib(own);
    judged(
        &format!("{count} services: PSS of Serin, gateway and nats-server"),
        &format!("{pss} MiB; {} shims {} MiB", shims.len(), pss_mib(shims)),
        "400 MiB",
        pss <= 400,
    );
    judged(
        &format!("{count} services: share of a core of Serin, gateway and nats-server"),
        &format!("{:.1} %; shims {:.1} %", of_own * 100.0, of_shims * 100.0),
        "30 %",
        of_own <= 0.3,
    );
    Ok(())
}
