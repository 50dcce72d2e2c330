//! Processes of this machine, as `/proc` tells of them, and signals to them.
//!
//! One may end while it is looked at: what it then no longer tells is empty. Start at [`all`].

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::io::Errno;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// Every process there is.
pub fn all() -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        all.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(all)
}

/// Where a process is told of.
pub fn folder(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// Whether it runs. A zombie has ended, and is buried a moment later by whoever is its parent now.
pub fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat[0].as_str(), "Z" | "X"))
}

/// Its command line, word by word.
pub fn command(pid: u32) -> Vec<String> {
    words(pid, "cmdline")
}

/// Its environment as `NAME=value`; none for a zombie.
pub fn environment(pid: u32) -> Vec<String> {
    words(pid, "environ")
}

fn words(pid: u32, file: &str) -> Vec<String> {
    let text = fs::read(folder(pid).join(file)).unwrap_or_default();
    let words = text
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// The fields of its `stat` behind the name, from `state` on.
pub fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(folder(pid).join("stat")).ok()?;
    let fields = text.rsplit_once(") ")?.1;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// The process that started it, or took its place as that.
pub fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Its threads.
pub fn threads(pid: u32) -> Result<Vec<PathBuf>> {
    let tasks = fs::read_dir(folder(pid).join("task"))?;
    tasks.map(|task| Ok(task?.path())).collect()
}

/// Ends one at once, if it is there.
pub fn kill(pid: u32) -> Result<()> {
    match send(pid, Signal::KILL) {
        Err(error) if error.downcast_ref::<Errno>() == Some(&Errno::SRCH) => Ok(()),
        sent => sent,
    }
}

/// Sends a signal to one that is there.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    let id = Pid::from_raw(i32::try_from(pid)?).context("a process has a number")?;
    kill_process(id, signal).with_context(|| format!("cannot send {signal:?} to process {pid}"))
}
