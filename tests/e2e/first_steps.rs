//! The first five minutes: what the start page of a young folder offers to try is tried, in Chromium.
//!
//! With the binary under test, and with the one in the archive that is handed out (`dist`). A bad version
//! that rolls itself back gets its place between the edit and the KPI, once versions are judged.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use serin_tests::report::{judged, report};
use serin_tests::wait::until;
use serin_tests::{Serin, duck, place};

use crate::chromium::Browser;
use crate::dist;
use crate::pages::{count, signed_in};

/// Processes start beside other tests.
const SOON: Duration = Duration::from_secs(60);
const PANEL: &str = "document.querySelector('[data-testid=first-steps-panel]')";
const SAVED: &str = "Good evening";
const TITLE: &str = "Greetings of today";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_steps_can_be_taken_and_closed() -> Result<()> {
    let serin = Serin::start_with_hello().await?;
    let mut browser = signed_in(&serin).await?;
    for page in ["log", "traces", "map"] {
        let path = if page == "log" { "logs" } else { page };
        let url = format!("{}/{path}", serin.url());
        browser.open(&url).await?;
        let empty = count(&format!("[data-testid={page}-empty]"));
        browser.until(&format!("{empty} === 1")).await?;
    }
    take(&serin, &mut browser).await?;
    close(&serin, &mut browser).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_five_minutes_of_the_archive() -> Result<()> {
    let Some(archive) = dist::unpacked("the first five minutes of the archive")? else {
        return Ok(());
    };
    let folder = place::fresh_folder()?;
    let begin = Instant::now();
    let mut serin = Serin::prepared(folder.path())?;
    serin.use_program(&archive.folder.join("serin"));
    serin.begin_with_hello().await?;
    let mut browser = signed_in(&serin).await?;
    browser.until(&format!("{PANEL} !== null")).await?;
    let seconds = begin.elapsed().as_secs_f64();
    judged(
        "archive: from the command to the first steps in the browser",
        &format!("{seconds:.1} s"),
        "5 s",
        seconds <= 5.0,
    );
    take(&serin, &mut browser).await?;
    close(&serin, &mut browser).await?;
    serin.stop().await
}

/// Each step, as its text says it.
async fn take(serin: &Serin, browser: &mut Browser) -> Result<()> {
    browser.open(serin.url()).await?;
    browser.until(&format!("{PANEL} !== null")).await?;
    until("hello serves", SOON, async || {
        let hello = serin.get("/api/v1/services/hello").await?;
        Ok((hello["state"] == "serving").then_some(()))
    })
    .await?;
    browser.click("[data-testid=send-visitors]").await?;
    let all_came = format!("/[1-9][0-9]+ came, all were answered/.test({PANEL}.textContent)");
    browser.until(&all_came).await?;
    kill_one(browser).await?;
    saving_deploys(serin, browser).await?;
    a_kpi_changes(serin, browser).await?;
    duckdb_reads_along(serin, browser).await?;
    browser.click("[data-testid=send-visitors]").await?;
    browser
        .until(&format!("{PANEL}.textContent.includes('Send visitors')"))
        .await?;
    let answered = serin.get("/api/v1/first-steps").await?;
    ensure!(answered["failed"] == 0, "{answered}");
    Ok(())
}

async fn kill_one(browser: &mut Browser) -> Result<()> {
    browser.click("[data-testid=kill-one]").await?;
    browser
        .until(&format!(
            "/replaced in [0-9.]+ s, 0 lost/.test({PANEL}.textContent)"
        ))
        .await?;
    let told = format!("/replaced in ([0-9.]+) s/.exec({PANEL}.textContent)[1]");
    let took = browser.tell(&told).await?;
    let took = took.as_str().context("seconds")?;
    report("a killed hello is replaced", &format!("{took} s"), "0.3 s");
    Ok(())
}

/// An edited page is a new version, at the gateway and on the service's charts.
async fn saving_deploys(serin: &Serin, browser: &mut Browser) -> Result<()> {
    let charts = format!("{}/d/service?var.service=hello", serin.url());
    browser.open(&charts).await?;
    let page = serin.dir().join("services/hello/page.html");
    let text = fs::read_to_string(&page)?;
    ensure!(text.contains("Hello"), "{text}");
    let begin = Instant::now();
    fs::write(&page, text.replace("Hello", SAVED))?;
    let url = format!("{}/hello", serin.gateway());
    until("the edited page is served", SOON, async || {
        let page = reqwest::get(&url).await?.text().await?;
        Ok(page.contains(SAVED).then_some(()))
    })
    .await?;
    let served_s = begin.elapsed().as_secs_f64();
    browser
        .until("document.querySelector('main').textContent.includes('v2')")
        .await?;
    judged(
        "hello, saved to served, and to its charts",
        &format!("{served_s:.2} s, {:.2} s", begin.elapsed().as_secs_f64()),
        "2 s",
        served_s <= 2.0,
    );
    Ok(())
}

/// An edited KPI is another panel.
async fn a_kpi_changes(serin: &Serin, browser: &mut Browser) -> Result<()> {
    let url = format!("{}/d/hello", serin.url());
    browser.open(&url).await?;
    let panel = "document.querySelector('[data-panel=total]')";
    let greeted = format!("/[1-9]/.test({panel}?.textContent ?? '')");
    browser.until(&greeted).await?;
    let kpis = serin.dir().join("kpis/hello.yaml");
    let text = fs::read_to_string(&kpis)?;
    ensure!(text.contains("title: Greetings,"), "{text}");
    fs::write(
        &kpis,
        text.replace("title: Greetings,", &format!("title: {TITLE},")),
    )?;
    let changed = format!("{panel}.textContent.includes('{TITLE}')");
    browser.until(&changed).await?;
    Ok(())
}

/// The line that the panel prints is one that DuckDB takes, and it reads what Serin has.
async fn duckdb_reads_along(serin: &Serin, browser: &mut Browser) -> Result<()> {
    browser.open(serin.url()).await?;
    browser.until(&format!("{PANEL} !== null")).await?;
    let told = serin.get("/api/v1/first-steps").await?;
    let attach = told["attach"].as_str().context("a line")?;
    ensure!(attach.contains(serin.catalogue()), "{attach}");
    let is_shown = format!("{PANEL}.textContent.includes({})", json!(attach));
    browser.until(&is_shown).await?;
    serin.run(&["flush"]).await?;
    let greeted = duck::number(serin.catalogue(), "SELECT count(*) FROM \"hello.greeted\"")?;
    ensure!(greeted > 0, "DuckDB sees no greeting");
    Ok(())
}

/// Closed once, it stays away.
async fn close(serin: &Serin, browser: &mut Browser) -> Result<()> {
    browser.click("[data-testid=close-first-steps]").await?;
    browser.until(&format!("{PANEL} === null")).await?;
    browser.open(serin.url()).await?;
    browser
        .until("document.querySelector('[data-testid=dashboard-card]') !== null")
        .await?;
    browser.until(&format!("{PANEL} === null")).await?;
    ensure!(serin.get("/api/v1/first-steps").await?["is_open"] == false);
    browser.is_faultless().await
}
