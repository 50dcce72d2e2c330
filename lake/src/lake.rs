//! The lake: opens, commits, and shows one consistent view.
//!
//! Two locks, always taken in this order: the catalogue, then what is shown. Readers take only the
//! second, for as long as it takes to copy lists. A commit encodes before it takes either.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use thiserror::Error;
use tokio::sync::watch;

use crate::catalogue::{Catalogue, CatalogueError, Retired};
use crate::checked::CheckedStore;
use crate::clock::Clock;
use crate::fresh::{Fresh, FreshRows};
use crate::known::Known;
use crate::options::LakeOptions;
use crate::position::Position;
use crate::recover::{Recovered, look_at_files, remove_leftovers};
use crate::snapshot::{DataFile, Snapshot, TableView};
use crate::store::{Disk, FileError, FileStep, RealDisk, ensure_dir};
use crate::table::Table;
use crate::text;

/// The file whose lock its writer holds, with the writer's process in it.
pub(crate) const LOCK: &str = "lake.lock";

/// Why a lake does not open, or a step on it failed.
#[derive(Debug, Error)]
pub enum LakeError {
    /// Another process writes to it.
    #[error("{} is in use by process {pid}; stop it first, or choose another folder", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// Who holds it.
        pid: u32,
    },
    /// The folder has no absolute name, or one DuckDB cannot be told.
    #[error("{} cannot be the folder of a lake: its path is not UTF-8", dir.display())]
    Path {
        /// The folder.
        dir: PathBuf,
    },
    /// A commit or a sync failed earlier; the process has to end and start again.
    #[error("the lake was given up after a failed sync; restart to recover")]
    Poisoned,
    /// The disk failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The catalogue failed.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

/// Files, catalogue and the view of them. Cheap to clone.
#[derive(Clone)]
pub struct Lake {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: LakeOptions,
    pub(crate) data_dir: PathBuf,
    catalogue_path: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    /// Held by the one who flushes, so that plans are made one after the other.
    pub(crate) flushing: Mutex<()>,
    /// Held by the one who compacts or expires.
    pub(crate) tidying: Mutex<()>,
    pub(crate) catalogue: Mutex<Catalogue>,
    pub(crate) shown: Mutex<Shown>,
    pub(crate) store: Arc<CheckedStore>,
    pub(crate) next_file_id: AtomicU64,
    pub(crate) next_catalog_id: AtomicU64,
    /// Files that are not what was written; compaction leaves them as they are.
    pub(crate) damaged: Mutex<BTreeSet<u64>>,
    /// True once a sync failed or a commit's outcome is unknown.
    pub(crate) poisoned: watch::Sender<bool>,
    /// The times heard of: nothing is deleted by one that cannot be believed.
    pub(crate) clock: Mutex<Clock>,
    /// Keeps other writers out as long as the lake lives.
    _lock: File,
}

/// What readers see, apart from fresh rows.
pub(crate) struct Shown {
    pub(crate) number: u64,
    pub(crate) position: Position,
    pub(crate) tables: BTreeMap<String, Table>,
    pub(crate) views: BTreeMap<String, Arc<TableView>>,
    pub(crate) fresh: Option<Arc<dyn Fresh>>,
    pub(crate) flushed: u64,
    /// Rises with each commit and expiry.
    pub(crate) changes: u64,
    /// Files that left the current list; their places may be given up when nobody holds them.
    pub(crate) retired: Vec<(Retired, Weak<DataFile>)>,
}

/// A lock whose holder panicked guards plain values that are replaced whole, so it stays usable.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lake {
    /// Opens or creates a lake, and recovers it. The hot buffer is told where to go on, and is then
    /// plugged in with [`Lake::plug_fresh`].
    pub fn open(options: LakeOptions, now_us: i64) -> Result<(Lake, Recovered), LakeError> {
        Lake::open_on(Arc::new(RealDisk), options, now_us)
    }

    /// [`Lake::open`] on a disk of the caller's choice.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        mut options: LakeOptions,
        now_us: i64,
    ) -> Result<(Lake, Recovered), LakeError> {
        ensure_dir(&*disk, &options.dir)?;
        options.dir = std::path::absolute(&options.dir)
            .map_err(|source| FileError::new(FileStep::Read, &options.dir, source))?;
        let lock = lock(&options.dir)?;
        let data_dir = options.dir.join("data");
        ensure_dir(&*disk, &data_dir.join("main"))?;
        let Some(data_path) = data_dir.to_str() else {
            return Err(LakeError::Path { dir: options.dir });
        };
        let catalogue_path = options.dir.join("catalogue.sqlite");
        let catalogue = Catalogue::open(&catalogue_path, &format!("{data_path}/"), now_us)?;
        disk.sync_dir(&options.dir)
            .map_err(|source| FileError::new(FileStep::SyncDir, &options.dir, source))?;
        let loaded = catalogue.load(&data_dir)?;
        let clock = Clock::after(catalogue.commit_times()?);
        let removed = remove_leftovers(&*disk, &data_dir, &loaded)?;
        let recovered = Recovered {
            position: loaded.position,
            taken_us: loaded.taken_us,
            damaged: look_at_files(&loaded),
            producers: loaded.producers,
            seen: loaded.seen,
            gaps: loaded.gaps,
            removed,
        };
        let shown = Shown {
            number: loaded.snapshot,
            position: loaded.position,
            views: loaded
                .tables
                .values()
                .map(|t| (t.name.clone(), t.view()))
                .collect(),
            tables: loaded.tables,
            fresh: None,
            flushed: 0,
            changes: 0,
            retired: loaded
                .retired
                .into_iter()
                .map(|retired| (retired, Weak::new()))
                .collect(),
        };
        let store = CheckedStore::default();
        let mut damaged = BTreeSet::new();
        for stored in shown.tables.values().flat_map(|table: &Table| &table.files) {
            store.know(&stored.file.path, stored.file.bytes, stored.sums.clone());
            if recovered
                .damaged
                .iter()
                .any(|found| found.path == stored.file.path)
            {
                damaged.insert(stored.file.id);
            }
        }
        let inner = Inner {
            store: Arc::new(store),
            options,
            data_dir,
            catalogue_path,
            disk,
            flushing: Mutex::new(()),
            tidying: Mutex::new(()),
            catalogue: Mutex::new(catalogue),
            shown: Mutex::new(shown),
            next_file_id: AtomicU64::new(loaded.next_file_id),
            next_catalog_id: AtomicU64::new(loaded.next_catalog_id),
            damaged: Mutex::new(damaged),
            poisoned: watch::Sender::new(false),
            clock: Mutex::new(clock),
            _lock: lock,
        };
        let lake = Lake {
            inner: Arc::new(inner),
        };
        Ok((lake, recovered))
    }

    /// Lets snapshots show the rows of the hot buffer from now on.
    pub fn plug_fresh(&self, fresh: Arc<dyn Fresh>) {
        locked(&self.inner.shown).fresh = Some(fresh);
    }

    /// Everything there is to read at this moment, each row exactly once.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let shown = locked(&self.inner.shown);
        let fresh = match &shown.fresh {
            Some(fresh) => fresh.rows(shown.flushed),
            None => FreshRows::default(),
        };
        let (number, position) = (shown.number, shown.position);
        let version = shown.changes + fresh.version;
        let mut tables = shown.views.clone();
        drop(shown);
        for (name, rows) in fresh.tables {
            let view = tables.get(&name).map(|view| TableView::clone(view));
            let mut view = view.unwrap_or_else(|| TableView {
                name: name.clone(),
                columns: Vec::new(),
                files: Vec::new(),
                fresh: Vec::new(),
                known: Known::default(),
            });
            view.widen(&rows.columns);
            view.known.take_fresh(&rows, fresh.watermark_us);
            view.fresh = rows.batches;
            tables.insert(name, Arc::new(view));
        }
        Arc::new(Snapshot {
            number,
            version,
            position,
            watermark_us: fresh.watermark_us,
            tables,
        })
    }

    /// The SQLite file that DuckDB attaches.
    pub fn catalogue_path(&self) -> &Path {
        &self.inner.catalogue_path
    }

    /// What to type in DuckDB to read the lake.
    pub fn attach_statement(&self) -> String {
        format!(
            "ATTACH 'ducklake:sqlite:{}' AS lake (READ_ONLY)",
            text::sql_path(&self.inner.catalogue_path)
        )
    }

    /// Whether a sync failed, so that the process has to end.
    pub fn is_poisoned(&self) -> bool {
        *self.inner.poisoned.borrow()
    }

    /// Returns once the process has to end: a flush, a merge, an expiry or a token may find that a sync failed.
    pub async fn poisoned(&self) {
        let mut poisoned = self.inner.poisoned.subscribe();
        let waited = poisoned.wait_for(|is_poisoned| *is_poisoned).await;
        debug_assert!(waited.is_ok(), "the lake outlives who waits");
    }
}

impl Inner {
    /// Gives the lake up where a sync failed or a commit's outcome is unknown.
    pub(crate) fn poisoned_by<T>(&self, result: Result<T, LakeError>) -> Result<T, LakeError> {
        if let Err(LakeError::Catalogue(error)) = &result
            && error.is_durability()
        {
            self.poison();
        }
        result
    }

    /// Gives the lake up.
    pub(crate) fn poison(&self) {
        self.poisoned.send_replace(true);
    }
}

impl Shown {
    /// Replaces a table whole.
    pub(crate) fn put(&mut self, table: Table) {
        self.views.insert(table.name.clone(), table.view());
        self.tables.insert(table.name.clone(), table);
    }
}

/// Takes the folder for this process, or says who has it.
fn lock(dir: &Path) -> Result<File, LakeError> {
    let path = dir.join(LOCK);
    let failed = |source| FileError::new(FileStep::Create, &path, source);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(failed)?;
            return Err(LakeError::Locked {
                dir: dir.to_path_buf(),
                pid: text.trim().parse().unwrap_or(0),
            });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source).into()),
    }
    file.set_len(0).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}
