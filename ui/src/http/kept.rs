//! Small files that outlive the process: sessions, and which services were met.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads what an earlier run kept; a file that cannot be read counts as none.
pub(crate) fn read<T: DeserializeOwned + Default>(path: Option<&Path>) -> T {
    path.and_then(|path| fs::read(path).ok())
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// Replaces the file whole, readable by its owner alone.
pub(crate) fn write(path: &Path, what: &impl Serialize) -> std::io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)?;
    file.write_all(&serde_json::to_vec(what)?)?;
    drop(file);
    fs::rename(aside, path)
}
