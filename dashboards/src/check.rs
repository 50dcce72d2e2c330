//! `serin check`: everything that is wrong with a folder's YAML, and what does not fit the data.
//!
//! What is wrong whatever the data are is a fault; what names a table or column that is not there is a
//! warning, since its data may still come. Start at [`check`] and [`check_with`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serin_query::calendar::CALENDAR_DIMENSIONS;
use serin_query::kpi::KpiPlan;
use serin_query::{QueryError, Snapshot, examine, fill_in};
use serin_yaml::{Place, Problem, code, meant};

use crate::library::Library;
use crate::load::Loader;
use crate::model::{Dashboard, Panel, Source};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many files were read.
    pub files: usize,
    /// What is wrong, in the order of files and lines.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether anything must be mended; warnings need not.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| !problem.is_warning)
    }
}

/// Checks a folder without looking at data.
pub fn check(dir: &Path) -> Report {
    report(&Loader::new(dir).load(), Vec::new())
}

/// Checks a folder, and whether the tables and columns it names have arrived yet.
pub fn check_with(dir: &Path, snapshot: &Snapshot) -> Report {
    let library = Loader::new(dir).load();
    let warnings = against(&library, snapshot);
    report(&library, warnings)
}

fn report(library: &Library, warnings: Vec<Problem>) -> Report {
    let mut problems = library.problems.clone();
    let refused = |file: &str, panel: &Panel, sql: &str| {
        let error = examine::admitted(sql).err()?;
        let message = format!("panel {:?}: {error}", panel.name);
        Some(Problem::new(file, panel.place, code::SQL, message))
    };
    problems.extend(statements(library, refused));
    problems.extend(warnings);
    problems.sort();
    Report {
        files: library.files,
        problems,
    }
}

/// What `judge` says of each statement of the folder's dashboards, some value in the place of each
/// variable.
fn statements(
    library: &Library,
    judge: impl Fn(&str, &Panel, &str) -> Option<Problem>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for dashboard in library.dashboards.values() {
        let Some(file) = &dashboard.file else {
            continue;
        };
        let names = dashboard.variables.iter();
        let some = names.map(|variable| (variable.name.clone(), vec![String::new()]));
        let chosen = some.collect();
        for panel in &dashboard.panels {
            if let Source::Sql(sql) = &panel.source {
                problems.extend(judge(file, panel, &fill_in(sql, &chosen)));
            }
        }
    }
    problems
}

/// Warnings for tables and columns that are named but not there: their data may still come.
fn against(library: &Library, snapshot: &Snapshot) -> Vec<Problem> {
    let tables: BTreeMap<&str, BTreeSet<&str>> = snapshot
        .tables
        .iter()
        .map(|(name, table)| {
            let columns = table.columns.iter().map(|column| column.name.as_str());
            (name.as_str(), columns.collect())
        })
        .collect();
    let mut warnings = Vec::new();
    for (name, (file, place)) in &library.origins {
        if let Some(plan) = library.kpis.get(name) {
            kpi(plan, file, *place, &tables, &mut warnings);
        }
    }
    for dashboard in library.dashboards.values() {
        if let Some(file) = &dashboard.file {
            dimensions(library, dashboard, file, &tables, &mut warnings);
        }
    }
    let unplanned = |file: &str, panel: &Panel, sql: &str| match examine::examine(sql, snapshot) {
        // What is refused is told whatever the data are.
        Ok(()) | Err(QueryError::Refused(_)) => None,
        Err(error) => {
            // A planner's sentence may have several lines and end in a stop.
            let error = error.to_string();
            let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
            let error = error.trim_end_matches('.');
            let message = format!("panel {:?}: {error}", panel.name);
            let hint = String::from("the data may still come");
            let problem = Problem::new(file, panel.place, code::SQL, message).hint(hint);
            Some(Problem {
                is_warning: true,
                ..problem
            })
        }
    };
    warnings.extend(statements(library, unplanned));
    warnings
}

type Tables<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn warning(file: &str, place: Place, message: String, hint: String) -> Problem {
    Problem {
        is_warning: true,
        ..Problem::new(file, place, code::NO_DATA, message).hint(hint)
    }
}

/// Only what the KPI itself names: its inputs are warned of where they are defined.
fn kpi(plan: &KpiPlan, file: &str, place: Place, tables: &Tables<'_>, warnings: &mut Vec<Problem>) {
    let of_inputs: BTreeSet<(String, String)> = plan
        .inputs()
        .into_iter()
        .flat_map(KpiPlan::columns)
        .collect();
    let mut missing = BTreeSet::new();
    for (event, column) in plan.columns() {
        if of_inputs.contains(&(event.clone(), column.clone())) {
            continue;
        }
        let Some(columns) = tables.get(event.as_str()) else {
            if missing.insert(event.clone()) {
                let message = format!(
                    "kpi {:?}: no events of type {event:?} have arrived yet",
                    plan.name()
                );
                let hint = meant(&event, tables.keys().copied());
                warnings.push(warning(file, place, message, hint));
            }
            continue;
        };
        if !columns.contains(column.as_str()) {
            let message = format!(
                "kpi {:?}: no column {column:?} in {event:?} yet",
                plan.name()
            );
            warnings.push(warning(
                file,
                place,
                message,
                meant(&column, columns.iter().copied()),
            ));
        }
    }
}

fn dimensions(
    library: &Library,
    dashboard: &Dashboard,
    file: &str,
    tables: &Tables<'_>,
    warnings: &mut Vec<Problem>,
) {
    for panel in &dashboard.panels {
        let Source::Kpis(kpis) = &panel.source else {
            continue;
        };
        for plan in kpis.iter().filter_map(|name| library.kpis.get(name)) {
            let known = plan.dimensions();
            for dimension in split_by(panel) {
                if known.contains(dimension) || CALENDAR_DIMENSIONS.contains(&dimension.as_str()) {
                    continue;
                }
                for event in plan.events() {
                    let Some(columns) = tables.get(event.as_str()) else {
                        continue;
                    };
                    if !columns.contains(dimension.as_str()) {
                        let message = format!(
                            "panel {:?}: no column {dimension:?} in {event:?} yet",
                            panel.name
                        );
                        let hint = meant(dimension, columns.iter().copied());
                        warnings.push(warning(file, panel.place, message, hint));
                    }
                }
            }
        }
    }
}

fn split_by(panel: &Panel) -> impl Iterator<Item = &String> {
    panel.by.iter().chain(&panel.x).chain(&panel.y)
}
