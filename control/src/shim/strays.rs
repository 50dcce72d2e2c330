//! What is left of an instance after its end: processes that left its process group.
//!
//! They are known by what they inherited, the instance's name and its own address of the bus, or by
//! the cgroup they are in. Who starts a child with another environment and without limits escapes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::time::Duration;

use procfs::process::{Process, all_processes};
use rustix::process::{Pid, Signal, kill_process};

use super::protocol::Launch;
use crate::confine::Group;

/// What marks the processes of an instance.
const MARKS: [&str; 2] = ["SERIN_INSTANCE", "SERIN_BUS"];
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The kernel may take its time with a killed process.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// Kills what is left, until nothing is.
pub(super) async fn end(launch: &Launch, group: Option<&Group>) {
    let ending = async {
        loop {
            let left = left(launch, group);
            if left.is_empty() {
                return;
            }
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
        tracing::warn!(
            instance = launch.instance,
            "processes of an instance do not end"
        );
    }
}

fn left(launch: &Launch, group: Option<&Group>) -> BTreeSet<i32> {
    let mut left: BTreeSet<i32> = group.map(Group::processes).into_iter().flatten().collect();
    let marks: Option<Vec<(&OsStr, &OsStr)>> = MARKS
        .iter()
        .map(|name| Some((OsStr::new(*name), OsStr::new(launch.env.get(*name)?))))
        .collect();
    if let Some(marks) = marks {
        let processes = all_processes().into_iter().flatten().flatten();
        let of_it = processes.filter(|process| has_all(process, &marks) && is_alive(process));
        left.extend(of_it.map(|process| process.pid));
    }
    left
}

fn has_all(process: &Process, marks: &[(&OsStr, &OsStr)]) -> bool {
    // Others' processes do not tell, and are none of ours.
    process.environ().is_ok_and(|environment| {
        let has = |(name, value): &(&OsStr, &OsStr)| {
            environment.get(*name).is_some_and(|found| found == value)
        };
        marks.iter().all(has)
    })
}

fn is_alive(process: &Process) -> bool {
    process
        .stat()
        .is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}
