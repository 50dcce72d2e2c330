//! Deploys that are no version yet, so that a service which takes minutes to build, or cannot be built,
//! is shown although nothing of it runs.
//!
//! One that failed is shown until the next deploy of its service gets further.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::deploy::DeployError;

/// A deploy that is no version yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deploying {
    /// Since when it is as it is, microseconds since 1970.
    pub since_us: i64,
    /// Why it failed; while it is built, nothing.
    pub why: Option<String>,
}

/// Those of all services, by name.
#[derive(Debug, Default)]
pub(super) struct AllDeploying(Mutex<BTreeMap<String, Deploying>>);

impl AllDeploying {
    pub(super) fn all(&self) -> MutexGuard<'_, BTreeMap<String, Deploying>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its build runs, or waits for those of others.
    pub(super) fn builds(&self, service: &str, since_us: i64) {
        let building = Deploying {
            since_us,
            why: None,
        };
        self.all().insert(service.to_owned(), building);
    }

    /// It came to nothing. What was asked wrongly says nothing of the service.
    pub(super) fn fails(&self, service: &str, error: &DeployError, why: &str, since_us: i64) {
        let is_asked_wrongly = matches!(
            error,
            DeployError::NoFile { .. }
                | DeployError::Version(_)
                | DeployError::Taken { .. }
                | DeployError::Reserved
        );
        if is_asked_wrongly {
            return;
        }
        let failed = Deploying {
            since_us,
            why: Some(why.to_owned()),
        };
        self.all().insert(service.to_owned(), failed);
    }

    /// It is a version now.
    pub(super) fn ends(&self, service: &str) {
        self.all().remove(service);
    }

    /// Forgets one that failed; whether there was one.
    pub(super) fn forget_failed(&self, service: &str) -> bool {
        let mut all = self.all();
        let has_failed = all.get(service).is_some_and(|one| one.why.is_some());
        has_failed && all.remove(service).is_some()
    }
}
