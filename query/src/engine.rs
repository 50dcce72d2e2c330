//! The door of this crate: asks KPIs in process and hands statements to a worker.
//!
//! Queries run on threads of their own, so that a heavy one never delays the server's sockets.
//! Dropping a future ends its query. Start at [`Engine::kpi`] and [`Engine::sql`].

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::prelude::SessionContext;
use serin_lake::{CheckedStore, Snapshot};
use tokio::sync::Semaphore;

use crate::cache::Cache;
use crate::error::QueryError;
use crate::guard;
use crate::kpi::{KpiAnswer, KpiPlan, KpiRequest};
use crate::limits::{Limits, Range};
use crate::measure;
use crate::newest::{self, Newest};
use crate::session;
use crate::slide::Slides;
use crate::stats::{Counters, QueryStats};
use crate::turns::Turns;
use crate::worker::pool::Pool;

/// KPIs that are computed at a time: one a thread. More would share the same threads, and each come
/// nearer to its deadline.
const KPIS_AT_ONCE: usize = THREADS;
/// KPIs that are computed for rules at a time, beside those.
const RULES_AT_ONCE: usize = 1;
/// Threads that queries run on.
const THREADS: usize = 2;

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
    /// For statements of panels.
    panel_turns: Semaphore,
    threads: Option<tokio::runtime::Runtime>,
    kpis: Counters,
    statements: Counters,
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
            .worker_threads(THREADS)
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
            cache: Cache::new(limits.cache_bytes / 2),
            slides: Slides::new(limits.cache_bytes / 2),
            kpi_turns: Turns::new(KPIS_AT_ONCE, limits.kpis_queued_max),
            rule_turns: Turns::new(RULES_AT_ONCE, limits.kpis_queued_max),
        };
        Engine {
            panel_turns: Semaphore::new(limits.running_max.max(1)),
            limits,
            asker: Arc::new(asker),
            workers,
            threads: Some(threads),
            kpis: Counters::default(),
            statements: Counters::default(),
        }
    }

    /// The value of a KPI; as long as nothing new has come, the same question costs nothing.
    pub async fn kpi(
        &self,
        snapshot: &Arc<Snapshot>,
        plan: &KpiPlan,
        request: &KpiRequest,
    ) -> Result<KpiAnswer, QueryError> {
        self.ask_kpi(|asker| &asker.kpi_turns, snapshot, plan, request)
            .await
    }

    /// [`Engine::kpi`] for a rule, whose turn no panel takes.
    pub async fn kpi_of_rule(
        &self,
        snapshot: &Arc<Snapshot>,
        plan: &KpiPlan,
        request: &KpiRequest,
    ) -> Result<KpiAnswer, QueryError> {
        self.ask_kpi(|asker| &asker.rule_turns, snapshot, plan, request)
            .await
    }

    async fn ask_kpi(
        &self,
        turns: fn(&Asker) -> &Turns,
        snapshot: &Arc<Snapshot>,
        plan: &KpiPlan,
        request: &KpiRequest,
    ) -> Result<KpiAnswer, QueryError> {
        let (asker, snapshot) = (Arc::clone(&self.asker), Arc::clone(snapshot));
        let (plan, request) = (plan.clone(), request.clone());
        let asked = Box::pin(async move {
            let (context, limits, slides) = (&asker.context, &asker.limits, &asker.slides);
            let compute = async {
                let queued = limits.kpis_queued_max;
                let turn = turns(&asker).take().await;
                let _turn = turn.ok_or(QueryError::BusyKpis { queued })?;
                let measured = measure::kpi(context, limits, slides, &snapshot, &plan, &request);
                Box::pin(measured).await
            };
            // Who waits for somebody else's answer waits no longer than for one's own.
            let answer = asker.cache.answer(&snapshot, &plan, &request, compute);
            in_time(limits, answer).await
        });
        self.kpis.count(self.spawn(asked)).await
    }

    /// The newest rows of a table; never waits for anyone's statement.
    pub async fn newest(
        &self,
        snapshot: &Arc<Snapshot>,
        asked: &Newest<'_>,
    ) -> Result<SqlAnswer, QueryError> {
        let plan =
            newest::plan(snapshot, asked).map_err(|error| session::explain(error, &self.limits))?;
        let (asker, watermark_us) = (Arc::clone(&self.asker), snapshot.watermark_us);
        let asked = Box::pin(async move {
            let work = Box::pin(session::collect(&asker.context, plan, &asker.limits));
            in_time(&asker.limits, work).await
        });
        let rows = self.spawn(asked).await?;
        Ok(SqlAnswer {
            schema: rows.schema,
            batches: rows.batches,
            watermark_us,
            is_truncated: rows.is_truncated,
        })
    }

    /// How it is now.
    pub fn stats(&self) -> QueryStats {
        let memory = &self.asker.context.runtime_env().memory_pool;
        let (steps_kept, steps_read) = self.asker.slides.steps();
        QueryStats {
            kpis: self.kpis.read(),
            statements: self.statements.read(),
            cache_bytes: (self.asker.cache.bytes() + self.asker.slides.bytes()) as u64,
            steps_kept,
            steps_read,
            memory_bytes: memory.reserved() as u64,
        }
    }

    /// The rows of a statement. `range` fills in `$__range` and its kin.
    pub async fn sql(
        &self,
        snapshot: &Arc<Snapshot>,
        sql: &str,
        range: Option<Range>,
    ) -> Result<SqlAnswer, QueryError> {
        let asked = self.ask_sql(snapshot, sql, range);
        self.statements.count(asked).await
    }

    /// The rows of a panel's statement. Those of panels wait for each other apart, so that a
    /// dashboard of many never fills the queue in which people's own statements wait; each waits no
    /// longer than it may run.
    pub async fn panel_sql(
        &self,
        snapshot: &Arc<Snapshot>,
        sql: &str,
        range: Range,
    ) -> Result<SqlAnswer, QueryError> {
        let asked = async {
            let (running, deadline) = (self.limits.running_max.max(1), self.limits.deadline);
            let turn = tokio::time::timeout(deadline, self.panel_turns.acquire()).await;
            let _turn = turn.map_err(|_| QueryError::BusyPanels { running, deadline })?;
            self.ask_sql(snapshot, sql, Some(range)).await
        };
        self.statements.count(asked).await
    }

    async fn ask_sql(
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
        self.answer_here(snapshot, admitted).await
    }

    /// The rows of a statement that comes with Serin, with values that readers chose filled in. It
    /// runs in this process: it is known to behave, and a worker for each panel of each second would
    /// cost more than the answer.
    pub async fn own_sql(
        &self,
        snapshot: &Arc<Snapshot>,
        sql: &str,
        range: Range,
    ) -> Result<SqlAnswer, QueryError> {
        let asked = async {
            let admitted = guard::admit(sql, Some(range), &self.limits)?;
            self.answer_here(Arc::clone(snapshot), admitted).await
        };
        self.statements.count(asked).await
    }

    async fn answer_here(
        &self,
        snapshot: Arc<Snapshot>,
        admitted: guard::Admitted,
    ) -> Result<SqlAnswer, QueryError> {
        let asker = Arc::clone(&self.asker);
        let asked = Box::pin(async move {
            let work = Box::pin(asker.sql(&snapshot, admitted));
            in_time(&asker.limits, work).await
        });
        self.spawn(asked).await
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

/// The work, or the error that it takes too long.
async fn in_time<T>(
    limits: &Limits,
    work: impl Future<Output = Result<T, QueryError>>,
) -> Result<T, QueryError> {
    let deadline = limits.deadline;
    match tokio::time::timeout(deadline, work).await {
        Ok(done) => done,
        Err(_) => Err(QueryError::Deadline { deadline }),
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
    slides: Slides,
    kpi_turns: Turns,
    rule_turns: Turns,
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
        let plan = session::plan(&context, snapshot, admitted, &self.limits).await?;
        let rows = session::collect(&context, plan, &self.limits).await?;
        Ok(SqlAnswer {
            schema: rows.schema,
            batches: rows.batches,
            watermark_us: snapshot.watermark_us,
            is_truncated: rows.is_truncated,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kpi::{self, Definition};

    fn nothing() -> Arc<Snapshot> {
        Arc::new(Snapshot {
            number: 0,
            version: 0,
            position: Default::default(),
            watermark_us: None,
            tables: BTreeMap::new(),
        })
    }

    /// A KPI that counts, and a question for it.
    fn count() -> (KpiPlan, KpiRequest) {
        let count = Definition::simple("n", "a", "count()", None);
        let plans = kpi::compile(vec![count]).expect("a KPI");
        let request = KpiRequest {
            range: Range {
                from_us: 0,
                to_us: 1,
            },
            step_us: None,
            by: vec![],
            filters: vec![],
            shift_us: 0,
            series_max: 1,
        };
        (KpiPlan::clone(&plans["n"]), request)
    }

    /// Other panels' statements take longer than one may wait.
    #[tokio::test]
    async fn a_panel_waits_for_its_turn_no_longer_than_it_may_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let limits = Limits {
            deadline: std::time::Duration::from_millis(20),
            ..Limits::default()
        };
        let engine = Engine::new(limits, folder.path().into(), None, Arc::default());
        let (snapshot, range) = (
            nothing(),
            Range {
                from_us: 0,
                to_us: 1,
            },
        );
        let others = engine.panel_turns.acquire_many(2).await;
        let waited = engine.panel_sql(&snapshot, "SELECT 1", range).await;
        let error = waited.expect_err("no turn");
        assert_eq!((error.code(), error.is_temporary()), ("SER-QRY-006", true));
        assert_eq!(
            error.to_string(),
            "the panel waited 0.02 s (the limit query.deadline_s) for its turn behind 2 others (the \
             limit query.running_max); draw fewer panels of SQL, have them ask for less, or raise \
             the limits"
        );
        drop(others);
    }

    /// All turns are taken: a panel's KPI is turned away or runs out of time, a rule's is answered.
    #[tokio::test]
    async fn who_waits_for_a_turn_is_bounded_and_rules_have_their_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = |limits| Engine::new(limits, folder.path().into(), None, Arc::default());
        let full = engine(Limits {
            kpis_queued_max: 0,
            ..Limits::default()
        });
        let slow = engine(Limits {
            deadline: std::time::Duration::from_millis(20),
            ..Limits::default()
        });
        let (snapshot, (plan, request)) = (nothing(), count());
        for (engine, code) in [(&full, "SER-QRY-006"), (&slow, "SER-QRY-001")] {
            let mut held = Vec::new();
            for _ in 0..KPIS_AT_ONCE {
                held.push(engine.asker.kpi_turns.take().await);
            }
            let refused = engine.kpi(&snapshot, &plan, &request).await;
            assert_eq!(refused.expect_err("no turn").code(), code);
        }
        let answered = full.kpi_of_rule(&snapshot, &plan, &request).await;
        assert!(answered.is_ok());
    }

    /// One after the other they would wait twenty times as long as each may.
    #[tokio::test]
    async fn all_who_wait_for_one_answer_give_up_in_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let deadline = std::time::Duration::from_millis(500);
        let limits = Limits {
            deadline,
            ..Limits::default()
        };
        let engine = Engine::new(limits, folder.path().into(), None, Arc::default());
        let (snapshot, (plan, request)) = (nothing(), count());
        let mut held = Vec::new();
        for _ in 0..KPIS_AT_ONCE {
            held.push(engine.asker.kpi_turns.take().await);
        }
        let asked = (0..20).map(|_| engine.kpi(&snapshot, &plan, &request));
        let waited = tokio::time::timeout(10 * deadline, futures::future::join_all(asked)).await;
        for refused in waited.expect("all have given up") {
            assert_eq!(refused.expect_err("no turn").code(), "SER-QRY-001");
        }
        // Nobody computes by now, so the next one does.
        drop(held);
        assert!(engine.kpi(&snapshot, &plan, &request).await.is_ok());
    }
}
