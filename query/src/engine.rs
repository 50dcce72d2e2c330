//! The door of this crate: asks KPIs in process and hands statements to a worker.
//!
//! Queries run on threads of their own, so that a heavy one never delays the server's sockets.
//! Dropping a future ends its query. Start at [`Engine::kpi`] and [`Engine::sql`].

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use serin_lake::{ColumnKind, Snapshot, TableView};

use crate::calendar;
use crate::error::{KpiRunError, QueryError};
use crate::guard;
use crate::kpi::plan::{KpiPlan, Simple, names};
use crate::kpi::run::{self, Finds, Found, Source, Wanted};
use crate::kpi::scan::{self, Cells, Cut, Span};
use crate::kpi::{KpiAnswer, KpiRequest};
use crate::limits::{Limits, Range};
use crate::session;

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
    threads: Option<tokio::runtime::Runtime>,
}

impl Engine {
    /// An engine with its own threads. Without a worker command statements run in this process,
    /// where limits on memory and time hold only as far as DataFusion keeps them.
    pub fn new(limits: Limits, spill_dir: PathBuf, worker: Option<WorkerCommand>) -> Engine {
        drop(worker);
        let limits = Arc::new(limits);
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("query")
            .enable_time()
            .build()
            .expect("threads can be started when a process starts");
        let runtime = session::runtime(&limits, &spill_dir)
            .expect("a memory pool and a folder's name are all it takes");
        let asker = Asker {
            limits: Arc::clone(&limits),
            context: session::context(runtime),
        };
        Engine {
            limits,
            asker: Arc::new(asker),
            threads: Some(threads),
        }
    }

    /// The value of a KPI.
    pub async fn kpi(
        &self,
        snapshot: &Arc<Snapshot>,
        plan: &KpiPlan,
        request: &KpiRequest,
    ) -> Result<KpiAnswer, QueryError> {
        let (asker, snapshot) = (Arc::clone(&self.asker), Arc::clone(snapshot));
        let (plan, request) = (plan.clone(), request.clone());
        self.run(async move { asker.kpi(&snapshot, &plan, &request).await })
            .await
    }

    /// The rows of a statement. `range` fills in `$__range` and its kin.
    pub async fn sql(
        &self,
        snapshot: &Arc<Snapshot>,
        sql: &str,
        range: Option<Range>,
    ) -> Result<SqlAnswer, QueryError> {
        let admitted = guard::admit(sql, range, &self.limits)?;
        let (asker, snapshot) = (Arc::clone(&self.asker), Arc::clone(snapshot));
        self.run(async move { asker.sql(&snapshot, admitted).await })
            .await
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
        let Some(threads) = &self.threads else {
            return Err(QueryError::Worker(std::io::Error::other(
                "the engine is shut down",
            )));
        };
        let mut running = Running(threads.spawn(timed));
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
        let plan = session::plan(&context, admitted).await.map_err(wrong)?;
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
        for (span, event, group) in groups {
            let Some(view) = snapshot.tables.get(&event) else {
                continue;
            };
            let cut = cut(plan, request, view)?;
            self.scan(snapshot, view, plan, span, &cut, group, &mut finds)
                .await?;
        }
        let watermark = snapshot.watermark_us;
        Ok(run::answer(
            plan, request, span, &finds, &first_us, watermark,
        ))
    }

    async fn scan(
        &self,
        snapshot: &Snapshot,
        view: &Arc<TableView>,
        plan: &KpiPlan,
        span: Span,
        cut: &Cut,
        group: Vec<Wanted>,
        finds: &mut Finds,
    ) -> Result<(), QueryError> {
        let mut simples: Vec<Arc<Simple>> = Vec::new();
        for wanted in &group {
            if let Source::Simple(simple) = &wanted.source {
                let arguments = simple
                    .leaves
                    .iter()
                    .filter_map(|leaf| leaf.argument.as_ref());
                for column in simple.filter.iter().chain(arguments).flat_map(names) {
                    known(plan, view, &column)?;
                }
                simples.push(Arc::clone(simple));
            }
        }
        let cells = self.leaves(view, &simples, span, cut).await?;
        for (wanted, cells) in group.iter().zip(cells) {
            finds.add(wanted, found(snapshot, view, span, cells));
        }
        Ok(())
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
        let frame = self
            .context
            .execute_logical_plan(plan)
            .await
            .map_err(wrong)?;
        let mut stream = frame.execute_stream().await.map_err(wrong)?;
        let mut cells = vec![Cells::new(); simples.len()];
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(wrong)?;
            rows += batch.num_rows();
            if rows > self.limits.rows_max {
                return Err(QueryError::TooMany {
                    what: "groups",
                    found: rows as u64,
                    max: self.limits.rows_max as u64,
                    setting: "query.rows_max",
                });
            }
            scan::read(&batch, simples, span, &mut cells).map_err(wrong)?;
        }
        Ok(cells)
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
