//! The folder of a service: its hash, and the copy a version runs from.
//!
//! A deployed version does not change when the folder does, so it runs from a copy named by the
//! hash of what is in it. Start at [`contents`].

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::service::env_file;

/// What is no part of a version: histories, caches, what a build makes.
const LEFT_OUT: [&str; 8] = [
    ".git",
    ".serin",
    "target",
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".venv",
    ".DS_Store",
];
/// Files of one service; more are a folder that was meant otherwise.
const FILES_MAX: usize = 50_000;

/// A file or symbolic link of a folder.
#[derive(Debug)]
pub(super) struct Entry {
    /// Relative to the folder.
    path: PathBuf,
    is_link: bool,
}

impl Entry {
    /// Relative to the folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a name is no part of a version.
pub(super) fn is_left_out(name: &OsStr) -> bool {
    LEFT_OUT.iter().any(|left_out| name == *left_out)
}

/// What is in a folder, in the order of the names.
pub(super) fn contents(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    walk(folder, Path::new(""), &mut entries)?;
    Ok(entries)
}

fn walk(folder: &Path, below: &Path, entries: &mut Vec<Entry>) -> io::Result<()> {
    let mut found: Vec<_> = fs::read_dir(folder.join(below))?.collect::<Result<_, _>>()?;
    found.sort_by_key(fs::DirEntry::file_name);
    for entry in found {
        let name = entry.file_name();
        if is_left_out(&name) {
            continue;
        }
        let (path, kind) = (below.join(&name), entry.file_type()?);
        if kind.is_dir() {
            walk(folder, &path, entries)?;
        } else if kind.is_file() || kind.is_symlink() {
            let is_link = kind.is_symlink();
            entries.push(Entry { path, is_link });
        }
        if entries.len() > FILES_MAX {
            let text = format!("more than {FILES_MAX} files in {}", folder.display());
            return Err(io::Error::other(text));
        }
    }
    Ok(())
}

/// The hash of a folder, 16 hex digits: names, what may be executed, and contents.
pub(super) fn hash(folder: &Path, entries: &[Entry]) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    for entry in entries {
        let path = folder.join(&entry.path);
        let name = entry.path.as_os_str().as_encoded_bytes();
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name);
        if entry.is_link {
            hasher.update(b"link");
            hasher.update(fs::read_link(&path)?.as_os_str().as_encoded_bytes());
            continue;
        }
        let file = fs::File::open(&path)?;
        let metadata = file.metadata()?;
        hasher.update(&[u8::from(metadata.permissions().mode() & 0o111 != 0)]);
        hasher.update(&metadata.len().to_le_bytes());
        hasher.update_reader(file)?;
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

/// Copies a folder to where nothing is yet; the hash of the copy, which is not that of the folder where
/// somebody saves meanwhile.
pub(super) fn copy(folder: &Path, entries: &[Entry], to: &Path) -> io::Result<String> {
    fs::create_dir_all(to)?;
    for entry in entries {
        let (from, to) = (folder.join(&entry.path), to.join(&entry.path));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        if entry.is_link {
            std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    hash(to, &contents(to)?)
}

/// The variables of its `.env`. What is none is left out here: a deploy tells it.
pub(super) fn env_file(folder: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(folder.join(env_file::FILE)).unwrap_or_default();
    env_file::read(env_file::FILE, &text).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_hash_of_what_it_copies() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("src")).unwrap();
        fs::create_dir_all(at("__pycache__")).unwrap();
        fs::write(at("src/main.py"), "x").unwrap();
        fs::write(at("__pycache__/main.pyc"), "x").unwrap();
        fs::write(at("run.sh"), "y").unwrap();
        std::os::unix::fs::symlink("run.sh", at("link")).unwrap();
        let entries = contents(folder.path()).unwrap();
        let before = hash(folder.path(), &entries).unwrap();
        let to = tempfile::tempdir().unwrap();
        let copied = to.path().join("v");
        assert_eq!(copy(folder.path(), &entries, &copied).unwrap(), before);
        assert!(!copied.join("__pycache__").exists());
        let again = contents(&copied).unwrap();
        assert_eq!(hash(&copied, &again).unwrap(), before);
        // Saved after it was looked at, and before it was copied.
        fs::write(at("run.sh"), "z").unwrap();
        let saved = copy(folder.path(), &entries, &to.path().join("w")).unwrap();
        assert_ne!(saved, before);
        assert_eq!(hash(folder.path(), &entries).unwrap(), saved);
        fs::set_permissions(at("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(hash(folder.path(), &entries).unwrap(), saved);
    }
}
