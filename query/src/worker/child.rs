//! The worker process: waits warm, answers one question, ends.
//!
//! Everything dangerous happens after the limits are in force, on a thread whose stack is deep enough
//! for any plan the guard lets pass. A watchdog ends the process should the query not yield.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use super::frame::{self, Done, Failed, Question};
use super::sandbox;
use crate::engine::SqlAnswer;
use crate::error::QueryError;
use crate::guard;
use crate::limits::Limits;
use crate::render;
use crate::session;

/// How long after its deadline a query that does not yield is ended.
const GRACE: Duration = Duration::from_millis(400);

/// Runs a worker over standard input and output until its one question is answered.
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
    let Some((frame::QUESTION, body)) = frame::read(&mut stdin)? else {
        return Ok(());
    };
    let question: Question = serde_json::from_slice(&body)?;
    let mut fresh = Vec::new();
    for _ in question.tables.iter().filter(|table| table.has_fresh) {
        let Some((frame::FRESH, body)) = frame::read(&mut stdin)? else {
            return Ok(());
        };
        let (_, batches) = frame::batches(&body).map_err(io::Error::other)?;
        fresh.push(batches);
    }
    let limits = question.limits();
    std::fs::create_dir_all(&question.spill_dir)?;
    sandbox::limit(&limits)?;
    let lacking =
        sandbox::enclose(&question.folders(), &question.spill_dir).map_err(io::Error::other)?;
    watch(limits.deadline + GRACE)?;
    let answering = std::thread::Builder::new()
        .name("query".to_owned())
        .stack_size(sandbox::PLANNING_STACK_BYTES)
        .spawn(move || answer(&question, fresh))?;
    let answer = answering
        .join()
        .unwrap_or_else(|_| Err(Failed::Worker("it panicked; this is a bug".to_owned())));
    tell(answer, lacking)
}

/// Ends the process when it is still there after `after`.
fn watch(after: Duration) -> io::Result<()> {
    let (alive, ended) = mpsc::channel::<()>();
    std::thread::Builder::new()
        .name("watchdog".to_owned())
        .stack_size(1 << 20)
        .spawn(move || {
            let _alive = alive;
            // Nobody sends: it is only a wait that ends.
            if ended.recv_timeout(after).is_ok() {
                return;
            }
            drop(tell(Err(Failed::Deadline), None));
            std::process::exit(3);
        })?;
    Ok(())
}

fn answer(
    question: &Question,
    fresh: Vec<Vec<arrow::record_batch::RecordBatch>>,
) -> Result<SqlAnswer, Failed> {
    let limits = question.limits();
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(sandbox::COMPUTING_THREADS)
        .max_blocking_threads(sandbox::READING_THREADS)
        .thread_stack_size(sandbox::THREAD_STACK_BYTES)
        .enable_time()
        .build()
        .map_err(|error| Failed::Worker(error.to_string()))?;
    let answer = threads.block_on(async {
        let work = run(question, fresh, &limits);
        match tokio::time::timeout(limits.deadline, work).await {
            Ok(done) => done,
            Err(_) => Err(QueryError::Deadline {
                deadline: limits.deadline,
            }),
        }
    });
    // Threads that still compute must not hold the answer up; the process ends soon.
    threads.shutdown_background();
    answer.map_err(Failed::of)
}

async fn run(
    question: &Question,
    fresh: Vec<Vec<arrow::record_batch::RecordBatch>>,
    limits: &Limits,
) -> Result<SqlAnswer, QueryError> {
    let admitted = guard::admit(&question.sql, question.range(), limits)?;
    let snapshot = question.snapshot(&mut fresh.into_iter());
    let wrong = |error| session::explain(error, limits);
    let context = session::context(
        session::runtime(limits, &question.spill_dir, question.store()).map_err(wrong)?,
    );
    session::register(&context, &snapshot).map_err(wrong)?;
    let plan = session::plan(&context, &snapshot, admitted)
        .await
        .map_err(wrong)?;
    let rows = session::collect(&context, plan, limits).await?;
    Ok(SqlAnswer {
        schema: rows.schema,
        batches: rows.batches,
        watermark_us: question.watermark_us,
        is_truncated: rows.is_truncated,
    })
}

fn tell(answer: Result<SqlAnswer, Failed>, lacking: Option<&str>) -> io::Result<()> {
    // Whoever holds the lock tells; the process ends with it.
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
        }
        Err(failed) => frame::write(&mut stdout, frame::FAILED, &serde_json::to_vec(&failed)?)?,
    }
    std::process::exit(0);
}
