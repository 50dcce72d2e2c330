//! From a folder to a [`Library`], again and again; unchanged files make no new library.
//!
//! `kpis/*.yaml` and `dashboards/*.yaml` directly below the folder are read, nothing else.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serin_yaml::FILE_BYTES_MAX;

use crate::library::{self, Kept, Library, Texts};

/// The folders that are read, below the one that is loaded.
pub const FOLDERS: [&str; 2] = ["kpis", "dashboards"];
/// Most files of one folder.
const FILES_MAX: usize = 1_000;

/// Loads one folder and remembers what was right.
#[derive(Debug)]
pub struct Loader {
    dir: PathBuf,
    texts: Option<Texts>,
    kept: Kept,
    library: Arc<Library>,
}

impl Loader {
    /// A loader of the folder; it need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Loader {
        Loader {
            dir: dir.into(),
            texts: None,
            kept: Kept::default(),
            library: Arc::new(Library::default()),
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the folder says now; the same library as before when no file has changed.
    pub fn load(&mut self) -> Arc<Library> {
        let texts = read_folders(&self.dir, self.texts.as_ref());
        if self.texts.as_ref() != Some(&texts) {
            let revision = self.library.revision + 1;
            self.library = Arc::new(library::build(&texts, &mut self.kept, revision));
            self.texts = Some(texts);
        }
        Arc::clone(&self.library)
    }
}

/// What the folders say; one that cannot be listed says what it did `before`.
fn read_folders(dir: &Path, before: Option<&Texts>) -> Texts {
    let mut texts = Texts::new();
    for folder in FOLDERS {
        let names = names_in(&dir.join(folder)).unwrap_or_else(|error| {
            let own = format!("{folder}/");
            let before = before.into_iter().flatten();
            let kept = before.filter(|(file, _)| file.starts_with(&own));
            texts.extend(kept.map(|(file, text)| (file.clone(), text.clone())));
            texts.insert(own, Err(format!("cannot list the folder: {error}")));
            Vec::new()
        });
        for name in names {
            let text = read_file(&dir.join(folder).join(&name));
            let text = text.map_err(|reason| format!("cannot read the file: {reason}"));
            texts.insert(format!("{folder}/{name}"), text);
        }
    }
    texts
}

/// The files of YAML in a folder, in order; a folder that is not there has none.
fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?.collect::<io::Result<Vec<_>>>()?,
    };
    let mut names: Vec<String> = entries
        .into_iter()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .filter(|name| name.ends_with(".yaml") || name.ends_with(".yml"))
        .collect();
    names.sort();
    names.truncate(FILES_MAX);
    Ok(names)
}

/// At most one byte more than a file may have, so that the reader of the YAML can say it is too long.
fn read_file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| {
            file.take(FILE_BYTES_MAX as u64 + 1024)
                .read_to_end(&mut bytes)
        })
        .map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("byte {at} is no UTF-8; save the file as UTF-8")
    })
}
