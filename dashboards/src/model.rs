//! A dashboard as it is used: names resolved, defaults filled in, nothing left to check.

use std::collections::BTreeMap;

use serde::Serialize;
use serin_yaml::Place;

use crate::spec::DefaultRange;
use crate::variable::Variable;

/// A dashboard.
#[derive(Debug, Clone, PartialEq)]
pub struct Dashboard {
    /// Its name, as in `/d/NAME`.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it shows unless someone picks another range.
    pub range: DefaultRange,
    /// How often it is drawn anew while data come in, microseconds.
    pub refresh_us: i64,
    /// What its readers choose.
    pub variables: Vec<Variable>,
    /// Its panels, in the order of the file.
    pub panels: Vec<Panel>,
    /// Rows of panel names, each with its share of the row's width.
    pub layout: Vec<Vec<(String, f64)>>,
    /// The file it came from, relative to the folder; `None` for a built-in one.
    pub file: Option<String>,
}

/// A panel.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Its name, unique in its dashboard.
    pub name: String,
    /// What stands above it.
    pub title: String,
    /// What it shows, in a sentence.
    pub description: Option<String>,
    /// How it is drawn.
    pub draw: Draw,
    /// Where its numbers come from.
    pub source: Source,
    /// The dimensions it is split by.
    pub by: Vec<String>,
    /// The values that dimensions are narrowed to, by what a reader chose.
    pub filters: Vec<(String, Vec<String>)>,
    /// How many of the greatest are shown.
    pub top: usize,
    /// Whether series stand on each other.
    pub is_stacked: bool,
    /// How far back the series lies that it is compared with, microseconds.
    pub compare_us: Option<i64>,
    /// Bounds that colour it.
    pub thresholds: Vec<Threshold>,
    /// What its values are counted in, where it is not the KPI's own unit.
    pub unit: Option<String>,
    /// What the columns of a table are counted in, by name.
    pub units: BTreeMap<String, String>,
    /// The dimension or column across.
    pub x: Option<String>,
    /// The dimension or column upward.
    pub y: Option<String>,
    /// The distance of points, where the panel insists on one, microseconds.
    pub step_us: Option<i64>,
    /// Whose deploys and replacements are marked on it.
    pub marks_of: MarksOf,
    /// It comes with Serin: its statement is known to behave.
    pub is_built_in: bool,
    /// Where it stands in its file.
    pub place: Place,
}

/// How a panel is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Draw {
    /// Lines over time.
    Line,
    /// Columns over time, or bars by group.
    Bar,
    /// One number.
    Stat,
    /// Rows and columns of text.
    Table,
    /// Coloured cells.
    Heatmap,
}

/// Where a panel's numbers come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Compiled KPIs by name, at least one.
    Kpis(Vec<String>),
    /// A statement, run guarded and apart.
    Sql(String),
    /// Nothing can be shown; why.
    Broken(String),
}

/// The services whose deploys and replacements are marked on a chart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum MarksOf {
    /// Those that the chart is narrowed to or split by.
    #[default]
    Shown,
    /// All.
    All,
    /// These, and those that the chart shows.
    These(Vec<String>),
}

/// A bound that colours what crosses it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Threshold {
    /// It colours what is above this,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// or below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// A colour's name in the palette.
    pub color: String,
    /// What the bound is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Panel {
    /// Whether bars stand side by side over time, and are not one per group: nothing to group by,
    /// or a step or a stack is asked for.
    pub fn has_columns_over_time(&self) -> bool {
        self.by.is_empty() || self.is_stacked || self.step_us.is_some()
    }
}

impl Dashboard {
    /// The panel of that name.
    pub fn panel(&self, name: &str) -> Option<&Panel> {
        self.panels.iter().find(|panel| panel.name == name)
    }

    /// What it shows at the moment `now_us`, unless someone picked another range.
    pub fn range_us(&self, now_us: i64) -> (i64, i64) {
        match self.range {
            DefaultRange::Last(span_us) => (now_us.saturating_sub(span_us), now_us),
            DefaultRange::Between(from_us, to_us) => (from_us, to_us),
        }
    }
}

impl Draw {
    /// As YAML and JSON say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Draw::Line => "line",
            Draw::Bar => "bar",
            Draw::Stat => "stat",
            Draw::Table => "table",
            Draw::Heatmap => "heatmap",
        }
    }
}
