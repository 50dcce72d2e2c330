//! Runs a compiled KPI over one snapshot: scans what it is made of, gathers, hands up.
//!
//! One scan per table and span, whatever is wanted of it, over what the last one does not know
//! already. What is gathered is counted against the
//! memory of queries, and the work yields between groups so that a deadline or a viewer who leaves ends
//! it. Start at [`kpi`].

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use serin_lake::{ColumnKind, Snapshot, TableView};

use crate::calendar;
use crate::error::{KpiRunError, QueryError};
use crate::held::Held;
use crate::kpi::funnel::{self, Tries};
use crate::kpi::gauge::{self, Levels};
use crate::kpi::plan::{Funnel, Gauge, KpiPlan, Node, Simple, names};
use crate::kpi::rank::{self, Ranked};
use crate::kpi::run::{self, Evaluation, Finds, Found, Source, Wanted};
use crate::kpi::scan::{self, Cells, Cut, Key, Span};
use crate::kpi::{KpiAnswer, KpiRequest};
use crate::limits::Limits;
use crate::session;
use crate::slide::{Asked, Scan, Slides};

/// Rows that are gathered before others may have their turn: each may hold over many steps.
const ROWS_AT_ONCE: usize = 256;

/// The answer of a KPI.
pub(crate) async fn kpi(
    context: &SessionContext,
    limits: &Limits,
    slides: &Slides,
    snapshot: &Snapshot,
    plan: &KpiPlan,
    request: &KpiRequest,
) -> Result<KpiAnswer, QueryError> {
    let span = run::span(plan, request, limits.points_max)?;
    let pool = &context.runtime_env().memory_pool;
    let mut measuring = Measuring {
        context,
        limits,
        slides,
        snapshot,
        plan,
        request,
        span,
        held: Held::of(plan.name(), pool, limits),
    };
    match &plan.0.node {
        Node::Funnel(funnel) => measuring.funnel(funnel).await,
        _ => measuring.tree().await,
    }
}

/// One question under way.
struct Measuring<'a> {
    context: &'a SessionContext,
    limits: &'a Limits,
    slides: &'a Slides,
    snapshot: &'a Snapshot,
    plan: &'a KpiPlan,
    request: &'a KpiRequest,
    span: Span,
    held: Held,
}

impl Measuring<'_> {
    /// Anything but a funnel: scans at the leaves, arithmetic above them.
    async fn tree(&mut self) -> Result<KpiAnswer, QueryError> {
        let snapshot = self.snapshot;
        let first_us = |event: &str| Some(snapshot.tables.get(event)?.time_range_us()?.0);
        let mut groups: Vec<(Span, String, Vec<Wanted>)> = Vec::new();
        for wanted in run::sources(self.plan, self.span, &first_us) {
            let event = wanted.source.event().to_owned();
            match groups
                .iter_mut()
                .find(|(span, e, _)| *span == wanted.span && *e == event)
            {
                Some((_, _, group)) => group.push(wanted),
                None => groups.push((wanted.span, event, vec![wanted])),
            }
        }
        let mut finds = Finds::default();
        for (_, event, group) in groups {
            if let Some(view) = snapshot.tables.get(&event) {
                self.scan(view, group, &mut finds).await?;
            }
        }
        let steps = run::steps(self.span);
        let evaluation = Evaluation {
            plan: self.plan,
            request: self.request,
            span: self.span,
            steps: &steps,
            finds: &finds,
            first_us: &first_us,
        };
        let mut ranked = self.ranked(steps.len(), steps.len());
        for key in run::groups(&finds, self.request) {
            if let Some((rank, series)) = evaluation.series(&key) {
                ranked.add(rank, vec![series]);
            }
            tokio::task::consume_budget().await;
        }
        Ok(ranked.answer(self.plan, self.request, snapshot.watermark_us))
    }

    fn ranked(&self, steps: usize, points_per_group: usize) -> Ranked {
        let points_max = self.limits.points_max;
        let groups_max = rank::groups_max(self.request, points_per_group, points_max);
        Ranked::new(groups_max, steps)
    }

    /// Scans one table for all that is wanted of it over one span.
    async fn scan(
        &mut self,
        view: &Arc<TableView>,
        group: Vec<Wanted>,
        finds: &mut Finds,
    ) -> Result<(), QueryError> {
        let cut = cut(self.plan, self.request, view)?;
        for column in group.iter().flat_map(|wanted| wanted.source.columns()) {
            known(self.plan, view, &column)?;
        }
        let Some(span) = group.first().map(|wanted| wanted.span) else {
            return Ok(());
        };
        let mut simples: Vec<Arc<Simple>> = Vec::new();
        let mut of_simples: Vec<&Wanted> = Vec::new();
        let mut scans: Vec<(Scan, Vec<&Wanted>)> = Vec::new();
        for wanted in &group {
            match &wanted.source {
                Source::Simple(simple) => {
                    simples.push(Arc::clone(simple));
                    of_simples.push(wanted);
                }
                Source::Gauge(gauge) => {
                    scans.push((Scan::Levels(Arc::clone(gauge)), vec![wanted]));
                }
            }
        }
        if !simples.is_empty() {
            scans.push((Scan::Leaves(simples), of_simples));
        }
        for (scan, wanted) in scans {
            let cells = self.cells(view, &scan, span, &cut).await?;
            for (wanted, cells) in wanted.into_iter().zip(cells) {
                finds.add(wanted, found(self.snapshot, view, span, cells));
            }
        }
        Ok(())
    }

    /// The cells of a scan by source: those that are known from before, and those that are read.
    async fn cells(
        &mut self,
        view: &Arc<TableView>,
        scan: &Scan,
        span: Span,
        cut: &Cut,
    ) -> Result<Vec<Arc<Cells>>, QueryError> {
        let asked = Asked {
            plan: self.plan,
            request: self.request,
            scan,
            span,
            view,
        };
        let slide = self.slides.begin(&asked);
        let mut cells = slide.kept();
        self.held.now(cells.iter().map(scan::bytes).sum())?;
        self.held.keep();
        for span in slide.reads() {
            let read = match scan {
                Scan::Leaves(simples) => self.leaves(view, simples, *span, cut).await?,
                Scan::Levels(gauge) => vec![self.levels(view, gauge, *span, cut).await?],
            };
            slide.add(&asked, read, &mut cells);
        }
        let cells: Vec<Arc<Cells>> = cells.into_iter().map(Arc::new).collect();
        self.slides.keep(&asked, &slide, &cells);
        Ok(cells)
    }

    /// Runs a plan and gives its rows to `take`, some at a time; `take` says what it holds by then.
    async fn stream(
        &mut self,
        plan: LogicalPlan,
        mut take: impl FnMut(&RecordBatch, &Held) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let wrong = |error| session::explain(error, self.limits);
        let frame = self
            .context
            .execute_logical_plan(plan)
            .await
            .map_err(wrong)?;
        let mut stream = frame.execute_stream().await.map_err(wrong)?;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(wrong)?;
            for from in (0..batch.num_rows()).step_by(ROWS_AT_ONCE) {
                let rows = ROWS_AT_ONCE.min(batch.num_rows() - from);
                take(&batch.slice(from, rows), &self.held)?;
                tokio::task::consume_budget().await;
            }
        }
        self.held.keep();
        Ok(())
    }

    async fn leaves(
        &mut self,
        view: &Arc<TableView>,
        simples: &[Arc<Simple>],
        span: Span,
        cut: &Cut,
    ) -> Result<Vec<Cells>, QueryError> {
        let limits = self.limits;
        let wrong = |error| session::explain(error, limits);
        let plan = scan::plan(view, simples, span, cut).map_err(wrong)?;
        let mut cells = vec![Cells::new(); simples.len()];
        let mut bytes = 0;
        self.stream(plan, |batch, held| {
            bytes += scan::read(batch, simples, span, &mut cells).map_err(wrong)?;
            held.now(bytes)
        })
        .await?;
        Ok(cells)
    }

    async fn levels(
        &mut self,
        view: &Arc<TableView>,
        gauge: &Gauge,
        span: Span,
        cut: &Cut,
    ) -> Result<Cells, QueryError> {
        let plan = gauge::plan(view, gauge, span, cut)
            .map_err(|error| session::explain(error, self.limits))?;
        let instance = gauge::instance_columns(view);
        let mut levels = Levels::new(gauge, span);
        self.stream(plan, |batch, held| {
            let texts = batch.num_columns() - 2;
            let times = batch.column(texts).as_primitive::<Int64Type>();
            let values = batch.column(texts + 1).as_primitive::<Float64Type>();
            // A quotient over zero tells no level, and would spoil those of all other instances.
            let tells = |row: &usize| values.is_valid(*row) && values.value(*row).is_finite();
            for row in (0..batch.num_rows()).filter(tells) {
                let (who, key) = (
                    key(batch, 0..instance, row),
                    key(batch, instance..texts, row),
                );
                levels.add(who, key, times.value(row), values.value(row));
                // One sample may hold over many steps.
                held.now(levels.bytes())?;
            }
            Ok(())
        })
        .await?;
        Ok(levels.finish())
    }

    async fn funnel(&mut self, funnel: &Funnel) -> Result<KpiAnswer, QueryError> {
        let (plan, request, span) = (self.plan, self.request, self.span);
        let limits = self.limits;
        let wrong = |error| session::explain(error, limits);
        let mut steps = Vec::new();
        for (number, (event, filter)) in funnel.steps.iter().enumerate() {
            let Some(view) = self.snapshot.tables.get(event) else {
                continue;
            };
            for column in filter.iter().flat_map(names).chain([funnel.entity.clone()]) {
                known(plan, view, &column)?;
            }
            let cut = if number == 0 {
                cut(plan, request, view)?
            } else {
                blank(request)
            };
            steps.push(funnel::plan_step(view, funnel, number, span, &cut).map_err(wrong)?);
        }
        let mut tries = Tries::new(funnel, span);
        if let Some(ordered) = funnel::ordered(steps).map_err(wrong)? {
            self.stream(ordered, |batch, held| {
                let entities = batch.column(0).as_string::<i32>();
                let times = batch.column(1).as_primitive::<Int64Type>();
                let turns = batch.column(2).as_primitive::<Int64Type>();
                for row in 0..batch.num_rows() {
                    let turn = usize::try_from(turns.value(row)).unwrap_or(0);
                    let key = key(batch, 3..batch.num_columns(), row);
                    tries.add(entities.value(row), times.value(row), turn, key);
                }
                held.now(tries.bytes())
            })
            .await?;
        }
        let first = self.snapshot.tables.get(&funnel.steps[0].0);
        let known = first.map(|view| found(self.snapshot, view, span, Arc::default()));
        let is_known = |begin: i64, end: i64| {
            known
                .as_ref()
                .is_some_and(|found| found.is_known_empty(begin, end.min(span.range.to_us)))
        };
        let count = run::steps(span).len();
        let mut ranked = self.ranked(count, count * funnel.steps.len());
        for (began, series) in tries.finish(&request.by, is_known) {
            ranked.add(began, series);
            tokio::task::consume_budget().await;
        }
        Ok(ranked.answer(plan, request, self.snapshot.watermark_us))
    }
}

/// The texts of some columns in a row.
fn key(batch: &RecordBatch, columns: std::ops::Range<usize>, row: usize) -> Key {
    let text = |index: usize| {
        let column = batch.column(index).as_string::<i32>();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    columns.map(text).collect()
}

/// The splits of a request where they have no meaning: as many nulls.
fn blank(request: &KpiRequest) -> Cut {
    let null = lit(datafusion::common::ScalarValue::Null);
    Cut {
        by: vec![null; request.by.len()],
        filter: None,
    }
}

/// What a scan found, with where an empty step is a zero.
fn found(snapshot: &Snapshot, view: &TableView, span: Span, cells: Arc<Cells>) -> Found {
    let shown = |time: i64| time.saturating_add(span.shift_us);
    let last = view.time_range_us().map(|(_, last)| last);
    let until_us = snapshot.watermark_us.or(last.map(|last| last + 1));
    let imports = view.known.imports.iter();
    let imports = imports.map(|(first, last)| (*first, last.saturating_add(1)));
    let live = view.known.live_from_us.zip(until_us);
    let both = |(from, to)| (shown(from), shown(to));
    Found {
        cells,
        live: live.map(both),
        imports: imports.map(both).collect(),
        until_us: until_us.map(shown),
        last_us: last.map(shown),
    }
}

/// Checks that a table has a column.
fn known(plan: &KpiPlan, view: &TableView, column: &str) -> Result<ColumnKind, QueryError> {
    let found = view.columns.iter().find(|known| known.name == column);
    found
        .map(|column| column.kind)
        .ok_or_else(|| QueryError::Kpi {
            kpi: plan.name().to_owned(),
            source: KpiRunError::Column {
                column: column.to_owned(),
                event: view.name.clone(),
                known: view
                    .columns
                    .iter()
                    .map(|column| column.name.clone())
                    .collect(),
            },
        })
}

/// The splits and conditions of a request, for one table.
fn cut(plan: &KpiPlan, request: &KpiRequest, view: &TableView) -> Result<Cut, QueryError> {
    let mut cut = Cut::default();
    for name in &request.by {
        cut.by.push(dimension(plan, request, view, name)?);
    }
    for (name, values) in &request.filters {
        let expr = dimension(plan, request, view, name)?;
        let kind = match &expr {
            Expr::Column(column) => known(plan, view, &column.name)?,
            _ if calendar::CALENDAR_DIMENSIONS.contains(&name.as_str()) => ColumnKind::Int,
            _ => ColumnKind::Text,
        };
        let literals = values.iter().map(|value| {
            literal(kind, value).ok_or_else(|| QueryError::Kpi {
                kpi: plan.name().to_owned(),
                source: KpiRunError::FilterValue {
                    column: name.clone(),
                    value: value.clone(),
                    holds: kind.ducklake(),
                },
            })
        });
        let one_of = expr.in_list(literals.collect::<Result<_, _>>()?, false);
        cut.filter = Some(match cut.filter.take() {
            None => one_of,
            Some(filter) => filter.and(one_of),
        });
    }
    Ok(cut)
}

fn dimension(
    plan: &KpiPlan,
    request: &KpiRequest,
    view: &TableView,
    name: &str,
) -> Result<Expr, QueryError> {
    if let Some(expr) = calendar::dimension(name, scan::shown_time(request.shift_us)) {
        return Ok(expr);
    }
    let expr = plan
        .dimension(name)
        .unwrap_or_else(|| Expr::Column(Column::new_unqualified(name)));
    for column in names(&expr) {
        known(plan, view, &column)?;
    }
    Ok(expr)
}

fn literal(kind: ColumnKind, value: &str) -> Option<Expr> {
    Some(match kind {
        ColumnKind::Bool => lit(value.parse::<bool>().ok()?),
        ColumnKind::Int => lit(value.parse::<i64>().ok()?),
        ColumnKind::Double => lit(value.parse::<f64>().ok()?),
        ColumnKind::Text => lit(value),
        ColumnKind::Time => return None,
    })
}
