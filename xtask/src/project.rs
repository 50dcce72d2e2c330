//! Where things are: the workspace, its target folder and the folder of fetched tools.
//!
//! Asks `cargo metadata` once, so that a target folder outside the clone is respected.
//! Nothing here writes. Start at [`Project::find`].

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The workspace on this machine.
#[derive(Debug)]
pub(crate) struct Project {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder, inside the clone or not.
    pub(crate) target: PathBuf,
    /// What `cargo metadata --no-deps` says about our crates.
    pub(crate) metadata: Value,
}

impl Project {
    /// Asks cargo.
    pub(crate) fn find() -> Result<Project> {
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .context("cannot run cargo; install Rust from https://rustup.rs")?;
        if !output.status.success() {
            bail!(
                "cargo metadata failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let metadata: Value =
            serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?;
        let folder = |key: &str| -> Result<PathBuf> {
            let text = metadata[key].as_str();
            Ok(PathBuf::from(
                text.with_context(|| format!("cargo metadata has no {key}"))?,
            ))
        };
        Ok(Project {
            root: folder("workspace_root")?,
            target: folder("target_directory")?,
            metadata,
        })
    }

    /// Fetched programs and packages; survives `git clean`, goes with `cargo clean`.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The browser application's sources.
    pub(crate) fn web(&self) -> PathBuf {
        self.root.join("ui/web")
    }
}

/// The cargo that runs us, so that a toolchain chosen by `cargo +NAME` stays chosen.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
