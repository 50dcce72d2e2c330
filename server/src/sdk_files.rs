//! The SDKs that services find without installing anything: unpacked from the binary.
//!
//! `.serin/sdk/python` is on the `PYTHONPATH` of every instance. What is unpacked is named by a
//! stamp, so that a start with the same binary writes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rust_embed::Embed;

#[derive(Embed)]
#[folder = "../sdk/python/serin/"]
#[include = "*.py"]
#[include = "py.typed"]
struct Python;

/// What the SDK needs; fetched by `cargo xtask` before the build.
#[derive(Embed)]
#[folder = "../sdk/python/vendor/nats/"]
#[include = "*.py"]
#[allow_missing = true]
struct Nats;

/// Unpacks the SDKs under the data folder; the folder for `PYTHONPATH`.
pub(crate) fn unpack(data: &Path) -> Result<PathBuf> {
    let folder = data.join("sdk/python");
    let stamp = folder.join("stamp");
    let inside = stamp_of();
    if fs::read_to_string(&stamp).is_ok_and(|text| text == inside) {
        return Ok(folder);
    }
    let unpack = || -> std::io::Result<()> {
        if folder.is_dir() {
            fs::remove_dir_all(&folder)?;
        }
        let ours =
            Python::iter().filter_map(|path| Some((format!("serin/{path}"), Python::get(&path)?)));
        let nats =
            Nats::iter().filter_map(|path| Some((format!("nats/{path}"), Nats::get(&path)?)));
        for (path, file) in ours.chain(nats) {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            fs::write(path, file.data)?;
        }
        fs::write(&stamp, &inside)
    };
    unpack().with_context(|| format!("cannot unpack the SDK into {}", folder.display()))?;
    Ok(folder)
}

/// The hash of all that is inside.
fn stamp_of() -> String {
    let mut hasher = blake3::Hasher::new();
    let files = Python::iter().map(|path| (path.clone(), Python::get(&path)));
    for (path, file) in files.chain(Nats::iter().map(|path| (path.clone(), Nats::get(&path)))) {
        hasher.update(path.as_bytes());
        hasher.update(
            &file
                .map(|file| file.metadata.sha256_hash())
                .unwrap_or_default(),
        );
    }
    hasher.finalize().to_hex().to_string()
}
