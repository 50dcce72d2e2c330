//! How far a deploy is: a version is followed until it serves, has ended as a job, or has failed.
//!
//! What is told goes to whoever asked for the deploy; the version goes on without them. Start at
//! [`Runtime::follow`].

use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;

use super::programs;
use super::reconcile::Runtime;
use super::view::{ServiceView, VersionView};
use super::wanted::Phase;

/// Lines of a build or of an instance that are shown when it fails.
const LINES_SHOWN: usize = 20;

/// Stages that wait to be told: there are a few, and whoever is slow to read is waited for.
pub(super) const STAGES_QUEUE: usize = 16;

/// How far a deploy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
pub enum Stage {
    /// The folder was copied.
    Copied {
        /// What it is made of.
        hash: String,
    },
    /// Its build runs.
    Building,
    /// It starts once the services of its `after:` are there.
    Waiting {
        /// Its name.
        version: String,
        /// Those that are not there yet.
        after: Vec<String>,
    },
    /// Its instances are started.
    Starting {
        /// Its name.
        version: String,
        /// Instances that are ready.
        ready: usize,
        /// Instances it wants.
        of: u32,
    },
    /// Something that whoever deploys should know, though it goes on.
    Note {
        /// For people.
        text: String,
    },
    /// It takes the calls.
    Serving {
        /// Its name.
        version: String,
        /// Since the command, milliseconds.
        took_ms: i64,
    },
    /// It was a job, and ended well.
    Ended {
        /// Its name.
        version: String,
        /// Since the command, milliseconds.
        took_ms: i64,
    },
    /// Nothing changed: this version serves it already.
    Unchanged {
        /// Its name.
        version: String,
    },
    /// It did not get ready; the version before serves on, or again where it made room for it.
    Failed {
        /// Its name, where it got one.
        version: Option<String>,
        /// Why.
        why: String,
        /// The last lines it logged.
        lines: Vec<String>,
    },
}

impl Runtime {
    /// Waits until every caller goes to a version that serves; for people, what is not as it should
    /// be: callers who do not in time, limits that are not held.
    async fn shortcomings(&self, name: &str, version: &str) -> Vec<String> {
        let mut notes = Vec::new();
        let missing = self.views().borrow().iter().find_map(|service| {
            let mut of = service.instances.iter();
            let of = of.find(|one| service.name == name && one.version == version)?;
            of.limits_missing.clone()
        });
        notes.extend(missing);
        if !self.routes_taken().await {
            notes.push(String::from(
                "the bus has not taken over the routes: calls without a version, from clients \
                 without an SDK, may go where they went before; `serin doctor` looks at the bus",
            ));
        }
        if !self.is_reached(name, version).await {
            notes.push(String::from(
                "the gateway does not send requests to it yet; `serin status` says how it is",
            ));
        }
        notes
    }

    /// Tells how a version gets on until it serves or will not.
    pub(super) async fn follow(
        &self,
        name: &str,
        version: &str,
        began_us: i64,
        stages: &mpsc::Sender<Stage>,
    ) {
        let took_ms = || ((self.options.now_us)() - began_us) / 1_000;
        let mut views = self.views();
        let (mut told_ready, mut told_after, mut told_why) = (None, Vec::new(), Vec::new());
        loop {
            // It was shown before it is followed.
            let seen = progress(&views.borrow_and_update(), name, version);
            let version = version.to_owned();
            match seen {
                Some((of, _)) if of.phase == Phase::Starting && self.is_stopped(name) => {
                    return tell(stages, given_up(version, "it was stopped meanwhile")).await;
                }
                Some((of, ready)) if of.phase == Phase::Starting => {
                    let after = self.waits_for(name, &version);
                    if !after.is_empty() {
                        let why = self.why_absent(&after);
                        if told_after != after {
                            told_after.clone_from(&after);
                            tell(stages, Stage::Waiting { version, after }).await;
                        }
                        for text in why.iter().filter(|text| !told_why.contains(*text)) {
                            tell(stages, Stage::Note { text: text.clone() }).await;
                        }
                        told_why = why;
                    } else if told_ready.replace(ready) != Some(ready) {
                        let of = of.instances.min;
                        tell(stages, Stage::Starting { version, ready, of }).await;
                    }
                }
                Some((of, _)) if of.phase == Phase::Serving => {
                    for text in self.shortcomings(name, &version).await {
                        tell(stages, Stage::Note { text }).await;
                    }
                    let took_ms = took_ms();
                    return tell(stages, Stage::Serving { version, took_ms }).await;
                }
                Some((of, _)) if of.is_job && of.phase == Phase::Retired => {
                    let took_ms = took_ms();
                    return tell(stages, Stage::Ended { version, took_ms }).await;
                }
                Some((of, _)) => {
                    let failed = self.failed(name, version, of.why).await;
                    return tell(stages, failed).await;
                }
                None => return tell(stages, given_up(version, "it was removed meanwhile")).await,
            }
            if stages.is_closed() || views.changed().await.is_err() {
                return;
            }
        }
    }

    fn is_stopped(&self, name: &str) -> bool {
        self.kept.of(name).is_ok_and(|wanted| wanted.is_stopped)
    }

    /// Why services that are waited for will not come by themselves, for people.
    fn why_absent(&self, after: &[String]) -> Vec<String> {
        let why = after.iter().filter_map(|name| {
            let wanted = self.kept.of(name).ok()?;
            if wanted.is_stopped {
                return Some(format!(
                    "{name} is stopped; `serin deploy {name}` starts it"
                ));
            }
            let latest = wanted.versions.iter().max_by_key(|one| one.since_us)?;
            let why = latest.why.as_deref().unwrap_or("it ended");
            (latest.phase == Phase::Failed)
                .then(|| format!("{name} failed: {why}; mend it, then `serin deploy {name}`"))
        });
        why.collect()
    }

    /// Tells of a version that took the calls before it was deployed again, once all its instances
    /// are ready or do not get so.
    pub(super) async fn follow_serving(
        &self,
        name: &str,
        version: &str,
        stages: &mpsc::Sender<Stage>,
    ) {
        let within_ms = self.kept.of(name).ok().and_then(|wanted| {
            let of = wanted.version(version);
            of.map(|of| of.service.ready_within_ms)
        });
        let (mut told, mut views) = (None, self.views());
        let full = async {
            loop {
                let seen = progress(&views.borrow_and_update(), name, version);
                let Some((of, ready)) = seen else { return };
                let of = of.instances.min;
                if ready >= of as usize {
                    return;
                }
                if told.replace((ready, of)) != Some((ready, of)) {
                    let version = version.to_owned();
                    tell(stages, Stage::Starting { version, ready, of }).await;
                }
                if views.changed().await.is_err() {
                    return;
                }
            }
        };
        let within = Duration::from_millis(within_ms.unwrap_or_default());
        let is_full = tokio::time::timeout(within, full).await.is_ok();
        let version = version.to_owned();
        let stage = match told.filter(|_| !is_full) {
            None => Stage::Unchanged { version },
            Some((ready, of)) => Stage::Failed {
                why: format!(
                    "nothing changed: {name} {version} is deployed already, and {ready} of {of} of its \
                         instances are ready"
                ),
                lines: self.last_lines(name, &version).await,
                version: None,
            },
        };
        tell(stages, stage).await;
    }

    async fn last_lines(&self, name: &str, version: &str) -> Vec<String> {
        last_shown(self.tail(name, version).await)
    }

    /// What to tell of a version that will not serve: why, and what its instances said last.
    async fn failed(&self, name: &str, version: String, why: Option<String>) -> Stage {
        let lines = self.last_lines(name, &version).await;
        let mut why = why.unwrap_or_else(|| String::from("another version took its place"));
        let wanted = self.kept.of(name).ok();
        if let Some(of) = wanted.as_ref().and_then(|wanted| wanted.version(&version))
            && let Some(advice) = programs::too_old(&of.service, &self.options.dir).await
        {
            why = format!("{why}; {advice}");
        }
        Stage::Failed {
            version: Some(version),
            why,
            lines,
        }
    }
}

/// What somebody did not let get on.
fn given_up(version: String, why: &str) -> Stage {
    Stage::Failed {
        version: Some(version),
        why: why.to_owned(),
        lines: Vec::new(),
    }
}

/// The last lines, as many as are shown.
pub(super) fn last_shown(mut lines: Vec<String>) -> Vec<String> {
    lines.drain(..lines.len().saturating_sub(LINES_SHOWN));
    lines
}

/// A version as it is seen, and how many of its instances are ready.
fn progress(views: &[ServiceView], name: &str, version: &str) -> Option<(VersionView, usize)> {
    let service = views.iter().find(|service| service.name == name)?;
    let of = service.versions.iter().find(|one| one.name == version)?;
    let instances = service.instances.iter();
    let ready = instances.filter(|one| one.version == version && one.state == "ready");
    Some((of.clone(), ready.count()))
}

/// Tells whoever follows.
pub(super) async fn tell(stages: &mpsc::Sender<Stage>, stage: Stage) {
    // Whoever asked may have gone; the version goes on.
    if stages.send(stage).await.is_err() {
        tracing::debug!("nobody follows a deploy any more");
    }
}
