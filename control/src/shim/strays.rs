//! What is left of an instance after its end: processes that left its process group.
//!
//! They are known by what they inherited, the instance's name and the folder its service keeps, or by
//! the cgroup they are in. Those that have neither are left to `orphans`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::time::Duration;

use procfs::process::{Process, all_processes};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::protocol::Launch;
use crate::confine::Group;

/// Variables that mark the processes of an instance. No other folder of Serin has the second, and none
/// of them is a secret.
const INSTANCE: &str = "SERIN_INSTANCE";
pub(super) const DATA: &str = "SERIN_DATA";
/// Between two looks whether killed processes are gone.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The kernel may take its time with a killed process.
pub(super) const GONE_WITHIN: Duration = Duration::from_secs(2);

/// What the processes of one instance inherited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marks {
    instance: String,
    data: String,
}

impl Marks {
    /// Of an instance; `None` where it has no environment of ours.
    pub(super) fn of(launch: &Launch) -> Option<Marks> {
        Some(Marks {
            instance: launch.env.get(INSTANCE)?.clone(),
            data: launch.env.get(DATA)?.clone(),
        })
    }

    /// Whether a process has them.
    pub(super) fn are_of(&self, process: &Process) -> bool {
        // Others' processes do not tell, and are none of ours.
        process.environ().is_ok_and(|environment| {
            let has = |name: &str, value: &str| {
                environment
                    .get(OsStr::new(name))
                    .is_some_and(|found| found == value)
            };
            has(INSTANCE, &self.instance) && has(DATA, &self.data)
        })
    }
}

/// Kills what is left of an instance, until nothing is; how many processes there were, without those of a
/// process group that is killed already.
pub(super) async fn end(
    marks: Option<&Marks>,
    group: Option<&Group>,
    killed: Option<Pid>,
) -> usize {
    let found = left(marks, group);
    if found.is_empty() {
        return 0;
    }
    let killed = killed.map(|group| group.as_raw_nonzero().get());
    let is_killed = |pid: &i32| group_of(*pid).is_some_and(|group| Some(group) == killed);
    let count = found.iter().filter(|pid| !is_killed(pid)).count();
    if kill_until_gone(|| left(marks, group), GONE_WITHIN)
        .await
        .is_err()
    {
        let instance = marks.map(|marks| &marks.instance);
        tracing::warn!(instance, "processes of an instance do not end");
    }
    count
}

/// The process group of a process; none of one that has gone.
fn group_of(pid: i32) -> Option<i32> {
    Some(Process::new(pid).ok()?.stat().ok()?.pgrp)
}

/// Kills the processes that are `left` until there are none; whether there were any, or those that there
/// still are when the time is over.
pub(super) async fn kill_until_gone(
    left: impl Fn() -> BTreeSet<i32>,
    within: Duration,
) -> Result<bool, BTreeSet<i32>> {
    let mut was_there = false;
    let killing = async {
        loop {
            let now = left();
            if now.is_empty() {
                return;
            }
            was_there = true;
            for pid in now.into_iter().filter_map(Pid::from_raw) {
                if let Err(error) = kill_process(pid, Signal::KILL) {
                    tracing::debug!(%error, ?pid, "a process that was left was gone already");
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let killed = tokio::time::timeout(within, killing).await;
    killed.map_err(|_| left())?;
    Ok(was_there)
}

fn left(marks: Option<&Marks>, group: Option<&Group>) -> BTreeSet<i32> {
    let mut left: BTreeSet<i32> = group.map(Group::processes).into_iter().flatten().collect();
    if let Some(marks) = marks {
        let processes = all_processes().into_iter().flatten().flatten();
        let of_it = processes.filter(|process| marks.are_of(process) && is_alive(process));
        left.extend(of_it.map(|process| process.pid));
    }
    left
}

/// Whether a process has not ended.
pub(super) fn is_alive(process: &Process) -> bool {
    process
        .stat()
        .is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}
