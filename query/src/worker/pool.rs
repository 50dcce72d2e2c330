//! The parent's side of the workers: one is always warm; one that has answered is asked again for a while.
//!
//! A worker that is out of time is killed; so is one whose asker went away (its future was dropped),
//! and after any question without an answer the next one has a new worker. At most `running_max` run
//! at a time and `queued_max` wait.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use serin_lake::{CheckedStore, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;
use tracing::warn;

use super::frame::{self, Done, Failed, Question, Table};
use super::sandbox::QUESTIONS_MAX;
use crate::engine::{SqlAnswer, WorkerCommand};
use crate::error::QueryError;
use crate::guard::Admitted;
use crate::limits::{Limits, Range};
use crate::turns::Turns;

/// How long after its deadline a worker is killed; its own watchdog comes a little earlier.
const GRACE: Duration = Duration::from_millis(500);
/// An answer in Arrow IPC is a little longer than in memory.
const IPC_OVERHEAD_BYTES: usize = 1 << 20;
/// How much of a worker's last words is kept.
const LAST_WORDS_BYTES: u64 = 4 << 10;
/// How long a worker that has answered waits for another question: longer than a dashboard's refresh.
/// It has read files and knows them, and holds memory for that.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// How often it is tried to remove what a worker wrote aside.
const REMOVAL_TRIES: u32 = 100;

/// The workers of one engine.
pub(crate) struct Pool {
    command: WorkerCommand,
    limits: Arc<Limits>,
    spill_dir: PathBuf,
    store: Arc<CheckedStore>,
    told: Once,
    turns: Turns,
    number: AtomicU64,
    idle: Arc<Mutex<Idle>>,
}

/// Workers that nobody asks at the moment.
#[derive(Default)]
struct Idle {
    /// One that was never asked.
    warm: Option<Worker>,
    /// Those that have answered, the last one last.
    kept: Vec<Worker>,
}

/// A worker process. Dropped, it is killed.
struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    spill: SpillDir,
    /// What it may read since its first question.
    folders: Vec<PathBuf>,
    asked: u32,
    since: Instant,
}

impl Worker {
    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// A spill folder that goes with its worker.
struct SpillDir(PathBuf);

impl Drop for SpillDir {
    fn drop(&mut self) {
        // Nothing was spilled most of the time, and then it was never made. The worker was killed a
        // moment ago, and the last thing it does may be to make one more file.
        for _ in 0..REMOVAL_TRIES {
            let removed = std::fs::remove_dir_all(&self.0);
            if !removed.is_err_and(|error| error.kind() == io::ErrorKind::DirectoryNotEmpty) {
                return;
            }
        }
        warn!(folder = %self.0.display(), "cannot remove what a worker wrote aside");
    }
}

impl Pool {
    pub(crate) fn new(
        command: WorkerCommand,
        limits: Arc<Limits>,
        spill_dir: PathBuf,
        store: Arc<CheckedStore>,
    ) -> Pool {
        Pool {
            store,
            told: Once::new(),
            command,
            turns: Turns::new(limits.running_max, limits.queued_max),
            limits,
            spill_dir,
            number: AtomicU64::new(0),
            idle: Arc::default(),
        }
    }

    /// Starts a worker that will wait for its question, when none waits already.
    pub(crate) fn warm_up(&self) -> io::Result<()> {
        let mut idle = self.idle();
        if idle.warm.is_none() {
            idle.warm = Some(self.start()?);
        }
        Ok(())
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> io::Result<Worker> {
        let mut child = Command::new(&self.command.program)
            .args(&self.command.args)
            // Nothing of our environment is a worker's business. Two arenas keep its memory together.
            .env_clear()
            .env("MALLOC_ARENA_MAX", "2")
            // By it `serin down` knows one that still computes after its server was killed.
            .env("SERIN_OF", &self.spill_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (stdin, stdout) = stdin.zip(stdout).ok_or(io::ErrorKind::BrokenPipe)?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let spill = format!("worker-{}-{number}", std::process::id());
        Ok(Worker {
            child,
            stdin,
            stdout,
            spill: SpillDir(self.spill_dir.join(spill)),
            folders: Vec::new(),
            asked: 0,
            since: Instant::now(),
        })
    }

    /// A worker that may read these folders: one that has answered before, or a new one.
    fn take(&self, folders: &[PathBuf], is_new: bool) -> io::Result<Worker> {
        let mut idle = self.idle();
        if !is_new {
            idle.kept.retain_mut(Worker::is_alive);
            let fits = |worker: &Worker| folders.iter().all(|one| worker.folders.contains(one));
            if let Some(at) = idle.kept.iter().rposition(fits) {
                return Ok(idle.kept.remove(at));
            }
        }
        let warm = idle.warm.take_if(Worker::is_alive);
        let mut worker = warm.map_or_else(|| self.start(), Ok)?;
        folders.clone_into(&mut worker.folders);
        idle.warm = Some(self.start()?);
        Ok(worker)
    }

    /// Lets a worker wait for another question, for a while.
    fn keep(&self, mut worker: Worker) {
        if worker.asked >= QUESTIONS_MAX {
            return;
        }
        worker.since = Instant::now();
        let mut idle = self.idle();
        idle.kept.push(worker);
        if idle.kept.len() > self.limits.running_max.max(1) {
            idle.kept.remove(0);
        }
        let idle = Arc::downgrade(&self.idle);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT_FOR).await;
            if let Some(idle) = idle.upgrade() {
                let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.kept.retain(|worker| worker.since.elapsed() < KEPT_FOR);
            }
        });
    }

    /// Asks a worker.
    pub(crate) async fn ask(
        &self,
        snapshot: &Snapshot,
        sql: &str,
        range: Option<Range>,
        admitted: &Admitted,
    ) -> Result<SqlAnswer, QueryError> {
        let busy = || QueryError::Busy {
            running: self.limits.running_max,
            queued: self.limits.queued_max,
        };
        let turn = tokio::time::timeout(self.limits.deadline, self.turns.take()).await;
        let _turn = turn.ok().flatten().ok_or_else(busy)?;
        let mut question = self.question(snapshot, sql, range, admitted);
        let fresh = fresh(snapshot, &question)?;
        match self.answer(snapshot, &mut question, &fresh, false).await {
            // A long life may have left too little room, or the worker ended while it waited.
            Err((true, QueryError::Memory { .. } | QueryError::WorkerDied { .. })) => {
                let again = self.answer(snapshot, &mut question, &fresh, true).await;
                again.map_err(|(_, error)| error)
            }
            answer => answer.map_err(|(_, error)| error),
        }
    }

    /// Asks one worker; an error says whether it had answered before.
    async fn answer(
        &self,
        snapshot: &Snapshot,
        question: &mut Question,
        fresh: &[Vec<u8>],
        is_new: bool,
    ) -> Result<SqlAnswer, (bool, QueryError)> {
        let worker = self.take(&question.folders, is_new);
        let mut worker = worker.map_err(|error| (false, QueryError::Worker(error)))?;
        worker.spill.0.clone_into(&mut question.spill_dir);
        let was_asked = worker.asked > 0;
        worker.asked += 1;
        let talk = self.talk(&mut worker, question, fresh);
        let told = match tokio::time::timeout(self.limits.deadline + GRACE, talk).await {
            Ok(Ok(Some(told))) => Ok(told),
            Ok(Ok(None)) => Err(self.last_words(&mut worker.child).await),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(QueryError::Deadline {
                deadline: self.limits.deadline,
            }),
        };
        let (bytes, done) = told.map_err(|error| (was_asked, error))?;
        let (schema, batches) = frame::batches(&bytes)
            .map_err(|error| (false, QueryError::Worker(io::Error::other(error))))?;
        if let Some(lacking) = &done.lacking {
            self.told
                .call_once(|| warn!(lacking, "query workers are less enclosed"));
        }
        if !done.is_truncated {
            self.keep(worker);
        }
        Ok(SqlAnswer {
            schema,
            batches,
            watermark_us: snapshot.watermark_us,
            is_truncated: done.is_truncated,
        })
    }

    fn question(
        &self,
        snapshot: &Snapshot,
        sql: &str,
        range: Option<Range>,
        admitted: &Admitted,
    ) -> Question {
        let reads_all = admitted
            .tables
            .iter()
            .any(|name| name.eq_ignore_ascii_case("events"));
        let is_read = |name: &str| {
            reads_all
                || admitted
                    .tables
                    .iter()
                    .any(|read| read.eq_ignore_ascii_case(name))
        };
        let views = snapshot.tables.values();
        let files = views.clone().flat_map(|view| &view.files);
        let mut folders: Vec<PathBuf> = files
            .filter_map(|file| Some(file.path.parent()?.to_owned()))
            .collect();
        folders.sort();
        folders.dedup();
        Question {
            sql: sql.to_owned(),
            range_us: range.map(|range| (range.from_us, range.to_us)),
            deadline_ms: u64::try_from(self.limits.deadline.as_millis()).unwrap_or(u64::MAX),
            memory_bytes: self.limits.memory_bytes,
            rows_max: self.limits.rows_max,
            result_bytes_max: self.limits.result_bytes_max,
            sql_bytes_max: self.limits.sql_bytes_max,
            spill_bytes_max: self.limits.spill_bytes_max,
            spill_dir: PathBuf::new(),
            folders,
            watermark_us: snapshot.watermark_us,
            tables: views
                .map(|view| Table::of(view, is_read(&view.name), &self.store))
                .collect(),
        }
    }

    /// Sends the question and reads the answer; `None` when the worker ended without one.
    async fn talk(
        &self,
        worker: &mut Worker,
        question: &Question,
        fresh: &[Vec<u8>],
    ) -> Result<Option<(Vec<u8>, Done)>, QueryError> {
        let body = serde_json::to_vec(question)
            .map_err(|error| QueryError::Worker(io::Error::other(error)))?;
        let frames = std::iter::once((frame::QUESTION, &body));
        let frames = frames.chain(fresh.iter().map(|rows| (frame::FRESH, rows)));
        let Worker { stdin, stdout, .. } = worker;
        for (kind, body) in frames {
            let head = frame::head(kind, body).map_err(QueryError::Worker)?;
            if stdin.write_all(&head).await.is_err() || stdin.write_all(body).await.is_err() {
                return Ok(None);
            }
        }
        let mut rows = Vec::new();
        loop {
            let mut head = [0; frame::HEAD_BYTES];
            if stdout.read_exact(&mut head).await.is_err() {
                return Ok(None);
            }
            let (kind, length) = frame::parse_head(head);
            if length > self.limits.result_bytes_max + IPC_OVERHEAD_BYTES {
                return Err(QueryError::ResultBytes {
                    bytes: self.limits.result_bytes_max,
                });
            }
            let mut body = vec![0; length];
            if stdout.read_exact(&mut body).await.is_err() {
                return Ok(None);
            }
            match kind {
                frame::READY => {}
                frame::ROWS => rows = body,
                frame::DONE => {
                    let done = serde_json::from_slice(&body)
                        .map_err(|error| QueryError::Worker(io::Error::other(error)))?;
                    return Ok(Some((rows, done)));
                }
                _ => {
                    let failed: Failed = serde_json::from_slice(&body)
                        .map_err(|error| QueryError::Worker(io::Error::other(error)))?;
                    return Err(failed.into_error(&self.limits));
                }
            }
        }
    }

    /// Why a worker ended without an answer.
    async fn last_words(&self, child: &mut Child) -> QueryError {
        let mut words = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            // What cannot be read is not said.
            drop(stderr.take(LAST_WORDS_BYTES).read_to_end(&mut words).await);
        }
        let words = String::from_utf8_lossy(&words).into_owned();
        match child.wait().await {
            Ok(status) => cause(status, &words, &self.limits),
            Err(error) => QueryError::Worker(error),
        }
    }
}

/// The hot rows of the tables that a question reads, in its order.
fn fresh(snapshot: &Snapshot, question: &Question) -> Result<Vec<Vec<u8>>, QueryError> {
    let views = snapshot.tables.values().zip(&question.tables);
    let read = views.filter(|(_, table)| table.has_fresh);
    read.map(|(view, _)| frame::fresh_bytes(view))
        .collect::<Result<_, _>>()
        .map_err(|error| QueryError::Worker(io::Error::other(error)))
}

/// What an ending means: which limit was hit, as far as the system tells.
fn cause(status: ExitStatus, words: &str, limits: &Limits) -> QueryError {
    use std::os::unix::process::ExitStatusExt;
    const SIGKILL: i32 = 9;
    const SIGXCPU: i32 = 24;
    const SIGXFSZ: i32 = 25;
    if words.contains("memory allocation of") {
        return QueryError::Memory {
            bytes: limits.memory_bytes,
        };
    }
    match status.signal() {
        Some(SIGXCPU | SIGKILL) => QueryError::Deadline {
            deadline: limits.deadline,
        },
        Some(SIGXFSZ) => QueryError::Spill {
            bytes: limits.spill_bytes_max,
        },
        _ => {
            let last = words
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("no words");
            QueryError::WorkerDied {
                status: format!("{status}: {last}"),
            }
        }
    }
}
