//! The door of this crate: asks KPIs in process and hands statements to a worker.
//!
//! Queries run on threads of their own, so that a heavy one never delays the server's sockets.
//! Dropping a future ends its query. Start at [`Engine::kpi`] and [`Engine::sql`].

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use serin_lake::{CheckedStore, ColumnKind, Snapshot, TableView};

use crate::cache::Cache;
use crate::calendar;
use crate::error::{KpiRunError, QueryError};
use crate::guard;
use crate::kpi::funnel::{self, Tries};
use crate::kpi::gauge::{self, Levels};
use crate::kpi::plan::{Funnel, Gauge, KpiPlan, Node, Simple, names};
use crate::kpi::run::{self, Finds, Found, Source, Wanted};
use crate::kpi::scan::{self, Cells, Cut, Key, Span};
use crate::kpi::{KpiAnswer, KpiRequest};
use crate::limits::{Limits, Range};
use crate::session;
use crate::worker::pool::Pool;

/// How a worker process is started: the program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The program; usually this one.
    pub program: PathBuf,
    /// What it is called with; usually `query-worker`.
    pub args: Vec<String>,
}

/// The answer to a statement.
#[derive(Debug, Clone)]
pub struct SqlAnswer {
    /// Its columns; text is UTF-8, times are microseconds UTC.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
    /// Up to when the data are complete.
    pub watermark_us: Option<i64>,
    /// Whether rows were cut off at `query.rows_max`.
    pub is_truncated: bool,
}

/// Answers questions over snapshots.
pub struct Engine {
    limits: Arc<Limits>,
    asker: Arc<Asker>,
    workers: Option<Arc<Pool>>,
    threads: Option<tokio::runtime::Runtime>,
}

impl Engine {
    /// An engine with its own threads. Without a worker command statements run in this process,
    /// where limits on memory and time hold only as far as DataFusion keeps them. All files are read
    /// through `store`, which is the lake's own.
    pub fn new(
        limits: Limits,
        spill_dir: PathBuf,
        worker: Option<WorkerCommand>,
        store: Arc<CheckedStore>,
    ) -> Engine {
        let limits = Arc::new(limits);
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("query")
            .enable_all()
            .build()
            .expect("threads can be started when a process starts");
        let workers = worker.map(|command| {
            let limits = Arc::clone(&limits);
            Arc::new(Pool::new(
                command,
                limits,
                spill_dir.clone(),
                Arc::clone(&store),
            ))
        });
        if let Some(workers) = &workers {
            let workers = Arc::clone(workers);
            // One that cannot be started now is tried again, and reported, with the first statement.
            threads.spawn(async move { drop(workers.warm_up()) });
        }
        let runtime = session::runtime(&limits, &spill_dir, store)
            .expect("a memory pool and a folder's name are all it takes");
        let asker = Asker {
            limits: Arc::clone(&limits),
            context: session::context(runtime),
            cache: Cache::new(limits.cache_bytes),
        };
        Engine {
            limits,
            asker: Arc::new(asker),
            workers,
            threads: Some(threads),
        }
    }

    /// The value of a KPI; as long as nothing new has come, the same question costs nothing.
    pub async fn kpi(
        &self,
        snapshot: &Arc<Snapshot>,
        plan: &KpiPlan,
        request: &KpiRequest,
    ) -> Result<KpiAnswer, QueryError> {
        let (asker, snapshot) = (Arc::clone(&self.asker), Arc::clone(snapshot));
        let (plan, request) = (plan.clone(), request.clone());
        let asked = Box::pin(async move {
            let compute = asker.kpi(&snapshot, &plan, &request);
            let cache = &asker.cache;
            cache.answer(&snapshot, &plan, &request, compute).await
        });
        self.run(asked).await
    }

    /// The rows of a statement. `range` fills in `$__range` and its kin.
    pub async fn sql(
        &self,
        snapshot: &Arc<Snapshot>,
        sql: &str,
        range: Option<Range>,
    ) -> Result<SqlAnswer, QueryError> {
        let admitted = guard::admit(sql, range, &self.limits)?;
        let snapshot = Arc::clone(snapshot);
        if let Some(workers) = &self.workers {
            let (workers, sql) = (Arc::clone(workers), sql.to_owned());
            let asked = async move { workers.ask(&snapshot, &sql, range, &admitted).await };
            return self.spawn(asked).await;
        }
        let asker = Arc::clone(&self.asker);
        let asked = Box::pin(async move { asker.sql(&snapshot, admitted).await });
        self.run(asked).await
    }

    /// Runs on the query threads until done, dropped or out of time.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let deadline = self.limits.deadline;
        let timed = async move {
            match tokio::time::timeout(deadline, work).await {
                Ok(done) => done,
                Err(_) => Err(QueryError::Deadline { deadline }),
            }
        };
        self.spawn(timed).await
    }

    /// Runs on the query threads until done or dropped.
    async fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let Some(threads) = &self.threads else {
            return Err(QueryError::Worker(std::io::Error::other(
                "the engine is shut down",
            )));
        };
        let mut running = Running(threads.spawn(work));
        match (&mut running.0).await {
            Ok(done) => done,
            Err(failed) => Err(QueryError::Worker(std::io::Error::other(failed))),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

/// A task that ends when nobody waits for it.
struct Running<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the query threads work with.
struct Asker {
    limits: Arc<Limits>,
    context: SessionContext,
    cache: Cache,
}

impl Asker {
    async fn sql(
        &self,
        snapshot: &Snapshot,
        admitted: guard::Admitted,
    ) -> Result<SqlAnswer, QueryError> {
        let context = session::context(self.context.runtime_env());
        let wrong = |error| session::explain(error, &self.limits);
        session::register(&context, snapshot).map_err(wrong)?;
        let plan = session::plan(&context, snapshot, admitted)
            .await
            .map_err(wrong)?;
        let rows = session::collect(&context, plan, &self.limits).await?;
        Ok(SqlAnswer {
            schema: rows.schema,
            batches: rows.batches,
            watermark_us: snapshot.watermark_us,
            is_truncated: rows.is_truncated,
        })
    }

    async fn kpi(
        &self,
        snapshot: &Snapshot,
        plan: &KpiPlan,
        request: &KpiRequest,
    ) -> Result<KpiAnswer, QueryError> {
        let span = run::span(plan, request)?;
        if let Node::Funnel(funnel) = &plan.0.node {
            return self.funnel(snapshot, (plan, request), funnel, span).await;
        }
        let first_us = |event: &str| Some(snapshot.tables.get(event)?.time_range_us()?.0);
        let mut groups: Vec<(Span, String, Vec<Wanted>)> = Vec::new();
        for wanted in run::sources(plan, span, &first_us) {
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
            let Some(view) = snapshot.tables.get(&event) else {
                continue;
            };
            self.scan(snapshot, view, (plan, request), group, &mut finds)
                .await?;
        }
        let watermark = snapshot.watermark_us;
        Ok(run::answer(
            plan, request, span, &finds, &first_us, watermark,
        ))
    }

    /// Scans one table for all that is wanted of it over one span.
    async fn scan(
        &self,
        snapshot: &Snapshot,
        view: &Arc<TableView>,
        ask: (&KpiPlan, &KpiRequest),
        group: Vec<Wanted>,
        finds: &mut Finds,
    ) -> Result<(), QueryError> {
        let (plan, request) = ask;
        let cut = cut(plan, request, view)?;
        for column in group.iter().flat_map(|wanted| wanted.source.columns()) {
            known(plan, view, &column)?;
        }
        let mut simples: Vec<Arc<Simple>> = Vec::new();
        let mut scanned: Vec<&Wanted> = Vec::new();
        for wanted in &group {
            match &wanted.source {
                Source::Simple(simple) => {
                    simples.push(Arc::clone(simple));
                    scanned.push(wanted);
                }
                Source::Gauge(gauge) => {
                    let cells = self.levels(view, gauge, wanted.span, &cut).await?;
                    finds.add(wanted, found(snapshot, view, wanted.span, cells));
                }
            }
        }
        if let Some(first) = scanned.first() {
            let cells = self.leaves(view, &simples, first.span, &cut).await?;
            for (wanted, cells) in scanned.into_iter().zip(cells) {
                finds.add(wanted, found(snapshot, view, wanted.span, cells));
            }
        }
        Ok(())
    }

    /// Runs a plan and gives each batch to `take`.
    async fn stream(
        &self,
        plan: LogicalPlan,
        mut take: impl FnMut(&RecordBatch) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let wrong = |error| session::explain(error, &self.limits);
        let frame = self
            .context
            .execute_logical_plan(plan)
            .await
            .map_err(wrong)?;
        let mut stream = frame.execute_stream().await.map_err(wrong)?;
        while let Some(batch) = stream.next().await {
            take(&batch.map_err(wrong)?)?;
        }
        Ok(())
    }

    async fn levels(
        &self,
        view: &Arc<TableView>,
        gauge: &Gauge,
        span: Span,
        cut: &Cut,
    ) -> Result<Cells, QueryError> {
        let plan = gauge::plan(view, gauge, span, cut)
            .map_err(|error| session::explain(error, &self.limits))?;
        let instance = gauge::instance_columns(view);
        let mut levels = Levels::new(gauge, span);
        self.stream(plan, |batch| {
            let texts = batch.num_columns() - 2;
            let times = batch.column(texts).as_primitive::<Int64Type>();
            let values = batch.column(texts + 1).as_primitive::<Float64Type>();
            for row in (0..batch.num_rows()).filter(|row| values.is_valid(*row)) {
                let (who, key) = (
                    key(batch, 0..instance, row),
                    key(batch, instance..texts, row),
                );
                levels.add(who, key, times.value(row), values.value(row));
            }
            Ok(())
        })
        .await?;
        Ok(levels.finish())
    }

    async fn funnel(
        &self,
        snapshot: &Snapshot,
        ask: (&KpiPlan, &KpiRequest),
        funnel: &Funnel,
        span: Span,
    ) -> Result<KpiAnswer, QueryError> {
        let (plan, request) = ask;
        let wrong = |error| session::explain(error, &self.limits);
        let mut steps = Vec::new();
        for (number, (event, filter)) in funnel.steps.iter().enumerate() {
            let Some(view) = snapshot.tables.get(event) else {
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
            self.stream(ordered, |batch| {
                let entities = batch.column(0).as_string::<i32>();
                let times = batch.column(1).as_primitive::<Int64Type>();
                let numbers = batch.column(2).as_primitive::<Int64Type>();
                for row in 0..batch.num_rows() {
                    let number = usize::try_from(numbers.value(row)).unwrap_or(0);
                    let key = key(batch, 3..batch.num_columns(), row);
                    tries.add(entities.value(row), times.value(row), number, key);
                }
                Ok(())
            })
            .await?;
        }
        let first = snapshot.tables.get(&funnel.steps[0].0);
        let known = first.map(|view| found(snapshot, view, span, Cells::new()));
        let is_known = |end: i64| {
            known
                .as_ref()
                .is_some_and(|found| found.is_known_empty(end.min(span.range.to_us)))
        };
        let series = tries.finish(&request.by, is_known);
        let mut asked = request.clone();
        // Each group has one series a step, and they stay together.
        asked.series_max = request.series_max.saturating_mul(funnel.steps.len());
        Ok(run::finish(
            plan,
            &asked,
            &run::steps(span),
            series,
            false,
            snapshot.watermark_us,
        ))
    }

    async fn leaves(
        &self,
        view: &Arc<TableView>,
        simples: &[Arc<Simple>],
        span: Span,
        cut: &Cut,
    ) -> Result<Vec<Cells>, QueryError> {
        let wrong = |error| session::explain(error, &self.limits);
        let plan = scan::plan(view, simples, span, cut).map_err(wrong)?;
        let mut cells = vec![Cells::new(); simples.len()];
        let mut rows = 0;
        self.stream(plan, |batch| {
            rows += batch.num_rows();
            if rows > self.limits.rows_max {
                return Err(QueryError::TooMany {
                    what: "groups",
                    found: rows as u64,
                    max: self.limits.rows_max as u64,
                    setting: "query.rows_max",
                });
            }
            scan::read(batch, simples, span, &mut cells).map_err(wrong)
        })
        .await?;
        Ok(cells)
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
fn found(snapshot: &Snapshot, view: &TableView, span: Span, cells: Cells) -> Found {
    let shown = |time: i64| time.saturating_add(span.shift_us);
    let times = view.time_range_us();
    let last = times.map(|(_, last)| last);
    Found {
        cells,
        first_us: times.map(|(first, _)| shown(first)),
        until_us: snapshot
            .watermark_us
            .or(last.map(|last| last + 1))
            .map(shown),
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
