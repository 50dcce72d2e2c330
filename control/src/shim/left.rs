//! What is left when a shim, or Serin, was killed: found again and ended.
//!
//! A file beside each socket names the processes of a shim with the moment each began, so that a
//! number the system gave to another process since is not mistaken for ours, and what their children
//! inherited, so that those that left the group are found too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::END_WITHIN_MAX;
use super::client::Client;
use super::strays::{self, Marks};

/// The grace period of instances that a killed Serin left and that have none of their own, and how
/// long their shims may take beside it.
const GRACE: Duration = Duration::from_secs(10);

/// An instance as the file names it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    pid: i32,
    /// When its process began, in the kernel's ticks.
    started_ticks: u64,
    #[serde(default)]
    marks: Option<Marks>,
}

impl Left {
    /// Of one that runs; `None` where its process is gone.
    pub(super) fn of(pid: u32, marks: Option<Marks>) -> Option<Left> {
        let pid = i32::try_from(pid).ok()?;
        Some(Left {
            pid,
            started_ticks: started_ticks(pid)?,
            marks,
        })
    }
}

/// The file beside a socket.
pub(super) fn file(socket: &Path) -> PathBuf {
    socket.with_extension("left")
}

/// Writes down which processes run.
pub(super) fn write(file: &Path, left: &[Left]) {
    let text = serde_json::to_vec(left).unwrap_or_default();
    if let Err(error) = std::fs::write(file, text) {
        tracing::warn!(%error, "cannot write down which processes run");
    }
}

/// Kills what a killed shim left; whether there was anything.
pub(super) async fn kill(file: &Path) -> bool {
    let text = std::fs::read(file).unwrap_or_default();
    let mut was_there = false;
    for left in serde_json::from_slice::<Vec<Left>>(&text).unwrap_or_default() {
        was_there |= kill_group(&left);
        was_there |= strays::end(left.marks.as_ref(), None, None).await > 0;
    }
    was_there
}

fn kill_group(left: &Left) -> bool {
    let is_it = started_ticks(left.pid) == Some(left.started_ticks);
    let Some(group) = Pid::from_raw(left.pid).filter(|_| is_it) else {
        return false;
    };
    let killed = kill_process_group(group, Signal::KILL);
    if let Err(error) = killed {
        tracing::warn!(%error, pid = left.pid, "cannot end a process that was left");
    }
    killed.is_ok()
}

fn started_ticks(pid: i32) -> Option<u64> {
    let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
    Some(stat.starttime)
}

/// Ends every shim whose socket is in a folder, and every instance that a killed shim left; whether
/// there was any. Returns when they are gone.
pub async fn end_left(run_dir: &Path) -> bool {
    let files = std::fs::read_dir(run_dir).into_iter().flatten().flatten();
    let sockets = files
        .map(|entry| entry.path())
        .filter(|file| file.extension().is_some_and(|end| end == "sock"));
    // At the same time: each may take its whole grace period.
    let ended = sockets.map(|socket| async move { end_of(&socket).await });
    join_all(ended).await.contains(&true)
}

/// Ends the shim of a socket, or what it left.
async fn end_of(socket: &Path) -> bool {
    let service = socket.file_stem().unwrap_or_default().to_string_lossy();
    let (ends, mut ended) = mpsc::channel(1);
    let Ok(client) = Client::connect(&service, socket, ends).await else {
        return kill(&file(socket)).await;
    };
    match client.end(GRACE).await {
        // The connection ends with its process.
        Ok(()) => {
            let gone = async { while ended.recv().await.is_some() {} };
            let within = END_WITHIN_MAX + GRACE;
            if tokio::time::timeout(within, gone).await.is_err() {
                tracing::error!(%service, "a service did not end");
            }
        }
        Err(error) => tracing::warn!(%error, %service, "a shim does not listen"),
    }
    true
}
