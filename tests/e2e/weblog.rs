//! The main job: a real access log comes in through the command line, twice, and every number of the
//! weblog dashboard equals an independent computation over the raw file, and DuckDB's.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use serin_tests::wait::until;
use serin_tests::{Serin, duck, place};

/// Approximate distinct counts may be off by this share.
const DISTINCT_ERROR_MAX: f64 = 0.02;
const SEEN_DEADLINE: Duration = Duration::from_secs(60);
const REQUESTS: i64 = 10_000;
pub(crate) const PANELS: usize = 12;
/// 2015-05-01T00:00:00Z.
const MAY_2015: i64 = 1_430_438_400;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A Serin with the shipped example in its folder and the shipped log imported.
pub(crate) async fn imported() -> Result<Serin> {
    let serin = Serin::start_with(&["examples/weblog/kpis", "examples/weblog/dashboards"]).await?;
    import(&serin).await?;
    seen(&serin).await?;
    Ok(serin)
}

async fn import(serin: &Serin) -> Result<()> {
    let log = place::weblog();
    let log = log.to_str().context("the path of the log is text")?;
    serin
        .run(&["import", log, "--type", "http.request"])
        .await?;
    Ok(())
}

async fn seen(serin: &Serin) -> Result<()> {
    until("all requests are visible", SEEN_DEADLINE, async || {
        let count = serin
            .sql_number("SELECT count(*) FROM \"http.request\"")
            .await?;
        ensure!(count <= REQUESTS, "{count} rows, {REQUESTS} were imported");
        Ok((count == REQUESTS).then_some(()))
    })
    .await
}

/// What must come out, by `tests/weblog/expected.py`.
fn expected(step_s: u64) -> Result<Value> {
    let output = place::python()
        .arg(place::repository().join("tests/weblog/expected.py"))
        .arg(place::weblog())
        .args(["--step", &step_s.to_string()])
        .output()
        .context("cannot start Python")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test]
async fn importing_twice_adds_nothing_and_the_columns_are_right() -> Result<()> {
    let serin = imported().await?;
    import(&serin).await?;
    serin.run(&["flush"]).await?;
    seen(&serin).await?;
    let expected = expected(60)?;
    let sql = "SELECT count(*), sum(bytes), count(*) - count(bytes), count(DISTINCT client), \
               min(epoch(time)), max(epoch(time)) FROM \"http.request\"";
    let rows = duck::query(serin.catalogue(), sql)?;
    let numbers: Vec<f64> = rows[0].iter().map(number).collect();
    let wanted: Vec<f64> = [
        "requests",
        "bytes",
        "bytes_missing",
        "visitors",
        "from",
        "to",
    ]
    .iter()
    .map(|key| number(&expected[key]))
    .collect();
    assert_eq!(numbers, wanted, "DuckDB and the raw log");
    for (column, key) in [
        ("path", "pages"),
        ("referrer", "referrers"),
        ("status", "statuses"),
    ] {
        let sql = format!(
            "SELECT {column}, count(*) FROM \"http.request\" WHERE {column} IS NOT NULL GROUP BY 1"
        );
        let mut stored = duck::query(serin.catalogue(), &sql)?;
        let wanted = expected[key].as_array().context("an array")?;
        let mut wanted: Vec<Vec<Value>> = wanted
            .iter()
            .filter_map(|row| row.as_array().cloned())
            .collect();
        stored.sort_by_key(|row| row[0].to_string());
        wanted.sort_by_key(|row| row[0].to_string());
        assert_eq!(stored, wanted, "{column}");
    }
    Ok(())
}

#[tokio::test]
async fn every_number_of_every_panel_is_right() -> Result<()> {
    let serin = imported().await?;
    panels_are_right(&serin)
        .await
        .context("from the hot buffer")?;
    serin.run(&["flush"]).await?;
    panels_are_right(&serin).await.context("from files")
}

async fn panels_are_right(serin: &Serin) -> Result<()> {
    let range = "from=2015-05-17T00:00:00Z&to=2015-05-21T00:00:00Z";
    let answer = serin
        .get(&format!("/api/v1/dashboards/weblog/data?{range}"))
        .await?;
    let panels = answer["panels"].as_object().context("panels by name")?;
    let mut wrong = Vec::new();
    for (name, panel) in panels {
        if panel["state"] != "ok" {
            wrong.push(format!("{name} is {}: {}", panel["state"], panel["error"]));
        } else if let Err(error) = panel_is_right(name, &panel["data"]) {
            wrong.push(format!("{name}: {error:#}"));
        }
    }
    ensure!(
        panels.len() == PANELS,
        "{} panels, {PANELS} were expected",
        panels.len()
    );
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

pub(crate) fn panel_is_right(name: &str, data: &Value) -> Result<()> {
    let step_s = data["step_s"].as_f64().unwrap_or(3600.0) as u64;
    let wanted = expected(step_s)?;
    let requests = wanted["requests_per_step"].as_array().context("steps")?;
    let at = |step: Option<&Value>| step?[0].as_i64();
    let record = at(requests.first()).zip(at(requests.last()));
    match name {
        "total" => same(&data["value"], number(&wanted["requests"])),
        "people" => near(&data["value"], number(&wanted["visitors"])),
        "bytes_total" => same(&data["value"], number(&wanted["bytes"])),
        "errors_total" => same(&data["value"], number(&wanted["error_share"])),
        "per_minute" => {
            ensure!(step_s == 60, "its step is {step_s} s");
            line(only(data)?, &wanted["requests_per_step"], record, same)
        }
        "bytes" => line(only(data)?, &wanted["bytes_per_step"], record, same),
        "visitors" => line(only(data)?, &wanted["visitors_per_step"], record, near),
        "errors" => {
            let total = by_time(&wanted["requests_per_step"]);
            for (class, series) in ["4xx", "5xx"].iter().zip(series(data)?) {
                let errors = by_time(&wanted["errors_per_step"][class]);
                let shares = total
                    .iter()
                    .map(|(at, all)| json!([at, errors.get(at).copied().unwrap_or(0.0) / all]));
                line(series, &shares.collect(), None, same).with_context(|| class.to_string())?;
            }
            Ok(())
        }
        "statuses" => {
            let all = wanted["statuses_per_step"]
                .as_object()
                .context("by status")?;
            ensure!(
                series(data)?.len() == all.len(),
                "{} codes",
                series(data)?.len()
            );
            for series in series(data)? {
                let status = series["by"]["status"]
                    .as_str()
                    .context("a series has a status")?;
                line(series, &all[status], record, same).with_context(|| status.to_owned())?;
            }
            Ok(())
        }
        "rhythm" => heat(data, &wanted["hour_by_weekday"]),
        "pages" => {
            let rows = data["rows"].as_array().context("a table has rows")?;
            ensure!(rows.len() == 10, "{} rows", rows.len());
            for (row, wanted_row) in rows
                .iter()
                .zip(wanted["pages"].as_array().context("pages")?)
            {
                ensure!(row[0] == wanted_row[0], "{row} is not {wanted_row}");
                same(&row[1], number(&wanted_row[1]))?;
                let path = row[0].as_str().context("a page is text")?;
                match &wanted["page_bytes"][path] {
                    Value::Null => ensure!(row[2].is_null(), "{path} has {} bytes", row[2]),
                    bytes => same(&row[2], number(bytes))?,
                }
            }
            Ok(())
        }
        "referrers" => {
            let bars = data["bars"].as_array().context("bars")?;
            ensure!(bars.len() == 10, "{} bars", bars.len());
            for (bar, wanted) in bars
                .iter()
                .zip(wanted["referrers"].as_array().context("all")?)
            {
                ensure!(bar["label"] == wanted[0], "{bar} is not {wanted}");
                same(&bar["value"], number(&wanted[1]))?;
            }
            Ok(())
        }
        other => bail!("no expectation for the panel {other:?}"),
    }
}

fn series(data: &Value) -> Result<&Vec<Value>> {
    data["series"].as_array().context("series")
}

fn only(data: &Value) -> Result<&Value> {
    let series = series(data)?;
    ensure!(series.len() == 1, "{} series", series.len());
    Ok(&series[0])
}

/// Each point is what was computed. Where there was no request, a count is zero from the first step
/// of the import to its last (`record`), and everything else is a gap.
fn line(
    series: &Value,
    wanted: &Value,
    record: Option<(i64, i64)>,
    same: fn(&Value, f64) -> Result<()>,
) -> Result<()> {
    let mut wanted = by_time(wanted);
    for point in series["points"].as_array().context("points")? {
        let at = seconds(point[0].as_str().context("a time")?)?;
        match wanted.remove(&at) {
            Some(value) => same(&point[1], value).with_context(|| point[0].to_string())?,
            None if record.is_some_and(|(first, last)| first <= at && at <= last) => ensure!(
                point[1] == 0.0,
                "{} at {}, where zero was expected",
                point[1],
                point[0]
            ),
            None => ensure!(
                point[1].is_null(),
                "{} at {}, where nothing was",
                point[1],
                point[0]
            ),
        }
    }
    ensure!(wanted.is_empty(), "no points at {:?}", wanted.keys());
    Ok(())
}

fn by_time(pairs: &Value) -> BTreeMap<i64, f64> {
    let pairs = pairs.as_array().map(Vec::as_slice).unwrap_or_default();
    pairs
        .iter()
        .filter_map(|pair| Some((pair[0].as_i64()?, number(&pair[1]))))
        .collect()
}

/// Seconds of an RFC 3339 time within May 2015, which is all this log has.
fn seconds(time: &str) -> Result<i64> {
    let rest = time.strip_prefix("2015-05-").context("a day in May 2015")?;
    let (day, clock) = rest
        .trim_end_matches('Z')
        .split_once('T')
        .context("a time of day")?;
    let clock = clock.split('.').next().unwrap_or(clock);
    let mut parts = clock.split(':').map(str::parse::<i64>);
    let mut next = || {
        parts
            .next()
            .context("hours, minutes, seconds")?
            .context("a number")
    };
    let (hour, minute, second) = (next()?, next()?, next()?);
    Ok(MAY_2015 + (day.parse::<i64>()? - 1) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Labels are hours across and days of the week upward, Monday first.
fn heat(data: &Value, wanted: &Value) -> Result<()> {
    let rows = data["cells"].as_array().context("cells")?;
    let labels = data["y"]["labels"].as_array().context("labels")?;
    let mut counts = BTreeMap::new();
    for cell in wanted.as_array().context("cells")? {
        counts.insert((cell[0].as_i64(), cell[1].as_i64()), number(&cell[2]));
    }
    for (row, label) in rows.iter().zip(labels) {
        let label = label.as_str().unwrap_or_default().to_lowercase();
        let day = DAYS
            .iter()
            .position(|day| label.starts_with(day))
            .context("a day")? as i64
            + 1;
        let hours = row.as_array().context("cells of a row")?;
        ensure!(hours.len() == 24, "{} hours", hours.len());
        for (hour, cell) in hours.iter().enumerate() {
            let here = format!("{label} {hour} h");
            match counts.remove(&(Some(day), Some(hour as i64))) {
                Some(count) => same(cell, count).context(here)?,
                None => ensure!(cell.is_null(), "{cell} at {here}, where nothing was"),
            }
        }
    }
    ensure!(counts.is_empty(), "missing: {counts:?}");
    Ok(())
}

fn same(got: &Value, wanted: f64) -> Result<()> {
    let got = got
        .as_f64()
        .with_context(|| format!("{got} is no number, {wanted} was expected"))?;
    ensure!(
        (got - wanted).abs() <= wanted.abs() * 1e-12,
        "{got}, {wanted} was expected"
    );
    Ok(())
}

fn near(got: &Value, wanted: f64) -> Result<()> {
    let got = got
        .as_f64()
        .with_context(|| format!("{got} is no number, {wanted} was expected"))?;
    let allowed = (wanted * DISTINCT_ERROR_MAX).max(1.0);
    ensure!(
        (got - wanted).abs() <= allowed,
        "{got}, {wanted} was expected"
    );
    Ok(())
}

/// A number, however wide its reader printed it.
fn number(value: &Value) -> f64 {
    let text = || value.as_str().and_then(|text| text.parse().ok());
    value.as_f64().or_else(text).unwrap_or(f64::NAN)
}
