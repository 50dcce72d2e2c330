//! Keeps the map true: ARCHITECTURE.md against the crates, and a few habits of files.
//!
//! The dependency table is compared with `cargo metadata`, every folder and file the map names must
//! exist, and every folder must be named. Each finding is one line; any finding fails. Long files
//! are listed, as a question. Start at [`tidy`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::project::Project;
use crate::steps::{note, read};

/// A file past this many lines is a question to answer.
const LINES_MAX: usize = 600;

/// What must be at the root.
const ROOT_FILES: [&str; 10] = [
    "README.md",
    "ARCHITECTURE.md",
    "STYLE.md",
    "CHANGELOG.md",
    "LICENSE",
    "clippy.toml",
    "rustfmt.toml",
    "deny.toml",
    ".config/nextest.toml",
    ".ci/run",
];

/// Files with a most number of lines.
const PAGES_MAX: [(&str, usize); 2] = [("README.md", 120), ("ARCHITECTURE.md", 250)];

/// One row of the dependency table.
#[derive(Debug, Default)]
struct Row {
    /// Folders it may know; none where it may know everything.
    knows: Option<BTreeSet<String>>,
    /// Foreign crates that only rows naming them may use.
    giants: BTreeSet<String>,
}

/// Prints every finding; fails when there is one.
pub(crate) fn tidy(project: &Project) -> Result<()> {
    let mut findings = Vec::new();
    for name in ROOT_FILES {
        if !project.root.join(name).is_file() {
            findings.push(format!("{name} is missing"));
        }
    }
    let map = fs::read_to_string(project.root.join("ARCHITECTURE.md"))
        .context("cannot read ARCHITECTURE.md")?;
    dependencies(project, &map, &mut findings)?;
    named_places(project, &map, &mut findings)?;
    book(project, &mut findings)?;
    files(project, &mut findings)?;
    for finding in &findings {
        println!("tidy: {finding}");
    }
    if !findings.is_empty() {
        bail!("tidy has {} findings", findings.len());
    }
    Ok(())
}

/// Compares the table with what the crates' manifests say.
fn dependencies(project: &Project, map: &str, findings: &mut Vec<String>) -> Result<()> {
    let table = table(map)?;
    let giants: BTreeSet<&String> = table.values().flat_map(|row| &row.giants).collect();
    let packages = project.metadata["packages"]
        .as_array()
        .context("cargo lists our packages")?;
    let folder_of = |manifest: &str| -> String {
        let folder = manifest.trim_end_matches("/Cargo.toml");
        let root = project.root.to_string_lossy();
        folder
            .strip_prefix(root.as_ref())
            .unwrap_or(folder)
            .trim_start_matches('/')
            .to_owned()
    };
    let mut seen = BTreeSet::new();
    for package in packages {
        let folder = folder_of(package["manifest_path"].as_str().unwrap_or_default());
        let Some(row) = table.get(&folder) else {
            findings.push(format!(
                "ARCHITECTURE.md: the dependency table has no row {folder:?}"
            ));
            continue;
        };
        seen.insert(folder.clone());
        let Some(knows) = &row.knows else { continue };
        let all = package["dependencies"]
            .as_array()
            .context("cargo lists dependencies")?;
        let mut known = BTreeSet::new();
        for dependency in all.iter().filter(|dependency| dependency["kind"] != "dev") {
            let name = dependency["name"].as_str().unwrap_or_default();
            if let Some(path) = dependency["path"].as_str() {
                let other = folder_of(path);
                known.insert(other.clone());
                if !knows.contains(&other) {
                    findings.push(format!("{folder} may not know {other} (dependency table)"));
                }
            } else if giants.contains(&name.to_owned()) && !row.giants.contains(name) {
                findings.push(format!("{folder} may not name {name} (dependency table)"));
            }
        }
        for other in knows.difference(&known) {
            findings.push(format!(
                "{folder} may know {other} and does not (dependency table)"
            ));
        }
    }
    for folder in table.keys().filter(|folder| !seen.contains(*folder)) {
        findings.push(format!(
            "ARCHITECTURE.md: the dependency table invents {folder:?}"
        ));
    }
    Ok(())
}

/// Reads the table under the heading "Who may know whom".
fn table(map: &str) -> Result<BTreeMap<String, Row>> {
    let (_, section) = map
        .split_once("## Who may know whom")
        .context("ARCHITECTURE.md has no section \"Who may know whom\"")?;
    let mut rows = BTreeMap::new();
    let lines = section.lines().skip_while(|line| !line.starts_with('|'));
    for line in lines.take_while(|line| line.starts_with('|')).skip(2) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [folder, knows, giants] = cells[..] else {
            bail!("ARCHITECTURE.md: not three cells in the dependency table: {line}");
        };
        let knows = (knows != "everything").then(|| names(knows));
        let row = Row {
            knows,
            giants: names(giants),
        };
        rows.insert(folder.trim_matches('`').to_owned(), row);
    }
    Ok(rows)
}

/// The names between backticks.
fn names(text: &str) -> BTreeSet<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Every place named in the map exists, and every folder of ours is named.
fn named_places(project: &Project, map: &str, findings: &mut Vec<String>) -> Result<()> {
    let named = names(map);
    for name in &named {
        let is_folder = name.ends_with('/');
        let is_file = name.contains('/')
            && [".rs", ".md", ".ts", ".py", ".toml", ".sql"]
                .iter()
                .any(|end| name.ends_with(end));
        let is_there = project.root.join(name).exists();
        if (is_folder || is_file) && !name.starts_with('/') && !is_there {
            findings.push(format!("ARCHITECTURE.md names {name}, which is not there"));
        }
    }
    let mut folders = BTreeSet::new();
    for file in tracked(project)? {
        if let Some((top, _)) = file.split_once('/')
            && !top.starts_with('.')
        {
            folders.insert(format!("{top}/"));
        }
    }
    for folder in folders.difference(&named) {
        findings.push(format!("ARCHITECTURE.md does not name the folder {folder}"));
    }
    Ok(())
}

/// The book's table of contents has every page and no other.
fn book(project: &Project, findings: &mut Vec<String>) -> Result<()> {
    const SUMMARY: &str = "docs/SUMMARY.md";
    let contents = fs::read_to_string(project.root.join(SUMMARY))
        .with_context(|| format!("cannot read {SUMMARY}"))?;
    let links = contents.split("](").skip(1);
    let listed: BTreeSet<String> = links
        .filter_map(|link| Some(format!("docs/{}", link.split_once(')')?.0)))
        .collect();
    let is_page = |name: &String| name.starts_with("docs/") && name.ends_with(".md");
    let pages = tracked(project)?.into_iter().filter(is_page);
    let pages: BTreeSet<String> = pages.filter(|name| name != SUMMARY).collect();
    for page in pages.difference(&listed) {
        findings.push(format!("{SUMMARY} does not list {page}"));
    }
    for page in listed.difference(&pages) {
        findings.push(format!("{SUMMARY} lists {page}, which is not there"));
    }
    Ok(())
}

/// Lengths, traces of one machine, tasks left in comments.
fn files(project: &Project, findings: &mut Vec<String>) -> Result<()> {
    // Put together from pieces, so that this file does not find itself.
    let homes = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
    ];
    let tasks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    for name in tracked(project)? {
        let Ok(text) = fs::read_to_string(project.root.join(&name)) else {
            continue;
        };
        let lines = text.lines().count();
        if let Some((_, most)) = PAGES_MAX.iter().find(|(page, _)| *page == name)
            && lines > *most
        {
            findings.push(format!(
                "{name} has {lines} lines, at most {most} are allowed"
            ));
        }
        let is_source = [".rs", ".ts", ".py", ".mjs"]
            .iter()
            .any(|end| name.ends_with(end));
        if is_source && lines > LINES_MAX {
            note(&format!(
                "{name} has {lines} lines: what would it split by?"
            ));
        }
        for (number, line) in text.lines().enumerate() {
            let at = number + 1;
            if homes.iter().any(|home| names_machine(line, home)) {
                findings.push(format!("{name}:{at}: a path of one machine"));
            }
            if is_source && tasks.iter().any(|task| line.contains(task)) {
                findings.push(format!("{name}:{at}: a task left in the source"));
            }
            let is_lock = name.ends_with("package-lock.json");
            let is_elsewhere = line.contains("\"resolved\": \"http")
                && !line.contains("\"https://registry.npmjs.org/");
            if is_lock && is_elsewhere {
                findings.push(format!(
                    "{name}:{at}: a package from a registry of one machine"
                ));
            }
        }
    }
    Ok(())
}

/// A home folder at the start of a path, not in the middle of a relative one or of a URL.
fn names_machine(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| matches!(c, '"' | '\'' | '`' | ' ' | '=' | '(' | ':'))
    })
}

fn tracked(project: &Project) -> Result<Vec<String>> {
    let list = Command::new("git")
        .args(["ls-files"])
        .current_dir(&project.root)
        .output()?;
    if !list.status.success() {
        let said = read(Command::new("git").arg("status").current_dir(&project.root));
        bail!("tidy needs a git clone: {said:?}");
    }
    Ok(String::from_utf8_lossy(&list.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "# Map\n\n## Who may know whom\n\nText.\n\n\
        | crate | may know | giants it may name |\n| --- | --- | --- |\n\
        | `wire` | | `ulid` |\n| `server` | everything | `clap` `csv` |\n\
        | `sdk/rust` | `wire` `sdk/rust/derive` | |\n\n| `no` | `row` | |\n";

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_table_is_read_up_to_its_end() {
        let table = table(MAP).expect("a table");
        let folders: Vec<_> = table.keys().map(String::as_str).collect();
        assert_eq!(folders, ["sdk/rust", "server", "wire"]);
        assert_eq!(table["wire"].knows, Some(set(&[])));
        assert_eq!(table["wire"].giants, set(&["ulid"]));
        assert_eq!(table["server"].knows, None);
        assert_eq!(table["server"].giants, set(&["clap", "csv"]));
        let sdk = table["sdk/rust"].knows.clone();
        assert_eq!(sdk, Some(set(&["wire", "sdk/rust/derive"])));
    }

    #[test]
    fn a_table_that_cannot_be_read_is_an_error() {
        assert!(table("# Map\n").is_err());
        let short = MAP.replace("| `wire` | | `ulid` |", "| `wire` | `ulid` |");
        assert!(table(&short).is_err());
    }

    #[test]
    fn a_home_folder_is_found_at_the_start_of_a_path_alone() {
        let home = concat!("/ho", "me/");
        let path = |before: &str| format!("{before}{home}me/file");
        assert!(names_machine(&path(""), home) && names_machine(&path("x = \""), home));
        assert!(!names_machine(&path("https://example.org"), home));
        assert!(!names_machine(&path("some"), home));
    }
}
