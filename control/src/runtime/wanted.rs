//! What is wanted of a service: its versions and how far each is. A row of the catalogue's file.

use serde::{Deserialize, Serialize};
use serin_wire::route::SLOTS;
use serin_wire::{Route, Weight};

use super::told::Reason;
use crate::service::Service;

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
        }
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

    /// Moves a version to another phase.
    pub(super) fn enter(&mut self, name: &str, phase: Phase, now_us: i64, why: Option<String>) {
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

    /// Forgets the oldest versions that do not run; the hashes that nobody needs any more.
    pub(super) fn forget_old(&mut self) -> Vec<String> {
        let is_over = |version: &Version| matches!(version.phase, Phase::Retired | Phase::Failed);
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
