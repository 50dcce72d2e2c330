//! Builds with npm what goes into the binary, the browser application and the SDK for Node, and
//! skips what has not changed.
//!
//! A stamp in the tools folder holds the hash of the inputs of the last good build. Nothing here
//! knows what is built. Start at [`build`].

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::project::Project;
use crate::steps::{on_path, run, step};
use crate::tools;

/// The oldest Node that the browser application is built with and the SDK runs on.
const NODE_MIN: u32 = 20;

/// Leaves an up-to-date bundle in `ui/web/dist`, and beside it the SDKs that go into the binary: for
/// Python with what it needs, for Node compiled.
pub(crate) fn build(project: &Project) -> Result<()> {
    tools::python_vendor(project)?;
    let node_sdk = project.root.join("sdk/typescript");
    npm_build(project, &node_sdk, "the SDK for Node", "dist/index.js")?;
    let web = project.web();
    npm_build(project, &web, "the browser application", "dist/index.html")
}

/// `npm run build` in a folder, unless what it `makes` was made from the same files.
fn npm_build(project: &Project, folder: &Path, what: &str, makes: &str) -> Result<()> {
    packages(project, folder)?;
    let inputs = hash(&files(folder)?)?;
    let stamp = stamp(project, folder, "built");
    let is_built = folder.join(makes).is_file();
    if is_built && fs::read_to_string(&stamp).is_ok_and(|text| text == inputs) {
        return Ok(());
    }
    step(&format!("build {what}"), || {
        run(Command::new("npm")
            .args(["run", "build", "--silent"])
            .current_dir(folder))
    })?;
    write_stamp(&stamp, &inputs)
}

/// `npm ci` in a folder, unless its lock file is the one that was installed last.
pub(crate) fn packages(project: &Project, folder: &Path) -> Result<()> {
    let lock = hash(&[folder.join("package-lock.json")])?;
    let stamp = stamp(project, folder, "installed");
    let is_installed = folder.join("node_modules").is_dir();
    if is_installed && fs::read_to_string(&stamp).is_ok_and(|text| text == lock) {
        return Ok(());
    }
    has_node()?;
    let name = folder
        .strip_prefix(&project.root)
        .unwrap_or(folder)
        .display()
        .to_string();
    step(&format!("npm packages of {name}"), || {
        let quiet = ["ci", "--no-audit", "--no-fund", "--silent"];
        run(Command::new("npm").args(quiet).current_dir(folder))
    })?;
    write_stamp(&stamp, &lock)
}

fn has_node() -> Result<()> {
    let missing = format!(
        "install Node.js {NODE_MIN} or newer with npm (https://nodejs.org, apt install nodejs npm)"
    );
    if !on_path("node") || !on_path("npm") {
        bail!("no node and npm on PATH; {missing}");
    }
    let said = crate::steps::read(Command::new("node").arg("--version"))?;
    let major = said
        .trim()
        .trim_start_matches('v')
        .split('.')
        .next()
        .unwrap_or_default();
    match major.parse::<u32>() {
        Ok(major) if major >= NODE_MIN => Ok(()),
        _ => bail!("node is {}, too old; {missing}", said.trim()),
    }
}

/// A folder's own files: all but what npm and the build itself put there.
fn files(of: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![of.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let is_made = path.ends_with("node_modules") || path.ends_with("dist");
            if path.is_dir() && !is_made {
                folders.push(path);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn hash(files: &[PathBuf]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        (file, bytes).hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Clones that share a target folder have stamps of their own.
fn stamp(project: &Project, folder: &Path, what: &str) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    folder.hash(&mut hasher);
    project
        .tools()
        .join(format!("{:016x}.{what}", hasher.finish()))
}

fn write_stamp(stamp: &Path, text: &str) -> Result<()> {
    let folder = stamp.parent().context("a stamp lies in the tools folder")?;
    fs::create_dir_all(folder)?;
    fs::write(stamp, text).with_context(|| format!("cannot write {}", stamp.display()))
}
