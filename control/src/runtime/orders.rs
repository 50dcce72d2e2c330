//! What people have done to a service that is known: it stops, goes back, or is removed; and what is
//! left of one that was removed goes once its instances have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};

use serin_wire::name::check_service;
use tokio::sync::mpsc;

use super::reconcile::{Runtime, RuntimeError};
use super::seen::{Seen, SeenInstance};
use super::stage::{STAGES_QUEUE, Stage};
use super::told::Act;
use super::wanted::Wanted;
use crate::service::{self, Others};

impl Runtime {
    /// Stops the instances of a service; it stays known.
    pub fn stop(&self, name: &str) -> Result<(), RuntimeError> {
        self.has_version(name)?;
        let was_stopped = self.kept.change(name, |wanted| {
            std::mem::replace(&mut wanted.is_stopped, true)
        })?;
        if !was_stopped {
            self.tell_act(name, Act::Stops);
        }
        Ok(())
    }

    /// Goes back to the version before, and tells how far it is as a deploy does. The version goes on by
    /// itself when nobody listens any more.
    pub fn rollback(
        self: &Arc<Runtime>,
        name: &str,
    ) -> Result<mpsc::Receiver<Stage>, RuntimeError> {
        self.has_version(name)?;
        let now_us = (self.options.now_us)();
        let earlier = self.kept.change(name, |wanted| wanted.go_back(now_us))?;
        let earlier = earlier.ok_or_else(|| RuntimeError::NoEarlier(name.to_owned()))?;
        // What is shown of it since it served last says nothing of this start.
        self.show();
        let (stages, told) = mpsc::channel(STAGES_QUEUE);
        let (runtime, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move { runtime.follow(&name, &earlier, now_us, &stages).await });
        Ok(told)
    }

    /// Forgets a service; its instances end, its folder stays.
    pub fn remove(&self, name: &str) -> Result<(), RuntimeError> {
        let has_failed = self.deploying.forget_failed(name);
        if has_failed && self.kept.of(name).is_err() {
            // Nothing was ever wanted of it.
            self.show();
            return Ok(());
        }
        self.has_version(name)?;
        self.kept.remove(name)?;
        self.left().insert(name.to_owned());
        self.tell_act(name, Act::IsRemoved);
        Ok(())
    }

    /// Fails where a service is shown for its deploy alone.
    fn has_version(&self, name: &str) -> Result<(), RuntimeError> {
        let deploy = self.deploying.all().get(name).cloned();
        let Some(deploy) = deploy.filter(|_| self.kept.of(name).is_err()) else {
            return Ok(());
        };
        Err(RuntimeError::NoVersion {
            name: name.to_owned(),
            how: match deploy.why {
                None => "it is being built; wait for that",
                Some(_) => "its last deploy failed; mend and deploy it, or `serin rm` it",
            },
        })
    }

    /// Who waits for whom, of all that are deployed or have a folder; that of a folder is newer.
    pub(super) fn others(&self) -> Others {
        let mut others: Others = self
            .kept
            .all()
            .values()
            .map(|wanted| {
                let newest = wanted.serving().or(wanted.versions.last());
                let after = newest.map(|version| version.service.after.clone());
                (wanted.name.clone(), after.unwrap_or_default())
            })
            .collect();
        let folders = std::fs::read_dir(self.options.dir.join("services"));
        for folder in folders.into_iter().flatten().flatten() {
            let Ok(name) = folder.file_name().into_string() else {
                continue;
            };
            // One with faults is told by its own deploy, and will be there once they are mended.
            if let Ok(text) = std::fs::read_to_string(folder.path().join(service::FILE)) {
                let read = service::read(service::FILE, &name, &text);
                others.insert(
                    name,
                    read.map_or_else(|_| Vec::new(), |service| service.after),
                );
            }
        }
        others
    }

    fn left(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the copies of services that were removed, with the secrets in them, once nothing runs
    /// in them any more.
    pub(super) fn remove_left(&self, seen: &Seen) {
        let wanted = self.kept.all();
        self.left().retain(|name| {
            if wanted.contains_key(name) {
                return false;
            }
            let mut instances = seen.instances.get(name).into_iter().flatten();
            if instances.any(SeenInstance::is_running) {
                return true;
            }
            // A deploy that is about to want it again has its copies.
            let Ok(copying) = self.copying.of(name).try_lock_owned() else {
                return true;
            };
            let copies = self.options.versions_dir.join(name);
            tokio::task::spawn_blocking(move || {
                remove_folder(&copies);
                drop(copying);
            });
            false
        });
    }

    /// Removes the copy of a version that nobody needs any more.
    pub(super) fn remove_copy(&self, service: &str, hash: &str) {
        remove_folder(&self.copy_of(service, hash));
    }
}

/// Removes a folder of ours, where it is there.
pub(super) fn remove_folder(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, folder = %folder.display(), "cannot remove an old version");
    }
}

/// Services of which there are copies and nothing is wanted: an earlier Serin ended before it removed
/// them.
pub(super) fn left(versions_dir: &Path, wanted: &BTreeMap<String, Wanted>) -> BTreeSet<String> {
    let folders = std::fs::read_dir(versions_dir).into_iter().flatten();
    let names = folders.flatten();
    let names = names.filter_map(|folder| folder.file_name().into_string().ok());
    // What else lies there, such as the way back to the SDKs, is no service's.
    let is_left = |name: &String| check_service(name).is_ok() && !wanted.contains_key(name);
    names.filter(is_left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_copies_of_services_are_left() {
        let versions = tempfile::tempdir().expect("a folder");
        for name in ["cart", "gone", ".serin"] {
            std::fs::create_dir(versions.path().join(name)).expect("a folder");
        }
        let wanted = BTreeMap::from([("cart".to_owned(), Wanted::new("cart"))]);
        let left = left(versions.path(), &wanted);
        assert_eq!(left, BTreeSet::from(["gone".to_owned()]));
    }
}
