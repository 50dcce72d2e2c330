//! Watches a folder's YAML and publishes a new [`Library`] within a second of a change.
//!
//! The system's notices only wake us early; a look every second finds what they miss (network
//! drives, folders made later), and costs a listing of two folders.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::library::Library;
use crate::load::{FOLDERS, Loader};

/// How often the folder is looked at without being told to.
const LOOK_EVERY: Duration = Duration::from_millis(900);
/// How long writes are left to settle: an editor saves in several steps.
const SETTLE: Duration = Duration::from_millis(30);

/// A watched folder. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    library: watch::Receiver<Arc<Library>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Loads the folder and watches it from now on. Needs a tokio runtime.
    pub fn start(dir: impl Into<PathBuf>) -> Watch {
        let mut loader = Loader::new(dir);
        let (publish, library) = watch::channel(loader.load());
        let task = tokio::spawn(run(loader, publish));
        Watch { library, task }
    }

    /// The library as it is now, and as it changes.
    pub fn library(&self) -> watch::Receiver<Arc<Library>> {
        self.library.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(mut loader: Loader, publish: watch::Sender<Arc<Library>>) {
    let wake = Arc::new(Notify::new());
    let mut watched = Watched::new(&wake);
    loop {
        watched.follow(&loader);
        let noticed = tokio::time::timeout(LOOK_EVERY, wake.notified()).await;
        if noticed.is_ok() {
            tokio::time::sleep(SETTLE).await;
        }
        let loaded = tokio::task::spawn_blocking(move || {
            let library = loader.load();
            (loader, library)
        });
        let Ok((back, library)) = loaded.await else {
            return;
        };
        loader = back;
        let is_new = publish.borrow().revision != library.revision;
        if is_new {
            report(&library);
            publish.send_replace(library);
        }
        if publish.is_closed() {
            return;
        }
    }
}

fn report(library: &Library) {
    for problem in &library.problems {
        warn!(code = problem.code, "{problem}");
    }
    let problems = library.problems.len();
    info!(
        files = library.files,
        problems,
        revision = library.revision,
        "dashboards loaded"
    );
}

/// The system's notices, for those folders that exist.
struct Watched {
    watcher: Option<RecommendedWatcher>,
    followed: Vec<PathBuf>,
}

impl Watched {
    fn new(wake: &Arc<Notify>) -> Watched {
        let wake = Arc::clone(wake);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Our own reading is no change.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                wake.notify_one();
            }
        });
        if let Err(error) = &watcher {
            warn!(%error, "the system gives no notice of changed files; looking every second");
        }
        Watched {
            watcher: watcher.ok(),
            followed: Vec::new(),
        }
    }

    fn follow(&mut self, loader: &Loader) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        self.followed.retain(|folder| folder.is_dir());
        for folder in FOLDERS.map(|folder| loader.dir().join(folder)) {
            let is_new = folder.is_dir() && !self.followed.contains(&folder);
            if is_new && watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok() {
                self.followed.push(folder);
            }
        }
    }
}
