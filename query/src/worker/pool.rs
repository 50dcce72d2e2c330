//! The parent's side of the workers: one is always warm, each answers one question and is gone.
//!
//! A worker that is out of time is killed; so is one whose asker went away (its future was dropped).
//! At most `running_max` run at a time and `queued_max` wait.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::time::Duration;

use serin_lake::{CheckedStore, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tracing::warn;

use super::frame::{self, Done, Failed, Question, Table};
use crate::engine::{SqlAnswer, WorkerCommand};
use crate::error::QueryError;
use crate::guard::Admitted;
use crate::limits::{Limits, Range};

/// How long after its deadline a worker is killed; its own watchdog comes a little earlier.
const GRACE: Duration = Duration::from_millis(500);
/// An answer in Arrow IPC is a little longer than in memory.
const IPC_OVERHEAD_BYTES: usize = 1 << 20;
/// How much of a worker's last words is kept.
const LAST_WORDS_BYTES: u64 = 4 << 10;

/// The workers of one engine.
pub(crate) struct Pool {
    command: WorkerCommand,
    limits: Arc<Limits>,
    spill_dir: PathBuf,
    store: Arc<CheckedStore>,
    told: Once,
    turns: Semaphore,
    waiting: AtomicUsize,
    number: AtomicU64,
    warm: Mutex<Option<Child>>,
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A spill folder that goes with its question.
struct SpillDir(PathBuf);

impl Drop for SpillDir {
    fn drop(&mut self) {
        // Nothing was spilled most of the time, and then it was never made.
        drop(std::fs::remove_dir_all(&self.0));
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
            turns: Semaphore::new(limits.running_max.max(1)),
            limits,
            spill_dir,
            waiting: AtomicUsize::new(0),
            number: AtomicU64::new(0),
            warm: Mutex::new(None),
        }
    }

    /// Starts a worker that will wait for its question, when none waits already.
    pub(crate) fn warm_up(&self) -> io::Result<()> {
        let mut warm = self
            .warm
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if warm.is_none() {
            *warm = Some(self.start()?);
        }
        Ok(())
    }

    fn start(&self) -> io::Result<Child> {
        Command::new(&self.command.program)
            .args(&self.command.args)
            // Nothing of our environment is a worker's business. Two arenas keep its memory together.
            .env_clear()
            .env("MALLOC_ARENA_MAX", "2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }

    fn take(&self) -> io::Result<Child> {
        let mut warm = self
            .warm
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match warm.take() {
            Some(mut child) => match child.try_wait() {
                Ok(None) => Ok(child),
                _ => self.start(),
            },
            None => self.start(),
        }
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
        let _turn = match self.turns.try_acquire() {
            Ok(turn) => turn,
            Err(_) => {
                let place = Place(&self.waiting);
                if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.limits.queued_max {
                    return Err(busy());
                }
                let turn = tokio::time::timeout(self.limits.deadline, self.turns.acquire()).await;
                drop(place);
                match turn {
                    Ok(Ok(turn)) => turn,
                    _ => return Err(busy()),
                }
            }
        };
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let spill = SpillDir(
            self.spill_dir
                .join(format!("worker-{}-{number}", std::process::id())),
        );
        let frames = self.frames(snapshot, sql, range, admitted, spill.0.clone())?;
        let mut child = self.take().map_err(QueryError::Worker)?;
        self.warm_up().map_err(QueryError::Worker)?;
        let talk = self.talk(&mut child, &frames);
        match tokio::time::timeout(self.limits.deadline + GRACE, talk).await {
            Ok(Ok(Some((bytes, done)))) => {
                let (schema, batches) = frame::batches(&bytes)
                    .map_err(|error| QueryError::Worker(io::Error::other(error)))?;
                if let Some(lacking) = &done.lacking {
                    self.told
                        .call_once(|| warn!(lacking, "query workers are less enclosed"));
                }
                let watermark_us = snapshot.watermark_us;
                Ok(SqlAnswer {
                    schema,
                    batches,
                    watermark_us,
                    is_truncated: done.is_truncated,
                })
            }
            Ok(Ok(None)) => Err(self.last_words(&mut child).await),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                child.start_kill().map_err(QueryError::Worker)?;
                Err(QueryError::Deadline {
                    deadline: self.limits.deadline,
                })
            }
        }
    }

    /// The question as frames.
    fn frames(
        &self,
        snapshot: &Snapshot,
        sql: &str,
        range: Option<Range>,
        admitted: &Admitted,
        spill_dir: PathBuf,
    ) -> Result<Vec<(u8, Vec<u8>)>, QueryError> {
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
        let tables: Vec<Table> = snapshot
            .tables
            .values()
            .map(|view| Table::of(view, is_read(&view.name), &self.store))
            .collect();
        let broken = |error: arrow::error::ArrowError| QueryError::Worker(io::Error::other(error));
        let mut fresh = Vec::new();
        for (view, table) in snapshot.tables.values().zip(&tables) {
            if table.has_fresh {
                fresh.push((frame::FRESH, frame::fresh_bytes(view).map_err(broken)?));
            }
        }
        let question = Question {
            sql: sql.to_owned(),
            range_us: range.map(|range| (range.from_us, range.to_us)),
            deadline_ms: u64::try_from(self.limits.deadline.as_millis()).unwrap_or(u64::MAX),
            memory_bytes: self.limits.memory_bytes,
            rows_max: self.limits.rows_max,
            result_bytes_max: self.limits.result_bytes_max,
            sql_bytes_max: self.limits.sql_bytes_max,
            spill_bytes_max: self.limits.spill_bytes_max,
            spill_dir,
            watermark_us: snapshot.watermark_us,
            tables,
        };
        let body = serde_json::to_vec(&question)
            .map_err(|error| QueryError::Worker(io::Error::other(error)))?;
        let mut frames = vec![(frame::QUESTION, body)];
        frames.append(&mut fresh);
        Ok(frames)
    }

    /// Sends the question and reads the answer; `None` when the worker ended without one.
    async fn talk(
        &self,
        child: &mut Child,
        frames: &[(u8, Vec<u8>)],
    ) -> Result<Option<(Vec<u8>, Done)>, QueryError> {
        let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Ok(None);
        };
        for (kind, body) in frames {
            let head = frame::head(*kind, body).map_err(QueryError::Worker)?;
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
