//! `serin new`: a service that works, ready to deploy.

use std::path::Path;

use anyhow::Result;

use super::{print, remark};
use crate::cli::{Global, New};
use crate::run_file::{RunFile, data_dir};
use crate::scaffold;

pub(crate) fn run(global: &Global, new: &New) -> Result<()> {
    let here = std::path::absolute(".")?;
    let dir = match RunFile::find(&here)? {
        Some((dir, _)) => dir,
        None => project_above(&here).unwrap_or(here),
    };
    let files = scaffold::write(&dir, &new.name, new.lang)?;
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

/// The nearest folder that Serin was started in.
fn project_above(here: &Path) -> Option<std::path::PathBuf> {
    let found = here.ancestors().find(|dir| data_dir(dir).is_dir());
    found.map(Path::to_path_buf)
}
