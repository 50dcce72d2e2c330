//! Ends one instance as a crash would, and waits until another has taken its place.
//!
//! Nothing is said to the reconciler: what follows is what follows any death. Start at
//! [`Runtime::kill_one`].

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use thiserror::Error;

use super::reconcile::{Runtime, RuntimeError};
use super::view::{InstanceView, ServiceView};

/// How long a replacement may take, a slow interpreter's start included.
const REPLACED_WITHIN: Duration = Duration::from_secs(30);

/// An instance that was ended and the one that follows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// Which was ended.
    pub killed: String,
    /// Which is ready in its place.
    pub replacement: String,
    /// From the one to the other, microseconds.
    pub took_us: i64,
}

/// Why no instance was ended, or none followed.
#[derive(Debug, Error)]
pub enum KillError {
    /// The service is not there.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// There is nothing to end.
    #[error("no instance of {0:?} is ready; see `serin status`")]
    NoneReady(String),
    /// The signal could not be sent.
    #[error("cannot end the process {pid} of {instance}")]
    Signal {
        /// Whose.
        instance: String,
        /// Which.
        pid: u32,
        /// Why.
        #[source]
        source: rustix::io::Errno,
    },
    /// Nobody took its place.
    #[error(
        "{killed} was ended, and nothing took its place within {} s; see `serin status` and `serin logs`",
        REPLACED_WITHIN.as_secs()
    )]
    NotReplaced {
        /// Which was ended.
        killed: String,
    },
}

impl Runtime {
    /// Ends the oldest ready instance of a service with SIGKILL.
    pub async fn kill_one(&self, name: &str) -> Result<Replaced, KillError> {
        self.kept.of(name)?;
        let mut views = self.views();
        let before = views.borrow_and_update().clone();
        let ready = ready_of(&before, name);
        let victim = ready.iter().min_by_key(|instance| instance.started_us);
        let victim = victim.ok_or_else(|| KillError::NoneReady(name.to_owned()))?;
        let began_us = (self.options.now_us)();
        end(victim)?;
        let known: Vec<&str> = before
            .iter()
            .filter(|service| service.name == name)
            .flat_map(|service| &service.instances)
            .map(|instance| instance.name.as_str())
            .collect();
        let is_new = |views: &std::sync::Arc<Vec<ServiceView>>| {
            let ready = ready_of(views, name);
            ready
                .iter()
                .any(|instance| !known.contains(&instance.name.as_str()))
        };
        let replaced = tokio::time::timeout(REPLACED_WITHIN, views.wait_for(is_new)).await;
        let replacement = replaced.ok().and_then(Result::ok).and_then(|views| {
            let ready = ready_of(&views, name);
            let mut new = ready
                .iter()
                .filter(|instance| !known.contains(&instance.name.as_str()));
            new.next().map(|instance| instance.name.clone())
        });
        match replacement {
            Some(replacement) => Ok(Replaced {
                killed: victim.name.clone(),
                replacement,
                took_us: (self.options.now_us)() - began_us,
            }),
            None => Err(KillError::NotReplaced {
                killed: victim.name.clone(),
            }),
        }
    }
}

fn ready_of(views: &[ServiceView], name: &str) -> Vec<InstanceView> {
    let of = views.iter().filter(|service| service.name == name);
    of.flat_map(|service| &service.instances)
        .filter(|instance| instance.state == "ready" && !instance.is_by_hand)
        .cloned()
        .collect()
}

/// Kills an instance with all its children.
fn end(victim: &InstanceView) -> Result<(), KillError> {
    let group = i32::try_from(victim.pid).ok().and_then(Pid::from_raw);
    let killed = match group {
        Some(group) => kill_process_group(group, Signal::KILL),
        None => Err(rustix::io::Errno::SRCH),
    };
    killed.map_err(|source| KillError::Signal {
        instance: victim.name.clone(),
        pid: victim.pid,
        source,
    })
}
