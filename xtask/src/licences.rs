//! The licences of everything that goes into the binary, as one text for the archive.
//!
//! Rust crates by `cargo tree` and `cargo metadata`, packages of the browser application and of the
//! SDK for Node by npm, those of the SDK for Python by its vendor folder. Texts that are the same word
//! for word stand once. A package without a text of its own is listed with the name of its licence.
//! Start at [`third_party`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::project::{Project, cargo};
use crate::steps::read;

/// How the files with a licence begin.
const NAMES: [&str; 6] = [
    "LICENSE",
    "LICENCE",
    "COPYING",
    "NOTICE",
    "COPYRIGHT",
    "UNLICENSE",
];
/// Folders with packages of other makers that the binary carries for services.
const VENDORS: [&str; 1] = ["sdk/python/vendor"];

/// Strips types for Node 20; nobody depends on it but those who run TypeScript, so npm does not name it.
const TYPE_STRIPPER: &str = "amaro";

/// A package of somebody else's.
#[derive(Debug)]
struct Package {
    /// `serde 1.0.228`.
    name: String,
    /// As its manifest has it: `MIT OR Apache-2.0`.
    licence: String,
    folder: PathBuf,
}

/// Who made what is inside, and on what terms.
pub(crate) fn third_party(project: &Project) -> Result<String> {
    let mut packages = crates(project)?;
    packages.extend(npm(&project.web(), &[])?);
    packages.extend(npm(&project.root.join("sdk/typescript"), &[TYPE_STRIPPER])?);
    for vendor in VENDORS {
        packages.extend(wheels(&project.root.join(vendor))?);
    }
    let mut text = String::from(
        "What Serin is built from, each with its licence. nats-server, which lies beside serin, is of\n\
         The NATS Authors, under the Apache License 2.0, whose text is in LICENSE.\n\n",
    );
    let mut texts: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for package in &packages {
        writeln!(text, "{}: {}", package.name, package.licence)?;
        for licence in texts_in(&package.folder)? {
            texts.entry(licence).or_default().insert(&package.name);
        }
    }
    for (licence, names) in texts {
        let names: Vec<&str> = names.into_iter().collect();
        let line = "─".repeat(80);
        writeln!(
            text,
            "\n{line}\n{}\n{line}\n\n{}",
            names.join(", "),
            licence.trim_end()
        )?;
    }
    Ok(text)
}

/// The crates that are linked into `serin` on this platform.
fn crates(project: &Project) -> Result<Vec<Package>> {
    let mut tree = Command::new(cargo());
    tree.args([
        "tree",
        "--package",
        "serin",
        "--edges",
        "normal",
        "--locked",
    ]);
    tree.args(["--prefix", "none", "--format", "{p}"]);
    let linked = read(tree.current_dir(&project.root))?;
    // `serde v1.0.228`, perhaps with a path or a mark behind it.
    let linked: BTreeSet<String> = linked
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let name = words.next()?;
            let version = words.next()?.strip_prefix('v')?;
            Some(format!("{name} {version}"))
        })
        .collect();
    let mut metadata = Command::new(cargo());
    metadata.args(["metadata", "--format-version", "1", "--locked"]);
    let output = metadata.current_dir(&project.root).output();
    let output = output.context("cannot run cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let mut found = Vec::new();
    for package in packages
        .iter()
        .filter(|package| !package["source"].is_null())
    {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let name = format!("{} {}", text("name"), text("version"));
        let manifest = Path::new(text("manifest_path"));
        if linked.contains(&name) {
            found.push(Package {
                name,
                licence: text("license").to_owned(),
                folder: manifest
                    .parent()
                    .context("a manifest lies in a folder")?
                    .to_owned(),
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The packages that the one in a folder needs when it runs, and `more`.
fn npm(of: &Path, more: &[&str]) -> Result<Vec<Package>> {
    let modules = of.join("node_modules");
    let listed = read(
        Command::new("npm")
            .args(["ls", "--omit=dev", "--all", "--parseable"])
            .current_dir(of),
    )?;
    let folders = listed.lines().map(PathBuf::from);
    folders
        .filter(|folder| folder.starts_with(&modules))
        .chain(more.iter().map(|name| modules.join(name)))
        .map(|folder| {
            let manifest: Value = serde_json::from_slice(&fs::read(folder.join("package.json"))?)?;
            let text = |key: &str| manifest[key].as_str().unwrap_or_default();
            Ok(Package {
                name: format!("{} {} (npm)", text("name"), text("version")),
                licence: text("license").to_owned(),
                folder,
            })
        })
        .collect()
}

/// Installed Python packages: their `dist-info` says what they are.
fn wheels(vendor: &Path) -> Result<Vec<Package>> {
    let mut found = Vec::new();
    for entry in
        fs::read_dir(vendor).with_context(|| format!("cannot read {}", vendor.display()))?
    {
        let folder = entry?.path();
        let Ok(metadata) = fs::read_to_string(folder.join("METADATA")) else {
            continue;
        };
        let field = |name: &str| {
            let value = metadata.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap_or_default().trim().to_owned()
        };
        found.push(Package {
            name: format!("{} {} (PyPI)", field("Name:"), field("Version:")),
            licence: field("License-Expression:"),
            folder: folder.join("licenses"),
        });
    }
    Ok(found)
}

/// The texts that lie in a package's folder.
fn texts_in(folder: &Path) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(texts);
    };
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_uppercase();
        if path.is_file() && NAMES.iter().any(|known| name.starts_with(known)) {
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            texts.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(texts)
}
