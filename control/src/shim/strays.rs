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

/// Kills what is left of an instance, until nothing is; whether there was anything.
pub(super) async fn end(marks: Option<&Marks>, group: Option<&Group>) -> bool {
    let mut was_there = false;
    let ending = async {
        loop {
            let left = left(marks, group);
            if left.is_empty() {
                return;
            }
            was_there = true;
            for pid in left {
                let Some(pid) = Pid::from_raw(pid) else {
                    continue;
                };
                if let Err(error) = kill_process(pid, Signal::KILL) {
                    tracing::debug!(%error, ?pid, "a stray process was gone already");
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(GONE_WITHIN, ending).await.is_err() {
        let instance = marks.map(|marks| &marks.instance);
        tracing::warn!(instance, "processes of an instance do not end");
    }
    was_there
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
