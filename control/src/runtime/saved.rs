//! Folders under `services/` that are saved are deployed, each once it has settled.
//!
//! The system's notices only wake us; what changed is found by looking at names, sizes and times of
//! the files, so that a notice too many deploys nothing. Where the system gives none, it is looked
//! each second. Start at [`Runtime::deploy_saved`].

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc};

use super::deploy::Cause;
use super::folder;
use super::reconcile::Runtime;
use super::stage::Stage;
use crate::service;

/// How often is looked without a notice.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long nothing may change before a folder counts as saved: an editor saves in several steps,
/// a version control system writes many files.
const SETTLE: Duration = Duration::from_millis(120);
/// A folder that changes for ever is deployed in between.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// What a folder looked like: of each file its time, size and mode.
type Look = BTreeMap<PathBuf, (i64, i64, u64, u32)>;

impl Runtime {
    /// Deploys what is under `services/` and is no version yet (`on_start`), and each folder that is
    /// saved from now on (`on_save`); `follow` gets what is told of each. Goes on until it is dropped.
    /// A service that was stopped by hand stays so.
    pub async fn deploy_saved(
        self: Arc<Runtime>,
        on_start: bool,
        on_save: bool,
        follow: impl Fn(String, mpsc::Receiver<Stage>),
    ) {
        let services = self.options.dir.join("services");
        let wake = Arc::new(Notify::new());
        let mut notices = Notices::new(&self.options.dir, &services, &wake);
        let deploy = |name: &str, cause| {
            if self.kept.of(name).is_ok_and(|wanted| wanted.is_stopped) {
                tracing::info!(name, "saved, and not deployed: the service was stopped");
                return;
            }
            follow(name.to_owned(), self.deploy_for(name, cause));
        };
        notices.follow();
        let mut before = looks(services.clone()).await;
        for name in before.keys().filter(|_| on_start) {
            deploy(name, Cause::Started);
        }
        if !on_save {
            return;
        }
        loop {
            let begins = notices.follow();
            match notices.are_given() {
                true if begins => {}
                true => wake.notified().await,
                false => tokio::time::sleep(LOOK_EVERY).await,
            }
            settle(&wake).await;
            let now = looks(services.clone()).await;
            for (name, look) in &now {
                if before.get(name) != Some(look) {
                    deploy(name, Cause::Saved);
                }
            }
            before = now;
        }
    }
}

/// Returns once nothing was changed for a while.
async fn settle(wake: &Notify) {
    let settled = async { while tokio::time::timeout(SETTLE, wake.notified()).await.is_ok() {} };
    if tokio::time::timeout(SETTLE_MAX, settled).await.is_err() {
        tracing::debug!("a folder does not settle; taken as it is");
    }
}

/// Every folder that has the file of a service.
async fn looks(services: PathBuf) -> BTreeMap<String, Look> {
    let looking = tokio::task::spawn_blocking(move || {
        let folders = std::fs::read_dir(&services).into_iter().flatten().flatten();
        let looks = folders.filter_map(|entry| {
            let folder = entry.path();
            let name = entry.file_name().into_string().ok()?;
            let is_service = folder.join(service::FILE).is_file();
            is_service.then(|| (name, look(&folder)))
        });
        looks.collect()
    });
    // Without a look nothing has changed.
    looking.await.unwrap_or_default()
}

fn look(folder: &Path) -> Look {
    let entries = folder::contents(folder).unwrap_or_default();
    let files = entries.into_iter().filter_map(|entry| {
        // One that goes meanwhile is missing at the next look as well.
        let metadata = folder.join(entry.path()).symlink_metadata().ok()?;
        let looks = (
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.size(),
            metadata.mode(),
        );
        Some((entry.path().to_path_buf(), looks))
    });
    files.collect()
}

/// The system's notices of changes below `services/`, also where it is made later.
struct Notices {
    watcher: Option<RecommendedWatcher>,
    services: PathBuf,
    /// The folder that is watched: another one may have taken its place.
    followed: Option<Identity>,
}

/// What one folder has and no other; the number alone is given again once a folder is gone.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(folder: &Path) -> Option<Identity> {
    let metadata = folder.metadata().ok().filter(Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

impl Notices {
    fn new(dir: &Path, services: &Path, wake: &Arc<Notify>) -> Notices {
        let (wake, below) = (Arc::clone(wake), services.to_path_buf());
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let is_news = event.is_ok_and(|event| {
                // Our own reading is no change.
                !event.kind.is_access() && event.paths.iter().any(|path| is_part(&below, path))
            });
            if is_news {
                wake.notify_one();
            }
        });
        // The folder itself, for a `services/` that is made or replaced.
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(dir, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "the system gives no notice of saved files; looking every second");
        }
        Notices {
            watcher: watcher.ok(),
            services: services.to_path_buf(),
            followed: None,
        }
    }

    /// Watches `services/`, where it is there and is not watched yet; whether this begins now, so that
    /// nobody told of what was written there before.
    fn follow(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let there = identity(&self.services);
        if there == self.followed {
            return false;
        }
        // Of the one that was there, where the system has not forgotten it with its name.
        if self.followed.take().is_some()
            && let Err(error) = watcher.unwatch(&self.services)
        {
            tracing::debug!(%error, "services/ was not watched any more");
        }
        if there.is_some() {
            match watcher.watch(&self.services, RecursiveMode::Recursive) {
                Ok(()) => self.followed = there,
                Err(error) => {
                    tracing::warn!(%error, "the system gives no notice of saved services; looking every second");
                }
            }
        }
        self.followed.is_some()
    }

    /// Whether a change will be told.
    fn are_given(&self) -> bool {
        self.watcher.is_some() && (self.followed.is_some() || !self.services.is_dir())
    }
}

/// Whether a path can be part of a version.
fn is_part(services: &Path, path: &Path) -> bool {
    path.strip_prefix(services).is_ok_and(|below| {
        let mut words = below.components();
        words.all(|word| !folder::is_left_out(word.as_os_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_version_has_is_no_news() {
        let services = Path::new("/shop/services");
        for (path, expected) in [
            ("/shop/services", true),
            ("/shop/services/cart/main.py", true),
            ("/shop/services/cart/__pycache__/main.pyc", false),
            ("/shop/services/cart/target/debug/cart", false),
            ("/shop/up.log", false),
        ] {
            assert_eq!(is_part(services, Path::new(path)), expected, "{path}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_takes_the_place_of_the_one_that_was_watched_is_watched() {
        let dir = tempfile::tempdir().expect("a folder");
        let services = dir.path().join("services");
        for name in ["services", "new"] {
            std::fs::create_dir(dir.path().join(name)).expect("made");
        }
        let wake = Arc::new(Notify::new());
        let mut notices = Notices::new(dir.path(), &services, &wake);
        assert!(notices.follow());
        assert!(!notices.follow(), "it is watched already");
        std::fs::rename(&services, dir.path().join("old")).expect("moved");
        std::fs::rename(dir.path().join("new"), &services).expect("moved");
        settle(&wake).await;
        assert!(notices.follow());
        std::fs::write(services.join("news"), "").expect("written");
        let told = tokio::time::timeout(Duration::from_secs(10), wake.notified()).await;
        assert!(told.is_ok(), "nobody told of what was written there");
        std::fs::remove_file(services.join("news")).expect("removed");
        std::fs::remove_dir(&services).expect("removed");
        assert!(!notices.follow());
        std::fs::create_dir(&services).expect("made");
        assert!(notices.follow());
    }

    #[tokio::test]
    async fn a_look_sees_what_was_saved() {
        let dir = tempfile::tempdir().expect("a folder");
        let services = dir.path().join("services");
        assert!(looks(services.clone()).await.is_empty());
        let cart = services.join("cart");
        std::fs::create_dir_all(&cart).expect("made");
        assert!(looks(services.clone()).await.is_empty(), "no service yet");
        std::fs::write(cart.join(service::FILE), "run: x\n").expect("written");
        let first = looks(services.clone()).await;
        assert_eq!(first.keys().collect::<Vec<_>>(), ["cart"]);
        assert_eq!(looks(services.clone()).await, first);
        std::fs::write(cart.join("main.py"), "").expect("written");
        assert_ne!(looks(services).await, first);
    }
}
