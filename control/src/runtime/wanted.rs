//! What is wanted of a service: its versions and how far each is. A row of the catalogue's file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serin_wire::route::SLOTS;
use serin_wire::{Route, Weight};

use super::told::Reason;
use crate::service::{Instances, Service};

/// Versions that are kept besides those that run, for `serin rollback`.
const KEPT: usize = 5;

/// What is wanted of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its versions, oldest first.
    pub versions: Vec<Version>,
    /// The number of the next version that is not named.
    pub next_version: u64,
    /// Whether it was stopped by hand.
    pub is_stopped: bool,
    /// The version that was drained last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<String>,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Its name, `v3`.
    pub name: String,
    /// What it was made of, 16 hex digits.
    pub hash: String,
    /// The service as this version runs it.
    pub service: Service,
    /// How far it is.
    pub phase: Phase,
    /// Since when, microseconds since 1970.
    pub since_us: i64,
    /// Why it was started last.
    #[serde(default)]
    pub reason: Reason,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How far a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its instances are started and not all ready; it takes no calls.
    Starting,
    /// It takes the calls.
    Serving,
    /// It takes no more calls and finishes what it has.
    Draining,
    /// It is kept and does not run.
    Retired,
    /// It did not get ready.
    Failed,
}

impl Wanted {
    /// A service that was never deployed.
    pub fn new(name: &str) -> Wanted {
        Wanted {
            name: name.to_owned(),
            versions: Vec::new(),
            next_version: 1,
            is_stopped: false,
            drained: None,
        }
    }

    /// Reads the rows of all services, each a name and a text. Of one that cannot be read nothing is
    /// wanted: it is shown as down, and goes on with the next deploy.
    pub(super) fn read_all(rows: Vec<(String, String)>) -> BTreeMap<String, Wanted> {
        let read = rows.into_iter().map(|(name, text)| {
            let wanted = serde_json::from_str(&text).unwrap_or_else(|error| {
                tracing::error!(
                    service = name,
                    %error,
                    "the catalogue's text of a service cannot be understood, so nothing of it is \
                     run; `serin deploy {name}` writes it anew, `serin rm {name}` forgets it"
                );
                Wanted::new(&name)
            });
            (name, wanted)
        });
        read.collect()
    }

    /// Wants one instance of each version.
    pub(super) fn single(mut self) -> Wanted {
        for version in &mut self.versions {
            version.service.instances = Instances { min: 1, max: 1 };
        }
        self
    }

    /// The version that takes the calls.
    pub fn serving(&self) -> Option<&Version> {
        self.versions
            .iter()
            .rfind(|version| version.phase == Phase::Serving)
    }

    /// The version of a name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// The version of a name as it was when something was planned for it; `None` where somebody, such as
    /// who goes back to it, has moved it on since.
    pub(super) fn as_planned(&self, name: &str, since_us: i64) -> Option<&Version> {
        self.version(name)
            .filter(|version| version.since_us == since_us)
    }

    /// Since when who waits for this service need not any more: it serves, or was a job and ended well.
    pub(super) fn there_since_us(&self) -> Option<i64> {
        if self.is_stopped {
            return None;
        }
        if let Some(serving) = self.serving() {
            return Some(serving.since_us);
        }
        let mut versions = self.versions.iter();
        // One that starts has retired those before it, whether or not they had ended.
        if versions.any(|version| version.phase == Phase::Starting) {
            return None;
        }
        let latest = self
            .versions
            .iter()
            .max_by_key(|version| version.since_us)?;
        let has_ended = latest.service.is_job && latest.phase == Phase::Retired;
        has_ended.then_some(latest.since_us)
    }

    /// Moves a version to another phase.
    pub(super) fn enter(&mut self, name: &str, phase: Phase, now_us: i64, why: Option<String>) {
        if phase == Phase::Draining {
            self.drained = Some(name.to_owned());
        }
        let mut versions = self.versions.iter_mut();
        if let Some(version) = versions.find(|version| version.name == name) {
            version.phase = phase;
            version.since_us = now_us;
            version.why = why;
        }
    }

    /// Has a version that is kept started again.
    pub(super) fn start(&mut self, name: &str, reason: Reason, now_us: i64) {
        self.enter(name, Phase::Starting, now_us, None);
        let mut versions = self.versions.iter_mut();
        if let Some(version) = versions.find(|version| version.name == name) {
            version.reason = reason;
        }
    }

    /// Has no other version take the place of the one that serves.
    pub(super) fn retire_starting(&mut self, now_us: i64) {
        let starting = self.versions.iter_mut();
        for version in starting.filter(|version| version.phase == Phase::Starting) {
            version.phase = Phase::Retired;
            version.since_us = now_us;
        }
    }

    /// Forgets the oldest versions that do not run; the hashes that nobody needs any more. One that
    /// made room may have to serve again.
    pub(super) fn forget_old(&mut self) -> Vec<String> {
        let made_room = self.drained.clone().filter(|_| self.serving().is_none());
        let is_over = |version: &Version| {
            matches!(version.phase, Phase::Retired | Phase::Failed)
                && made_room.as_ref() != Some(&version.name)
        };
        let over = self
            .versions
            .iter()
            .filter(|version| is_over(version))
            .count();
        let mut to_go = over.saturating_sub(KEPT);
        let mut gone = Vec::new();
        self.versions.retain(|version| {
            let goes = to_go > 0 && is_over(version);
            if goes {
                to_go -= 1;
                gone.push(version.hash.clone());
            }
            !goes
        });
        gone.retain(|hash| self.versions.iter().all(|version| version.hash != *hash));
        gone
    }

    /// Who is called, and how much.
    pub fn route(&self) -> Route {
        let serving = self.serving().filter(|_| !self.is_stopped);
        Route {
            versions: serving
                .map(|version| Weight {
                    version: version.name.clone(),
                    weight: SLOTS,
                })
                .into_iter()
                .collect(),
            idempotent: serving
                .map(|version| version.service.idempotent.clone())
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str, phase: Phase, since_us: i64, yaml: &str) -> Version {
        Version {
            name: name.to_owned(),
            hash: name.to_owned(),
            service: crate::service::read("service.yaml", "cart", yaml).expect("a service"),
            phase,
            since_us,
            reason: Reason::default(),
            why: None,
        }
    }

    fn wanted(versions: Vec<Version>) -> Wanted {
        Wanted {
            versions,
            ..Wanted::new("cart")
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_harms_no_other() {
        let good = wanted(vec![version("v1", Phase::Serving, 1, "run: x\n")]);
        let text = serde_json::to_string(&good).expect("a text");
        let rows = [
            ("cart", text.as_str()),
            ("torn", "{"),
            ("later", "{\"of\": 1}"),
        ];
        let rows = rows.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let read = Wanted::read_all(rows.to_vec());
        assert_eq!(read["cart"], good);
        assert_eq!(read["torn"], Wanted::new("torn"));
        assert_eq!(read["later"], Wanted::new("later"));
    }

    #[test]
    fn what_is_planned_for_a_version_that_is_started_meanwhile_is_not_done() {
        let drained = version("v1", Phase::Draining, 7, "run: x\n");
        let serving = version("v2", Phase::Serving, 7, "run: x\n");
        let mut cart = wanted(vec![drained, serving]);
        assert!(cart.as_planned("v1", 7).is_some());
        cart.start("v1", Reason::Back, 8);
        assert_eq!(cart.as_planned("v1", 7), None, "it would be retired again");
        assert!(cart.as_planned("v2", 7).is_some());
    }

    #[test]
    fn the_oldest_are_forgotten_but_not_who_made_room() {
        let yaml = "run: x\nport: 8000\n";
        let failed = (2..=6).map(|number| version(&format!("v{number}"), Phase::Failed, 1, yaml));
        let first = version("v1", Phase::Retired, 1, yaml);
        let mut many = wanted([first].into_iter().chain(failed).collect());
        many.drained = Some(String::from("v1"));
        assert_eq!(many.forget_old(), Vec::<String>::new());
        many.versions.push(version("v7", Phase::Serving, 1, yaml));
        assert_eq!(many.forget_old(), ["v1"]);
    }

    #[test]
    fn one_of_each_is_wanted_but_not_kept() {
        let two = wanted(vec![version("v1", Phase::Serving, 1, "run: x\n")]);
        let single = two.clone().single();
        let instances = |of: &Wanted| of.versions[0].service.instances.min;
        assert_eq!((instances(&two), instances(&single)), (2, 1));
    }

    #[test]
    fn a_job_is_there_once_it_ended_well() {
        let job = |name, phase, since_us| version(name, phase, since_us, "run: x\njob: true\n");
        for (versions, expected) in [
            (vec![job("v1", Phase::Starting, 1)], None),
            (vec![job("v1", Phase::Retired, 2)], Some(2)),
            (vec![job("v1", Phase::Failed, 2)], None),
            (
                vec![job("v1", Phase::Retired, 2), job("v2", Phase::Starting, 1)],
                None,
            ),
            (
                vec![job("v1", Phase::Retired, 2), job("v2", Phase::Failed, 3)],
                None,
            ),
            (vec![version("v1", Phase::Retired, 2, "run: x\n")], None),
        ] {
            assert_eq!(wanted(versions).there_since_us(), expected);
        }
    }
}
