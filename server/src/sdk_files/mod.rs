//! The SDKs that services find without installing anything: unpacked from the binary.
//!
//! Python finds its own by `PYTHONPATH`, Node by looking for `node_modules` upwards from a version's
//! copy, and a Rust package by the path in its manifest. What is unpacked is named by a stamp, so
//! that a start with the same binary writes nothing. Start at [`unpack`].

mod node;
mod python;
mod rust;

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rust_embed::Embed;

pub(crate) use node::link_for_editors;
pub(crate) use python::compile;

/// Names a tree by what is in it.
const STAMP: &str = "stamp";

/// An SDK: the folder it goes to, and its files.
struct Tree {
    /// Below the data folder.
    folder: &'static str,
    files: Vec<File>,
}

/// A file of an SDK.
struct File {
    /// Below the tree's folder.
    path: String,
    bytes: Cow<'static, [u8]>,
    /// Of the bytes; made by the compiler, so that a start need not read them.
    hash: [u8; 32],
}

impl File {
    fn text(path: &str, text: impl Into<Cow<'static, str>>) -> File {
        let bytes = match text.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        File {
            path: path.to_owned(),
            hash: *blake3::hash(&bytes).as_bytes(),
            bytes,
        }
    }

    /// The files of an embedded folder, below `to`.
    fn all<E: Embed>(to: &str) -> impl Iterator<Item = File> {
        E::iter().filter_map(move |path| {
            let file = E::get(&path)?;
            Some(File {
                path: format!("{to}{path}"),
                hash: file.metadata.sha256_hash(),
                bytes: file.data,
            })
        })
    }
}

/// Unpacks the SDKs under the data folder; the folder for `PYTHONPATH`.
pub(crate) fn unpack(data: &Path) -> Result<PathBuf> {
    for tree in [python::tree(), node::tree(), rust::tree()] {
        let folder = data.join(tree.folder);
        write(&tree, &folder)
            .with_context(|| format!("cannot unpack an SDK into {}", folder.display()))?;
    }
    rust::lead_back(data).context("cannot let versions find the SDK for Rust")?;
    Ok(data.join(python::FOLDER))
}

/// Writes a tree where it is not there already: aside, and then in place of the old one.
fn write(tree: &Tree, folder: &Path) -> std::io::Result<()> {
    let stamp = stamp_of(&tree.files);
    if fs::read_to_string(folder.join(STAMP)).is_ok_and(|text| text == stamp) {
        return Ok(());
    }
    let (aside, old) = (folder.with_extension("new"), folder.with_extension("old"));
    for left in [&aside, &old] {
        if left.is_dir() {
            fs::remove_dir_all(left)?;
        }
    }
    fs::create_dir_all(&aside)?;
    for file in &tree.files {
        let path = aside.join(&file.path);
        fs::create_dir_all(path.parent().unwrap_or(&aside))?;
        fs::write(path, &file.bytes)?;
    }
    fs::write(aside.join(STAMP), &stamp)?;
    if folder.is_dir() {
        fs::rename(folder, &old)?;
    }
    fs::rename(&aside, folder)?;
    if old.is_dir() {
        fs::remove_dir_all(&old)?;
    }
    Ok(())
}

/// The hash of all that is in a tree.
fn stamp_of(files: &[File]) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(file.path.as_bytes()).update(&[0]);
        hasher.update(&file.hash);
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unpacked_is_whole_and_written_once() {
        let data = tempfile::tempdir().expect("a folder");
        let at = |path: &str| data.path().join(path);
        let python = unpack(data.path()).expect("unpacked");
        for path in [
            "sdk/python/serin/__init__.py",
            "sdk/rust/serin-sdk/src/lib.rs",
            "sdk/rust/LICENSE",
            "node_modules/serin-sdk/package.json",
        ] {
            assert!(at(path).is_file(), "{path}");
        }
        let ours = python.join("serin/__init__.py");
        fs::write(&ours, "# changed").expect("written");
        unpack(data.path()).expect("unpacked again");
        assert_eq!(fs::read_to_string(&ours).expect("there"), "# changed");
        fs::write(python.join(STAMP), "of another binary").expect("written");
        unpack(data.path()).expect("unpacked anew");
        assert_ne!(fs::read_to_string(&ours).expect("there"), "# changed");
    }
}
