//! The worker process: waits warm, answers one question after the other, ends with the first that fails.
//!
//! Everything dangerous happens after the limits are in force, on a thread whose stack is deep enough
//! for any plan the guard lets pass. A watchdog ends the process should the query not yield.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::execution::runtime_env::RuntimeEnv;
use serin_lake::CheckedStore;
use tokio::runtime::Runtime;

use super::frame::{self, Done, Failed, Question};
use super::sandbox::{self, Clock};
use crate::engine::SqlAnswer;
use crate::error::QueryError;
use crate::guard;
use crate::limits::Limits;
use crate::render;
use crate::session;

/// How long after its deadline a query that does not yield is ended.
const GRACE: Duration = Duration::from_millis(400);

/// Runs a worker over standard input and output until nobody asks any more, or a question had no answer.
pub fn worker_main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The parent reads this as the worker's last words.
            drop(writeln!(io::stderr(), "query worker: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    frame::write(&mut io::stdout(), frame::READY, &[])?;
    let mut enclosed = None;
    while let Some((frame::QUESTION, body)) = frame::read(&mut stdin)? {
        let question: Question = serde_json::from_slice(&body)?;
        let mut fresh = Vec::new();
        for _ in question.tables.iter().filter(|table| table.has_fresh) {
            let Some((frame::FRESH, body)) = frame::read(&mut stdin)? else {
                return Ok(());
            };
            let (_, batches) = frame::batches(&body).map_err(io::Error::other)?;
            fresh.push(batches);
        }
        let worker = match enclosed {
            Some(worker) => worker,
            None => *enclosed.insert(Worker::enclose(&question)?),
        };
        if !worker.serve(question, fresh)? {
            break;
        }
    }
    Ok(())
}

/// What is kept from one question to the next: the enclosure, threads, what is known of files.
struct Worker {
    clock: Clock,
    threads: Runtime,
    runtime: Arc<RuntimeEnv>,
    store: Arc<CheckedStore>,
    /// What the kernel could not close.
    lacking: Option<&'static str>,
}

/// What a panic says, for whoever sent the statement. Some statements ask for more than the engine's
/// types can hold, such as a join of many rows with all others, and it finds out so.
fn said_in(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
    let said = said.unwrap_or("it does not say why");
    format!(
        "the engine gave up on it ({said}); join fewer rows or write it in another way, and if it is a plain \
         statement, this is a bug worth reporting"
    )
}

impl Worker {
    /// Puts the limits into force, for as long as the process lives; no statement is looked at before.
    fn enclose(question: &Question) -> io::Result<&'static Worker> {
        let limits = question.limits();
        std::fs::create_dir_all(&question.spill_dir)?;
        sandbox::limit(&limits)?;
        let clock = Clock::open()?;
        let lacking =
            sandbox::enclose(&question.folders, &question.spill_dir).map_err(io::Error::other)?;
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(sandbox::COMPUTING_THREADS)
            .max_blocking_threads(sandbox::READING_THREADS)
            .thread_stack_size(sandbox::THREAD_STACK_BYTES)
            .enable_time()
            .build()?;
        let store = Arc::<CheckedStore>::default();
        let runtime = session::runtime(&limits, &question.spill_dir, Arc::clone(&store))
            .map_err(io::Error::other)?;
        // Never dropped: threads that still compute must not hold the end of the process up.
        Ok(Box::leak(Box::new(Worker {
            clock,
            threads,
            runtime,
            store,
            lacking,
        })))
    }

    /// Answers a question; whether another one may follow.
    fn serve(&'static self, question: Question, fresh: Vec<Vec<RecordBatch>>) -> io::Result<bool> {
        let limits = question.limits();
        self.clock.allow(&limits)?;
        let told = Told::default();
        let _alive = told.watch(limits.deadline + GRACE)?;
        let answering = std::thread::Builder::new()
            .name("query".to_owned())
            .stack_size(sandbox::PLANNING_STACK_BYTES)
            .spawn(move || self.answer(&question, fresh))?;
        let answer = answering
            .join()
            .unwrap_or_else(|panic| Err(Failed::Worker(said_in(&*panic))));
        let _turn = told.turn();
        tell(answer, self.lacking)
    }

    fn answer(
        &self,
        question: &Question,
        fresh: Vec<Vec<RecordBatch>>,
    ) -> Result<SqlAnswer, Failed> {
        let limits = question.limits();
        let answer = self.threads.block_on(async {
            let work = self.run(question, fresh, &limits);
            match tokio::time::timeout(limits.deadline, work).await {
                Ok(done) => done,
                Err(_) => Err(QueryError::Deadline {
                    deadline: limits.deadline,
                }),
            }
        });
        answer.map_err(Failed::of)
    }

    async fn run(
        &self,
        question: &Question,
        fresh: Vec<Vec<RecordBatch>>,
        limits: &Limits,
    ) -> Result<SqlAnswer, QueryError> {
        let admitted = guard::admit(&question.sql, question.range(), limits)?;
        let snapshot = question.snapshot(&mut fresh.into_iter());
        question.tell_files(&self.store);
        let wrong = |error| session::explain(error, limits);
        let context = session::context(Arc::clone(&self.runtime));
        session::register(&context, &snapshot).map_err(wrong)?;
        let plan = session::plan(&context, &snapshot, admitted, limits).await?;
        let rows = session::collect(&context, plan, limits).await?;
        Ok(SqlAnswer {
            schema: rows.schema,
            batches: rows.batches,
            watermark_us: question.watermark_us,
            is_truncated: rows.is_truncated,
        })
    }
}

/// Whether a question has its answer; whoever holds the lock tells it.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<bool>>);

impl Told {
    /// The turn to tell. Who comes too late waits for the end of the process.
    fn turn(&self) -> MutexGuard<'_, bool> {
        let mut is_told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *is_told = true;
        is_told
    }

    /// Ends the process when the question has no answer after `after`. The watch ends with what is
    /// returned.
    fn watch(&self, after: Duration) -> io::Result<mpsc::Sender<()>> {
        let (alive, ended) = mpsc::channel::<()>();
        let told = Arc::clone(&self.0);
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .stack_size(1 << 20)
            .spawn(move || {
                // Nobody sends: it is only a wait that ends.
                if ended.recv_timeout(after) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let is_told = told.lock().unwrap_or_else(PoisonError::into_inner);
                if !*is_told {
                    drop(tell(Err(Failed::Deadline), None));
                    std::process::exit(3);
                }
            })?;
        Ok(alive)
    }
}

/// Tells an answer; whether the worker is as good as new. Where rows were cut off or there is no
/// answer, something may still be computing.
fn tell(answer: Result<SqlAnswer, Failed>, lacking: Option<&str>) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    let answer = answer.and_then(|answer| {
        let bytes =
            render::arrow_ipc(&answer).map_err(|error| Failed::Worker(error.to_string()))?;
        Ok((
            bytes,
            Done {
                is_truncated: answer.is_truncated,
                lacking: lacking.map(str::to_owned),
            },
        ))
    });
    match answer {
        Ok((bytes, done)) => {
            frame::write(&mut stdout, frame::ROWS, &bytes)?;
            frame::write(&mut stdout, frame::DONE, &serde_json::to_vec(&done)?)?;
            Ok(!done.is_truncated)
        }
        Err(failed) => {
            frame::write(&mut stdout, frame::FAILED, &serde_json::to_vec(&failed)?)?;
            Ok(false)
        }
    }
}
