//! A process and all below it: found by going down from parent to child, so that a machine with hundreds
//! of services is not read through by each of them.

use procfs::process::{Process, Stat};

/// Processes of one tree that are looked at; more are a fork bomb.
const PROCESSES_MAX: usize = 1_024;

/// A process and those below it, each with its state. One that ends meanwhile is left out.
pub(super) fn tree(pid: u32) -> impl Iterator<Item = (Process, Stat)> {
    let mut waiting = vec![pid];
    let found = std::iter::from_fn(move || {
        while let Some(pid) = waiting.pop() {
            let process = i32::try_from(pid)
                .ok()
                .and_then(|pid| Process::new(pid).ok());
            if let Some(process) = process
                && let Ok(stat) = process.stat()
            {
                waiting.extend(children(&process));
                return Some((process, stat));
            }
        }
        None
    });
    found.take(PROCESSES_MAX)
}

/// Those whose parent a process is now.
pub(super) fn children(process: &Process) -> impl Iterator<Item = u32> {
    let tasks = process.tasks().into_iter().flatten().flatten();
    tasks.filter_map(|task| task.children().ok()).flatten()
}
