//! `serin down`: ends the server of a folder, and services and a bus that a killed server left.
//!
//! The folder's lock is held to the end: then nobody starts anything meanwhile, and no program that a
//! killed server was just starting is missed, since it has the lock until it is that program. Each part
//! is asked to end in order; what no socket and no file knows of yet is swept up. Start at [`run`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serin_control::shim::Folders;

use super::{print, remark};
use crate::cli::{Down, Global};
use crate::client::Client;
use crate::run_file::{RunFile, RunLock, data_dir, gateway_socket, sockets_dir};

/// How long the server may take: requests at its doors and at the gateway may have 10 s each, services
/// 10 s in which they wait for each other and 30 s of grace, and then all is committed and the bus stopped.
const STOP_DEADLINE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) async fn run(global: &Global, down: &Down) -> Result<()> {
    let dir = folder(&down.dir)?;
    let data = data_dir(&dir);
    let (lock, was_running) = end_server(global, &dir).await?;
    let run = sockets_dir(&data)?;
    let had_gateway = serin_gateway::process::end_left(&gateway_socket(&data)?).await;
    let mut had_services = serin_control::shim::end_left(&run).await;
    let folders = Folders {
        run: run.clone(),
        data: data.clone(),
    };
    let swept = serin_control::shim::sweep(&folders).await;
    if matches!(swept, Ok(true)) {
        // A shim may have been among them, and what it owned is in its file.
        had_services |= serin_control::shim::end_left(&run).await;
    }
    // Whatever else does not end, the bus does.
    let had_bus = serin_bus::stop_left(&data).await;
    RunFile::forget(&dir);
    drop(lock);
    let (had_others, had_bus) = (swept?, had_bus?);
    if global.json {
        print(
            &serde_json::json!({"server": was_running, "gateway": had_gateway, "services": had_services, "bus": had_bus, "others": had_others})
                .to_string(),
        );
    } else if ![was_running, had_gateway, had_services, had_bus, had_others].contains(&true) {
        remark("nothing was running");
    }
    Ok(())
}

/// The folder in which a server was started: this one, or the nearest above it.
fn folder(dir: &Path) -> Result<PathBuf> {
    let dir = std::path::absolute(dir).context("cannot tell where we are")?;
    // As `serin up` names it, and the processes of its folder are known.
    let dir = dir.canonicalize().unwrap_or(dir);
    let mut above = dir.ancestors();
    match above.find(|dir| RunLock::was_taken(dir)) {
        Some(found) => Ok(found.to_path_buf()),
        None => bail!(
            "nothing runs in {}: no `serin up` was ever there",
            dir.display()
        ),
    }
}

/// Has the server end and takes its lock; whether one ran.
async fn end_server(global: &Global, dir: &Path) -> Result<(RunLock, bool)> {
    let mut told: Option<String> = None;
    let ended = async {
        loop {
            match RunLock::try_take(dir)? {
                Ok(lock) => return anyhow::Ok(lock),
                // Else it was killed, and a program that it was just starting has the lock for a moment.
                Err(pid) if RunLock::is_held_by(dir, &pid) && told.as_ref() != Some(&pid) => {
                    tell(global, dir, &pid).await?;
                    told = Some(pid);
                }
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    };
    let ended = tokio::time::timeout(STOP_DEADLINE, ended).await;
    match (ended, told) {
        (Ok(lock), told) => Ok((lock?, told.is_some())),
        (Err(_), Some(pid)) => bail!(
            "process {pid} did not end within {} s; look at its output, or end it with `kill -9 {pid}`: nothing that was acknowledged is lost",
            STOP_DEADLINE.as_secs()
        ),
        (Err(_), None) => bail!(
            "a process holds {}/up.lock and is no server; `fuser` on that file says which",
            data_dir(dir).display()
        ),
    }
}

/// Tells the server to end.
async fn tell(global: &Global, dir: &Path, pid: &str) -> Result<()> {
    if asked(global, dir, pid).await {
        return Ok(());
    }
    let Some(process) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) else {
        return Ok(());
    };
    match rustix::process::kill_process(process, rustix::process::Signal::TERM) {
        // It has just ended.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot end process {pid}")),
    }
}

/// Whether the server took the request to stop; it may hang, or have no run file yet.
async fn asked(global: &Global, dir: &Path, pid: &str) -> bool {
    let Ok(Some(run)) = RunFile::read(dir) else {
        return false;
    };
    // One that a killed server left names an address that may be another's now.
    if run.pid.to_string() != pid {
        return false;
    }
    let Ok(client) = Client::of(&run, global, dir) else {
        return false;
    };
    let asked = client.post("/api/v1/stop");
    matches!(
        tokio::time::timeout(Duration::from_secs(2), asked).await,
        Ok(Ok(()))
    )
}
