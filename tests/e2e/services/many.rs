//! Many services on one machine: what Serin itself costs then, and that nothing of them is left.
//!
//! `SERIN_SLOW=1` is the whole: 200 services with two light processes each, and the cluster page in Chromium.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use serin_tests::cost::{cpu_seconds, family, own, pss_mib};
use serin_tests::report::{judged, quantile, report};
use serin_tests::wait::until;
use serin_tests::{Serin, place, process};

use super::write;
use crate::chromium::Browser;

const FEW: usize = 10;
const MANY: usize = 200;
/// A debug build beside other tests.
const ALL_WITHIN: Duration = Duration::from_secs(180);
const MEASURED: Duration = Duration::from_secs(20);
const GONE_WITHIN: Duration = Duration::from_secs(30);
const LOOKS: usize = 9;
const DRAWN_MS_MAX: f64 = 300.0;

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
    let folder = place::fresh_folder()?;
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
    let own = own(&serin).await?;
    let mut started = family(&serin).await?;
    started.retain(|pid| !own.contains(pid));
    assert!(
        started.len() >= 3 * count,
        "a shim and two instances each: {}",
        started.len()
    );
    if place::is_slow() {
        cost(&own, &started, count).await?;
        cluster_page(&serin, count).await?;
    }
    serin.stop().await?;
    until("shims and instances are gone", GONE_WITHIN, async || {
        Ok((!started.iter().copied().any(process::is_running)).then_some(()))
    })
    .await
}

/// What they cost while nothing happens.
async fn cost(own: &[u32], started: &[u32], count: usize) -> Result<()> {
    let before = (cpu_seconds(own)?, cpu_seconds(started)?);
    tokio::time::sleep(MEASURED).await;
    let share = |now: f64, before: f64| (now - before) / MEASURED.as_secs_f64();
    let of_own = share(cpu_seconds(own)?, before.0);
    let of_started = share(cpu_seconds(started)?, before.1);
    let pss = pss_mib(own);
    judged(
        &format!("{count} services: PSS of Serin, gateway and nats-server"),
        &format!("{pss} MiB; shims and instances {} MiB", pss_mib(started)),
        "400 MiB",
        pss <= 400,
    );
    judged(
        &format!("{count} services: share of a core of Serin, gateway and nats-server"),
        &format!(
            "{:.1} %; shims and instances {:.1} %",
            of_own * 100.0,
            of_started * 100.0
        ),
        "30 %",
        of_own <= 0.3,
    );
    Ok(())
}

/// How long the cluster page takes in a browser, from the link until all that is in the window is drawn:
/// every panel, and of the services more than their table shows without scrolling. The rows below follow.
async fn cluster_page(serin: &Serin, count: usize) -> Result<()> {
    let mut browser = Browser::start()?;
    let signin = serin.sign_in_link("/").await?;
    browser.open(&signin).await?;
    let url = format!("{}/d/cluster", serin.url());
    let in_window = "[...document.querySelectorAll('[data-panel=services] .table-frame')]
           .some((frame) => frame.scrollHeight > frame.clientHeight) &&
         [...document.querySelectorAll('[data-panel][data-state=loading]')]
           .every((panel) => panel.getBoundingClientRect().top > innerHeight)";
    let took_ms = moments(&mut browser, &url, in_window).await?;
    let median = quantile(&took_ms, 0.5);
    judged(
        &format!("{count} services: the cluster page, from the link to all in the window drawn"),
        &told(&took_ms),
        &format!("{DRAWN_MS_MAX:.0} ms"),
        median <= DRAWN_MS_MAX,
    );
    let all =
        format!("document.querySelectorAll('[data-panel=services] tbody tr').length >= {count}");
    let took_ms = moments(&mut browser, &url, &all).await?;
    report(
        &format!("{count} services: the same, to all their rows"),
        &told(&took_ms),
        "",
    );
    Ok(())
}

/// How long it takes until something holds in a page that is opened anew each time, in order.
async fn moments(browser: &mut Browser, url: &str, expression: &str) -> Result<Vec<f64>> {
    let look = json!({"url": url, "expression": expression});
    let mut took_ms = Vec::new();
    for _ in 0..LOOKS {
        let met = browser.ask("moment", look.clone()).await?;
        took_ms.push(met["ms"].as_f64().context("a time")?);
    }
    took_ms.sort_by(f64::total_cmp);
    Ok(took_ms)
}

fn told(took_ms: &[f64]) -> String {
    let (median, worst) = (quantile(took_ms, 0.5), quantile(took_ms, 1.0));
    format!("median {median:.0} ms, worst {worst:.0} ms of {LOOKS}")
}
