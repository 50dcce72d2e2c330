//! One instance: its process, its group, and how it ends.
//!
//! The group gets the signals, so that children go with their parent; after the main process has
//! ended, whatever is left of the group is killed.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::output::Tail;
use super::protocol::{Exit, Launch, Status};
use super::stop_signal::StopSignal;
use super::strays::Marks;
use crate::confine::Group;

/// What of the shim's own environment an instance gets.
const INHERITED: [&str; 8] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
];

/// An instance the shim knows, running or ended.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) status: Status,
    pub(super) tail: Tail,
    /// Asks the task that waits for it to end it: the grace period.
    pub(super) stop: watch::Sender<Option<Duration>>,
    /// The one of its own.
    pub(super) stop_within: Option<Duration>,
    /// By what its processes are known.
    pub(super) marks: Option<Marks>,
}

/// Ourselves, also when another file has taken the place of ours.
const OURSELVES: &str = "/proc/self/exe";
/// How an instance ends whose program cannot be started; the shells' number for it.
pub(super) const NOT_STARTED: i32 = 127;

/// What of this process's environment an instance gets, and whatever is run for one.
pub(crate) fn inherited() -> impl Iterator<Item = (&'static str, OsString)> {
    let names = INHERITED.into_iter();
    names.filter_map(|name| Some((name, std::env::var_os(name)?)))
}

/// Starts the process of an instance in a process group of its own, and within its limits.
pub(super) fn spawn(launch: &Launch, group: Option<&Group>) -> std::io::Result<Child> {
    let command = match group {
        Some(group) => group
            .entry()
            .command(OURSELVES.to_owned(), launch.command.clone()),
        None => launch.command.clone(),
    };
    let (program, arguments) = command.split_first().ok_or_else(|| {
        std::io::Error::new(std::io::ErrorKind::InvalidInput, "the command is empty")
    })?;
    Command::new(program)
        .args(arguments)
        .current_dir(&launch.dir)
        .env_clear()
        .envs(inherited())
        .envs(&launch.env)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Waits for the end of an instance; ends it when asked. With how it ended comes what it was given to end by
/// itself, where that was not enough.
pub(super) async fn wait(
    mut child: Child,
    group: Option<Pid>,
    stop_signal: StopSignal,
    mut stop: watch::Receiver<Option<Duration>>,
    now_us: fn() -> i64,
) -> (Exit, Option<Duration>) {
    let (status, outlived) = tokio::select! {
        status = child.wait() => (status, None),
        grace = asked(&mut stop) => {
            signal(group, stop_signal.signal());
            end(&mut child, group, grace).await
        }
    };
    // Children that did not go with their parent.
    signal(group, Signal::KILL);
    (exit(status.ok(), now_us()), outlived)
}

async fn asked(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    match stop.wait_for(Option::is_some).await {
        Ok(grace) => grace.unwrap_or_default(),
        // The shim itself ends.
        Err(_) => Duration::ZERO,
    }
}

/// Waits for the end of one that was asked, and ends it where it does not in time.
async fn end(
    child: &mut Child,
    group: Option<Pid>,
    grace: Duration,
) -> (std::io::Result<ExitStatus>, Option<Duration>) {
    match tokio::time::timeout(grace, child.wait()).await {
        Ok(status) => (status, None),
        Err(_) => {
            signal(group, Signal::KILL);
            (child.wait().await, Some(grace))
        }
    }
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group
        && let Err(error) = kill_process_group(group, signal)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(%error, ?group, "cannot signal an instance");
    }
}

fn exit(status: Option<ExitStatus>, time_us: i64) -> Exit {
    Exit {
        time_us,
        code: status.and_then(|status| status.code()),
        signal: status.and_then(|status| status.signal()),
        was_out_of_memory: false,
        was_with_shim: false,
    }
}
