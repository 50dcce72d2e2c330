//! What a page shows when things are not as usual: dark, an empty range, a failing panel, text that
//! would be markup, a dropped file. Through Chromium, as a user meets it.

use anyhow::{Result, ensure};
use serde_json::json;
use serin_tests::Serin;

use crate::chromium::Browser;
use crate::weblog;

/// Where one lands who follows a link of this server.
async fn at(serin: &Serin, path: &str) -> Result<String> {
    let next: String = path
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    serin.sign_in_link(&next).await
}

async fn text_of(browser: &mut Browser, selector: &str) -> Result<String> {
    let expression = format!("document.querySelector({})?.textContent", json!(selector));
    let told = browser.tell(&expression).await?;
    Ok(told.as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn an_empty_range_leads_to_the_data_and_the_url_holds_the_range() -> Result<()> {
    let serin = weblog::imported().await?;
    let mut browser = Browser::start()?;
    let empty = "/d/weblog?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z";
    browser.dashboard(&at(&serin, empty).await?).await?;
    let states = browser.ask("states", json!({})).await?;
    // Nobody looked there: a count is no zero, it is a gap.
    assert_eq!(
        (&states["total"], &states["pages"]),
        (&json!("empty"), &json!("empty"))
    );
    let told = text_of(&mut browser, "[data-testid=empty-range]").await?;
    ensure!(
        told.contains("2015"),
        "where the data lie is not told: {told}"
    );
    let repeated = "(document.body.innerText.match(/Nothing in this range|No data in this range/g) ?? []).length";
    let repeated = browser.tell(repeated).await?;
    assert_eq!(repeated, 1, "it is said once, and not by every panel");
    browser.click("[data-testid=jump-to-data]").await?;
    browser
        .until("document.querySelector('[data-panel=total]').dataset.state === 'ok'")
        .await?;
    browser
        .until("location.search.includes('from=2015-05-1')")
        .await?;

    // A range that goes backwards is told, and leads nowhere.
    let before = browser.tell("location.href").await?;
    for (field, time) in [("from", "2015-05-19 00:00"), ("to", "2015-05-18 00:00")] {
        if field == "from" {
            browser.click("[data-testid=range]").await?;
        }
        let field = format!("[data-testid=range-{field}]");
        browser.fill(&field, time).await?;
    }
    let apply = "[data-testid=range-apply]";
    browser.click(apply).await?;
    let problem = text_of(&mut browser, ".range-form .problem").await?;
    ensure!(
        !problem.is_empty(),
        "nothing is said of a range that goes backwards"
    );
    let still = browser.tell("location.href").await?;
    assert_eq!(still, before);
    let end = "2015-05-20 00:00";
    browser.fill("[data-testid=range-to]", end).await?;
    browser.click(apply).await?;
    browser
        .until("/from=2015-05-19.*to=2015-05-20/.test(location.search)")
        .await?;
    browser.is_faultless().await
}

#[tokio::test]
async fn text_of_events_never_becomes_markup() -> Result<()> {
    const HOSTILE: [&str; 5] = [
        "/<img src=x onerror=alert(1)>",
        "/\"><script>alert(2)</script>",
        "/{{constructor.constructor('alert(3)')()}}",
        "/\u{202e}gnp.exe",
        "javascript:alert(4)",
    ];
    let serin = Serin::start_with(&["examples/weblog/kpis", "examples/weblog/dashboards"]).await?;
    let mut lines = String::new();
    for path in HOSTILE {
        let data = json!({"client": "1.1.1.1", "path": path, "referrer": path, "agent": path,
            "status": 200, "bytes": 1, "method": "GET"});
        let time = "2015-05-18T12:00:00Z";
        let event = json!({"type": "http.request", "source": "/web", "time": time, "data": data});
        lines.push_str(&format!("{event}\n"));
    }
    serin.give(lines).await?;
    serin.run(&["flush"]).await?;
    let mut browser = Browser::start()?;
    browser.dashboard(&at(&serin, "/d/weblog").await?).await?;
    for panel in ["pages", "referrers"] {
        let table = browser.ask("table", json!({"panel": panel})).await?;
        let rows = table["rows"].as_array().map_or(&[][..], Vec::as_slice);
        for path in HOSTILE {
            ensure!(
                rows.iter().any(|row| row[0] == path),
                "{path:?} is not shown as it is in {panel}: {table}"
            );
        }
    }
    let sql = "SELECT path, agent FROM \"http.request\"";
    browser.open(&format!("{}/explore", serin.url())).await?;
    browser.fill("[data-testid=sql]", sql).await?;
    browser.click("[data-testid=run]").await?;
    browser
        .until("document.querySelector('[data-testid=result]') !== null")
        .await?;
    let shown = text_of(&mut browser, "[data-testid=result]").await?;
    ensure!(shown.contains(HOSTILE[0]), "{shown}");
    let made = "document.querySelectorAll('img[src=x], #main script').length";
    assert_eq!(browser.tell(made).await?, 0);
    browser.is_faultless().await
}

#[tokio::test]
async fn a_panel_that_fails_says_why_and_the_others_go_on() -> Result<()> {
    let serin = Serin::start().await?;
    let event = json!({"type": "order.paid", "source": "/shop", "data": {"amount": 12}});
    serin.give(event.to_string()).await?;
    serin
        .write_dashboard(
            "two",
            "dashboard: two\nrange: 1h\npanels:\n  \
         good: {sql: 'SELECT sum(amount) AS paid FROM \"order.paid\"', draw: table}\n  \
         bad: {sql: 'SELECT amuont FROM \"order.paid\"', draw: table}\n\
         layout:\n  - {good: 1, bad: 1}\n",
        )
        .await?;
    let mut browser = Browser::start()?;
    browser.dashboard(&at(&serin, "/d/two").await?).await?;
    browser
        .until("document.querySelector('[data-panel=good]')?.dataset.state === 'ok'")
        .await?;
    let states = browser.ask("states", json!({})).await?;
    assert_eq!(states, json!({"good": "ok", "bad": "error"}));
    let why = text_of(&mut browser, "[data-panel=bad]").await?;
    ensure!(
        why.contains("amuont") && why.contains("amount") && why.contains("SER-"),
        "{why}"
    );
    let short = text_of(&mut browser, "[data-testid=panel-error]").await?;
    ensure!(
        short.contains("amuont") && short.len() < 160,
        "what is read at a glance: {short}"
    );
    browser.is_faultless().await
}

#[tokio::test]
async fn young_data_fill_the_page_and_the_dashboards_own_range_is_a_click_away() -> Result<()> {
    let serin = Serin::start().await?;
    let event = json!({"type": "order.paid", "source": "/shop", "data": {"amount": 12}});
    serin.give(event.to_string()).await?;
    serin.write_dashboard(
        "young",
        "dashboard: young\nrange: 6h\npanels:\n  \
         paid: {sql: 'SELECT sum(amount) AS paid FROM \"order.paid\" WHERE $__range', draw: table}\n",
    ).await?;
    let mut browser = Browser::start()?;
    browser.dashboard(&at(&serin, "/d/young").await?).await?;
    let shown = "document.querySelector('.range-name').textContent";
    browser
        .until(&format!("{shown} === 'Last 5 minutes'"))
        .await?;
    let why = text_of(&mut browser, "[data-testid=young]").await?;
    ensure!(
        why.starts_with("Data began") && why.contains("Show the last 6 hours"),
        "{why}"
    );
    let range = serin.get("/api/v1/dashboards/young/data").await?;
    let (from, to) = (range["from"].as_str(), range["to"].as_str());
    let width = "(Date.parse(to) - Date.parse(from)) / 60000";
    let width = format!("((from, to) => {width})({}, {})", json!(from), json!(to));
    let width = browser.tell(&width).await?;
    assert_eq!(width, 5, "programs are answered the same");
    browser.click("[data-testid=show-own-range]").await?;
    browser
        .until(&format!(
            "{shown} === 'Last 6 hours' && location.search === '?from=now-6h&to=now'"
        ))
        .await?;
    browser
        .until("document.querySelector('[data-testid=young]').hidden")
        .await?;
    browser.is_faultless().await
}

#[tokio::test]
async fn signing_in_leads_to_the_page_one_wanted() -> Result<()> {
    let serin = Serin::start().await?;
    let wanted = "/logs?from=now-2d&to=now&text=%22a%22+b%3C#kept";
    let is_there = format!(
        "location.pathname + location.search + location.hash === {} && \
         document.querySelector('[data-testid=logs]') !== null",
        json!(wanted)
    );
    let mut browser = Browser::start()?;
    browser.open(&format!("{}{wanted}", serin.url())).await?;
    browser
        .until("document.querySelector('[data-testid=sign-in]') !== null")
        .await?;
    browser.fill("#token", serin.token()).await?;
    browser.click("[type=submit]").await?;
    browser.until(&is_there).await?;
    browser.is_faultless().await?;

    // A link of the terminal names no page; in the tab where one was it leads back there.
    let mut browser = Browser::start()?;
    browser.open(&format!("{}{wanted}", serin.url())).await?;
    browser
        .until("document.querySelector('[data-testid=sign-in]') !== null")
        .await?;
    browser.open(&serin.sign_in_link("").await?).await?;
    browser.until(&is_there).await?;
    browser.is_faultless().await
}

#[tokio::test]
async fn the_theme_is_chosen_and_remembered() -> Result<()> {
    let serin = weblog::imported().await?;
    let mut browser = Browser::start()?;
    browser.dashboard(&at(&serin, "/d/weblog").await?).await?;
    let brightness = r"getComputedStyle(document.body).backgroundColor
        .match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3";
    let mut seen = Vec::new();
    for theme in ["light", "dark"] {
        let chosen = format!("document.documentElement.dataset.theme === '{theme}'");
        while browser.tell(&chosen).await? != true {
            browser.click("[data-testid=theme]").await?;
        }
        let bright = browser.tell(brightness).await?;
        seen.push(bright.as_f64().unwrap_or(f64::NAN));
    }
    ensure!(
        seen[0] > 200.0 && seen[1] < 60.0,
        "light and dark: {seen:?}"
    );
    let again = format!("{}/d/weblog", serin.url());
    browser.dashboard(&again).await?;
    browser
        .until("document.documentElement.dataset.theme === 'dark'")
        .await?;
    browser.is_faultless().await
}

/// Drops files on the page, as a user does with the mouse.
async fn drop_files(browser: &mut Browser, files: &[(&str, &str)]) -> Result<()> {
    let expression = format!(
        "(() => {{ const carried = new DataTransfer(); \
         for (const [name, text] of {}) carried.items.add(new File([text], name)); \
         for (const kind of ['dragenter', 'dragover', 'drop']) \
         window.dispatchEvent(new DragEvent(kind, {{dataTransfer: carried, bubbles: true, cancelable: true}})); \
         return true; }})()",
        json!(files)
    );
    browser.tell(&expression).await?;
    Ok(())
}

#[tokio::test]
async fn a_dropped_file_is_opened_where_its_data_are() -> Result<()> {
    let serin = Serin::start().await?;
    let mut browser = Browser::start()?;
    browser.open(&at(&serin, "/").await?).await?;
    browser
        .until("document.querySelector('[data-testid=drop-area]') !== null")
        .await?;
    drop_files(&mut browser, &[("broken.csv", "")]).await?;
    browser
        .until("document.querySelector('[data-testid=open-progress].bad') !== null")
        .await?;
    let why = text_of(&mut browser, "[data-testid=open-progress]").await?;
    ensure!(why.contains("broken.csv"), "{why}");

    let mut csv = String::from("time,country,amount\n");
    for hour in 0..24 {
        csv.push_str(&format!("2019-03-04T{hour:02}:30:00Z,de,{hour}\n"));
    }
    // Several at once: each is told apart, and one that is no data holds no other up.
    drop_files(
        &mut browser,
        &[("a.bin", "\u{0}\u{1}"), ("orders.csv", &csv)],
    )
    .await?;
    browser.until("location.pathname.startsWith('/d/')").await?;
    browser
        .until("location.search.includes('2019-03-04')")
        .await?;
    let boxes =
        "[...document.querySelectorAll('[data-testid=open-progress]')].map((box) => box.className)";
    let boxes = browser.tell(boxes).await?;
    assert_eq!(
        boxes,
        json!(["opening bad", "opening bad", "opening done"]),
        "each stays until it is closed"
    );
    let done = text_of(&mut browser, ".opening.done").await?;
    ensure!(done.contains("24 events imported"), "{done}");
    let ready = "document.querySelector('[data-panel]') !== null && \
        [...document.querySelectorAll('[data-panel]')].every((panel) => panel.dataset.state === 'ok')";
    browser.until(ready).await?;
    assert_eq!(
        serin
            .sql("SELECT count(*), sum(amount) FROM orders")
            .await?,
        [[json!(24), json!(276)]]
    );
    browser.is_faultless().await
}

#[tokio::test]
async fn a_link_with_a_statement_asks_once_and_a_range_that_is_none_is_said_once() -> Result<()> {
    let serin = weblog::imported().await?;
    let mut browser = Browser::start()?;
    browser.open(&at(&serin, "/d/weblog").await?).await?;
    let link = "/explore?sql=SELECT%20count(*)%20AS%20requests%20FROM%20%22http.request%22";
    browser.open(&format!("{}{link}", serin.url())).await?;
    browser
        .until("document.querySelector('[data-testid=result] td')?.textContent === '10,000'")
        .await?;
    let asked = "performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/query')).length";
    // One is on the list once it is answered in full.
    browser.until(&format!("{asked} >= 2")).await?;
    let asked = browser.tell(asked).await?;
    assert_eq!(asked, 2, "the list of tables, and the statement");

    browser
        .open(&format!("{}/d/weblog?from=soon&to=later", serin.url()))
        .await?;
    browser
        .until("document.querySelector('[data-testid=own-range]') !== null")
        .await?;
    let panels = browser
        .tell("document.querySelectorAll('[data-panel]').length")
        .await?;
    assert_eq!(panels, 0, "no panel repeats it");
    browser.click("[data-testid=own-range]").await?;
    browser
        .until("document.querySelector('[data-panel=total]')?.dataset.state === 'ok'")
        .await?;
    browser.is_faultless().await
}

#[tokio::test]
async fn a_page_that_is_none_is_told_by_the_application_and_by_json_to_programs() -> Result<()> {
    let serin = Serin::start().await?;
    let mut browser = Browser::start()?;
    let url = format!("{}/nothing/here", serin.url());
    let told = reqwest::get(&url).await?;
    assert_eq!(told.status().as_u16(), 404);
    ensure!(
        told.text().await?.contains("SER-HTTP-002"),
        "a program reads JSON"
    );
    browser.open(&at(&serin, "/").await?).await?;
    browser.open(&url).await?;
    browser
        .until("document.querySelector('h1')?.textContent === 'There is no such page'")
        .await?;
    browser.is_faultless().await
}
