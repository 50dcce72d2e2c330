//! `serin kpi`: a KPI over a range, with a line of little bars for each series.

use std::collections::BTreeMap;

use anyhow::Result;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use serin_query::render::csv_field;

use super::query::{format_of, range_of};
use super::{print, remark, write_out};
use crate::cli::{Format, Global, Kpi};
use crate::client::Client;
use crate::table::{Table, sparkline};

/// Bars of a line: what fits beside the names on a usual terminal.
const BARS: usize = 48;

#[derive(Deserialize)]
struct Answer {
    unit: Option<String>,
    series: Vec<Series>,
    watermark: Option<String>,
    /// Whether the values are near the true ones.
    #[serde(default)]
    approximate: bool,
    /// Series beyond those that are there.
    #[serde(default)]
    series_dropped: u64,
}

#[derive(Deserialize)]
struct Series {
    by: BTreeMap<String, Option<String>>,
    points: Vec<(String, Option<f64>)>,
}

pub(crate) async fn run(global: &Global, kpi: &Kpi) -> Result<()> {
    let format = format_of(global, kpi.format);
    let client = Client::find(global)?;
    let (from, to) = range_of(&kpi.range);
    let mut query: Vec<(&str, String)> = Vec::new();
    query.extend(from.map(|from| ("from", from)));
    query.extend(to.map(|to| ("to", to)));
    query.extend(kpi.step.clone().map(|step| ("step", step)));
    if !kpi.by.is_empty() {
        query.push(("by", kpi.by.join(",")));
    }
    let path = format!("/api/v1/kpis/{}", kpi.name);
    match format {
        Format::Json => {
            let answer: Value = client.get(&path, &query).await?;
            print(&answer.to_string());
        }
        Format::Arrow => {
            let request = client
                .request(Method::GET, &path)
                .query(&query)
                .header("accept", "application/vnd.apache.arrow.stream");
            write_out(&client.send(request).await?.bytes().await?);
        }
        Format::Csv => {
            let answer: Answer = client.get(&path, &query).await?;
            remark_dropped(&answer);
            write_out(csv_of(&dimensions(&kpi.by, &answer), &answer).as_bytes());
        }
        Format::Table => {
            // The same once more as one point over the whole range: a share is not a mean of shares.
            let answer: Answer = client.get(&path, &query).await?;
            remark_dropped(&answer);
            let mut over_all = query.clone();
            over_all.retain(|(name, _)| *name != "step");
            over_all.push(("step", String::from("all")));
            let whole: Answer = client.get(&path, &over_all).await?;
            write_out(shown(kpi, &answer, &whole).as_bytes());
        }
    }
    Ok(())
}

fn remark_dropped(answer: &Answer) {
    if answer.series_dropped > 0 {
        remark(&format!(
            "note: {} series were left out at the limit query.points_max; ask for a longer --step or fewer --by",
            answer.series_dropped
        ));
    }
}

/// What tells the series apart: the dimensions asked for, and those that the KPI has by itself, such as
/// the step of a funnel.
fn dimensions(asked: &[String], answer: &Answer) -> Vec<String> {
    let mut names = asked.to_vec();
    for name in answer.series.iter().flat_map(|series| series.by.keys()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn shown(kpi: &Kpi, answer: &Answer, whole: &Answer) -> String {
    let unit = answer.unit.as_deref();
    let by = dimensions(&kpi.by, answer);
    let mut head: Vec<(&str, bool)> = by.iter().map(|name| (name.as_str(), false)).collect();
    head.extend([(kpi.name.as_str(), true), ("", false)]);
    let mut table = Table::new(head);
    for series in &answer.series {
        let over_all = whole.series.iter().find(|other| other.by == series.by);
        let value = over_all
            .and_then(|series| series.points.first())
            .and_then(|point| point.1);
        let mut cells: Vec<String> = by
            .iter()
            .map(|name| {
                series
                    .by
                    .get(name)
                    .cloned()
                    .flatten()
                    .unwrap_or_else(|| String::from("-"))
            })
            .collect();
        cells.push(serin_dashboards::format::format_value(value, unit));
        cells.push(sparkline(&thinned(&series.points)));
        table.push(cells);
    }
    let mut text = table.to_text();
    let span = answer.series.first().and_then(|series| {
        Some((
            series.points.first()?.0.clone(),
            series.points.last()?.0.clone(),
        ))
    });
    if let Some((first, last)) = span {
        text.push_str(&format!("{first} … {last}"));
        if let Some(watermark) = &answer.watermark {
            text.push_str(&format!(", complete up to {watermark}"));
        }
        if answer.approximate {
            text.push_str(", approximate");
        }
        text.push('\n');
    }
    text
}

/// So many points that they fit: of each stretch the greatest, so that a peak is not lost.
fn thinned(points: &[(String, Option<f64>)]) -> Vec<Option<f64>> {
    let stretch = points.len().div_ceil(BARS).max(1);
    points
        .chunks(stretch)
        .map(|chunk| {
            let values = chunk.iter().filter_map(|(_, value)| *value);
            values.reduce(f64::max)
        })
        .collect()
}

/// A header and a line a point; a value that is not there is an empty field.
fn csv_of(by: &[String], answer: &Answer) -> String {
    let names = by.iter().map(|name| csv_field(name));
    let names: String = names.map(|name| format!("{name},")).collect();
    let mut text = format!("time,{names}value\n");
    for series in &answer.series {
        let dimension = |name: &String| {
            let value = series.by.get(name).and_then(Option::as_deref);
            format!("{},", value.map(csv_field).unwrap_or_default())
        };
        let dimensions: String = by.iter().map(dimension).collect();
        for (time, value) in &series.points {
            let value = value.map(|value| json!(value).to_string());
            let value = value.unwrap_or_default();
            text.push_str(&format!("{time},{dimensions}{value}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_of_a_funnel_are_told_apart() {
        let answer = json!({"unit": null, "watermark": null, "series": [
            {"by": {"country": "de", "step": "1 page.view"}, "points": [["t", 1.0]]},
            {"by": {"country": "de", "step": "2 order.paid"}, "points": [["t", 0.5]]}]});
        let answer: Answer = serde_json::from_value(answer).expect("an answer");
        let by = dimensions(&[String::from("country")], &answer);
        assert_eq!(by, ["country", "step"]);
        let expected = "time,country,step,value\nt,de,1 page.view,1.0\nt,de,2 order.paid,0.5\n";
        assert_eq!(csv_of(&by, &answer), expected);
    }

    #[test]
    fn a_peak_is_not_thinned_away() {
        let points: Vec<(String, Option<f64>)> = (0..96)
            .map(|at| {
                (
                    String::new(),
                    (at != 90 && at != 91).then_some(if at == 13 { 9.0 } else { 1.0 }),
                )
            })
            .collect();
        let thin = thinned(&points);
        assert_eq!(thin.len(), BARS);
        assert_eq!(thin[6], Some(9.0));
        assert_eq!(thin[45], None);
    }
}
