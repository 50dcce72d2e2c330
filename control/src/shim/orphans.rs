//! Processes whose parent has ended: adopted by the shim, buried, and ended with whose they are.
//!
//! A shim is the reaper of all below it, so that nothing gets away by `setsid`, an end of its parent and
//! an empty environment. An orphan is known by where it was seen before, below an instance, or else by
//! what it inherited. Of one that was never seen and inherited nothing it is only known that an instance
//! older than it started it: it is ended once no such instance lives. A live instance's is never touched.
//! When a shim is killed, the file beside its socket knows of what inherited alone. Start at [`Orphans::end`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procfs::process::{Process, Stat};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid,
};
use tokio::time::MissedTickBehavior;

use super::strays::{GONE_WITHIN, LOOK_EVERY, Marks, is_alive};
use super::tree::{children, tree};

/// How often it is looked what instances have started. What lives shorter and leaves its parent is
/// ended later, not never; and a look reads a few files of each thread of each instance.
const TRACE_EVERY: Duration = Duration::from_secs(2);

/// What a shim has adopted, and whose it is.
#[derive(Debug, Default)]
pub(super) struct Orphans(Mutex<Kin>);

#[derive(Debug, Default)]
struct Kin {
    /// The instances whose own process has not ended.
    living: BTreeMap<String, Root>,
    /// Of which instance a process is.
    of: BTreeMap<Seen, String>,
}

#[derive(Debug)]
struct Root {
    process: Seen,
    marks: Option<Marks>,
}

/// A process: its number, which is given again, and when it began, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    pid: i32,
    started_ticks: u64,
}

impl Seen {
    fn of(stat: &Stat) -> Seen {
        Seen {
            pid: stat.pid,
            started_ticks: stat.starttime,
        }
    }
}

impl Orphans {
    /// Makes this process the parent of every orphan below it.
    pub(super) fn adopt() -> Orphans {
        if let Err(error) = set_child_subreaper(Some(getpid())) {
            tracing::warn!(%error, "orphans of instances are not adopted");
        }
        Orphans::default()
    }

    fn kin(&self) -> MutexGuard<'_, Kin> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An instance was started.
    pub(super) fn began(&self, instance: &str, pid: u32, marks: Option<Marks>) {
        if let Some((_, stat)) = tree(pid).next() {
            let process = Seen::of(&stat);
            let root = Root { process, marks };
            self.kin().living.insert(instance.to_owned(), root);
        }
    }

    /// An instance's own process has ended and is buried.
    pub(super) fn ended(&self, instance: &str) {
        self.kin().living.remove(instance);
    }

    /// Looks what instances have started, before they are asked to end.
    pub(super) fn trace(&self) {
        self.kin().trace();
    }

    /// Kills the orphans of instances that have ended, until there are none.
    pub(super) async fn end(&self) {
        let ending = async {
            loop {
                let nobodys = {
                    let mut kin = self.kin();
                    kin.trace();
                    kin.nobodys()
                };
                if nobodys.is_empty() {
                    return;
                }
                for pid in nobodys.into_iter().filter_map(Pid::from_raw) {
                    if let Err(error) = kill_process(pid, Signal::KILL) {
                        tracing::debug!(%error, ?pid, "an orphan was gone already");
                    }
                }
                tokio::time::sleep(LOOK_EVERY).await;
                self.kin().bury();
            }
        };
        if tokio::time::timeout(GONE_WITHIN, ending).await.is_err() {
            tracing::warn!("orphans of an instance do not end");
        }
    }

    /// Buries and ends orphans for as long as the shim lives.
    pub(super) async fn attend(self: Arc<Self>, mut child_ended: tokio::signal::unix::Signal) {
        let mut ticks = tokio::time::interval(TRACE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ended = child_ended.recv() => match ended {
                    Some(()) => self.kin().bury(),
                    None => return,
                },
                _ = ticks.tick() => self.end().await,
            }
        }
    }
}

impl Kin {
    /// Learns of the processes there are whose they are, and forgets those that are gone.
    fn trace(&mut self) {
        let mut of = BTreeMap::new();
        for (instance, root) in &self.living {
            let below = tree(root.process.pid.unsigned_abs());
            of.extend(below.map(|(_, stat)| (Seen::of(&stat), instance.clone())));
        }
        for (process, stat) in self.orphans() {
            if let Some(instance) = self.instance_of(&process, Seen::of(&stat)) {
                let below = tree(process.pid.unsigned_abs());
                of.extend(below.map(|(_, stat)| (Seen::of(&stat), instance.clone())));
            }
        }
        self.of = of;
    }

    fn instance_of(&self, process: &Process, seen: Seen) -> Option<String> {
        let by_marks = || {
            let mut living = self.living.iter();
            let is_of = |root: &Root| root.marks.as_ref().is_some_and(|one| one.are_of(process));
            living.find(|(_, root)| is_of(root)).map(|(name, _)| name)
        };
        self.of.get(&seen).or_else(by_marks).cloned()
    }

    /// Our children that are no instance's own process.
    fn orphans(&self) -> Vec<(Process, Stat)> {
        let ourselves = Process::myself().ok();
        let children = ourselves.iter().flat_map(children);
        let roots = self.living.values().map(|root| root.process.pid);
        let roots: Vec<i32> = roots.collect();
        children
            .filter_map(|pid| Process::new(i32::try_from(pid).ok()?).ok())
            .filter(|process| !roots.contains(&process.pid))
            .filter_map(|process| Some((process.stat().ok()?, process)))
            .map(|(stat, process)| (process, stat))
            .collect()
    }

    /// Orphans, and all below them, that cannot be of an instance that lives.
    fn nobodys(&self) -> Vec<i32> {
        let is_nobodys = |seen: Seen| match self.of.get(&seen) {
            Some(instance) => !self.living.contains_key(instance),
            None => {
                let mut living = self.living.values();
                !living.any(|root| root.process.started_ticks <= seen.started_ticks)
            }
        };
        let orphans = self.orphans().into_iter();
        orphans
            .filter(|(process, stat)| is_alive(process) && is_nobodys(Seen::of(stat)))
            .flat_map(|(process, _)| tree(process.pid.unsigned_abs()))
            .map(|(process, _)| process.pid)
            .collect()
    }

    /// Takes the ends of orphans, so that the kernel forgets them.
    fn bury(&self) {
        for (process, _) in self.orphans() {
            if let Err(error) = waitpid(Pid::from_raw(process.pid), WaitOptions::NOHANG) {
                tracing::debug!(%error, pid = process.pid, "an orphan was buried already");
            }
        }
    }
}
