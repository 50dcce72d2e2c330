//! What is wanted of all services: in memory for whoever looks, in the catalogue's file for the next
//! start, and the two changed together; whoever makes it so is woken by each change.
//!
//! The lock is held while a row is written and never while something is waited for. Only a deploy
//! makes a service: whatever is planned for one that was removed meanwhile must not bring it back.
//! Start at [`Kept::change`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serin_lake::{Lake, LakeError};
use tokio::sync::Notify;

use super::reconcile::RuntimeError;
use super::wanted::{Phase, Wanted};

/// See the module.
pub(super) struct Kept {
    lake: Lake,
    all: Mutex<BTreeMap<String, Wanted>>,
    changed: Notify,
}

impl Kept {
    /// Reads what is wanted.
    pub(super) fn open(lake: Lake) -> Result<Kept, LakeError> {
        let all = Wanted::read_all(lake.services()?);
        Ok(Kept {
            lake,
            all: Mutex::new(all),
            changed: Notify::new(),
        })
    }

    /// Returns once something was changed since the last call returned.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is wanted of every service now; nothing changes while it is held.
    pub(super) fn all(&self) -> MutexGuard<'_, BTreeMap<String, Wanted>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wanted of a service that is known.
    pub(super) fn of(&self, name: &str) -> Result<Wanted, RuntimeError> {
        known(&self.all(), name).cloned()
    }

    /// Another service that has, or is about to have, this path of the gateway.
    pub(super) fn who_has(&self, path: &str, name: &str) -> Option<String> {
        let all = self.all();
        let others = all.values().filter(|wanted| wanted.name != name);
        let mut others = others.filter(|wanted| !wanted.is_stopped);
        let other = others.find(|wanted| {
            wanted.versions.iter().any(|version| {
                matches!(version.phase, Phase::Starting | Phase::Serving)
                    && version.service.web.as_deref() == Some(path)
            })
        });
        other.map(|wanted| wanted.name.clone())
    }

    /// Changes what is wanted of a service that is known, and keeps it before anyone sees it.
    pub(super) fn change<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Wanted) -> T,
    ) -> Result<T, RuntimeError> {
        let mut all = self.all();
        let wanted = known(&all, name)?.clone();
        self.keep(&mut all, wanted, change)
    }

    /// Like [`Kept::change`], and makes a service that is not known: for deploys.
    pub(super) fn change_or_make<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Wanted) -> T,
    ) -> Result<T, RuntimeError> {
        let mut all = self.all();
        let wanted = all.get(name).cloned();
        let wanted = wanted.unwrap_or_else(|| Wanted::new(name));
        self.keep(&mut all, wanted, change)
    }

    /// Forgets a service that is known.
    pub(super) fn remove(&self, name: &str) -> Result<(), RuntimeError> {
        let mut all = self.all();
        known(&all, name)?;
        self.lake.keep_service(name, None)?;
        all.remove(name);
        self.changed.notify_one();
        Ok(())
    }

    fn keep<T>(
        &self,
        all: &mut BTreeMap<String, Wanted>,
        mut wanted: Wanted,
        change: impl FnOnce(&mut Wanted) -> T,
    ) -> Result<T, RuntimeError> {
        let changed = change(&mut wanted);
        let text = serde_json::to_string(&wanted)
            .map_err(|error| RuntimeError::Unwritable(wanted.name.clone(), error))?;
        self.lake.keep_service(&wanted.name, Some(&text))?;
        all.insert(wanted.name.clone(), wanted);
        self.changed.notify_one();
        Ok(changed)
    }
}

fn known<'a>(all: &'a BTreeMap<String, Wanted>, name: &str) -> Result<&'a Wanted, RuntimeError> {
    all.get(name).ok_or_else(|| RuntimeError::Unknown {
        name: name.to_owned(),
        known: serin_yaml::meant(name, all.keys().map(String::as_str)),
    })
}

#[cfg(test)]
mod tests {
    use serin_lake::LakeOptions;

    use super::*;
    use crate::runtime::Phase;

    fn lake(folder: &tempfile::TempDir) -> Lake {
        let options = LakeOptions {
            dir: folder.path().join("lake"),
            ..LakeOptions::default()
        };
        Lake::open(options, 1).expect("a lake").0
    }

    #[test]
    fn what_is_planned_for_a_service_that_was_removed_does_not_bring_it_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let lake = lake(&folder);
        let kept = Kept::open(lake.clone()).expect("read");
        let stop = |wanted: &mut Wanted| wanted.is_stopped = true;
        kept.change_or_make("cart", stop).expect("made");
        assert_eq!(lake.services().expect("read").len(), 1);
        kept.remove("cart").expect("known");
        let planned = kept.change("cart", |wanted| {
            wanted.enter("v1", Phase::Retired, 1, None);
        });
        assert!(matches!(planned, Err(RuntimeError::Unknown { .. })));
        assert_eq!(lake.services().expect("read"), []);
        assert!(kept.all().is_empty());
        assert!(kept.remove("cart").is_err(), "it is not there any more");
    }

    #[test]
    fn the_next_start_reads_what_was_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let lake = lake(&folder);
        let kept = Kept::open(lake.clone()).expect("read");
        let next = |number| move |wanted: &mut Wanted| wanted.next_version = number;
        kept.change_or_make("cart", next(2)).expect("made");
        kept.change("cart", next(3)).expect("known");
        let again = Kept::open(lake).expect("read");
        assert_eq!(again.of("cart").expect("known").next_version, 3);
    }
}
