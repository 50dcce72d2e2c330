//! A series has one colour: in every panel, on the page and in its picture, in another browser and after
//! a restart.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::json;
use serin_tests::Serin;

use crate::chromium::Browser;

const KPIS: &str = "
kpis:
  paid: {event: order.paid, measure: sum(amount), by: [service, country]}
  small: {event: order.paid, measure: sum(amount), where: amount < 5, by: [service]}
";
/// In `small` the greatest of `paid` is not there and the others stand in another order.
const DASHBOARD: &str = "
dashboard: looks
range: 30m
panels:
  paid: {kpi: paid, by: service, draw: line, compare: 1h}
  small: {kpi: small, by: service, draw: line}
  country: {kpi: paid, by: country, draw: line, compare: 1h}
  total: {kpi: paid, draw: stat, thresholds: [{above: 1, color: red}]}
  ranked: {kpi: paid, by: country, draw: bar, thresholds: [{above: 1, color: orange}]}
";
const PANELS: [&str; 3] = ["paid", "small", "country"];
/// Who paid, where, and how much.
const ORDERS: [(&str, &str, u32); 4] = [
    ("mail", "de", 900),
    ("cart", "fr", 50),
    ("stock", "de", 4),
    ("cart", "de", 1),
];

type Colors = BTreeMap<String, String>;

#[tokio::test]
async fn a_series_has_one_color_on_pages_and_in_pictures() -> Result<()> {
    let files = [
        ("kpis/shop.yaml", KPIS),
        ("dashboards/looks.yaml", DASHBOARD),
    ];
    let mut serin = Serin::start_with_files(&files).await?;
    let now_us = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as i64;
    let mut lines = String::new();
    for back_min in [2, 62] {
        let time = serin_wire::time::to_rfc3339(now_us - back_min * 60_000_000);
        for (service, country, amount) in ORDERS {
            let data = json!({"amount": amount, "country": country});
            let source = format!("/{service}");
            let event = json!({"type": "order.paid", "source": source, "time": time, "data": data});
            lines.push_str(&format!("{event}\n"));
        }
    }
    serin.give(lines).await?;
    serin.run(&["flush"]).await?;

    let mut first: BTreeMap<&str, Colors> = BTreeMap::new();
    // Another browser knows nothing of the first one; a server that starts again remembers.
    for is_again in [false, true] {
        if is_again {
            serin.kill()?;
            serin.start_again().await?;
        }
        let mut browser = Browser::start()?;
        let next = "%2Fd%2Flooks%3Ftheme%3Dlight";
        let url = serin.sign_in_link(next).await?;
        browser.dashboard(&url).await?;
        for panel in PANELS {
            let page = on_the_page(&mut browser, panel).await?;
            let picture = in_the_picture(&serin, panel).await?;
            assert_eq!(page, picture, "{panel}, on the page and in the picture");
            ensure!(page.len() >= 2, "{panel} has {page:?}");
            let before = first.entry(panel).or_insert_with(|| page.clone());
            assert_eq!(&page, before, "{panel}, after a restart");
        }
        crossed_bounds(&serin, &mut browser).await?;
        browser.is_faultless().await?;
    }
    // The same in each panel, and what it was an hour earlier.
    for (panel, name) in [("small", "cart"), ("paid", "cart, 1h before")] {
        assert_eq!(first[panel][name], first["paid"]["cart"], "{panel}: {name}");
    }
    let file = serin.dir().join("whole.svg");
    serin.run(&["render", "looks", "-o", "whole.svg"]).await?;
    let whole = in_legends(&std::fs::read_to_string(file)?, &["mail", "cart", "stock"]);
    for (name, color) in &whole {
        assert_eq!(color, &first["paid"][name], "{name} in the picture of all");
    }
    assert_eq!(whole.len(), 3, "{whole:?}");
    let different: std::collections::BTreeSet<&String> = ["mail", "cart", "stock"]
        .map(|service| &first["paid"][service])
        .into();
    assert_eq!(different.len(), 3, "{first:?}");
    assert_eq!(first["country"]["de, 1h before"], first["country"]["de"]);
    Ok(())
}

/// What crosses a bound has its colour: the line below a number, and a bar.
async fn crossed_bounds(serin: &Serin, browser: &mut Browser) -> Result<()> {
    let line = "document.querySelector('[data-panel=total] .spark-line').getAttribute('stroke')";
    let line = browser.tell(line).await?;
    let line = line.as_str().context("a color")?.to_lowercase();
    let svg = picture(serin, "total").await?.to_lowercase();
    ensure!(svg.contains(&format!("stroke=\"{line}\"")), "{line}: {svg}");
    let bar = "getComputedStyle(document.querySelector('[data-panel=ranked] .bar')).backgroundColor
        .match(/\\d+/g).slice(0, 3).map((part) => Number(part).toString(16).padStart(2, '0')).join('')";
    let bar = browser.tell(bar).await?;
    let bar = format!("fill=\"#{}\"", bar.as_str().context("a color")?);
    let svg = picture(serin, "ranked").await?.to_lowercase();
    ensure!(svg.contains(&bar), "{bar}: {svg}");
    Ok(())
}

async fn picture(serin: &Serin, panel: &str) -> Result<String> {
    let path = format!("/d/looks/{panel}.svg");
    let svg = serin.request(Method::GET, &path).send().await?;
    Ok(svg.error_for_status()?.text().await?)
}

/// Series and their colours, as the legend of a panel has them.
async fn on_the_page(browser: &mut Browser, panel: &str) -> Result<Colors> {
    let items = format!(
        "[...document.querySelectorAll('[data-panel={panel}] .legend-item')].map((item) => \
         [item.dataset.series, item.querySelector('.swatch').style.getPropertyValue('--color')])"
    );
    let pairs = browser.tell(&items).await?;
    let pairs: Vec<(String, String)> = serde_json::from_value(pairs)?;
    let lower = |(name, color): (String, String)| (name, color.to_lowercase());
    Ok(pairs.into_iter().map(lower).collect())
}

/// The same of its picture.
async fn in_the_picture(serin: &Serin, panel: &str) -> Result<Colors> {
    let path = format!("/api/v1/dashboards/looks/data?panels={panel}");
    let data = serin.get(&path).await?;
    let series = &data["panels"][panel]["data"]["series"];
    let series = series.as_array().context("series")?;
    let names: Vec<&str> = series
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    Ok(in_legends(&picture(serin, panel).await?, &names))
}

/// The colours of these names, each with a sample before it.
fn in_legends(svg: &str, names: &[&str]) -> Colors {
    let (mut found, mut last) = (Colors::new(), "");
    for element in svg.split('<') {
        let text = element.split_once('>').map_or("", |(_, text)| text.trim());
        if element.starts_with("text") {
            if names.contains(&text) {
                found.insert(text.to_owned(), last.to_lowercase());
            }
        } else if let Some(color) = color_of(element) {
            last = color;
        }
    }
    found
}

/// What an element is filled with, or else drawn with: `#rrggbb`.
fn color_of(element: &str) -> Option<&str> {
    let of = |what: &str| element.split_once(what)?.1.get(..7);
    let filled = of("fill=\"").filter(|color| color.starts_with('#'));
    filled.or_else(|| of("stroke=\"").filter(|color| color.starts_with('#')))
}
