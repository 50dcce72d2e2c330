//! Chromium looks at logs, traces and the map of two services that call each other; what it sees is
//! compared with SQL.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use serin_tests::Serin;
use serin_tests::report::report;
use serin_tests::wait::until;

use crate::chromium::Browser;
use crate::services::write_python;

/// Two interpreters start beside other tests.
const SOON: Duration = Duration::from_secs(60);
const VISITS: usize = 24;
/// Each fourth visitor is let down.
const LET_DOWN: usize = VISITS / 4;

const WEB: &str = r#"
import logging
import serin

app = serin.service()
logging.getLogger().addHandler(app.log_handler())
logging.getLogger().setLevel(logging.INFO)


@app.web
async def page(request: serin.WebRequest) -> str:
    logging.info("page of %s", request.query.get("name", "nobody"))
    added = await app.call("cart", "add", {"empty": "empty" in request.query})
    return str(added)


if __name__ == "__main__":
    app.run()
"#;

const CART: &str = r#"
import logging
import serin

app = serin.service()
logging.getLogger().addHandler(app.log_handler())


@app.endpoint
def add(data: dict) -> dict:
    if data["empty"]:
        logging.error("the shelf is <b id='owned'>empty</b>\n<script>alert(1)</script>")
        raise serin.CallError(500, "the shelf is empty")
    return {"count": 1}


if __name__ == "__main__":
    app.run()
"#;

/// A server with the two services, which were visited.
async fn visited() -> Result<Serin> {
    let serin = Serin::start().await?;
    for (name, program, more) in [("cart", CART, ""), ("web", WEB, "web: /shop\n")] {
        write_python(&serin, name, more, program)?;
        serin.run(&["deploy", name]).await?;
    }
    visit(&serin).await?;
    Ok(serin)
}

/// Visitors come, and what they did is in the tables when this returns.
async fn visit(serin: &Serin) -> Result<()> {
    let before = told(serin).await.unwrap_or_default();
    for number in 0..VISITS {
        let empty = if number % 4 == 3 { "&empty=1" } else { "" };
        let url = format!("{}/shop/?name=visitor{number}{empty}", serin.gateway());
        let status = reqwest::get(url).await?.status().as_u16();
        ensure!((status >= 500) != empty.is_empty(), "answered {status}");
    }
    until("every request is a row", SOON, async || {
        Ok((told(serin).await? == before + 2 * VISITS as i64).then_some(()))
    })
    .await?;
    until("the spans of each are told", SOON, async || {
        let sql = "SELECT count(*) FROM (SELECT trace_id FROM spans GROUP BY trace_id HAVING count(*) = 4)";
        Ok((serin.sql_number(sql).await? >= VISITS as i64).then_some(()))
    })
    .await
}

async fn told(serin: &Serin) -> Result<i64> {
    let sql = "SELECT count(*) FROM requests WHERE service IN ('web', 'cart')";
    serin.sql_number(sql).await
}

pub(crate) async fn signed_in(serin: &Serin) -> Result<Browser> {
    let mut browser = Browser::start()?;
    let url = serin.sign_in_link("").await?;
    browser.open(&url).await?;
    Ok(browser)
}

/// How many elements there are.
pub(crate) fn count(selector: &str) -> String {
    format!("document.querySelectorAll(\"{selector}\").length")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_searched_followed_and_lead_to_their_trace() -> Result<()> {
    let mut serin = visited().await?;
    let mut browser = signed_in(&serin).await?;
    let at = |path: &str| format!("{}{path}", serin.url());
    browser.open(&at("/logs")).await?;
    let lines = count("[data-testid=log-line]");
    browser
        .until(&format!("{lines} >= {}", VISITS + LET_DOWN))
        .await?;
    browser
        .until("document.querySelector('[data-testid=log-histogram] canvas') !== null")
        .await?;

    browser.fill("#filter-text", "SHELF").await?;
    browser.until(&format!("{lines} === {LET_DOWN}")).await?;
    let url = browser.tell("location.search").await?;
    assert_eq!(url, json!("?text=SHELF"), "the search is in the address");
    let message = "document.querySelector('.log-message').textContent";
    let message = browser.tell(message).await?;
    assert_eq!(
        message,
        json!("the shelf is <b id='owned'>empty</b>\n<script>alert(1)</script>")
    );
    browser
        .until("document.getElementById('owned') === null")
        .await?;

    browser.fill("#filter-text", "").await?;
    browser.choose("#filter-level", "error").await?;
    browser.until(&format!("{lines} === {LET_DOWN}")).await?;

    browser.click("[data-testid=log-line]").await?;
    browser.click("[data-testid=log-around]").await?;
    browser
        .until("document.querySelector('[data-testid=log-context]') !== null")
        .await?;
    let marked = count(".log-lines > .marked");
    browser.until(&format!("{marked} === 1")).await?;
    browser.press(&["Escape"]).await?;
    browser
        .until(&format!(
            "document.querySelector('[data-testid=log-context]') === null && {lines} === {LET_DOWN}"
        ))
        .await?;

    browser.click("[data-testid=log-line]").await?;
    browser.click("[data-testid=log-trace]").await?;
    let spans = count("[data-testid=span]");
    browser.until(&format!("{spans} === 4")).await?;
    let logged = count("[data-testid=trace-logs] [data-testid=log-line]");
    browser.until(&format!("{logged} === 2")).await?;

    browser.open(&at("/logs?text=visitor3")).await?;
    browser.until(&format!("{lines} === 1")).await?;
    reqwest::get(format!("{}/shop/?name=visitor3", serin.gateway())).await?;
    let took = browser.until(&format!("{lines} === 2")).await?;
    let seen = format!("{:.1} s", took.as_secs_f64());
    report("a new line is on the page of logs", &seen, "2 s");

    let freshness = "document.querySelector('[data-testid=freshness]').dataset.state";
    serin.kill()?;
    browser.until(&format!("{freshness} === 'stale'")).await?;
    serin.start_again().await?;
    browser.until(&format!("{freshness} === 'live'")).await?;
    browser.is_faultless().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_are_found_and_drawn_and_the_map_counts_right() -> Result<()> {
    let serin = visited().await?;
    let mut browser = signed_in(&serin).await?;
    let at = |path: &str| format!("{}{path}", serin.url());
    browser.open(&at("/traces?service=gateway")).await?;
    let rows = count("[data-testid=trace-row]");
    browser.until(&format!("{rows} === {VISITS}")).await?;
    let dots = count("[data-testid=trace-dot]");
    browser.until(&format!("{dots} === {VISITS}")).await?;
    browser.choose("#filter-status", "error").await?;
    browser.until(&format!("{rows} === {LET_DOWN}")).await?;

    browser.click("[data-testid=trace-row] a").await?;
    browser
        .until(&format!("{} === 4", count("[data-testid=span]")))
        .await?;
    let names = "[...document.querySelectorAll('.span-name')].map((name) => name.textContent)";
    let names = browser.tell(names).await?;
    assert_eq!(
        names,
        json!(["gateway GET /shop", "web http", "web cart.add", "cart add"])
    );
    let parts = "[...document.querySelectorAll('[data-testid=span]')].at(2).querySelectorAll('.part.network').length";
    let parts = browser.tell(parts).await?;
    assert_eq!(parts, json!(2), "a call tells its way there and back");
    // Somebody knows its name alone, and not when it was.
    let traces = serin.get("/api/v1/traces?status=error").await?;
    let id = traces["traces"][0]["trace_id"]
        .as_str()
        .context("a trace")?;
    let by_name = serin.get(&format!("/api/v1/traces/{id}")).await?;
    assert_eq!(by_name["spans"].as_array().map(Vec::len), Some(4));
    browser
        .press(&["Tab", "Tab", "Tab", "ArrowDown", "Enter"])
        .await?;

    browser.open(&at("/map")).await?;
    let edge = "[data-call='web > cart']";
    browser.until(&format!("{} === 1", count(edge))).await?;
    let label = format!("document.querySelector(\"{edge}\").getAttribute('aria-label')");
    let right = format!("web calls cart: {VISITS} requests");
    browser
        .until(&format!("{label}.startsWith('{right}')"))
        .await?;
    let grade = format!("document.querySelector(\"{edge}\").dataset.grade");
    let grade = browser.tell(&grade).await?;
    assert_eq!(grade, json!("bad"), "a quarter fails");
    visit(&serin).await?;
    let more = format!("web calls cart: {} requests", 2 * VISITS);
    browser
        .until(&format!("{label}.startsWith('{more}')"))
        .await?;
    let sql = "SELECT count(*) FROM requests WHERE service = 'cart' AND caller = 'web'";
    assert_eq!(serin.sql_number(sql).await?, 2 * VISITS as i64);
    browser.click("[data-node=cart]").await?;
    browser
        .until("location.pathname === '/d/service' && location.search.includes('cart')")
        .await?;
    browser.is_faultless().await?;
    up_and_down_are_on_the_page_of_a_service(&serin).await
}

/// Who calls a service and whom it calls, without a set-up.
async fn up_and_down_are_on_the_page_of_a_service(serin: &Serin) -> Result<()> {
    for (service, panel, expected) in [
        ("cart", "callers", vec!["web"]),
        ("web", "callers", vec!["gateway"]),
        ("web", "calls", vec!["cart"]),
        ("cart", "calls", vec![]),
    ] {
        let path = format!("/api/v1/dashboards/service/data?var.service={service}");
        let shown = serin.get(&path).await?;
        let rows = shown["panels"][panel]["data"]["rows"].as_array();
        let rows = rows.map(Vec::as_slice).unwrap_or_default();
        let others: Vec<_> = rows.iter().filter_map(|row| row[0].as_str()).collect();
        ensure!(others == expected, "{panel} of {service}: {shown}");
    }
    Ok(())
}

const KPI: &str = "kpis:
  took: {unit: ms, better: lower, event: requests, measure: p95(duration_ms), by: [service]}
";
/// Its one step holds all there is.
const DASHBOARD: &str = "dashboard: slow
title: Slow
range: 15m
panels:
  took: {kpi: took, draw: line, by: service, step: 365d}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_point_of_a_chart_leads_to_its_traces() -> Result<()> {
    let serin = visited().await?;
    serin.write("kpis/slow.yaml", KPI)?;
    serin.write_dashboard("slow", DASHBOARD).await?;
    let mut browser = signed_in(&serin).await?;
    browser
        .dashboard(&format!("{}/d/slow", serin.url()))
        .await?;
    let plot = "document.querySelector('[data-testid=plot]')";
    browser
        .until(&format!("{plot}?.querySelector('canvas') != null"))
        .await?;
    browser.tell(&format!("{plot}.focus()")).await?;
    browser.press(&["End", "Enter"]).await?;
    browser
        .until("location.pathname === '/traces' && location.search.includes('order=slowest')")
        .await?;
    let rows = count("[data-testid=trace-row]");
    browser.until(&format!("{rows} === {VISITS}")).await?;
    browser.is_faultless().await
}
