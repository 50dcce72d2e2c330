//! What is there: the instances as shims and bus tell them.

use std::collections::BTreeMap;

use crate::shim::{Exit, Status};

/// An SDK pulses every 250 ms and beats every second. With every processor 90 % busy the latest of them
/// come some tenths of a second late; who misses eight pulses is stopped, hangs or is dead.
const SILENT_AFTER_US: i64 = 2_000_000;

/// What was seen at one moment.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// By service, every instance its shim knows.
    pub instances: BTreeMap<String, Vec<SeenInstance>>,
    /// Since when this Serin looks.
    pub since_us: i64,
    /// When this was seen.
    pub looked_us: i64,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenInstance {
    /// As its shim says.
    pub status: Status,
    /// Since when one with an SDK was not heard; absent where it never was.
    pub heard_us: Option<i64>,
    /// What was seen instead when it was asked last whether it takes work.
    pub unready: Option<String>,
}

impl SeenInstance {
    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.status.exit.is_none()
    }

    /// Whether it takes work.
    pub fn is_ready(&self) -> bool {
        self.is_running() && self.status.is_ready && !self.status.is_stopping
    }

    /// Whether one that should be heard is not: that is shown at once, and nothing follows from it before
    /// its service's `hang_after`, since whoever is heard again has lost nothing.
    pub fn is_silent(&self, now_us: i64) -> bool {
        let is_late = |heard_us| now_us - heard_us > SILENT_AFTER_US;
        self.heard_us.is_some_and(is_late)
    }
}

impl Seen {
    /// The instances of a version.
    pub fn of<'a>(
        &'a self,
        service: &str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a SeenInstance> + Clone {
        let all = self.instances.get(service).into_iter().flatten();
        all.filter(move |one| one.status.version == version)
    }

    /// How an instance ended, where it did.
    pub fn exit_of(&self, service: &str, instance: &str) -> Option<Exit> {
        let mut all = self.instances.get(service).into_iter().flatten();
        all.find(|one| one.status.instance == instance)?.status.exit
    }
}
