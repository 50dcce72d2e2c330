//! What a panel shows, as data: the contract with the browser, with the drawings and with tests.
//!
//! Times are RFC 3339 in UTC, a gap is null and not a zero, shares are fractions.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::model::{Draw, Threshold};

/// One panel with its numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PanelData {
    /// The panel's name.
    pub panel: String,
    /// What stands above it.
    pub title: String,
    /// What it shows, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How it is drawn.
    pub draw: Draw,
    /// What its values are counted in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// `higher` or `lower`, where one is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub better: Option<&'static str>,
    /// Whether there is something to show.
    pub state: PanelState,
    /// Why there is nothing to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<PanelError>,
    /// What to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// Bounds that colour it.
    pub thresholds: Vec<Threshold>,
    /// What happened within the range.
    pub marks: Vec<Mark>,
    /// How many series are not shown.
    #[serde(skip_serializing_if = "is_zero")]
    pub series_dropped: usize,
    /// Whether a statement has more rows than are shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Whether its values are near the true ones: quantiles, distinct counts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub approximate: bool,
    /// The range it was asked for: from, to.
    pub range: (String, String),
    /// Up to when the data are complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
    /// What was read.
    pub served_from: &'static str,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Whether a panel has something to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PanelState {
    /// It has.
    Ok,
    /// No data in the range.
    Empty,
    /// It failed; see the error.
    Error,
}

/// Why a panel failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PanelError {
    /// Under which the documentation explains it.
    pub code: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

/// A time and what was measured then.
pub type Point = (String, Option<f64>);

/// The numbers of a panel.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Data {
    /// Lines or columns over time.
    Series {
        /// The distance of points in seconds.
        step_s: f64,
        /// Whether they stand on each other.
        stacked: bool,
        /// The lines.
        series: Vec<NamedSeries>,
    },
    /// One number.
    Stat {
        /// It; null where it could not be measured.
        value: Option<f64>,
        /// The same of an earlier range; null where that could not be measured.
        #[serde(skip_serializing_if = "Option::is_none")]
        compare: Option<Option<f64>>,
        /// How it came about.
        spark: Vec<Point>,
    },
    /// One bar per group.
    Bars {
        /// The bars, longest first.
        bars: Vec<BarItem>,
    },
    /// Text in rows and columns.
    Table {
        /// The columns.
        columns: Vec<TableColumn>,
        /// The rows.
        rows: Vec<Vec<Value>>,
    },
    /// Coloured cells.
    Heatmap {
        /// Across.
        x: Axis,
        /// Upward.
        y: Axis,
        /// One list per label of `y`, one cell per label of `x`.
        cells: Vec<Vec<Option<f64>>>,
    },
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedSeries {
    /// What it is called.
    pub name: String,
    /// The values of its dimensions.
    pub by: BTreeMap<String, Option<String>>,
    /// Whether it is drawn dashed: it is what the others are compared with.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dashed: bool,
    /// Its place among the colours, the same on pages and in pictures.
    pub look: usize,
    /// Its points, in order of time.
    pub points: Vec<Point>,
}

/// Hands out places among the colours by the values of dimensions and not by size: the same series look
/// the same in every chart, and after every refresh. Those without dimensions follow the order of the
/// chart. What others are compared with has the place of what it was earlier.
pub(crate) fn place_looks(series: &mut [NamedSeries]) {
    let (mut now, earlier): (Vec<usize>, Vec<usize>) =
        (0..series.len()).partition(|&at| !series[at].dashed);
    now.sort_by(|&a, &b| series[a].by.cmp(&series[b].by));
    for (place, &at) in now.iter().enumerate() {
        series[at].look = place;
    }
    for at in earlier {
        let is_same = |now: &&NamedSeries| {
            let rest = series[at].name.strip_prefix(&now.name);
            rest.is_some_and(|rest| rest.starts_with(", "))
        };
        let now = now.iter().map(|&at| &series[at]).filter(is_same);
        let now = now.max_by_key(|now| now.name.len());
        series[at].look = now.map_or(at, |now| now.look);
    }
}

/// One bar.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BarItem {
    /// What it stands for.
    pub label: String,
    /// How long it is.
    pub value: Option<f64>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// `text`, `int`, `double`, `time` or `bool`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What its values are counted in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// An axis with names instead of numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Axis {
    /// What it is called.
    pub title: String,
    /// Its places in order.
    pub labels: Vec<String>,
}

/// Something that happened, marked on a chart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// When.
    pub time: String,
    /// What, in a sentence; a line for each where it stands for several.
    pub text: String,
    /// The action: `notify`, `resolve`, `deploy`, `replace`, ….
    pub kind: String,
    /// A word beside it: the version, or how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// What stands for a dimension that an event had no value for.
pub const NO_VALUE: &str = "(none)";

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, by: &[(&str, &str)], dashed: bool) -> NamedSeries {
        let by = by.iter();
        NamedSeries {
            name: name.to_owned(),
            by: by
                .map(|&(name, value)| (name.to_owned(), Some(value.to_owned())))
                .collect(),
            dashed,
            look: 0,
            points: Vec::new(),
        }
    }

    fn looks(mut series: Vec<NamedSeries>) -> Vec<(String, usize)> {
        place_looks(&mut series);
        let looks = series.into_iter().map(|one| (one.name, one.look));
        looks.collect()
    }

    #[test]
    fn the_order_of_the_chart_changes_no_colour() {
        let lines = || ["b", "c", "a"].map(|name| line(name, &[("instance", name)], false));
        let mut once = looks(lines().to_vec());
        let mut again = looks(lines().into_iter().rev().collect());
        once.sort();
        again.sort();
        let by_name = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(once, by_name.into_iter().zip(0..).collect::<Vec<_>>());
        assert_eq!(once, again);
    }

    #[test]
    fn measures_keep_their_order_and_earlier_ones_look_like_those_of_now() {
        let lines = vec![
            line("p95", &[], false),
            line("p50", &[], false),
            line("p50, 1d earlier", &[], true),
            line("gone, 1d earlier", &[], true),
        ];
        let looks: Vec<usize> = looks(lines).into_iter().map(|one| one.1).collect();
        assert_eq!(looks, [0, 1, 1, 3]);
    }
}
