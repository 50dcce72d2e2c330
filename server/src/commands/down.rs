//! `serin down`: ends the server of a folder, and services and a bus that a killed server left.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{print, remark};
use crate::cli::{Down, Global};
use crate::client::Client;
use crate::run_file::{RunFile, RunLock, data_dir, gateway_socket, sockets_dir};

/// How long the server may take: requests at its doors and at the gateway may have 10 s each, services
/// their grace, and then all is committed and the bus stopped.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) async fn run(global: &Global, down: &Down) -> Result<()> {
    let dir = std::path::absolute(&down.dir).context("cannot tell where we are")?;
    // As `serin up` names it, and the processes of its folder are known.
    let dir = dir.canonicalize().unwrap_or(dir);
    let dir = match RunFile::find(&dir)? {
        Some((found, _)) => found,
        None => dir,
    };
    if !data_dir(&dir).is_dir() {
        bail!("nothing runs in {}: it has no .serin folder", dir.display());
    }
    let was_running = end_server(global, &dir).await?;
    let gateway = gateway_socket(&data_dir(&dir))?;
    let had_gateway = serin_gateway::process::end_left(&gateway).await;
    let had_services = serin_control::shim::end_left(&sockets_dir(&data_dir(&dir))?).await;
    let had_bus = serin_bus::stop_left(&data_dir(&dir)).await?;
    RunFile::forget(&dir);
    if global.json {
        print(
            &serde_json::json!({"server": was_running, "gateway": had_gateway, "services": had_services, "bus": had_bus})
                .to_string(),
        );
    } else if ![was_running, had_gateway, had_services, had_bus].contains(&true) {
        remark("nothing was running");
    }
    Ok(())
}

/// Asks the server to end and waits for its lock; false where none runs.
async fn end_server(global: &Global, dir: &Path) -> Result<bool> {
    let Err(pid) = RunLock::try_take(dir)? else {
        return Ok(false);
    };
    if !asked(global, dir).await {
        let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
        let Some(pid) = pid else {
            bail!(
                "a server holds {} but does not say its process",
                dir.display()
            );
        };
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .with_context(|| format!("cannot end process {}", pid.as_raw_nonzero()))?;
    }
    let ended = async {
        while RunLock::try_take(dir)?.is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(STOP_DEADLINE, ended).await {
        Ok(ended) => ended?,
        Err(_) => bail!(
            "process {pid} did not end within {} s; look at its output, or end it with `kill -9 {pid}`: nothing that was acknowledged is lost",
            STOP_DEADLINE.as_secs()
        ),
    }
    Ok(true)
}

/// Whether the server took the request to stop; it may hang, or its run file may be gone.
async fn asked(global: &Global, dir: &Path) -> bool {
    let Ok(Some(run)) = RunFile::read(dir) else {
        return false;
    };
    let Ok(client) = Client::of(&run, global, dir) else {
        return false;
    };
    let asked = client.post("/api/v1/stop");
    matches!(
        tokio::time::timeout(Duration::from_secs(2), asked).await,
        Ok(Ok(()))
    )
}
