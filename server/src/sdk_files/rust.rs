//! The SDK for Rust, as sources: a workspace that a service's package names by its path.
//!
//! Its manifests are ours without what users do not build: tests, benchmarks, other crates.

use std::fs;
use std::io;
use std::path::Path;

use rust_embed::Embed;

use super::{File, Tree};

const FOLDER: &str = "sdk/rust";
/// The workspace: which crates, and where each one is.
const MEMBERS: [(&str, &str); 4] = [
    ("serin-sdk", include_str!("../../../sdk/rust/Cargo.toml")),
    (
        "serin-sdk-derive",
        include_str!("../../../sdk/rust/derive/Cargo.toml"),
    ),
    ("serin-connect", include_str!("../../../connect/Cargo.toml")),
    ("serin-wire", include_str!("../../../wire/Cargo.toml")),
];
const ROOT: &str = include_str!("../../../Cargo.toml");

#[derive(Embed)]
#[folder = "../sdk/rust/src/"]
#[include = "*.rs"]
struct Sdk;

#[derive(Embed)]
#[folder = "../sdk/rust/derive/src/"]
#[include = "*.rs"]
struct Derive;

#[derive(Embed)]
#[folder = "../connect/src/"]
#[include = "*.rs"]
struct Connect;

#[derive(Embed)]
#[folder = "../wire/src/"]
#[include = "*.rs"]
struct Wire;

pub(super) fn tree() -> Tree {
    let manifests = MEMBERS.map(|(name, manifest)| {
        let left_out = |section: &str| section == "[dev-dependencies]" || section == "[[bench]]";
        let text = sections(manifest, |section, _| !left_out(section));
        File::text(&format!("{name}/Cargo.toml"), text)
    });
    let files = File::all::<Sdk>("serin-sdk/src/")
        .chain(File::all::<Derive>("serin-sdk-derive/src/"))
        .chain(File::all::<Connect>("serin-connect/src/"))
        .chain(File::all::<Wire>("serin-wire/src/"))
        .chain(manifests)
        .chain([
            File::text("Cargo.toml", root()),
            File::text("LICENSE", include_str!("../../../LICENSE")),
        ]);
    Tree {
        folder: FOLDER,
        files: files.collect(),
    }
}

/// The workspace's manifest: versions and lints from ours, the members that are here.
fn root() -> String {
    let inherited = sections(ROOT, |section, line| match section {
        "[workspace.package]" | "[workspace.lints.rust]" | "[workspace.lints.clippy]" => true,
        "[workspace.dependencies]" => !line.starts_with("serin-"),
        _ => false,
    });
    let names = MEMBERS.map(|(name, _)| name);
    let paths = names.map(|name| format!("{name} = {{ path = \"{name}\" }}\n"));
    let dependencies = format!("[workspace.dependencies]\n{}", paths.concat());
    let inherited = inherited.replacen("[workspace.dependencies]\n", &dependencies, 1);
    format!("[workspace]\nresolver = \"3\"\nmembers = {names:?}\n\n{inherited}")
}

/// The lines of a manifest that are kept, told section and line.
fn sections(manifest: &str, keeps: impl Fn(&str, &str) -> bool) -> String {
    let mut section = "";
    let mut kept = String::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        if keeps(section, line) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Lets the copy of a version, `.serin/versions/NAME/HASH`, name the SDK as the service's folder
/// `services/NAME` does: `../../.serin/sdk/rust` is the same from both.
pub(super) fn lead_back(data: &Path) -> io::Result<()> {
    let versions = data.join("versions");
    let Some(name) = data.file_name() else {
        return Ok(());
    };
    let link = versions.join(name);
    if fs::symlink_metadata(&link).is_ok() {
        return Ok(());
    }
    fs::create_dir_all(&versions)?;
    std::os::unix::fs::symlink("..", link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_has_what_its_crates_inherit_and_nothing_of_ours() {
        let root = root();
        assert!(root.contains("async-nats = "), "{root}");
        assert!(!root.contains("serin-lake"), "{root}");
        assert!(!root.contains("[profile"), "{root}");
        for file in tree()
            .files
            .iter()
            .filter(|file| file.path.ends_with("Cargo.toml"))
        {
            let text = String::from_utf8_lossy(&file.bytes);
            assert!(!text.contains("dev-dependencies"), "{}: {text}", file.path);
            for line in text
                .lines()
                .filter(|line| line.ends_with(".workspace = true"))
            {
                let name = line.split('.').next().unwrap_or_default();
                assert!(
                    root.contains(&format!("\n{name} = ")),
                    "{name} of {}",
                    file.path
                );
            }
        }
    }
}
