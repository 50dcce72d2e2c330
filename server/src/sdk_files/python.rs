//! The SDK for Python, with nats-py, which `cargo xtask` fetches before the build.

use std::path::Path;
use std::process::Stdio;

use rust_embed::Embed;
use tokio::process::Command;

use super::{File, Tree};

/// Where it goes, below the data folder.
pub(super) const FOLDER: &str = "sdk/python";
/// Says that its bytecode is there.
const COMPILED: &str = "compiled";

#[derive(Embed)]
#[folder = "../sdk/python/serin/"]
#[include = "*.py"]
#[include = "py.typed"]
struct Own;

#[derive(Embed)]
#[folder = "../sdk/python/vendor/"]
#[include = "nats/*.py"]
#[include = "nats/py.typed"]
#[include = "*.dist-info/METADATA"]
#[include = "*.dist-info/licenses/*"]
#[allow_missing = true]
struct Vendor;

pub(super) fn tree() -> Tree {
    let files = File::all::<Own>("serin/").chain(File::all::<Vendor>(""));
    let licence = File::text("LICENSE", include_str!("../../../sdk/python/LICENSE"));
    Tree {
        folder: FOLDER,
        files: files.chain([licence]).collect(),
    }
}

/// Compiles the unpacked SDK in the background, so that the first service in Python starts as fast
/// as the next. Python does it as well, but only while the first one waits.
pub(crate) async fn compile(data: &Path) {
    let folder = data.join(FOLDER);
    let compiled = folder.join(COMPILED);
    if compiled.is_file() {
        return;
    }
    let child = Command::new("python3")
        .args(["-m", "compileall", "-q"])
        .arg(&folder)
        .env(serin_control::shim::OF, data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    match child.await {
        Ok(status) if status.success() => {
            if let Err(error) = tokio::fs::write(&compiled, "").await {
                tracing::debug!(%error, "the SDK is compiled again at the next start");
            }
        }
        Ok(status) => tracing::debug!(%status, "python3 cannot compile the SDK"),
        Err(error) => tracing::debug!(%error, "no python3 to compile the SDK with"),
    }
}
