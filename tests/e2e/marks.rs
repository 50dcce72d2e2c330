//! What was done to a service is marked on its charts: in the API, in pictures, in the browser.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::Value;
use serin_tests::wait::until;
use serin_tests::{Serin, process};

use crate::chromium::Browser;
use crate::services::{SOON, TICKS, instances, write};

/// A panel of the dashboard of a service that needs no requests to have a line.
const PANEL: &str = "cpu_by_instance";

/// Waits until a mark of this kind says this on a panel of the service's dashboard.
async fn until_marked(serin: &Serin, service: &str, kind: &str, text: &str) -> Result<Value> {
    let path = format!("/api/v1/dashboards/service/data?var.service={service}&panels={PANEL}");
    until(&format!("the mark {text:?}"), SOON, async || {
        let mut data = serin.get(&path).await?;
        let marks = data["panels"][PANEL]["marks"].take();
        let marks = marks.as_array().context("marks")?;
        let found = marks.iter().find(|mark| {
            let is_told = mark["text"]
                .as_str()
                .is_some_and(|told| told.contains(text));
            mark["kind"] == kind && is_told
        });
        Ok(found.cloned())
    })
    .await
}

#[tokio::test]
async fn deploys_rollbacks_and_replacements_are_marks() -> Result<()> {
    let serin = Serin::start().await?;
    for name in ["drummer", "ticker"] {
        write(&serin, name, TICKS)?;
        serin.run(&["deploy", name]).await?;
    }
    let first = until_marked(&serin, "ticker", "deploy", "v1 serves: deployed by hand").await?;
    ensure!(first["label"] == "v1", "{first}");

    let ready = instances(&serin, "ticker", "ready").await?;
    let (name, pid) = ready.first().context("one")?.clone();
    process::kill(pid)?;
    let why = format!("takes the place of {name}, which ended with signal 9");
    until_marked(&serin, "ticker", "replace", &why).await?;

    write(&serin, "ticker", &TICKS.replace("tick;", "tock;"))?;
    serin.run(&["deploy", "ticker"]).await?;
    until_marked(&serin, "ticker", "deploy", "v2 serves").await?;
    serin.run(&["rollback", "ticker"]).await?;
    until_marked(
        &serin,
        "ticker",
        "rollback",
        "v1 serves again: rolled back by hand",
    )
    .await?;
    write(&serin, "ticker", "run: sh -c 'exit 3'\n")?;
    serin.output(&["deploy", "ticker"]).await?;
    until_marked(
        &serin,
        "ticker",
        "fail",
        "v3 does not serve: its instances ended",
    )
    .await?;

    // Its neighbour has marks of its own alone.
    let deploy = until_marked(&serin, "drummer", "deploy", "drummer: v1 serves").await?;
    ensure!(!deploy["text"].to_string().contains("ticker"), "{deploy}");
    let listed = serin.run(&["decisions", "ticker"]).await?;
    for word in ["person", "healer", "rollback", "replace"] {
        ensure!(listed.contains(word), "{listed}");
    }

    let path = format!("/d/service/{PANEL}.svg?var.service=ticker");
    // Nothing is marked on a chart that has no line yet.
    until("the marks in the picture", SOON, async || {
        let picture = serin.request(Method::GET, &path).send().await?;
        let picture = picture.error_for_status()?.text().await?;
        let mut told = ["<title>", &why, "rolled back by hand"].into_iter();
        Ok(told.all(|text| picture.contains(text)).then_some(()))
    })
    .await?;
    in_the_browser(&serin, &why).await
}

/// Flags on the chart, and the sentence at the cursor.
async fn in_the_browser(serin: &Serin, why: &str) -> Result<()> {
    let mut browser = Browser::start()?;
    let next = "%2Fd%2Fservice%3Fvar.service%3Dticker";
    let url = serin.sign_in_link(next).await?;
    browser.dashboard(&url).await?;
    let panel = format!("[data-panel={PANEL}]");
    for kind in ["deploy", "rollback", "replace", "fail"] {
        let flag = format!("document.querySelector('{panel} .flag[data-kind={kind}]') !== null");
        browser.until(&flag).await?;
    }
    // The cursor goes to where the flag stands, away from the header that stays on top.
    let told = format!(
        "(() => {{
           const plot = document.querySelector('{panel} .plot');
           plot.scrollIntoView({{ block: 'center' }});
           plot.focus();
           const flag = plot.querySelector('.flag[data-kind=replace]').getBoundingClientRect();
           const at = {{ bubbles: true, clientX: flag.left + 4, clientY: flag.top + 20 }};
           document.elementFromPoint(at.clientX, at.clientY)?.dispatchEvent(new MouseEvent('mousemove', at));
           const tooltip = document.querySelector('[data-testid=tooltip]');
           return tooltip !== null && !tooltip.hidden && tooltip.textContent.includes({why:?});
         }})()"
    );
    browser.until(&told).await?;
    browser.is_faultless().await
}
