//! One `nats-server` process: started by us, or adopted from a Serin that was killed.
//!
//! It runs in a process group of its own, so that Ctrl-C at the terminal reaches Serin alone and
//! Serin stops it in order. It is not killed when we drop it: the bus outlives Serin.
//! Invariant: one server at most per folder. A server's standard input is the locked file
//! `nats.lock`, so the lock lives from before the fork until the last such process is gone.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::process::{Child, Command};

use crate::binary::Binary;
use crate::error::BusError;
use crate::settings::Files;

/// How often an adopted process, which is not our child, is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the server may take to close its files after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How long the folder may be held by a process that is not to be seen: one that is between fork
/// and exec, or one that is dying.
const HELD_DEADLINE: Duration = Duration::from_secs(10);
/// What stands before the configuration file on the server's command line. The long form, since
/// `-c FILE` could also be somebody's `wc`.
const CONF_OPTION: &str = "--config";
/// Where Go's garbage collector begins to work harder; without it the server holds two and a half times
/// as much under load: 660 MiB at 600,000 events/s, of which it then takes a sixth less.
const MEMORY_SOFT_MAX: (&str, &str) = ("GOMEMLIMIT", "256MiB");

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    child: Option<Child>,
}

impl Process {
    /// Starts the server with the configuration in `files`, once no other holds the folder.
    pub(crate) async fn spawn(binary: &Binary, files: &Files) -> Result<Process, BusError> {
        let lock = lock(files).await?;
        let (variable, memory) = MEMORY_SOFT_MAX;
        let child = Command::new(&binary.path)
            .arg(CONF_OPTION)
            .arg(files.conf())
            .env(variable, memory)
            .process_group(0)
            .stdin(Stdio::from(lock))
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
        let process = Process {
            pid,
            child: Some(child),
        };
        // Where processes can be listed the file is for people only: no reason to end the server.
        if let Err(error) = files.write_pid(process.id()) {
            tracing::warn!(%error, "cannot write down the process of nats-server");
        }
        Ok(process)
    }

    /// The servers with our configuration that earlier Serins left: usually none or one.
    pub(crate) async fn left(files: &Files) -> Result<Vec<Process>, BusError> {
        let look = async {
            loop {
                let found = running(files);
                // A free folder has no server; in a held one it will show itself.
                if !found.is_empty() || try_lock(files)?.is_some() {
                    return Ok(found);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let found = tokio::time::timeout(HELD_DEADLINE, look).await;
        let found = found.unwrap_or_else(|_| Err(held(files)))?;
        let process = |pid| Process { pid, child: None };
        Ok(found.into_iter().map(process).collect())
    }

    /// Ends all servers that earlier Serins left; whether there was one.
    pub(crate) async fn stop_left(files: &Files) -> Result<bool, BusError> {
        let mut was_there = false;
        loop {
            let mut left = Process::left(files).await?;
            if left.is_empty() {
                return Ok(was_there);
            }
            was_there = true;
            for process in &mut left {
                process.stop().await?;
            }
        }
    }

    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        match &mut self.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => !is_alive(self.id()),
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
                while is_alive(self.id()) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    /// Stops it in order, and by force when it does not go.
    pub(crate) async fn stop(&mut self) -> Result<(), BusError> {
        for (signal, deadline) in [(Signal::TERM, STOP_DEADLINE), (Signal::KILL, STOP_DEADLINE)] {
            if self.has_ended() {
                return Ok(());
            }
            if let Err(error) = kill_process(self.pid, signal) {
                tracing::debug!(%error, pid = self.id(), "nats-server was gone already");
            }
            if tokio::time::timeout(deadline, self.ended()).await.is_ok() {
                return Ok(());
            }
        }
        Err(BusError::Undying(self.id()))
    }
}

/// Makes a server take its configuration over again; `false` where it is not there, so that the next
/// one reads it anyway.
pub(crate) fn reload(id: u64, files: &Files) -> bool {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    let pid = pid.filter(|&pid| runs_with(pid, files) && is_alive(pid.as_raw_nonzero().get()));
    pid.is_some_and(|pid| kill_process(pid, Signal::HUP).is_ok())
}

/// The server that runs for a folder, whoever started it; nothing is waited for.
pub fn of_folder(data_dir: &Path) -> Option<i32> {
    let running = running(&Files::under(data_dir));
    running.first().map(|pid| pid.as_raw_nonzero().get())
}

/// Whether a process is there and has not ended; one that ended and that nobody asked for is not.
pub fn is_alive(id: i32) -> bool {
    Pid::from_raw(id).is_some_and(|pid| test_kill_process(pid).is_ok() && !is_zombie(pid))
}

/// The folder's lock for a server to be; waits for one that is dying.
async fn lock(files: &Files) -> Result<File, BusError> {
    let take = async {
        loop {
            if let Some(lock) = try_lock(files)? {
                return Ok(lock);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let taken = tokio::time::timeout(HELD_DEADLINE, take).await;
    taken.unwrap_or_else(|_| Err(held(files)))
}

/// The folder's lock, unless a server has it.
fn try_lock(files: &Files) -> Result<Option<File>, BusError> {
    let path = files.server_lock();
    let lock = || {
        let file = File::create(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    lock().map_err(|source| BusError::File {
        what: "lock",
        path: path.clone(),
        source,
    })
}

fn held(files: &Files) -> BusError {
    BusError::Held(files.server_lock())
}

/// The living processes with our configuration: of all where the system lists them (Linux), else
/// the one that was written down.
fn running(files: &Files) -> Vec<Pid> {
    let pids: Vec<i32> = match std::fs::read_dir("/proc/self").and(std::fs::read_dir("/proc")) {
        Ok(entries) => entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect(),
        Err(_) => files.read_pid().into_iter().collect(),
    };
    let pids = pids.into_iter().filter_map(Pid::from_raw);
    pids.filter(|&pid| runs_with(pid, files) && is_alive(pid.as_raw_nonzero().get()))
        .collect()
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

/// Whether the process was started with our configuration file.
fn runs_with(pid: Pid, files: &Files) -> bool {
    let id = pid.as_raw_nonzero().to_string();
    let line = match std::fs::read(format!("/proc/{id}/cmdline")) {
        Ok(line) => line,
        // Gone meanwhile, or there is no /proc: then `ps` tells.
        Err(_) => match std::process::Command::new("ps")
            .args(["-ww", "-o", "command=", "-p", &id])
            .output()
        {
            Ok(output) => output.stdout,
            Err(_) => return false,
        },
    };
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let ours = format!(" {CONF_OPTION} {}", files.conf().display());
    line.trim_end().ends_with(&ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_is_not_alive_though_nobody_asked_for_it() {
        let own = std::process::id().cast_signed();
        assert!(is_alive(own));
        let mut child = std::process::Command::new("true").spawn().expect("started");
        let id = child.id().cast_signed();
        let pid = Pid::from_raw(id).expect("a process");
        let ended = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), ended).expect("it ends");
        assert!(!is_alive(id), "it is a zombie");
        child.wait().expect("asked for");
        assert!(!is_alive(id));
    }

    #[test]
    fn another_program_with_the_number_is_no_server() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files::under(folder.path());
        std::fs::create_dir(&files.folder).expect("made");
        let own = std::process::id().cast_signed();
        files.write_pid(own).expect("written");
        assert_eq!(of_folder(folder.path()), None);
    }
}
