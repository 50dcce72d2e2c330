//! One `nats-server` process: started by us, or adopted from a Serin that was killed.
//!
//! It runs in a process group of its own, so that Ctrl-C at the terminal reaches Serin alone and
//! Serin stops it in order. It is not killed when we drop it: the bus outlives Serin.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::process::{Child, Command};

use crate::binary::Binary;
use crate::error::BusError;
use crate::settings::Files;

/// How often an adopted process, which is not our child, is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the server may take to close its files after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    child: Option<Child>,
}

impl Process {
    /// Starts the server with the configuration in `files`.
    pub(crate) fn spawn(binary: &Binary, files: &Files) -> Result<Process, BusError> {
        let child = Command::new(&binary.path)
            .arg("-c")
            .arg(files.conf())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let error = |source| BusError::Spawn {
            path: binary.path.clone(),
            source,
        };
        let child = child.map_err(error)?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or_else(|| BusError::Ended(files.last_words()))?;
        Ok(Process {
            pid,
            child: Some(child),
        })
    }

    /// Takes over the server that an earlier Serin left, if it is alive and really ours.
    pub(crate) fn left(files: &Files) -> Option<Process> {
        let pid = Pid::from_raw(files.read_pid()?)?;
        (is_alive(pid) && runs_with(pid, &files.conf())).then_some(Process { pid, child: None })
    }

    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        match &mut self.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => !is_alive(self.pid),
        }
    }

    /// Returns once the process has ended.
    pub(crate) async fn ended(&mut self) {
        match &mut self.child {
            Some(child) => {
                if let Err(error) = child.wait().await {
                    tracing::warn!(%error, "cannot wait for nats-server");
                }
            }
            None => {
                while is_alive(self.pid) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    /// Stops it in order, and by force when it does not go.
    pub(crate) async fn stop(&mut self) {
        for (signal, deadline) in [(Signal::TERM, STOP_DEADLINE), (Signal::KILL, STOP_DEADLINE)] {
            if self.has_ended() {
                return;
            }
            if let Err(error) = kill_process(self.pid, signal) {
                tracing::debug!(%error, pid = self.id(), "nats-server was gone already");
            }
            if tokio::time::timeout(deadline, self.ended()).await.is_ok() {
                return;
            }
        }
        tracing::error!(pid = self.id(), "nats-server cannot be killed");
    }
}

fn is_alive(pid: Pid) -> bool {
    test_kill_process(pid).is_ok() && !is_zombie(pid)
}

/// A process that ended and that nobody has asked for; only Linux tells us.
fn is_zombie(pid: Pid) -> bool {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let Ok(stat) = std::fs::read_to_string(path) else {
        return false;
    };
    // The name in parentheses may itself have parentheses and spaces.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Whether the process is a nats-server that was started with this configuration file.
fn runs_with(pid: Pid, conf: &Path) -> bool {
    let id = pid.as_raw_nonzero().to_string();
    let line = match std::fs::read(format!("/proc/{id}/cmdline")) {
        Ok(line) => line,
        Err(_) => match std::process::Command::new("ps")
            .args(["-o", "command=", "-p", &id])
            .output()
        {
            Ok(output) => output.stdout,
            Err(_) => return false,
        },
    };
    let line = String::from_utf8_lossy(&line);
    line.contains("nats-server") && line.contains(&*conf.to_string_lossy())
}
