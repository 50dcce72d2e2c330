//! What happened while a chart's time passed: decisions of rules on their KPI's charts, and deploys,
//! rollbacks, replacements of instances on the charts of the service.
//!
//! The decisions of a range are read once for all panels of a dashboard. Those of one kind within a
//! step become one mark with their count, so that marks never drown a chart. Start at [`happened`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use serin_query::calendar::rfc3339;
use serin_query::{Engine, Newest, Range, Snapshot, SqlAnswer, render};
use serin_yaml::parse_time;

use crate::model::{MarksOf, Panel, Source};
use crate::panel_data::{Data, Mark};

/// The table of decisions.
const TABLE: &str = "decisions";
const COLUMNS: [&str; 7] = [
    "time",
    "rule",
    "action",
    "kpi",
    "subject",
    "subject_version",
    "why",
];
/// Most decisions that are looked at, the newest: a service that dies every minute for a day.
const READ_MAX: usize = 2_000;
/// However fine the steps, marks of one kind are so many to a chart at most.
const PLACES_MAX: i64 = 50;
/// Lines of a mark that stands for many.
const LINES_MAX: usize = 4;
/// The dimension that tells services apart.
const SERVICE: &str = "service";

/// The decisions within a range, in order of time.
#[derive(Debug, Default)]
pub struct Happened(Vec<Decided>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Decided {
    time_us: i64,
    action: String,
    kpi: Option<String>,
    service: Option<String>,
    version: Option<String>,
    text: String,
}

/// Reads what happened that concerns one of these panels. A chart without its marks is still a
/// chart, so a failure here is only logged.
pub async fn happened(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    panels: &[Panel],
    range: Range,
) -> Happened {
    let Some(having) = concerns(panels) else {
        return Happened::default();
    };
    let asked = Newest {
        table: TABLE,
        columns: &COLUMNS,
        range: Some(range),
        having,
        rows_max: READ_MAX,
    };
    match engine.newest(snapshot, &asked).await {
        Ok(answer) => Happened(decided(&answer)),
        Err(error) => {
            tracing::warn!(code = error.code(), %error, "cannot read the decisions for charts");
            Happened::default()
        }
    }
}

/// Which KPIs and services the panels are about: all where that cannot be said beforehand, `None`
/// where there are neither.
fn concerns(panels: &[Panel]) -> Option<Vec<(&'static str, &str)>> {
    let mut wanted = BTreeSet::new();
    for panel in panels {
        wanted.extend(kpis(panel).iter().map(|name| ("kpi", name.as_str())));
        if panel.by.iter().any(|by| by == SERVICE) || panel.marks_of == MarksOf::All {
            return Some(Vec::new());
        }
        wanted.extend(services(panel).map(|name| ("subject", name)));
    }
    (!wanted.is_empty()).then(|| wanted.into_iter().collect())
}

fn kpis(panel: &Panel) -> &[String] {
    match &panel.source {
        Source::Kpis(names) => names,
        Source::Sql(_) | Source::Broken(_) => &[],
    }
}

/// The services that a panel is about, as far as its definition says.
fn services(panel: &Panel) -> impl Iterator<Item = &str> {
    let filters = panel.filters.iter();
    let chosen = filters.filter(|(column, _)| column == SERVICE);
    let named: &[String] = match &panel.marks_of {
        MarksOf::These(names) => names,
        MarksOf::All | MarksOf::Shown => &[],
    };
    let chosen = chosen.flat_map(|(_, values)| values);
    chosen.chain(named).map(String::as_str)
}

/// Rows, newest first, in order of time.
fn decided(answer: &SqlAnswer) -> Vec<Decided> {
    let columns = render::columns(answer);
    let mut all: Vec<Decided> = render::rows(answer)
        .filter_map(|row| {
            let text = |wanted: &str| {
                let at = columns.iter().position(|(name, _)| name == wanted)?;
                row.get(at).and_then(Value::as_str).map(str::to_owned)
            };
            let (kpi, service) = (text("kpi"), text("subject"));
            let who = service.clone().or_else(|| text("rule"))?;
            // What a build said in many lines is no tooltip.
            let why = text("why").unwrap_or_default();
            let why = why.lines().next().unwrap_or_default();
            Some(Decided {
                time_us: parse_time(&text("time")?)?,
                action: text("action")?,
                text: format!("{who}: {why}"),
                version: text("subject_version"),
                kpi,
                service,
            })
        })
        .collect();
    all.reverse();
    all
}

impl Happened {
    /// The marks of a panel with these numbers.
    pub(crate) fn on(&self, panel: &Panel, data: &Data, range: Range) -> Vec<Mark> {
        let mut about: BTreeSet<&str> = services(panel).collect();
        let step_us = match data {
            Data::Series { series, step_s, .. } => {
                let shown = series
                    .iter()
                    .filter_map(|one| one.by.get(SERVICE)?.as_deref());
                about.extend(shown);
                (step_s * 1e6) as i64
            }
            // Small: the decisions of rules alone.
            Data::Stat { .. } => {
                about.clear();
                1
            }
            Data::Bars { .. } | Data::Table { .. } | Data::Heatmap { .. } => return Vec::new(),
        };
        let is_of_all = panel.marks_of == MarksOf::All && matches!(data, Data::Series { .. });
        let is_about = |one: &&Decided| match (&one.kpi, &one.service) {
            (Some(kpi), _) => kpis(panel).contains(kpi),
            (None, Some(service)) => is_of_all || about.contains(service.as_str()),
            (None, None) => false,
        };
        let apart_us = step_us.max(range.span_us() / PLACES_MAX).max(1);
        gather(self.0.iter().filter(is_about), apart_us)
    }
}

/// One mark for all of one kind within a step, where the first of them stands.
fn gather<'a>(all: impl Iterator<Item = &'a Decided>, apart_us: i64) -> Vec<Mark> {
    let mut places: BTreeMap<(i64, &str), Vec<&Decided>> = BTreeMap::new();
    for one in all {
        // Steps are counted from 1970, so that a mark stays itself while the range moves on.
        let place = (one.time_us.div_euclid(apart_us), one.action.as_str());
        places.entry(place).or_default().push(one);
    }
    let marks = places.into_values().filter_map(|those| {
        let first = those.first()?;
        Some(Mark {
            time: rfc3339(first.time_us),
            text: lines(&those),
            kind: first.action.clone(),
            label: match &those[..] {
                [one] => one.version.clone().filter(|_| is_new_version(&one.action)),
                many => Some(format!("×{}", many.len())),
            },
        })
    });
    marks.collect()
}

fn is_new_version(action: &str) -> bool {
    matches!(action, "deploy" | "rollback")
}

fn lines(those: &[&Decided]) -> String {
    let told = those.iter().take(LINES_MAX).map(|one| one.text.clone());
    let more = those.len().saturating_sub(LINES_MAX);
    let rest = (more > 0).then(|| format!("and {more} more"));
    told.chain(rest).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(time_s: i64, action: &str, service: &str) -> Decided {
        Decided {
            time_us: time_s * 1_000_000,
            action: action.to_owned(),
            kpi: None,
            service: Some(service.to_owned()),
            version: Some(String::from("v2")),
            text: format!("{service}: {action}"),
        }
    }

    #[test]
    fn many_of_one_kind_within_a_step_are_one_mark() {
        let mut all: Vec<Decided> = (0..6)
            .map(|at| decided(100 + at, "replace", "cart"))
            .collect();
        all.push(decided(103, "deploy", "mail"));
        all.push(decided(130, "deploy", "cart"));
        let marks = gather(all.iter(), 10_000_000);
        let shown: Vec<(&str, &str, Option<&str>)> = marks
            .iter()
            .map(|mark| (&*mark.time, &*mark.kind, mark.label.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                ("1970-01-01T00:01:43Z", "deploy", Some("v2")),
                ("1970-01-01T00:01:40Z", "replace", Some("×6")),
                ("1970-01-01T00:02:10Z", "deploy", Some("v2")),
            ]
        );
        let lines: Vec<&str> = marks[1].text.lines().collect();
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert_eq!(lines.last(), Some(&"and 2 more"));
    }
}
