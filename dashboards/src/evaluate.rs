//! Asks the query engine what a panel shows, and makes [`PanelData`] of it.
//!
//! KPIs are asked in process, statements guarded and apart. A panel that fails is a panel with an
//! error: the others of the dashboard go on. Start at [`evaluate`].

use std::sync::Arc;

use futures::StreamExt;
use serin_query::calendar::rfc3339;
use serin_query::kpi::{Better, Kind, KpiAnswer, KpiPlan, KpiRequest};
use serin_query::{Engine, QueryError, Range, Snapshot, nice_step_us, render};

use crate::library::Library;
use crate::marks::{Happened, happened};
use crate::model::{Dashboard, Draw, Panel, Source};
use crate::panel_data::{Data, PanelData, PanelError, PanelState, place_looks};
use crate::shape;

/// Most points of a line; more are not seen on any screen.
const POINTS_MAX: usize = 400;
/// Most points of a line whose panel insists on a step: more than any screen has pixels.
const FINE_POINTS_MAX: i64 = 6_000;
/// Pixels that one point should have at least.
const PIXELS_PER_POINT: u32 = 3;
/// Columns over time are wider than points of a line.
const PIXELS_PER_COLUMN: u32 = 9;
/// Points of the small line in a stat panel.
const SPARK_POINTS: usize = 60;
/// Most series that a KPI is asked for: those shown and what is summed up as others.
const SERIES_MAX: usize = 1_000;
/// Most cells of a heat map: a year of days by hour.
const CELLS_MAX: usize = 9_000;
/// Most rows of a statement that are drawn; more are no picture, and much larger as JSON.
const ROWS_MAX: usize = 10_000;
/// Most rows of a statement in a table, unless it asks for more.
const TABLE_ROWS: usize = 1_000;
/// Panels of a dashboard that are under way at a time; the engine bounds what they cost.
const PANELS_AT_ONCE: usize = 16;

/// What a panel is asked with.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// From when to when.
    pub range: Range,
    /// How wide it is drawn, in pixels.
    pub width_px: u32,
}

/// All panels of a dashboard, in the order of its file.
pub async fn dashboard(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    library: &Library,
    dashboard: &Dashboard,
    asked: Asked,
) -> Vec<PanelData> {
    let happened = &happened(engine, snapshot, &dashboard.panels, asked.range).await;
    let panels = dashboard.panels.iter();
    let shown: Vec<_> = panels
        .map(|panel| evaluate(engine, snapshot, library, panel, asked, happened))
        .collect();
    futures::stream::iter(shown)
        .buffered(PANELS_AT_ONCE)
        .collect()
        .await
}

/// What one panel shows, with marks of what [`happened`].
pub async fn evaluate(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    library: &Library,
    panel: &Panel,
    asked: Asked,
    happened: &Happened,
) -> PanelData {
    let mut shown = shape::nothing(panel, asked.range);
    shown.watermark = snapshot.watermark_us.map(rfc3339);
    let asker = Asker {
        engine,
        snapshot,
        panel,
        asked,
    };
    let found = match &panel.source {
        Source::Broken(message) => {
            return failed(shown, serin_yaml::code::VALUE, message.clone());
        }
        Source::Sql(sql) => asker.sql(sql).await,
        Source::Kpis(names) => {
            let plans: Vec<&Arc<KpiPlan>> = names
                .iter()
                .filter_map(|name| library.kpis.get(name))
                .collect();
            let Some(first) = plans.first() else {
                let message = format!("there is no KPI {:?}", names.join(", "));
                return failed(shown, serin_yaml::code::NAME, message);
            };
            shown.unit = panel
                .unit
                .clone()
                .or_else(|| first.unit().map(str::to_owned));
            shown.better = first.definition().better.map(|better| match better {
                Better::Higher => "higher",
                Better::Lower => "lower",
            });
            shown.approximate = plans.iter().any(|plan| plan.is_approximate());
            asker.kpis(&plans).await
        }
    };
    match found {
        Ok(found) => {
            shown.state = if found.is_empty {
                PanelState::Empty
            } else {
                PanelState::Ok
            };
            shown.marks = happened.on(panel, &found.data, asked.range);
            shown.data = Some(found.data);
            shown.series_dropped = found.dropped;
            shown.truncated = found.is_truncated;
            shown
        }
        // No event of the type has come yet, which is no fault of the statement.
        Err(Failed::Query(QueryError::NoTable {
            is_to_come: true, ..
        })) => shown,
        Err(Failed::Query(error)) => failed(shown, error.code(), error.to_string()),
        Err(Failed::Shape(message)) => failed(shown, serin_yaml::code::VALUE, message),
    }
}

fn failed(shown: PanelData, code: &'static str, message: String) -> PanelData {
    PanelData {
        state: PanelState::Error,
        error: Some(PanelError { code, message }),
        ..shown
    }
}

/// The numbers of a panel and what is known of them.
struct Found {
    data: Data,
    is_empty: bool,
    dropped: usize,
    is_truncated: bool,
}

enum Failed {
    Query(QueryError),
    Shape(String),
}

impl From<QueryError> for Failed {
    fn from(error: QueryError) -> Failed {
        Failed::Query(error)
    }
}

struct Asker<'a> {
    engine: &'a Engine,
    snapshot: &'a Arc<Snapshot>,
    panel: &'a Panel,
    asked: Asked,
}

impl Asker<'_> {
    async fn ask(
        &self,
        plan: &KpiPlan,
        by: &[String],
        step_us: Option<i64>,
        shift_us: i64,
        series_max: usize,
    ) -> Result<KpiAnswer, QueryError> {
        let request = KpiRequest {
            range: self.asked.range,
            step_us,
            by: by.to_vec(),
            filters: self.panel.filters.clone(),
            shift_us,
            series_max,
        };
        self.engine.kpi(self.snapshot, plan, &request).await
    }

    async fn kpis(&self, plans: &[&Arc<KpiPlan>]) -> Result<Found, Failed> {
        match self.panel.draw {
            Draw::Line => self.series(plans).await,
            Draw::Bar if self.shows_steps(plans) => self.bars(plans).await,
            Draw::Bar if self.panel.has_columns_over_time() => self.series(plans).await,
            Draw::Bar => self.bars(plans).await,
            Draw::Stat => self.stat(plans[0]).await,
            Draw::Table => self.table(plans).await,
            Draw::Heatmap => self.heatmap(plans[0]).await,
        }
    }

    /// Whether the steps of a funnel stand side by side, and not each over time.
    fn shows_steps(&self, plans: &[&Arc<KpiPlan>]) -> bool {
        let is_funnel =
            |plan: &&Arc<KpiPlan>| matches!(plan.definition().kind, Kind::Funnel { .. });
        !self.panel.is_stacked && self.panel.step_us.is_none() && plans.iter().all(is_funnel)
    }

    fn step_us(&self) -> i64 {
        let pixels = if self.panel.draw == Draw::Bar {
            PIXELS_PER_COLUMN
        } else {
            PIXELS_PER_POINT
        };
        let points = (self.asked.width_px / pixels).clamp(20, POINTS_MAX as u32) as usize;
        let fits = nice_step_us(self.asked.range, points);
        match self.panel.step_us {
            // A panel may ask for a finer step than fits.
            Some(step_us) if self.asked.range.span_us() / step_us <= FINE_POINTS_MAX => step_us,
            _ => fits,
        }
    }

    async fn series(&self, plans: &[&Arc<KpiPlan>]) -> Result<Found, Failed> {
        let step_us = self.step_us();
        let (panel, is_alone) = (self.panel, plans.len() == 1);
        let mut series = Vec::new();
        let mut dropped = 0;
        for plan in plans {
            let answer = self
                .ask(plan, &panel.by, Some(step_us), 0, panel.top)
                .await?;
            dropped += answer.series_dropped;
            series.extend(shape::series(plan, &answer, is_alone, None));
        }
        let is_empty = series
            .iter()
            .all(|series| series.points.iter().all(|(_, value)| value.is_none()));
        if let Some(shift_us) = panel.compare_us {
            for plan in plans {
                let answer = self
                    .ask(plan, &panel.by, Some(step_us), shift_us, panel.top)
                    .await?;
                series.extend(shape::series(plan, &answer, is_alone, Some(shift_us)));
            }
        }
        place_looks(&mut series);
        let data = Data::Series {
            step_s: step_us as f64 / 1e6,
            stacked: panel.is_stacked,
            series,
        };
        Ok(Found {
            data,
            is_empty,
            dropped,
            is_truncated: false,
        })
    }

    async fn stat(&self, plan: &KpiPlan) -> Result<Found, Failed> {
        let whole = self.ask(plan, &[], None, 0, 1).await?;
        let step_us = self
            .panel
            .step_us
            .unwrap_or_else(|| nice_step_us(self.asked.range, SPARK_POINTS));
        let spark = self.ask(plan, &[], Some(step_us), 0, 1).await?;
        let compare = match self.panel.compare_us {
            None => None,
            Some(shift_us) => Some(shape::only_value(
                &self.ask(plan, &[], None, shift_us, 1).await?,
            )),
        };
        let value = shape::only_value(&whole);
        let data = Data::Stat {
            value,
            compare,
            spark: spark
                .series
                .first()
                .map(|series| shape::points(&series.points))
                .unwrap_or_default(),
        };
        Ok(Found {
            data,
            is_empty: value.is_none(),
            dropped: 0,
            is_truncated: false,
        })
    }

    async fn bars(&self, plans: &[&Arc<KpiPlan>]) -> Result<Found, Failed> {
        let (panel, is_alone) = (self.panel, plans.len() == 1);
        let mut bars = Vec::new();
        let mut dropped = 0;
        for plan in plans {
            let answer = self.ask(plan, &panel.by, None, 0, panel.top).await?;
            dropped += answer.series_dropped;
            bars.extend(shape::bars(plan, &answer, is_alone));
        }
        let is_empty = bars.iter().all(|bar| bar.value.is_none());
        Ok(Found {
            data: Data::Bars { bars },
            is_empty,
            dropped,
            is_truncated: false,
        })
    }

    async fn table(&self, plans: &[&Arc<KpiPlan>]) -> Result<Found, Failed> {
        let mut answers = Vec::new();
        for (index, plan) in plans.iter().enumerate() {
            let series_max = if index == 0 {
                self.panel.top
            } else {
                SERIES_MAX
            };
            answers.push(self.ask(plan, &self.panel.by, None, 0, series_max).await?);
        }
        let dropped = answers.first().map_or(0, |answer| answer.series_dropped);
        let (columns, rows) = shape::table(&self.panel.by, plans, &answers);
        let is_empty = answers.iter().all(shape::has_no_value);
        Ok(Found {
            data: Data::Table { columns, rows },
            is_empty,
            dropped,
            is_truncated: false,
        })
    }

    async fn heatmap(&self, plan: &KpiPlan) -> Result<Found, Failed> {
        let (Some(x), Some(y)) = (&self.panel.x, &self.panel.y) else {
            return Err(Failed::Shape(String::from("a heat map needs x and y")));
        };
        let answer = self
            .ask(plan, &[x.clone(), y.clone()], None, 0, CELLS_MAX)
            .await?;
        let is_empty = shape::has_no_value(&answer);
        let dropped = answer.series_dropped;
        Ok(Found {
            data: shape::heatmap(x, y, &answer),
            is_empty,
            dropped,
            is_truncated: false,
        })
    }

    async fn sql(&self, sql: &str) -> Result<Found, Failed> {
        let (engine, range) = (self.engine, self.asked.range);
        let answer = match self.panel.is_built_in {
            true => engine.own_sql(self.snapshot, sql, range).await?,
            false => engine.panel_sql(self.snapshot, sql, range).await?,
        };
        let rows_max = match self.panel.draw {
            Draw::Table => self.panel.top.max(TABLE_ROWS),
            _ => ROWS_MAX,
        };
        let columns = shape::columns(&answer);
        let rows: Vec<_> = render::rows(&answer).take(rows_max).collect();
        let in_all: usize = answer.batches.iter().map(|batch| batch.num_rows()).sum();
        let is_truncated = answer.is_truncated || in_all > rows.len();
        let is_empty = rows.is_empty();
        let data = shape::of_sql(self.panel, columns, rows).map_err(Failed::Shape)?;
        Ok(Found {
            data,
            is_empty,
            dropped: 0,
            is_truncated,
        })
    }
}
