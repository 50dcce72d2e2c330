//! `serin new`: a service that works, ready to deploy.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::{print, remark};
use crate::cli::{Global, New};
use crate::run_file::{RunFile, data_dir, prepare};
use crate::scaffold::{self, Kind, Lang};
use crate::sdk_files;

pub(crate) fn run(global: &Global, new: &New) -> Result<()> {
    let here = std::path::absolute(".")?;
    let dir = match RunFile::find(&here)? {
        Some((dir, _)) => dir,
        None => project_above(&here).unwrap_or(here),
    };
    let kind = Kind {
        lang: new.lang,
        is_web: new.web,
    };
    let files = scaffold::write(&dir, &new.name, kind)?;
    if new.lang != Lang::Script {
        // For editors, and for tests that are run by hand.
        sdk_files::unpack(&data_dir(&prepare(&dir)?))?;
        sdk_files::link_for_editors(&dir).context("cannot link the SDK for editors")?;
    }
    if new.lang == Lang::Rust {
        lock(&dir.join("services").join(&new.name));
    }
    if global.json {
        print(&serde_json::to_string(&files)?);
        return Ok(());
    }
    for file in &files {
        print(
            &file
                .strip_prefix(&dir)
                .unwrap_or(file)
                .display()
                .to_string(),
        );
    }
    remark(&format!("deploy it with: serin deploy {}", new.name));
    Ok(())
}

/// Has cargo choose the versions of what a package needs, so that every build takes the same.
fn lock(package: &Path) {
    let mut cargo = Command::new("cargo");
    cargo.args(["generate-lockfile", "--quiet"]);
    let output = cargo.current_dir(package).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => remark(&format!(
            "note: no Cargo.lock yet, the first build makes it: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => remark(&format!(
            "note: cannot start cargo ({error}); install Rust from https://rustup.rs before you deploy"
        )),
    }
}

/// The nearest folder that Serin was started in.
fn project_above(here: &Path) -> Option<std::path::PathBuf> {
    let found = here.ancestors().find(|dir| data_dir(dir).is_dir());
    found.map(Path::to_path_buf)
}
