//! What a reader chooses on a dashboard: which service, which country.
//!
//! A variable's values are those that a column has within the range. What is chosen narrows every
//! KPI panel whose KPIs have the column in `by`, and takes the place of `$name` in statements.
//! Without a choice one that allows many stands for all, and one that does not for its first value.
//! Start at [`choose`].

use std::collections::BTreeMap;

use serin_query::kpi::{Definition, KpiPlan, KpiRequest, compile};
use serin_query::{Engine, QueryError, Range, Snapshot, fill_in};
use std::sync::Arc;

use crate::library::Library;
use crate::model::{Dashboard, Panel, Source};

/// Most values that are offered; more nobody looks through.
pub const VALUES_MAX: usize = 1_000;
/// Most values that can be chosen at once.
pub const CHOSEN_MAX: usize = 100;

/// A variable of a dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name, as in `$name`.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// The table whose values it offers.
    pub event: String,
    /// The column of that table.
    pub column: String,
    /// Whether several values can be chosen at once.
    pub is_multi: bool,
}

/// The values that were chosen, by variable.
pub type Chosen = BTreeMap<String, Vec<String>>;

/// The values a variable offers within a range, in order; none where its table is not there yet.
pub async fn values(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    variable: &Variable,
    range: Range,
) -> Result<Vec<String>, QueryError> {
    Ok(offered(engine, snapshot, variable, range).await?.values)
}

#[derive(Default)]
struct Offered {
    values: Vec<String>,
    /// There are more.
    is_cut: bool,
}

async fn offered(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    variable: &Variable,
    range: Range,
) -> Result<Offered, QueryError> {
    let mut counted = Definition::simple("values", &variable.event, "count()", None);
    counted.by = vec![variable.column.clone()];
    let Ok(catalog) = compile(vec![counted]) else {
        return Ok(Offered::default());
    };
    let request = KpiRequest {
        range,
        step_us: None,
        by: vec![variable.column.clone()],
        filters: Vec::new(),
        shift_us: 0,
        series_max: VALUES_MAX,
    };
    let mut offered = Offered::default();
    for plan in catalog.values() {
        let answer = engine.kpi(snapshot, plan, &request).await?;
        let series = answer.series.into_iter();
        let values = series.filter_map(|series| series.by.into_iter().next()?.1);
        offered.values.extend(values);
        offered.is_cut |= answer.series_dropped > 0;
    }
    offered.values.sort();
    Ok(offered)
}

/// What the choices mean for the panels.
#[derive(Default)]
struct Choices {
    /// Narrows KPIs.
    narrowed: Vec<(String, Vec<String>)>,
    /// Fills statements: all values where nothing narrows.
    filled: Chosen,
    /// Variables that stand for all of more values than a statement can be filled with.
    unlisted: Vec<String>,
}

/// The dashboard as it is for these choices.
pub async fn choose(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    library: &Library,
    dashboard: &Arc<Dashboard>,
    chosen: &Chosen,
    range: Range,
) -> Arc<Dashboard> {
    if dashboard.variables.is_empty() {
        return Arc::clone(dashboard);
    }
    let mut choices = Choices::default();
    for variable in &dashboard.variables {
        let picked = chosen
            .get(&variable.name)
            .filter(|picked| !picked.is_empty());
        let Offered { mut values, is_cut } = match picked {
            Some(picked) => Offered {
                values: picked.clone(),
                is_cut: false,
            },
            None => match offered(engine, snapshot, variable, range).await {
                Ok(offered) => offered,
                Err(error) => {
                    tracing::debug!(%error, variable = variable.name, "no values to choose from");
                    Offered::default()
                }
            },
        };
        let is_all = variable.is_multi && picked.is_none();
        if is_all && is_cut {
            choices.unlisted.push(variable.name.clone());
        }
        if !is_all {
            values.truncate(if variable.is_multi { CHOSEN_MAX } else { 1 });
            let narrowed = (variable.column.clone(), values.clone());
            choices.narrowed.push(narrowed);
        }
        choices.filled.insert(variable.name.clone(), values);
    }
    let mut dashboard = Dashboard::clone(dashboard);
    for panel in &mut dashboard.panels {
        narrow(panel, library, &choices);
    }
    Arc::new(dashboard)
}

fn narrow(panel: &mut Panel, library: &Library, choices: &Choices) {
    match &panel.source {
        Source::Sql(sql) => {
            let unlisted = choices.unlisted.iter().find(|name| is_used(name, sql));
            panel.source = match unlisted {
                Some(name) => Source::Broken(format!(
                    "{name:?} has more than {VALUES_MAX} values; choose some"
                )),
                None => Source::Sql(fill_in(sql, &choices.filled)),
            };
        }
        Source::Kpis(names) => {
            let plans: Vec<_> = names
                .iter()
                .filter_map(|name| library.kpis.get(name))
                .collect();
            let fits = |column: &str| plans.iter().all(|plan| has_dimension(plan, column));
            panel.filters = choices
                .narrowed
                .iter()
                .filter(|(column, _)| fits(column))
                .cloned()
                .collect();
        }
        Source::Broken(_) => {}
    }
}

/// Whether a variable stands in a statement.
fn is_used(name: &str, sql: &str) -> bool {
    fill_in(sql, &Chosen::from([(name.to_owned(), Vec::new())])) != sql
}

/// Whether a KPI is meant to be split by a column.
fn has_dimension(plan: &KpiPlan, column: &str) -> bool {
    let names = plan.definition().by.iter();
    names
        .map(|by| {
            by.split_once('=')
                .map_or(by.as_str(), |(name, _)| name.trim())
        })
        .any(|name| name == column)
}
